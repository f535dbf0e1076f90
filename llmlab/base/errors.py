"""Every error that llmlab raises for something a user can handle, as one tree.

LlmlabError
├── FileRuleError          a file people write breaks a rule (file, line, rule)
├── PromptError            a prompt that its cases cannot fill, or that leaks a golden case
├── FloatingModelError     a model id that may change under us where a pinned one is needed
├── CallError              a call that gave no answer
│   ├── TransportError     network, rate limit, 5xx, broken body: worth another attempt
│   ├── CallTimeoutError   an attempt or a whole case took longer than its bound
│   └── RequestRefusedError  the endpoint or model cannot take this request: never retried
│       └── UnusableEndpointError  nor any other: a wrong address, certificate or account
├── BudgetError            a budget that cannot be kept, refused before the first call
├── RunFailedError         too many rows failed for the run to mean anything
├── StoreError             the call store or the tracking store cannot be used
├── DataError              arrays or tables that no honest number can be computed from
├── GateError              a decision that is not PASS where one is required
└── RegistryError          a registration, promotion, rollback or load that is refused

A caller's mistake in code (a wrong argument) is a ValueError or TypeError instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = [
    "BudgetError",
    "CallError",
    "CallTimeoutError",
    "DataError",
    "FileRuleError",
    "FloatingModelError",
    "GateError",
    "LlmlabError",
    "PromptError",
    "RegistryError",
    "RequestRefusedError",
    "RunFailedError",
    "StoreError",
    "TransportError",
    "UnusableEndpointError",
]


class LlmlabError(Exception):
    """Base of every error in this module."""


class FileRuleError(LlmlabError):
    """A file breaks a rule. Says which file, which line and which rule."""

    def __init__(self, rule: str, *, path: str | Path, line: int | None = None) -> None:
        self.rule, self.path, self.line = rule, Path(path), line
        where = str(path) if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {rule}")


class PromptError(LlmlabError):
    """A template that a case cannot fill, or a few-shot example that is a golden case."""

    def __init__(self, message: str, *, variant: str = "", case_ids: tuple[str, ...] = ()) -> None:
        self.variant, self.case_ids = variant, case_ids
        super().__init__(message)


class FloatingModelError(LlmlabError):
    """A model id that the provider may re-point, used where only a pinned one will do."""

    REMEDY = "Name a pinned id, or vouch for this one in the file's `model`: pin_override: {who: ..., why: ...}"

    def __init__(self, *, provider: str, model_id: str, reason: str) -> None:
        self.provider, self.model_id, self.reason = provider, model_id, reason
        super().__init__(f"{provider}/{model_id} is not pinned: {reason}. {self.REMEDY}")


class CallError(LlmlabError):
    """A call that gave no answer.

    `attempts` counts what was sent, retries included; `waited_s` is how long the last of them had been waited for.
    `partly` is the Generation of an application's calls before this one, with what they took and cost; None = none.
    """

    partly: Any = None

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        retry_after_s: float | None = None,
        attempts: int = 1,
        waited_s: float = 0.0,
    ) -> None:
        self.status_code, self.retry_after_s = status_code, retry_after_s
        self.attempts, self.waited_s = attempts, waited_s
        super().__init__(message)


class TransportError(CallError):
    """Network fault, rate limit, 5xx or broken body: another attempt may succeed."""


class CallTimeoutError(CallError):
    """An attempt, or a case with all its attempts, took longer than its bound."""


class RequestRefusedError(CallError):
    """The endpoint or model cannot take this request as it is; sending it again cannot help."""


class UnusableEndpointError(RequestRefusedError):
    """No API is at this address, its certificate is not trusted, or the account is empty: so for every request."""


class BudgetError(LlmlabError):
    """A budget that cannot be kept, for example because a model has no known price."""


class RunFailedError(LlmlabError):
    """Too many rows of a run failed. The partial results are in `results`."""

    def __init__(self, message: str, *, results: object = None) -> None:
        self.results = results
        super().__init__(message)


class StoreError(LlmlabError):
    """The call store or the tracking store cannot be opened, read or written.

    What a run had received until then is in `results`: partial, unscored, the answers that could not be kept included.
    """

    results: object = None


class DataError(LlmlabError):
    """Input from which no honest number can be computed: names what is wrong and where."""


class GateError(LlmlabError):
    """A decision that is not PASS where PASS is required. The decision is in `decision`."""

    def __init__(self, message: str, *, decision: object = None) -> None:
        self.decision = decision
        super().__init__(message)


class RegistryError(LlmlabError):
    """A registration, promotion, rollback or load that is refused, with the reason."""


def raised(error: BaseException) -> str:
    """The class of an error and what it says; the class alone where it says nothing, or breaks as it becomes text.

    >>> raised(ValueError("no number")), raised(KeyError())
    ('ValueError: no number', 'KeyError')
    """
    name = type(error).__name__
    try:
        return f"{name}: {error}".removesuffix(": ")
    except Exception:  # noqa: BLE001  # an SDK's or a user's own error may do anything there
        return name
