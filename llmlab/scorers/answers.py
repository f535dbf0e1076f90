"""Scorers that look at the answer alone or compare it with what the case expects; all deterministic."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from llmlab.base.private import find_pii, pseudonymised, texts_within
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers.base import Score, scorer, texts_of

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Han: written without spaces
_GLUED = _UNSPACED + "\u0e00-\u0e7f\uac00-\ud7af"  # Thai, and Hangul whose particles stick to the word
_LETTER = re.compile(rf"[^\W{_GLUED}]")
_NEGATIVE = re.compile(r"-\d")
_DIGIT_AND_POINT, _MORE_DIGITS = re.compile(r"\d\."), re.compile(r"\.\d|,\d{3}(?!\d)")
_TYPED = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\uff02", '"')
    | dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\uff07", "'")
    | dict.fromkeys("\u00ad\u200b\u2060\ufeff", "")
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:['.\-][^\W{_UNSPACED}]+)*")


@scorer(needs_expected=True, revision=2)
def exact(case: Case, generation: Generation) -> Score:
    """1 when the answer is one of the expected texts, however blanks, hyphens and quotes are typed; case counts."""
    answer, expected = one_form(generation.text), texts_of(case)
    right = any(answer == one_form(text) for text in expected)
    return Score(value=right, explanation="" if right else f"expected {' or '.join(map(repr, expected))}")


@scorer(needs_expected=True, revision=2)
def contains_expected(case: Case, generation: Generation) -> Score:
    """1 when every expected text occurs in the answer as it is, whatever case, spacing, hyphens and quotes."""
    answer = compared(generation.text)
    missing = [text for text in texts_of(case) if compared(text) not in answer]
    return Score(value=not missing, explanation=_list_missing(missing))


@scorer(needs_expected=True, revision=2)
def mentions_expected(case: Case, generation: Generation) -> Score:
    """Share of the expected facts that the answer mentions as whole words; `a|b` is one fact, said either way.

    >>> case = Case(id="q1", inputs={"question": "?"}, expected=("dropna", "axis|columns"))
    >>> mentions_expected(case, Generation(text="Call `df.dropna()`.")).value
    0.5
    """
    answer, expected = compared(generation.text), texts_of(case)
    missing = [fact for fact in expected if not any(mentions(answer, way) for way in _ways(fact))]
    share = (len(expected) - len(missing)) / len(expected)
    return Score(value=share, explanation=_list_missing(missing))


@scorer(revision=1)
def not_empty(case: Case, generation: Generation) -> bool:
    """1 when the answer has any text or calls a tool."""
    return bool(generation.text.strip() or generation.tool_calls)


@scorer(high=None, higher_is_better=False, revision=1)
def word_count(case: Case, generation: Generation) -> int:
    """Number of words; in scripts without spaces (Chinese, Japanese) each character is one."""
    return count_words(generation.text)


@scorer(empty_fails=False, revision=3, redact=lambda text: str(pseudonymised(text, key=None)))
def no_pii(case: Case, generation: Generation) -> Score:
    """1 when no email, phone, IBAN, card or national id number, public IP or API key is in text or tool calls.

    It finds what has a fixed form. Names and addresses have none: a clean score is no proof of privacy.
    """
    kinds = find_pii(all_texts(generation))
    listed = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    return Score(value=not kinds, explanation=f"found {listed}" if kinds else "")


def all_texts(generation: Generation) -> str:
    """The answer's text and, on lines below it, every text and number in its tool calls."""
    return "\n".join([generation.text, *texts_within(generation.tool_calls)])


def folded(text: str) -> str:
    """Text for comparison: one Unicode form, no case, straight apostrophes, single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).replace("\u2019", "'").casefold().split())


def typed_alike(text: str) -> str:
    """The text with one kind of hyphen and minus sign, of double and of single quotes, and no blank without width.

    >>> typed_alike("a\u2011b \u2212 \u201ec\u201c")
    'a-b - "c"'
    """
    return text if text.isascii() else text.translate(_TYPED)


def compared(text: str) -> str:
    """Text as words are compared: `folded`, and typed alike."""
    return folded(typed_alike(text))


def one_form(text: str) -> str:
    """Text in one Unicode form, typed alike, with single blanks; case is kept."""
    return " ".join(typed_alike(unicodedata.normalize("NFC", text)).split())


def count_words(text: str) -> int:
    """Number of words, as `word_count` counts them."""
    return sum(1 for _ in _WORD.finditer(text.replace("\u2019", "'")))


@lru_cache(maxsize=4096)
def _ways(fact: str) -> tuple[str, ...]:
    return tuple(compared(way) for way in fact.split("|") if way.strip())


def mentions(answer: str, words: str) -> bool:
    """Whether the words stand in the answer on their own; no pattern is made of them: that costs milliseconds each."""
    at = answer.find(words)
    while at >= 0:
        if not (_goes_on_before(answer, at, words) or _goes_on_after(answer, at + len(words), words[-1])):
            return True
        at = answer.find(words, at + 1)
    return False


def _goes_on_before(answer: str, at: int, words: str) -> bool:
    """Whether what starts here is a part of a longer word or number; 5 is not found in 12.5, nor in -5."""
    first = words[0]
    before, earlier = answer[at - 1 : at], answer[at - 2 : at - 1] if at > 1 else ""
    if before and _LETTER.match(before) and (_LETTER.match(first) or _NEGATIVE.match(words)):
        return True
    if first.isdigit() and before == "-" and not (earlier.isalnum() or earlier in (")", "-")):
        return True
    return at > 1 and first.isdigit() and _DIGIT_AND_POINT.match(answer, at - 2) is not None


def _goes_on_after(answer: str, end: int, last: str) -> bool:
    """Whether what ends here is a part of a longer word or number; 12 is not found in 12.5."""
    if _LETTER.match(last) and _LETTER.match(answer, end):
        return True
    return last.isdigit() and _MORE_DIGITS.match(answer, end) is not None


def _list_missing(missing: list[str]) -> str:
    return f"not mentioned: {', '.join(missing)}" if missing else ""
