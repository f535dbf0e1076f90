"""Two texts word by word: what went, what came."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

from llmlab.base.cells import Marked

_COMPARED_CHARS = 20_000  # of each text that is compared with another
_SHARED_AT_LEAST = 0.25  # of the words of the shorter text: below, marking each change would hide both
_LONG_WORDS = 5  # up to so many every change is marked


def diffed(before: str, after: str) -> Marked:
    """The text after: what is new in it came, what it lacks is gone, in place.

    A text that shares little with the one before is not marked word by word: that would hide both.

    >>> diffed("drop rows", "drop columns").pieces
    (('drop ', ''), ('rows', 'gone'), ('columns', 'came'))
    """
    changes = list(_changes(before, after))
    shorter = min(len(before.split()), len(after.split()))
    shared = sum(len(came.split()) for kind, _, came in changes if kind == "equal")
    if shorter > _LONG_WORDS and shared < _SHARED_AT_LEAST * shorter:
        return Marked((("(little in common)\n", "quiet"), (after, "")))
    both = ([(came, "")] if kind == "equal" else [(gone, "gone"), (came, "came")] for kind, gone, came in changes)
    return Marked(tuple(piece for pieces in both for piece in pieces if piece[0]))


def both_sides(before: str, after: str) -> tuple[Marked, Marked]:
    """The text before with what is gone, and the text after with what came.

    >>> both_sides("drop rows", "drop columns")[0].pieces
    (('drop ', ''), ('rows', 'gone'))
    """
    changes = list(_changes(before, after))
    old = tuple((gone, "" if kind == "equal" else "gone") for kind, gone, _ in changes if gone)
    new = tuple((came, "" if kind == "equal" else "came") for kind, _, came in changes if came)
    return Marked(old), Marked(new)


def _changes(before: str, after: str) -> Iterator[tuple[str, str, str]]:
    """(equal, replace, insert or delete; piece before; piece after)."""
    old, new = (re.findall(r"\S+\s*|\s+", text[:_COMPARED_CHARS]) for text in (before, after))
    bare_old, bare_new = ([word.rstrip() for word in words] for words in (old, new))
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, bare_old, bare_new, autojunk=False).get_opcodes():
        yield kind, "".join(old[i1:i2]), "".join(new[j1:j2])
