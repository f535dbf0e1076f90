"""A judge's reply into a verdict: one unambiguous verdict on the scale that was asked for, or none with the reason.

Never clamped, rescaled, defaulted or guessed. What counts as a verdict: a lone value; a JSON object that opens or
closes the reply; a statement such as "Score: 4" that begins a line or a sentence. What does not: anything quoted,
fenced inside prose, or attributed ("the answer says: ..."). A final verdict beats drafts; drafts that differ are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from llmlab.base.display import Shown, plain

__all__ = ["Verdict", "parse_preference", "parse_score"]

LONGEST_REPLY_CHARS = 100_000  # a longer one is no verdict but a fault
LONGEST_LONE_CHARS = 80
MOST_OBJECTS = 50  # places where a closing JSON object is looked for
TIE = "tie"

_THINKING = re.compile(r"<(think|thinking|reasoning|scratchpad)>.*?(?:</\1>|\Z)", re.IGNORECASE | re.DOTALL)
_THOUGHT_BEFORE = re.compile(
    r"\A.*</(?:think|thinking|reasoning|scratchpad)>", re.IGNORECASE | re.DOTALL
)  # opened unseen
_FENCE = re.compile(r"```[^\n`]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_OBJECT_STARTS = re.compile(r"(?:\A|\n|[.!?:]\s)[ \t]*(\{)")
_NEXT_OBJECT = re.compile(r"[\s,;/|]*(?:or|and|then|->|→)?\s*(?=\{)", re.IGNORECASE)  # after one that opened the reply
_OTHER_SCALE = re.compile(r"[\s*_]*(?:points?|stars?)?[\s*_]*\(?\s*(?:out\s+of|of|/)\s*([0-9]+)")
_SECOND_NUMBER = re.compile(r"[\s*_]*\(\s*[0-9]+(?:[.,][0-9]+)?\s*(?:\)|/)")
_OWN_FENCE = re.compile(r"\A([^\n{}]*)\n+```[a-zA-Z]*\s*\n(\{.*?\})\s*```", re.DOTALL)  # chatter, JSON, more chatter
_EDGE_FENCE = re.compile(r"\A```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_QUOTED = re.compile(
    r"\"[^\"]*(?:\"|\Z)|“[^”]*(?:”|\Z)|«[^»]*(?:»|\Z)|`[^`\n]*`|(?<!\w)'[^'\n]*'(?!\w)|‘[^’\n]*’(?!\w)"
)
_QUOTED_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_SAID = re.compile(
    r"\b(?:says?|said|saying|writes?|wrote|contains?|claims?|orders?|asks?|instructs?|demands?|states?|reads?|quotes?|"
    r"tells?|requests?|ends?|begins?|injects?|tries|attempts?)\b[^\n.!?;]*\Z",
    re.IGNORECASE,
)
_OF_THE_ANSWER = re.compile(
    r"\b(?:answer|response|text|candidate|author|output|quotation)\b[^\n.!?;]*:\s*\Z", re.IGNORECASE
)
_OF_THE_JUDGE = re.compile(r"\b(?:my|score|grade|rating|verdict|evaluation|assessment|judge?ment)\b", re.IGNORECASE)
_HEDGED = re.compile(
    r"\b(?i:or|maybe|perhaps|possibly|could|might|between|although|though|but|not sure|unsure)\b[^.\n]*?"
    r"(?:[0-9]|\b[AB]\b|\btie\b)",
)
_FINAL = r"(?P<final>(?:final|overall|revised|corrected|definitive)\s+(?:and\s+final\s+)?)"
_MARKUP = r"[*_#~\s]*"
_END = re.compile(
    r"[\s*_~`\])}]*"
    r"(?:\Z|\n|</|[.!;](?=[\s*_]|\Z)|,(?=\s+(?![0-9]))|:(?=\s+[A-Za-z])|\s*[–—-]{1,2}\s+(?![0-9])|"
    r"\s*\((?![^)\n]*\bor\b)|\s+(?:because|since|as|for|due|with|given|points?|stars?)\b)"
)
_NUMBER = r"(?P<value>[-+−]?[0-9][0-9.,]*(?<![.,])(?:[eE][-+]?[0-9]+)?)(?:\s*(?:/|out\s+of|of)\s*(?P<of>[0-9]+))?"
_CHOICE = r"(?:(?i:answer|response|output|option|assistant)\s+)?(?P<value>A|B|(?i:tie))(?P<of>(?!))?\b"
_LONE_SUFFIX = r"(?:\s+(?i:is|was)(?:\s+(?i:the|clearly|slightly|much))*\s+(?i:better|winner|best))?"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Verdict(Shown):
    """What a reply says: a level of the scale, "A", "B" or "tie"; `value` None, with the reason, where it says none."""

    value: int | str | None
    reason: str = ""


class _Statement(NamedTuple):
    """One verdict found in a reply; `value` None is one that cannot be read, and `why` says so."""

    value: int | str | None
    why: str
    final: bool


class _Grammar(NamedTuple):
    """How verdicts of one kind look."""

    lone: re.Pattern[str]
    hint: re.Pattern[str]  # what every statement holds: looked for first, since it is cheap
    statement: re.Pattern[str]
    keys: frozenset[str]
    scale: tuple[int, ...] | range | None  # None: a preference


def parse_score(reply: str, *, scale: Sequence[int], name: str = "score") -> Verdict:
    """The level of `scale` that a reply gives; `name` is the rubric's, which may label the verdict too.

    >>> parse_score('Wordy, but right.\\n{"score": 4}', scale=range(1, 6)).value
    4
    >>> print(parse_score("Score: 8/10", scale=range(1, 6)).reason)
    '8/10' is on another scale than 1 to 5
    """
    return _parsed(reply, _score_grammar(scale if isinstance(scale, (tuple, range)) else tuple(scale), name))


def parse_preference(reply: str) -> Verdict:
    """Which of two answers a reply prefers: "A", "B" or "tie".

    >>> parse_preference("Both name dropna. Final verdict: B").value
    'B'
    >>> parse_preference("A is good, and so is B.").value is None
    True
    """
    return _parsed(reply, _preference_grammar())


def _parsed(reply: str, grammar: _Grammar) -> Verdict:
    if len(reply) > LONGEST_REPLY_CHARS:
        return Verdict(value=None, reason=f"the reply has {len(reply):,} characters")
    text = _THOUGHT_BEFORE.sub("", _THINKING.sub("\n", reply)) if "<" in reply else reply
    text = text.strip().strip("\u200b\ufeff")
    if not text:
        return Verdict(value=None, reason="the reply is empty")
    statements = _statements(text, grammar)
    if len(statements) == 1:
        return Verdict(value=statements[0].value, reason=statements[0].why)
    return _agreed([one for one in statements if one.final] or statements)


def _agreed(statements: list[_Statement]) -> Verdict:
    if not statements:
        return Verdict(value=None, reason="no verdict in the reply")
    if unread := next((one.why for one in statements if one.value is None), ""):
        return Verdict(value=None, reason=unread)
    values = list(dict.fromkeys(one.value for one in statements))
    if len(values) > 1:
        return Verdict(value=None, reason=f"several verdicts: {', '.join(map(str, values))}")
    return Verdict(value=values[0])


def _statements(text: str, grammar: _Grammar) -> list[_Statement]:
    if text[0] == "{" and (opening := _prefix(text)) is not None and opening[1] == len(text):
        return _of_json(opening[0], grammar, final=True)
    if len(text) <= LONGEST_LONE_CHARS and (lone := grammar.lone.fullmatch(text)):
        return [_read(lone["value"], lone["of"], grammar, final=True)]
    body = _EDGE_FENCE.sub(r"\1", text) if text.startswith("```") else text
    if body.startswith(("{", "[")) and (whole := _json(body)) is not None:
        return _of_json(whole, grammar, final=True)
    found, prose = _at_the_edges(body, grammar)
    prose = _without_quotes(prose)
    read_up_to = 0
    for hint in grammar.hint.finditer(prose):
        start = max(_sentence_start(prose, hint.start()), read_up_to)
        match = grammar.statement.match(prose, start) if hint.start() >= read_up_to else None
        if match is not None and not _attributed(prose[max(0, start - 200) : start]):
            found.append(_of_prose(match, prose, grammar))
            read_up_to = match.end()
    return found


def _sentence_start(text: str, place: int) -> int:
    """Where the sentence or line around a place begins."""
    lowest = max(0, place - LONGEST_LONE_CHARS)
    starts = [found + len(mark) for mark in _SENTENCE_ENDS if (found := text.rfind(mark, lowest, place)) >= 0]
    return max(starts, default=lowest)


def _at_the_edges(text: str, grammar: _Grammar) -> tuple[list[_Statement], str]:
    """Verdicts of JSON objects that open or close the reply, and the text without them."""
    found: list[_Statement] = []
    own = _OWN_FENCE.match(text) if "```" in text else None
    fenced = _json(own[2]) if own is not None and _OF_THE_JUDGE.search(own[1]) and not _attributed(own[1]) else None
    if own is not None and fenced is not None:
        found += _of_json(fenced, grammar, final=False)
        text = text[own.end() :]
    if text.startswith("{") and (opening := _prefix(text)) is not None:
        found += _of_json(opening[0], grammar, final=False)
        text = text[opening[1] :]
        while (more := _NEXT_OBJECT.match(text)) and (another := _prefix(text[more.end() :])) is not None:
            found += _of_json(another[0], grammar, final=False)
            text = text[more.end() + another[1] :]
    if not text.rstrip().endswith(("}", "```")):
        return found, text
    for start in [match.start(1) for match in _OBJECT_STARTS.finditer(text)][:MOST_OBJECTS]:
        closing = _prefix(text[start:])
        if closing is None or text[start + closing[1] :].strip(" \n\t`"):
            continue
        before = re.sub(r"```[a-zA-Z]*\s*\Z", "", text[:start])
        if _attributed(before[-200:]):
            return found, before
        label = re.search(r"[^\n]*\Z", before.rstrip())
        draft = label is not None and re.search(r"\bdraft\b", label[0], re.IGNORECASE) is not None
        return found + _of_json(closing[0], grammar, final=not (draft or found)), before
    return found, text


def _attributed(before: str) -> bool:
    """Whether what stands ahead of a verdict says that it is somebody else's."""
    line = before.rstrip(" \n*_#").rpartition("\n")[2]
    return (
        line != ""
        and line[-1] not in ".!?;"
        and bool(_SAID.search(line) or (_OF_THE_ANSWER.search(line) and not _OF_THE_JUDGE.search(line)))
    )


def _prefix(text: str) -> tuple[Any, int] | None:
    """The JSON object that a text begins with, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value, end


def _json(text: str) -> Any:
    found = _prefix(text)
    return None if found is None or text[found[1] :].strip() else found[0]


def _of_json(value: Any, grammar: _Grammar, *, final: bool) -> list[_Statement]:
    if not isinstance(value, _Pairs):
        return [_Statement(None, "the JSON is no single object", final)]
    given, finals = [], []
    for key, item in value:
        name = key.lower().replace(" ", "_")
        if name in grammar.keys:
            given.append(item)
        elif name.startswith("final_") and name[6:] in grammar.keys:
            finals.append(item)
        elif name in _TOPS and grammar.scale is not None and item != grammar.scale[-1]:
            return [_Statement(None, f"the reply names another scale, up to {plain(item, 20)}", final)]
    return [_of_value(item, grammar, final=final) for item in finals or given]


def _of_value(item: Any, grammar: _Grammar, *, final: bool) -> _Statement:
    if isinstance(item, str):
        if lone := grammar.lone.fullmatch(item.strip()):
            return _read(lone["value"], lone["of"], grammar, final=final)
    elif grammar.scale is not None and isinstance(item, (int, float)) and not isinstance(item, bool):
        if type(item) is int and item in grammar.scale:
            return _Statement(item, "", final)
        return _read(repr(item), None, grammar, final=final)
    return _Statement(None, f"{plain(repr(item), 40)} is no verdict", final)


def _of_prose(match: re.Match[str], prose: str, grammar: _Grammar) -> _Statement:
    final = match["final"] is not None
    if match["value"] is None:
        said = plain(match[0].strip(), 40)
        return _Statement(None, f"{said!r} gives no readable verdict", final)
    shown = match["range"]
    if shown is not None and grammar.scale is not None:
        numbers = [int(part) for part in re.findall(r"[0-9]+", shown)]
        if numbers and (numbers[-1] != grammar.scale[-1] or (len(numbers) > 1 and numbers[0] != grammar.scale[0])):
            return _Statement(None, f"the reply names another scale, {plain(shown, 30)}", final)
    line_end = prose.find("\n", match.end("value"))
    rest = prose[match.end() : line_end if line_end >= 0 else len(prose)]
    sentence, _, after = rest.partition(". ")
    hedged = _HEDGED.search(sentence) or _HEDGED.match(after.lstrip())
    if (other := _OTHER_SCALE.match(rest)) and grammar.scale is not None and int(other[1][:9]) != grammar.scale[-1]:
        return _Statement(None, f"the reply names another scale, up to {plain(other[1], 20)}", final)
    if not _END.match(prose, match.end()) or hedged or _SECOND_NUMBER.match(rest):
        said = plain(prose[match.start("label") : match.end()] + rest, 60)
        return _Statement(None, f"{said!r} is not one clear verdict", final)
    return _read(match["value"], match["of"], grammar, final=final)


def _read(value: str, of: str | None, grammar: _Grammar, *, final: bool) -> _Statement:
    if grammar.scale is None:
        return _Statement(TIE if value.lower() == TIE else value, "", final)
    low, high = grammar.scale[0], grammar.scale[-1]
    if of is not None and int(of) != high:
        return _Statement(None, f"'{value}/{of}' is on another scale than {low} to {high}", final)
    whole = re.fullmatch(r"([-−]?(?:0|[1-9][0-9]{0,5}))(?:\.0+)?", value)
    if whole is None:
        return _Statement(None, f"{value!r} is no level of the scale {low} to {high}", final)
    level = int(whole[1].replace("−", "-"))
    if level not in grammar.scale:
        return _Statement(None, f"{level} is out of the scale {low} to {high}", final)
    return _Statement(level, "", final)


def _without_quotes(prose: str) -> str:
    """The text with everything quoted taken out; a quotation that is never closed reaches to the end."""
    if "```" in prose:
        prose = _FENCE.sub(" ¤ ", prose)
    if ">" in prose:
        prose = _QUOTED_LINE.sub("¤", prose)
    return _QUOTED.sub(_unquoted, prose) if any(mark in prose for mark in "\"“«`'‘") else prose


def _unquoted(match: re.Match[str]) -> str:
    inside = match[0].strip("\"“”`'‘’«» *")
    return inside if re.fullmatch(r"[0-9]{1,3}(?:/[0-9]{1,3})?|A|B|tie", inside) else "¤"


class _Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object with every key it was written with, repeated ones too."""

    __slots__ = ()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_no_constant)
_SENTENCE_ENDS = ("\n", ". ", "! ", "? ", "; ", "¤ ")
_TOPS = frozenset({"scale", "max", "max_score", "maximum", "out_of"})


def _statement(labels: str, given: str, value: str) -> re.Pattern[str]:
    """`[In short,] [my] [final] LABEL [(range)] : VALUE` from the start of a line or sentence, or a bare [[VALUE]]."""
    lead = r"(?:(?i:so|thus|therefore|hence|overall|finally|in\s+conclusion|in\s+summary|to\s+conclude),?\s+)?"
    start = rf"\s*(?:(?:[-•*+]|[0-9]{{1,2}}[.)])[ \t]+)?{_MARKUP}{lead}"
    label = rf"(?:(?i:my|the)\s+)?(?i:{_FINAL})?(?:(?i:{labels}))"
    shown = r"(?:\s*[(\[](?P<range>[^)\]\n]{1,40})[)\]])?"
    below = r"\n\s*(?=[*_\[]*(?:[0-9]|[AB]\b|[Tt]ie\b))"  # a heading, and the value under it
    colon = rf"(?:{_MARKUP}(?::|：|=|->|→|\s(?i:is|of)\b:?)[\s*_\[({{`$]*|[*_#]*[ \t]*{below}[*_\[]*)"
    opening = rf"(?:<(?i:{labels})>\s*|{label}{shown}{colon}|{given}|\[\[\s*)"
    return re.compile(rf"{start}(?P<label>){opening}(?:{value}(?:\s*</(?i:{labels})>)?)?")


def _hint(*words: str) -> re.Pattern[str]:
    """Any of the words in any case; each first letter spelt out, since a search that ignores case is slow."""
    spelt = [f"[{word[0].lower()}{word[0].upper()}](?i:{re.escape(word[1:])})" for word in words if word.isascii()]
    return re.compile("|".join([*spelt, r"\[\["]))


@lru_cache(maxsize=256)
def _score_grammar(scale: tuple[int, ...] | range, name: str) -> _Grammar:
    if not len(scale):
        raise ValueError("the scale has no levels")
    own = re.escape(name).replace("_", "[_ ]")
    labels = rf"(?:{own}\s+)?(?:score|rating|grade|verdict)|{own}"
    given = (
        r"(?i:I(?:\s+would|'d|’d)?\s+(?:give|rate|score|grade)\s+(?:it|this|(?:this|the)\s+(?:answer|response))"
        r"(?:\s+(?:an?|as|at|with))?(?:\s+(?:an?\s+)?(?:score|rating|grade)\s+of)?)\s+[*_]*(?=[0-9])"
    )
    lone = re.compile(rf"[*_`\s]*(?:\[\[)?\s*{_NUMBER}\s*(?:\]\])?[*_`\s]*\.?[*_`]*")
    keys = frozenset({"score", "rating", "grade", "verdict", name.lower()})
    hint = _hint("score", "rating", "rate", "grade", "give", "verdict", name.partition("_")[0])
    return _Grammar(lone, hint, _statement(labels, given, _NUMBER), keys, scale)


@lru_cache(maxsize=1)
def _preference_grammar() -> _Grammar:
    labels = r"winner|verdict|preference|preferred(?:\s+answer)?|better(?:\s+answer)?|choice|judg(?:e)?ment|decision"
    given = (
        r"(?i:I\s+(?:prefer|choose|pick)|it(?:\s+is|['’]s)\s+a(?=\s+tie))\s+[*_]*"
        r"(?=(?i:answer|response|output|option)\s|[AB]\b|tie\b)"
    )
    lone = re.compile(rf"[*_`\s]*(?:\[\[)?\s*{_CHOICE}\s*(?:\]\])?{_LONE_SUFFIX}[*_`\s]*[.!]?[*_`]*")
    keys = frozenset({"winner", "verdict", "preference", "preferred", "better", "choice"})
    hint = _hint(
        "winner",
        "verdict",
        "prefer",
        "better",
        "choice",
        "choose",
        "pick",
        "judg",
        "decision",
        "it is a",
        "it's a",
        "it’s a",
    )
    return _Grammar(lone, hint, _statement(labels, given, _CHOICE), keys, None)
