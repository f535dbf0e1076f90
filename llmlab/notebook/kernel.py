"""Both ends of the wire to a notebook's kernel: how it is started, and what it reports about how a cell ended.

The kernel is always the interpreter that runs llmlab, whatever kernels are installed on the machine. It loads this
module as an IPython extension: an exception crosses papermill only as a name and a text, so the verdict of a gate is
written to a small file, tables that llmlab shows get a text form that a terminal can print, and no output leaves the
kernel with a secret of its environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmlab.base.errors import GateError
from llmlab.base.private import Secrets, scrub, secrets_now
from llmlab.base.verdict import Verdict
from llmlab.display.shown import Shown

VERDICT_FILE = "LLMLAB_VERDICT_FILE"
_OUTPUTS = {"stream", "display_data", "execute_result", "update_display_data", "error"}
_SHUTDOWN_WAIT_S = 2.0  # an interrupted job has five seconds in all


def kernel_manager_class(environment: Mapping[str, str]) -> type:
    """A kernel manager that starts this interpreter with these environment variables added."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import Float

    described = get_kernel_dict(extra_arguments=[f"--ext={__name__}", "--log-level=50"])
    described["env"] = {name: value.replace("$", "$$") for name, value in environment.items()}  # it is a template

    class OwnKernelManager(AsyncKernelManager):
        shutdown_wait_time = Float(_SHUTDOWN_WAIT_S)

        @property
        def kernel_spec(self) -> KernelSpec:
            if self._kernel_spec is None:
                self._kernel_spec = KernelSpec(resource_dir="", **described)
            return self._kernel_spec

    return OwnKernelManager


def load_ipython_extension(shell: Any) -> None:
    """What IPython calls inside the kernel."""
    from IPython.core.formatters import PlainTextFormatter

    class TableText(PlainTextFormatter):  # type: ignore[misc]  # IPython is untyped here
        def __call__(self, value: Any) -> Any:
            return str(value) if isinstance(value, Shown) else super().__call__(value)

    shell.display_formatter.formatters["text/plain"] = TableText(parent=shell.display_formatter)
    shell.events.register("post_run_cell", _report_verdict)
    _scrub_outputs(shell.kernel.session)


def verdict_word(error: GateError) -> Verdict:
    """FAIL, INCONCLUSIVE or INVALID: as the decision says, else as the message says, else INVALID."""
    verdict = getattr(error.decision, "verdict", None)
    text = str(getattr(verdict, "value", verdict) if verdict is not None else error)
    word = re.search(r"\b(INVALID|INCONCLUSIVE|FAIL)\b", text)
    return Verdict(word[1]) if word else Verdict.INVALID


def _scrub_outputs(session: Any) -> None:
    """What the kernel sends as output leaves it without secrets: the job knows none that a cell has set or named."""
    serialize = session.serialize

    def scrubbed(message: Mapping[str, Any], ident: Any = None) -> Any:
        if message["header"]["msg_type"] in _OUTPUTS:
            secrets = secrets_now()
            message = {**message, "content": _without(secrets, message["content"])}
        return serialize(message, ident)

    session.serialize = scrubbed


def _without(secrets: Secrets, value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value, secrets=secrets)
    if isinstance(value, Mapping):
        return {key: _without(secrets, inner) for key, inner in value.items()}
    return [_without(secrets, inner) for inner in value] if isinstance(value, list | tuple) else value


def _report_verdict(result: Any) -> None:
    """The verdict that a cell ended with, as an error or as its value; the last one stands."""
    error, path, report = result.error_in_exec, os.environ.get(VERDICT_FILE), None
    if isinstance(error, GateError):
        report = {"verdict": verdict_word(error), "message": str(error), "ended": True}
    for word in (getattr(result.result, name, None) for name in ("word", "verdict")):
        if isinstance(word, str) and word in {*Verdict}:
            report = {"verdict": word, "message": "", "ended": False}
    if path and report:
        Path(path).write_text(json.dumps(report), encoding="utf-8")
