"""Keys never reach anything that llmlab writes: the values of secret environment variables, cut out of texts.

A variable is secret by its name, because a client reads its key from it (`remember`), or because its value is an
address with a password in it, of which only the password counts.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.clients.base import Generation

__all__ = ["holds_secret", "remember", "scrub", "scrub_answer", "scrub_frame", "secrets_now"]

SHORTEST_SECRET_CHARS = 6  # shorter values are words such as "none", and would be cut out of innocent text
SHORTEST_START_CHARS = 12  # of a value of twice as many: providers show the start of a key that they refuse

Secrets = tuple[tuple[str, str], ...]  # (spelling, name of its variable), longest first
Text = TypeVar("Text")

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASS|PASSPHRASE|PAT|AUTH|CREDENTIALS?)(?:_?\d+)?$",
    re.IGNORECASE,
)
_IN_AN_ADDRESS = re.compile(r"(?<=://)([^\s/?#:@\"'<>\\]{0,200}):([^\s/?#@\"'<>\\]{1,200})(?=@)")
_REMEMBERED: set[str] = set()


def scrub(text: str, *, secrets: Secrets | None = None) -> str:
    """The text without the value of any secret environment variable, and without passwords in addresses.

    Values are also found as they look inside JSON, HTML, addresses and base64, and by their beginning.

    Args:
        secrets: of `secrets_now`, where many texts are scrubbed.

    >>> scrub("postgresql://me:correct-horse@db/mlflow")
    'postgresql://[password removed]@db/mlflow'
    """
    for spelling, name in secrets_now() if secrets is None else secrets:
        if spelling in text:
            text = text.replace(spelling, f"[{name} removed]")
    return _IN_AN_ADDRESS.sub("[password removed]", text) if "://" in text else text


def holds_secret(text: str) -> str:
    """The name of the first environment variable whose secret value stands in the text, "" where there is none."""
    return next((name for spelling, name in secrets_now() if spelling in text), "")


def remember(name: str) -> None:
    """From now on this environment variable is a secret, whatever it is called: a client reads its key from it."""
    _REMEMBERED.add(name)


def scrub_answer(answer: Generation, *, secrets: Secrets) -> Generation:
    """The answer without the secrets: the same object where there is nothing to remove."""
    said = (answer.text, answer.error, json.dumps(answer.tool_calls, default=str) if answer.tool_calls else "")
    if not any(spelling in text for text in said for spelling, _ in secrets) and "://" not in answer.error:
        return answer
    calls = json.loads(scrub(said[2], secrets=secrets)) if said[2] else ()
    text, error = (scrub(part, secrets=secrets) for part in said[:2])
    return replace(answer, text=text, error=error, tool_calls=tuple(calls))


def scrub_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with every text cell scrubbed; the table itself where there is nothing to remove."""
    changed, secrets = {}, secrets_now()
    for column in frame.columns:
        texts = [value if isinstance(value, str) else "" for value in frame[column].tolist()]
        whole = "\n".join(texts)
        if any(spelling in whole for spelling, _ in secrets) or _IN_AN_ADDRESS.search(whole):
            changed[column] = [
                scrub(value, secrets=secrets) if isinstance(value, str) else value for value in frame[column].tolist()
            ]
    return frame.assign(**changed) if changed else frame


def secrets_now() -> Secrets:
    """Every spelling of every secret of the environment, longest first, so that no part of a value stays behind."""
    found = {
        (spelling, name)
        for name, value in os.environ.items()
        for secret in _secret_parts(name, value)
        if len(secret) >= SHORTEST_SECRET_CHARS
        for spelling in _spellings(secret)
    }
    return tuple(sorted(found, key=lambda pair: (-len(pair[0]), pair[1])))


def _secret_parts(name: str, value: str) -> Iterator[str]:
    value = value.strip()
    if name in _REMEMBERED or _SECRET_NAME.search(name):
        yield value
    for _, password in _IN_AN_ADDRESS.findall(value) if "://" in value else ():
        yield from {password, unquote(password)}


def _spellings(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogateescape")
    found = {secret, json.dumps(secret)[1:-1], html.escape(secret), quote(raw, safe="")}
    if len(secret) >= 2 * SHORTEST_START_CHARS:
        found.add(secret[:SHORTEST_START_CHARS])
    if len(raw) >= SHORTEST_START_CHARS:
        for shift, start in ((0, 0), (1, 2), (2, 3)):  # what stands before it moves its base64 by some bits
            coded = base64.b64encode(bytes(shift) + raw).decode().rstrip("=")
            part = coded[start : len(coded) - bool((shift + len(raw)) % 3)]
            found |= {part, part.translate(str.maketrans("+/", "-_"))}
    return found
