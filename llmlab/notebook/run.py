"""Running a notebook as a job: parameters checked, MLflow run opened and closed, copies kept, verdict read."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmlab.base.errors import FileRuleError, GateError
from llmlab.base.private import scrub, without_any_keys
from llmlab.base.project import git_state, project_root, shipped
from llmlab.base.verdict import Verdict
from llmlab.notebook.keeping import SCHEME, keep_html, register_keeper
from llmlab.notebook.kernel import VERDICT_FILE, kernel_manager_class, verdict_word
from llmlab.notebook.outcome import CellRun, NotebookRun
from llmlab.notebook.parameters import parse_parameters, read_parameters, tags_of, whole
from llmlab.tracking.store import COMPLETION_TAG, NOTEBOOK, NOTEBOOK_RUN_ID, Store, open_store, reported

EXPERIMENT = "notebooks"
LONGEST_PARAM_CHARS = 500


def run_notebook(
    path: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    root: Path | None = None,
    output: str | Path | None = None,
    progress: bool = False,
) -> NotebookRun:
    """The notebook executed from top to bottom in this interpreter's kernel, with its verdict.

    Args:
        path: the notebook.
        parameters: values for names of its `parameters` cell; texts are read by the declared type.
        root: the project, by default the one around the current folder; it becomes the kernel's folder.
        output: where the executed notebook is kept instead of `mlruns/notebooks/`; the HTML copy lies beside it.
        progress: show a progress bar on stderr.

    Raises:
        FileRuleError: the file is no notebook. ValueError: a parameter is unknown or of the wrong type.
        StoreError: the tracking store cannot be used; nothing was run.
        KeyboardInterrupt: it was interrupted, by Ctrl+C or SIGTERM; its MLflow runs are closed as KILLED.
    """
    path = Path(path).resolve()
    root = project_root() if root is None else root.resolve()
    notebook = read_notebook(path)
    values = parse_parameters(read_parameters(notebook, path=path), parameters or {}, path=path)
    with _terminable():
        store = open_store(root)
        run_id = store.start_run(EXPERIMENT, name=path.stem, tags=_tags(path, root))
        try:
            executed = _place(path, root, run_id, output)
            store.log_params(run_id, {name: _shown(str(value))[:LONGEST_PARAM_CHARS] for name, value in values.items()})
            environment = {NOTEBOOK_RUN_ID: run_id, NOTEBOOK: _name(path, root)}
            started = time.monotonic()
            verdict, ended, message = _execute(
                notebook, values, executed, root=root, environment=environment, progress=progress
            )
            duration_s, document = time.monotonic() - started, json.loads(executed.read_text(encoding="utf-8"))
            run = NotebookRun(
                notebook=path,
                verdict=verdict,
                ended=ended,
                message=message,
                parameters=values,
                executed=executed,
                html=keep_html(executed),
                run_id=run_id,
                duration_s=duration_s,
                tables=tuple(_tables(document)),
                cells=tuple(_cells(document)),
            )
            _keep(store, run)
        except BaseException as error:
            store.close_after(run_id, error)
            raise
        store.close_runs_of(run_id, "FAILED" if ended else "FINISHED")
    return run


def template(name: str = "") -> Path:
    """One of the notebooks that come with llmlab, or their folder: the installed package's, else the checkout's."""
    return shipped("notebooks") / name


def read_notebook(path: Path) -> Any:
    """The notebook in a file, in today's format; FileRuleError for anything else."""
    import nbformat
    from nbformat import ValidationError as Invalid

    try:
        text = path.read_text(encoding="utf-8")
        if not isinstance(raw := json.loads(text), dict) or raw.get("nbformat") not in (3, 4):
            raise Invalid("no nbformat 3 or 4 in it")
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except OSError as error:
        beside = ", ".join(sorted(other.name for other in path.parent.glob("*.ipynb")))
        hint = f"; beside it are: {beside}" if isinstance(error, FileNotFoundError) and beside else ""
        raise FileRuleError(f"cannot be read ({error.strerror}){hint}", path=path) from None
    except (ValueError, Invalid, AttributeError, KeyError, TypeError, RecursionError, AssertionError) as error:
        first = str(error).partition("\n")[0]
        raise FileRuleError(f"is not a Jupyter notebook ({first})", path=path) from None
    return notebook


def _execute(
    notebook: Any,
    values: Mapping[str, Any],
    executed: Path,
    *,
    root: Path,
    environment: Mapping[str, str],
    progress: bool,
) -> tuple[Verdict | None, bool, str]:
    """The verdict, whether it ended the job, and why."""
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import CellControlSignal, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    register_keeper()
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # it tells what the verdict tells, and warns in error
    with tempfile.TemporaryDirectory(prefix="llmlab-") as folder:
        verdict_file = Path(folder) / "verdict.json"
        environment = {**environment, VERDICT_FILE: str(verdict_file), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        try:
            ran = papermill.execute_notebook(
                notebook,
                # papermill fills in paths as format strings, so a brace in a folder's name must be doubled
                (SCHEME + str(executed)).replace("{", "{{").replace("}", "}}"),
                parameters=dict(values),
                kernel_name="python3",
                language="python",
                cwd=root,
                progress_bar=progress,
                kernel_manager_class=kernel_manager_class(environment),
            )
        except PapermillExecutionError as error:
            return _verdict_of(error, verdict_file)
        except KeyboardInterrupt:
            ensure_event_loop().set_exception_handler(lambda _loop, _context: None)  # the cell's task dies unheard
            raise
        except (DeadKernelError, CellControlSignal) as error:
            return Verdict.BROKEN, True, f"the kernel ended: {_shown(str(error))}"
        report = _told(verdict_file)
    if any(out.output_type == "error" for cell in ran.cells for out in cell.get("outputs", ())):  # papermill lets it be
        return Verdict.BROKEN, True, "a cell left the notebook (sys.exit), so what follows it never ran"
    return (Verdict(report["verdict"]) if report else None), False, ""


def _told(verdict_file: Path) -> dict[str, Any]:
    """What the kernel wrote of the last verdict, {} where there was none."""
    report: dict[str, Any] = json.loads(verdict_file.read_text(encoding="utf-8")) if verdict_file.exists() else {}
    return report


def _verdict_of(error: Any, verdict_file: Path) -> tuple[Verdict, bool, str]:
    report = _told(verdict_file)
    if report.get("ended"):
        return Verdict(report["verdict"]), True, _shown(report["message"])
    if error.ename == GateError.__name__:  # the extension did not load: the text still says it
        return verdict_word(GateError(error.evalue)), True, _shown(error.evalue)
    return Verdict.BROKEN, True, _shown(f"{error.ename}: {error.evalue}")


def _tables(notebook: Mapping[str, Any]) -> Iterator[str]:
    """The text of every output of the cells tagged `report`; a figure has none."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()) if "report" in tags_of(cell) else ():
            shown = output.get("data", {})
            text = output.get("text") if output.get("name") == "stdout" else shown.get("text/plain")
            if text and not any(mime.startswith("image/") for mime in shown):
                yield whole(text).rstrip()


def _cells(notebook: Mapping[str, Any]) -> Iterator[CellRun]:
    heading, number = "", 0
    for cell in notebook["cells"]:
        source = whole(cell["source"])
        if cell["cell_type"] == "markdown":
            titles = [line.lstrip("# ").strip() for line in source.splitlines() if line.startswith("#")]
            heading = titles[-1] if titles else heading
        if cell["cell_type"] != "code":
            continue
        number += 1
        errors = [output for output in cell["outputs"] if output["output_type"] == "error"]
        ran = cell["metadata"].get("papermill", {})
        text = f"{errors[0]['ename']}: {errors[0]['evalue']}\n\n{source}" if errors else ""
        ended = "completed" if ran.get("status") == "completed" else "skipped"
        status, duration_s = "failed" if errors or ran.get("exception") else ended, float(ran.get("duration") or 0.0)
        yield CellRun(number=number, heading=heading, status=status, duration_s=duration_s, error=text)


def _keep(store: Store, run: NotebookRun) -> None:
    with reported(f"the executed notebook cannot be logged (it is kept as {run.executed})"):
        for file in (run.executed, run.html):
            store.client.log_artifact(run.run_id, str(file), "notebook")
        tags = {
            "llmlab.verdict": run.verdict or "none",
            "llmlab.outcome": run.outcome,
            "llmlab.message": run.message[:500],
            COMPLETION_TAG: "whole",
        }
        for key, value in tags.items():
            store.client.set_tag(run.run_id, key, value)
        store.client.log_metric(run.run_id, "duration_s", run.duration_s)


def _place(path: Path, root: Path, run_id: str, output: str | Path | None) -> Path:
    if output is not None:
        place = Path(output).resolve()
        if place.suffix != ".ipynb" or place == path:
            raise ValueError(f"output == {str(output)!r}, must be another file that ends in .ipynb")
    else:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        place = root / "mlruns" / "notebooks" / f"{path.stem}-{stamp}-{run_id[:8]}.ipynb"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _shown(text: str) -> str:
    """What the kernel said, without what is secret here and what looks like a key that only the kernel knew."""
    return without_any_keys(scrub(text))


def _tags(path: Path, root: Path) -> dict[str, str]:
    git = git_state(root)
    return {
        "llmlab.kind": "notebook",
        "mlflow.source.name": _name(path, root),
        "mlflow.source.type": "NOTEBOOK",
        "mlflow.source.git.commit": git.commit,
        "llmlab.git_dirty": str(git.dirty).lower(),
    }


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the job as Ctrl+C does: by an exception that closes what is open."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signal_number: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(signal_number).name)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
