"""Keys never reach anything that llmlab writes: the values of secret environment variables, cut out of texts."""

from __future__ import annotations

import html
import json
import os
import re
from urllib.parse import quote

__all__ = ["scrub"]

SHORTEST_SECRET_CHARS = 6  # shorter values are words such as "none", and would be cut out of innocent text

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?)$", re.IGNORECASE
)


def scrub(text: str) -> str:
    """The text without the value of any environment variable that is named like a key, token or password.

    Values are also found as they look inside JSON, HTML and addresses. Whatever llmlab writes passes here.
    """
    for name, value in os.environ.items():
        if len(value) < SHORTEST_SECRET_CHARS or not _SECRET_NAME.search(name):
            continue
        for spelling in _spellings(value):
            if spelling in text:
                text = text.replace(spelling, f"[{name} removed]")
    return text


def _spellings(value: str) -> tuple[str, ...]:
    forms = (value, json.dumps(value)[1:-1], html.escape(value), quote(value, safe=""))
    return tuple(sorted(set(forms), key=len, reverse=True))
