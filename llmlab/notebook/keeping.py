"""How executed notebooks are kept: without keys, without personal data where the project says so, under 5 MB, whole."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmlab.base.documents import write_whole
from llmlab.base.private import scrub, without_any_keys
from llmlab.base.project import pii_policy, project_root
from llmlab.display.html import html_image
from llmlab.tracking.screening import redactor

SCHEME = "llmlab-kept:"  # papermill hands paths that start like this to the keeper below
_WRITE_EVERY_S = 1.0
_LARGEST_OUTPUTS_BYTES = 4_000_000
_KEPT_OF_CUT_CHARS = 2_000
_MOST_OUTPUTS_OF_A_CELL = 500
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class _Keeper:
    """papermill's way to write a notebook: through scrubbing and cutting, to a file that is whole or not there.

    It writes at the begin and the end of every cell. Of those within a second the first is kept at once, and the last
    when the second is over: a job that is killed during a long cell has what the quick cells before it said.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._late: dict[Path, str] = {}  # what waits for the end of its second
        self._written_s: dict[Path, float] = {}

    def write(self, text: str, path: str) -> None:
        target, now_s = Path(path.removeprefix(SCHEME)), time.monotonic()
        about = json.loads(text).get("metadata", {}).get("papermill", {})
        running = about.get("start_time") and not about.get("end_time")
        with self._lock:
            wait_s = self._written_s.get(target, -math.inf) + _WRITE_EVERY_S - now_s
            if not running or wait_s <= 0:
                self._late.pop(target, None)
                self._keep(text, target)
                return
            # One timer per file: texts that come before it fires replace the one that waits.
            if target not in self._late:
                timer = threading.Timer(wait_s, self._write_late, (target,))
                timer.daemon = True
                timer.start()
            self._late[target] = text

    def _write_late(self, target: Path) -> None:
        with self._lock:
            if (text := self._late.pop(target, None)) is not None:  # else a later one was written
                self._keep(text, target)

    def _keep(self, text: str, target: Path) -> None:
        self._written_s[target] = time.monotonic()
        notebook = cut_outputs(_screened(json.loads(without_any_keys(scrub(text))), project_root(target.parent)))
        write_whole(target, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")

    def pretty_path(self, path: str) -> str:
        return path.removeprefix(SCHEME)


def register_keeper() -> None:
    """Makes papermill know SCHEME; twice is once."""
    from papermill.iorw import papermill_io

    if not any(scheme == SCHEME for scheme, _ in papermill_io._handlers):
        papermill_io.register(SCHEME, _Keeper())


def cut_outputs(notebook: dict[str, Any], *, limit_bytes: int = _LARGEST_OUTPUTS_BYTES) -> dict[str, Any]:
    """The same notebook (changed in place) with its largest outputs cut until all fit, each cut said where it was."""
    for cell in notebook["cells"]:
        outputs = cell.get("outputs", [])
        if len(outputs) > _MOST_OUTPUTS_OF_A_CELL:
            note = f"[{len(outputs) - _MOST_OUTPUTS_OF_A_CELL:,} more outputs were cut]\n"
            outputs[_MOST_OUTPUTS_OF_A_CELL:] = [{"output_type": "stream", "name": "stdout", "text": note}]
    parts = [(len(json.dumps(holder[key])), holder, key) for holder, key in _parts(notebook)]
    total = sum(size for size, _, _ in parts)
    for size, holder, key in sorted(parts, key=lambda part: part[0], reverse=True):
        if total <= limit_bytes:
            break
        total -= size - _cut(holder, key)
    return notebook


def keep_html(executed: Path, *, report: Path | None = None) -> Path:
    """A self-contained HTML copy beside the executed notebook, which loads no script from anywhere.

    A `report` goes where it says, and has texts, tables and figures without the code.
    """
    import nbformat
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    html = report or executed.with_suffix(".html")
    exporter = HTMLExporter(
        mathjax_url="",
        require_js_url="",
        jquery_url="",
        widget_renderer_url="",
        mermaid_js_url="",
        embed_images=True,
        exclude_input=report is not None,
        exclude_input_prompt=report is not None,
        exclude_output_prompt=report is not None,
    )
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)  # of a run's progress the last line
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("widgets", None)  # live ones load scripts from a CDN: static HTML or text stays of them
    for output in _outputs(notebook):
        output.get("data", {}).pop(_WIDGET_VIEW, None)
        _say_pictures(output)
    body, _ = exporter.from_notebook_node(notebook)
    html.write_text(scrub(body), encoding="utf-8")
    return html


def _say_pictures(output: dict[str, Any]) -> None:
    """A figure's alt text goes along with it, changed in place: nbconvert's own images have none."""
    data, metadata = output.get("data", {}), output.get("metadata", {})
    if not isinstance(metadata.get("image/png", {}), dict):
        del metadata["image/png"]  # which nbconvert would trip over
    alt = metadata.get("image/png", {}).get("alt")
    if alt and "image/png" in data and "text/html" not in data:
        data["text/html"] = html_image(data.pop("image/png"), alt=alt)


def _outputs(notebook: Any) -> Iterator[Any]:
    return (output for cell in notebook["cells"] for output in cell.get("outputs", []))


def _screened(notebook: dict[str, Any], root: Path) -> dict[str, Any]:
    """The notebook (changed in place), with pseudonyms for personal data where the project's policy is to redact."""
    if pii_policy(root) != "redact":
        return notebook
    redact = redactor(root)
    for cell in notebook["cells"]:
        cell["source"] = redact(cell["source"])
    for holder, key in _parts(notebook):
        if not key.startswith("image/"):
            holder[key] = redact(holder[key])
    return notebook


def _parts(notebook: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Every piece of output as the mapping that holds it and its key there."""
    holders = (output.get("data", output) for output in _outputs(notebook))
    about = ("output_type", "name", "execution_count", "metadata")
    return [(holder, key) for holder in holders for key in holder if key not in about]


def _cut(holder: dict[str, Any], key: str) -> int:
    """Replace one piece by its beginning and a note; the bytes that are left of it."""
    value = holder[key]
    lines = isinstance(value, list)
    text = "".join(map(str, value)) if lines else str(value)
    note = f"[cut: {len(text):,} characters in all]"
    if key in ("text", "text/plain", "traceback"):
        cut_text = f"{text[:_KEPT_OF_CUT_CHARS]}\n{note}\n"
        holder[key] = [cut_text] if lines else cut_text
        return len(cut_text)
    del holder[key]
    holder.setdefault("text/plain", note)
    return 0
