"""What an endpoint means by a status other than 200: try again, never again and why, or the model's own refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmlab.base.errors import CallError, RequestRefusedError, TransportError
from llmlab.base.private import excerpt
from llmlab.clients.base import Generation
from llmlab.clients.retry import retry_after_s

__all__ = ["refused_generation", "transport_or_refusal"]

TRY_AGAIN = frozenset({408, 409, 425, 429})  # and every 5xx
NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_ADVICE = {
    400: "the request breaks a rule of this endpoint; change the bundle as it says",
    402: "the account has no credit left",
    403: "the key may not use this model or region",
    404: "no such model or path; check the model id, deployment and base_url",
    413: "the request is too large; shorten the prompt",
    422: "a value has the wrong form for this endpoint; change the bundle as it says",
}


def refused_generation(status: int, text: str) -> Generation | None:
    """Azure answers a filtered prompt with status 400: to whoever asked, that is a refusal. Else None."""
    if status == 400 and _code(text) == "content_filter":
        return Generation(status="refused", error="the provider's content filter refused the prompt")
    return None


def transport_or_refusal(
    status: int, text: str, *, headers: Mapping[str, str], where: str, key_env: str | None, secrets: tuple[str, ...]
) -> CallError:
    """The error to raise: TransportError where another attempt may help, RequestRefusedError with advice elsewhere."""
    said = excerpt(_message(text), secrets=secrets)
    told = f"{where} answered {status}" + (f": {said}" if said else "")
    if status == 429 and _code(text) in NO_CREDIT:
        return RequestRefusedError(f"{told} (the account has no credit left)", status_code=status)
    if status in TRY_AGAIN or status >= 500:
        return TransportError(told, status_code=status, retry_after_s=retry_after_s(headers))
    advice = _ADVICE.get(status, "sending it again cannot help")
    if status == 401:
        wrong = f"the key in {key_env} is wrong or expired"
        unset = f"it wants a key: set the environment variable {key_env}"
        advice = (wrong if secrets else unset) if key_env else "this endpoint wants a key; name key_env"
    if 300 <= status < 400:
        advice = "it points elsewhere, and a key is not sent after it; write the final address as base_url"
    return RequestRefusedError(f"{told} ({advice})", status_code=status)


def _message(text: str) -> str:
    error = _error(text)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else text


def _code(text: str) -> str:
    error = _error(text)
    return str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""


def _error(text: str) -> Any:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    return body if body.get("object") == "error" else body.get("error", body.get("detail"))  # vLLM's own shape first
