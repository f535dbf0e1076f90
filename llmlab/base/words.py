"""Text into the words that are compared: what the lexical retrievers index and the offline reader weighs.

A light stemmer by a few rules (after Harman, 1991, "How effective is suffixing?": plurals, then -ed and -ing)
and a short list of words that carry no topic. Identifiers are cut at underscores, dots and capitals.
"""

from __future__ import annotations

import re
from functools import lru_cache

_STOP_TEXT = """
a about after all also am an and any are as at be been before being but by can cannot could did do does doing
don each for from further get gets getting give gives go got had has have having he her here how i if in into is
it its just ll let like make makes me might more most my need needs no nor not of off on one only or other our
out over own please re s same shall she should so some such t than that the their them then there these they
this those through to too under up us use used using ve very want wants was way we were what when where which
while who whom why will with would you your
"""
_STOP_WORDS = frozenset(_STOP_TEXT.split())
_WORD = re.compile(r"[a-z]+|[0-9]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def words(text: str) -> list[str]:
    """The stemmed words of a text in their order, without stop words and single letters.

    >>> words("How do I drop duplicated rows? DataFrame.drop_duplicates")
    ['drop', 'duplicat', 'row', 'data', 'fram', 'drop', 'duplicat']
    """
    found = _WORD.findall(_CAMEL.sub(" ", text).lower())
    return [stemmed for word in found if (stemmed := _index_word(word))]


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The word without plural and verb endings.

    >>> [stem(word) for word in ("values", "entries", "missing", "sorted", "dropping", "series", "class")]
    ['valu', 'entri', 'miss', 'sort', 'drop', 'seri', 'class']
    """
    if len(word) <= 3:
        return word
    if word.endswith("ies"):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and re.search("[aeiouy]", word[: -len(ending)]):
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    if word.endswith("y") and len(word) > 3:
        return word[:-1] + "i"
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


@lru_cache(maxsize=65_536)
def _index_word(word: str) -> str:
    return "" if word in _STOP_WORDS or (len(word) == 1 and word.isalpha()) else stem(word)
