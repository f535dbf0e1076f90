"""Texts without keys: whatever a provider's body says passes here before it is raised, logged or stored."""

from __future__ import annotations

import re

__all__ = ["Secret", "scrub"]

LONGEST_TEXT_CHARS = 400
LONGEST_SEARCHED_CHARS = 20_000
REMOVED = "[key removed]"
_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|rk|gsk|hf|xai|nvapi|pplx|key|ghp|glpat|AIza|AKIA)[-_]?[A-Za-z0-9*][\w*.-]{7,}"
    r"|(?i:\bbearer\s+)[^\s\"',}]+"
    r"|(?i:\b(?:api[-_ ]?key|authorization|token|secret|password)[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]{6,}"
)


class Secret(str):
    """A text that shows itself to nobody: tracebacks with local variables, debuggers and notebooks print its repr.

    >>> {"x-api-key": Secret("hunter2")}
    {'x-api-key': '[key removed]'}
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REMOVED)


def scrub(text: str, *, secrets: tuple[str, ...] = (), limit: int = LONGEST_TEXT_CHARS) -> str:
    """The text on one line, without the given secrets and anything shaped like a key, cut to `limit` characters.

    >>> scrub("Incorrect API key provided: sk-abcdefgh12345678.")
    'Incorrect API key provided: [key removed]'
    """
    text = text[:LONGEST_SEARCHED_CHARS]
    for secret in secrets:
        if secret:
            text = text.replace(secret, REMOVED)
    line = " ".join(_KEY_LIKE.sub(REMOVED, text).split())  # first removed, then cut: half a key is a key too
    return line if len(line) <= limit else line[: limit - 1] + "…"
