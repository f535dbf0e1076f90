"""Keys never reach anything that llmlab writes: the values of secret environment variables, cut out of texts."""

from __future__ import annotations

import html
import json
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["holds_secret", "scrub", "scrub_frame"]

SHORTEST_SECRET_CHARS = 6  # shorter values are words such as "none", and would be cut out of innocent text

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?)$", re.IGNORECASE
)


def scrub(text: str) -> str:
    """The text without the value of any environment variable that is named like a key, token or password.

    Values are also found as they look inside JSON, HTML and addresses.
    """
    for spelling, name in _secrets():
        if spelling in text:
            text = text.replace(spelling, f"[{name} removed]")
    return text


def holds_secret(text: str) -> str:
    """The name of the first environment variable whose secret value stands in the text, "" where there is none."""
    return next((name for spelling, name in _secrets() if spelling in text), "")


def scrub_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with every text cell scrubbed; the table itself where there is nothing to remove."""
    changed = {}
    for column in frame.columns:
        texts = [value if isinstance(value, str) else "" for value in frame[column].tolist()]
        if holds_secret("\n".join(texts)):
            changed[column] = [scrub(value) if isinstance(value, str) else value for value in frame[column].tolist()]
    return frame.assign(**changed) if changed else frame


def _secrets() -> list[tuple[str, str]]:
    """(spelling, name of its variable), longest first, so that no part of a value stays behind."""
    found = [
        (spelling, name)
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_SECRET_CHARS and _SECRET_NAME.search(name)
        for spelling in {value, json.dumps(value)[1:-1], html.escape(value), quote(value, safe="")}
    ]
    return sorted(found, key=lambda pair: (-len(pair[0]), pair[1]))
