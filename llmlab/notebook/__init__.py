"""Notebooks as jobs: one file is the interactive tool, the CI job and the report.

`run_notebook` checks the parameters, opens the MLflow run, executes by papermill in the kernel of this very
interpreter, and turns what the notebook said into a verdict, an exit code, JUnit XML and a Markdown summary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.base.project import located as located
    from llmlab.base.project import runs_folder as runs_folder
    from llmlab.notebook.keeping import keep_html as keep_html
    from llmlab.notebook.outcome import CellRun as CellRun
    from llmlab.notebook.outcome import NotebookRun as NotebookRun
    from llmlab.notebook.outcome import to_junit as to_junit
    from llmlab.notebook.outcome import to_markdown as to_markdown
    from llmlab.notebook.parameters import Parameter as Parameter
    from llmlab.notebook.parameters import parse_parameters as parse_parameters
    from llmlab.notebook.parameters import read_parameters as read_parameters
    from llmlab.notebook.run import read_notebook as read_notebook
    from llmlab.notebook.run import run_notebook as run_notebook
    from llmlab.notebook.run import template as template

__all__, __getattr__, __dir__ = face(__name__)
