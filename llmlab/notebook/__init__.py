"""Notebooks as jobs: one file is the interactive tool, the CI job and the report.

`run_notebook` checks the parameters, opens the MLflow run, executes by papermill in the kernel of this very
interpreter, and turns what the notebook said into a verdict, an exit code, JUnit XML and a Markdown summary.
"""

from llmlab.notebook.parameters import Parameter, parse_parameters, read_parameters
from llmlab.notebook.report import to_junit, to_markdown
from llmlab.notebook.run import read_notebook, run_notebook
from llmlab.notebook.value import EXIT_CODES, CellRun, NotebookRun

__all__ = [
    "EXIT_CODES",
    "CellRun",
    "NotebookRun",
    "Parameter",
    "parse_parameters",
    "read_notebook",
    "read_parameters",
    "run_notebook",
    "to_junit",
    "to_markdown",
]
