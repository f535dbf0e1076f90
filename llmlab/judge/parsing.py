"""A judge's reply into a verdict: one unambiguous verdict on the scale that was asked for, or none with the reason.

Never clamped, rescaled, defaulted or guessed. One rule: **a verdict is read where the reply labels it or holds
nothing else, and it is the judge's own last word on the rubric's scale.**

- Labelled: a JSON object that opens or closes the reply (there `"b"` is B), or "Score: 4" at the start of a line or
  sentence. Nothing else: a value that is the whole reply, or the whole last line where nothing is labelled.
- The judge's own: nothing quoted, fenced inside prose, attributed ("the answer says: ...") or standing word for word
  in what was judged.
- Its last word: a final verdict beats drafts, a correction ("Actually, make that 2.") takes the place of what stood
  before it; drafts that differ, and a correction that cannot be read, are no verdict.
- The rubric's scale: a reply that states another one ("on a scale of 1 to 10") is unreadable, whatever its number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from llmlab.base.cells import plain
from llmlab.display.shown import Shown

_LONGEST_REPLY_CHARS = 100_000  # a longer one is no verdict but a fault
_LONGEST_LONE_CHARS = 80
_MOST_OBJECTS = 50  # places where a closing JSON object is looked for
TIE = "tie"
Scale: TypeAlias = tuple[int, ...] | range

_THINKING = re.compile(r"<(think|thinking|reasoning|scratchpad)>.*?(?:</\1>|\Z)", re.IGNORECASE | re.DOTALL)
_THOUGHT_UNSEEN = re.compile(r"\A.*</(?:think|thinking|reasoning|scratchpad)>", re.IGNORECASE | re.DOTALL)
_FENCE = re.compile(r"```[^\n`]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_OBJECT_STARTS = re.compile(r"(?:\A|\n|[.!?:]\s)[ \t]*(\{)")
_NEXT_OBJECT = re.compile(r"[\s,;/|]*(?:or|and|then|->|→)?\s*(?=\{)", re.IGNORECASE)  # after one that opened the reply
_OTHER_SCALE = re.compile(r"[\s*_]*\(?\s*(?:out\s+of|of|/)\s*([0-9]+)")
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
    r"\s*\((?![^)\n]*\bor\b)|\s+(?:because|since|as|for|due|with|given|instead)\b)"
)
_NUMBER = (
    r"(?P<value>[-+−]?[0-9][0-9.,]*(?<![.,])(?:[eE][-+]?[0-9]+)?)(?:\s+(?:points?|stars?)\b)?"
    r"(?:\s*(?:/|out\s+of|of)\s*(?P<of>[0-9]+)(?:\s+(?:points?|stars?)\b)?)?"
)
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
    words: str = ""  # as the reply has it
    start: int = 0  # where in the prose
    end: int = 0


class _Grammar(NamedTuple):
    """How verdicts of one kind look."""

    lone: re.Pattern[str]
    hint: re.Pattern[str]  # what every statement holds: looked for first, since it is cheap
    statement: re.Pattern[str]
    correction: re.Pattern[str]
    loose: re.Pattern[str]  # what a correction might name
    keys: frozenset[str]
    scale: Scale | None  # None: a preference


def parse_score(reply: str, *, scale: Sequence[int], name: str = "score", judged: Sequence[str] = ()) -> Verdict:
    """The level of `scale` that a reply gives; `name` is the rubric's, which may label the verdict too.

    `judged` are the texts that the judge was shown: a verdict that stands in one of them is not the judge's.

    >>> parse_score('Wordy, but right.\\n{"score": 4}', scale=range(1, 6)).value
    4
    >>> print(parse_score("Score: 8/10", scale=range(1, 6)).reason)
    '8/10' is on another scale than 1 to 5
    """
    return _parsed(reply, _score_grammar(scale if isinstance(scale, (tuple, range)) else tuple(scale), name), judged)


def parse_preference(reply: str, *, judged: Sequence[str] = ()) -> Verdict:
    """Which of two answers a reply prefers: "A", "B" or "tie"; `judged` as for `parse_score`.

    >>> parse_preference("Both name dropna. Final verdict: B").value
    'B'
    >>> parse_preference("A is good, and so is B.").value is None
    True
    """
    return _parsed(reply, _preference_grammar(), judged)


def _parsed(reply: str, grammar: _Grammar, judged: Sequence[str]) -> Verdict:
    if len(reply) > _LONGEST_REPLY_CHARS:
        return Verdict(value=None, reason=f"the reply has {len(reply):,} characters")
    text = _THOUGHT_UNSEEN.sub("", _THINKING.sub("\n", reply)) if "<" in reply else reply
    text = text.strip().strip("\u200b\ufeff")
    if not text:
        return Verdict(value=None, reason="the reply is empty")
    material = [_bare_words(shown) for shown in judged]
    verdicts, prose, reasons = _statements(text, grammar)
    if other_scale := _other_scale(f"{reasons}{prose}", grammar.scale, material):
        return Verdict(value=None, reason=f"the reply names another scale, {plain(other_scale, 40)}")
    unquoted = [verdict for verdict in verdicts if not _stands_in(verdict.words, material)] if material else verdicts
    if verdicts and not unquoted:
        return Verdict(value=None, reason="the verdict stands word for word in what was judged")
    if prose:
        unquoted = _corrected(unquoted, prose, grammar, material)
    return _agreed([verdict for verdict in unquoted if verdict.final] or unquoted)


def _agreed(verdicts: list[_Statement]) -> Verdict:
    if not verdicts:
        return Verdict(value=None, reason="no verdict in the reply")
    if unread := next((verdict.why for verdict in verdicts if verdict.value is None), ""):
        return Verdict(value=None, reason=unread)
    values = list(dict.fromkeys(verdict.value for verdict in verdicts))
    if len(values) > 1:
        return Verdict(value=None, reason=f"several verdicts: {', '.join(map(str, values))}")
    return Verdict(value=values[0])


def _bare_words(text: str) -> str:
    return " " + " ".join(re.findall(r"\w+", text.casefold())) + " "


def _stands_in(words: str, material: Sequence[str]) -> bool:
    """Whether one of the texts says something word for word; of a mere value, whether that is all it says."""
    spoken = _bare_words(words)
    is_phrase = any(letter.isalpha() for letter in spoken) and len(spoken.split()) > 1
    return any(spoken in text if is_phrase else spoken == text for text in material)


def _other_scale(text: str, scale: Scale | None, material: Sequence[str]) -> str:
    """The scale that the judge says it uses, where that is not the rubric's."""
    if scale is None or not any(word in text.lower() for word in ("scale", "where")):
        return ""
    text = _without_quotes(text)
    for stated in _STATED_SCALE.finditer(text):
        before = text[max(0, stated.start() - 200) : stated.start()]
        end_texts = [end.casefold() for end in stated.groups() if end]
        ends = [_NUMBERS.index(end) if end in _NUMBERS else int(end) for end in end_texts]
        top = ends == [len(scale)] if stated["points"] else ends[-1] == scale[-1]
        same = stated["level"] is not None and ends[0] in scale
        same = same or (top if len(ends) == 1 else sorted(ends) == [scale[0], scale[-1]])
        if not (same or _OF_OTHERS.search(before) or _stands_in(stated[0], material)):
            return stated[0]
    return ""


def _corrected(verdicts: list[_Statement], prose: str, grammar: _Grammar, material: Sequence[str]) -> list[_Statement]:
    """What is left of the statements where corrections take the place of everything before them."""
    standing: list[_Statement] = []
    for place, verdict in enumerate(verdicts):
        standing.append(verdict)
        until = verdicts[place + 1].start if place + 1 < len(verdicts) else len(prose)
        for match in grammar.correction.finditer(prose, verdict.end, until):
            if _attributed(prose[max(0, match.start() - 200) : match.start()]) or _stands_in(match[0], material):
                continue
            if match["value"] is not None:
                standing = [_of_prose(match, prose, grammar, final=any(earlier.final for earlier in standing))]
            elif match["strong"] is None:
                continue
            elif place + 1 < len(verdicts):
                standing = []
            elif grammar.loose.search(re.split(r"[.!?]\s|\n", prose[match.end() : until], maxsplit=1)[0]):
                standing = [_Statement(None, f"{plain(match[0].strip(), 40)!r} corrects it unreadably", True)]
    return standing


def _statements(text: str, grammar: _Grammar) -> tuple[list[_Statement], str, str]:
    """Every verdict that a reply gives in their order, its prose without quotations, and the reasons in its JSON."""
    if text[0] != "{" and len(text) <= _LONGEST_LONE_CHARS and (lone := grammar.lone.fullmatch(text)):
        return [_Statement(*_read(lone["value"], lone["of"], grammar.scale), True, text)], "", ""
    body = _EDGE_FENCE.sub(r"\1", text) if text.startswith("```") else text
    if body.startswith(("{", "[")) and (whole := _json(body)) is not None:
        return _of_json(whole, grammar, final=True, words=body), "", _reasons(whole)
    opening, closing, prose, reasons = _at_the_edges(body, grammar)
    prose = _without_quotes(prose)
    verdicts: list[_Statement] = []
    read_up_to = 0
    for hint in grammar.hint.finditer(prose):
        start = max(_sentence_start(prose, hint.start()), read_up_to)
        match = grammar.statement.match(prose, start) if hint.start() >= read_up_to else None
        if match is not None and not _attributed(prose[max(0, start - 200) : start]):
            verdicts.append(_of_prose(match, prose, grammar, final=match["final"] is not None))
            read_up_to = match.end()
    end = len(prose)
    verdicts = [*opening, *verdicts, *(verdict._replace(start=end, end=end) for verdict in closing)]
    return verdicts or _on_the_last_line(prose, grammar), prose, reasons


def _on_the_last_line(prose: str, grammar: _Grammar) -> list[_Statement]:
    """A value alone on the last line of a reply that labels none; not where the line above leads up to it."""
    above, _, last = prose.strip().rpartition("\n")
    above = above.rstrip().rpartition("\n")[2].strip()
    lone = grammar.lone.fullmatch(last.strip()) if above and len(last) <= _LONGEST_LONE_CHARS else None
    if lone is None or grammar.lone.fullmatch(above) or above[-1] in ":?,{[(¤" or _attributed(above):
        return []
    value, why = _read(lone["value"], lone["of"], grammar.scale)
    return [_Statement(value, why, True, f"{above}\n{last}", len(prose), len(prose))]


def _sentence_start(text: str, place: int) -> int:
    """Where the sentence or line around a place begins."""
    lowest = max(0, place - _LONGEST_LONE_CHARS)
    starts = [at + len(mark) for mark in _SENTENCE_ENDS if (at := text.rfind(mark, lowest, place)) >= 0]
    return max(starts, default=lowest)


def _at_the_edges(text: str, grammar: _Grammar) -> tuple[list[_Statement], list[_Statement], str, str]:
    """Verdicts of JSON objects that open and close the reply, the text without them, and the reasons in them."""
    opened: list[_Statement] = []
    reasons = ""
    own = _OWN_FENCE.match(text) if "```" in text else None
    fenced = _json(own[2]) if own is not None and _OF_THE_JUDGE.search(own[1]) and not _attributed(own[1]) else None
    if own is not None and fenced is not None:
        opened, reasons = _of_json(fenced, grammar, final=False, words=own[2]), _reasons(fenced)
        text = text[own.end() :]
    skipped = 0
    while text.startswith("{", skipped) and (opening := _prefix(text[skipped:])) is not None:
        words, text = text[skipped : skipped + opening[1]], text[skipped + opening[1] :]
        opened += _of_json(opening[0], grammar, final=False, words=words)
        reasons += _reasons(opening[0])
        more = _NEXT_OBJECT.match(text)
        skipped = more.end() if more is not None else len(text)
    if not text.rstrip().endswith(("}", "```")):
        return opened, [], text, reasons
    for start in [match.start(1) for match in _OBJECT_STARTS.finditer(text)][:_MOST_OBJECTS]:
        closing = _prefix(text[start:])
        if closing is None or text[start + closing[1] :].strip(" \n\t`"):
            continue
        before = re.sub(r"```[a-zA-Z]*\s*\Z", "", text[:start])
        if _attributed(before[-200:]):
            return opened, [], before, reasons
        draft = re.search(r"\bdraft\b", before.rstrip().rpartition("\n")[2], re.IGNORECASE) is not None
        verdicts = _of_json(closing[0], grammar, final=not (draft or opened), words=text[start : start + closing[1]])
        return opened, verdicts, before, reasons + _reasons(closing[0])
    return opened, [], text, reasons


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
    prefix = _prefix(text)
    return None if prefix is None or text[prefix[1] :].strip() else prefix[0]


def _reasons(value: Any) -> str:
    """What the strings of a JSON object say in the judge's own words."""
    texts = [item for _, item in value if isinstance(item, str)] if isinstance(value, _Pairs) else []
    return "".join(f"{item}\n" for item in texts)


def _of_json(value: Any, grammar: _Grammar, *, final: bool, words: str) -> list[_Statement]:
    if not isinstance(value, _Pairs):
        return [_Statement(None, "the JSON is no single object", final, words)]
    statements, finals = [], []
    for key, item in value:
        name = key.lower().replace(" ", "_")
        if name in grammar.keys:
            statements.append(item)
        elif name.startswith("final_") and name[6:] in grammar.keys:
            finals.append(item)
        elif name in _TOPS and grammar.scale is not None and not _is_top(item, grammar.scale):
            return [_Statement(None, f"the reply names another scale, up to {plain(item, 20)}", final, words)]
    return [_of_value(item, grammar, final=final, words=words) for item in finals or statements]


def _is_top(item: Any, scale: Scale) -> bool:
    """Whether what a reply calls its scale ends where the rubric's does: 5, "5", "1-5"."""
    ends = [int(digits) for digits in re.findall(r"[0-9]{1,6}", str(item))]
    return ends in ([scale[-1]], [scale[0], scale[-1]])


def _of_value(item: Any, grammar: _Grammar, *, final: bool, words: str) -> _Statement:
    if isinstance(item, str):
        text = item.strip()
        if grammar.scale is None:
            text = re.sub(r"\b[ab]\b", lambda letter: letter[0].upper(), text)  # no article can stand here
        if lone := grammar.lone.fullmatch(text):
            return _Statement(*_read(lone["value"], lone["of"], grammar.scale), final, words)
    elif grammar.scale is not None and isinstance(item, (int, float)) and not isinstance(item, bool):
        if type(item) is int and item in grammar.scale:
            return _Statement(item, "", final, words)
        return _Statement(*_read(repr(item), None, grammar.scale), final, words)
    return _Statement(None, f"{plain(repr(item), 40)} is no verdict", final, words)


def _of_prose(match: re.Match[str], prose: str, grammar: _Grammar, *, final: bool) -> _Statement:
    value, why = None, _unclear(match, prose, grammar.scale)
    if not why:
        value, why = _read(match["value"], match["of"], grammar.scale)
    return _Statement(value, why, final, match[0], *match.span())


def _unclear(match: re.Match[str], prose: str, scale: Scale | None) -> str:
    """Why a statement is no clear verdict by what stands in it and after it, "" where it is one."""
    if match["value"] is None:
        return f"{plain(match[0].strip(), 40)!r} gives no readable verdict"
    shown = match.groupdict().get("range")
    if shown is not None and scale is not None and re.search("[0-9]", shown) and not _is_top(shown, scale):
        return f"the reply names another scale, {plain(shown, 30)}"
    line_end = prose.find("\n", match.end("value"))
    rest = prose[match.end() : line_end if line_end >= 0 else len(prose)]
    sentence, _, after = rest.partition(". ")
    hedged = _HEDGED.search(sentence) or _HEDGED.match(after.lstrip())
    if (other := _OTHER_SCALE.match(rest)) and scale is not None and int(other[1][:9]) != scale[-1]:
        return f"the reply names another scale, up to {plain(other[1], 20)}"
    if not _END.match(prose, match.end()) or hedged or _SECOND_NUMBER.match(rest):
        return f"{plain(match[0].strip() + rest, 60)!r} is not one clear verdict"
    return ""


def _read(value: str, of: str | None, scale: Scale | None) -> tuple[int | str | None, str]:
    """The verdict that a value is, or None and why it is none."""
    if scale is None:
        return TIE if value.lower() == TIE else value, ""
    low, high = scale[0], scale[-1]
    whole = re.fullmatch(r"([-−]?(?:0|[1-9][0-9]{0,5}))(?:\.0+)?", value)
    if of is not None and int(of) != high:
        return None, f"'{value}/{of}' is on another scale than {low} to {high}"
    if whole is None:
        return None, f"{value!r} is no level of the scale {low} to {high}"
    level = int(whole[1].replace("−", "-"))
    return (level, "") if level in scale else (None, f"{level} is out of the scale {low} to {high}")


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
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_N = rf"(?:[0-9]{{1,4}}|{'|'.join(_NUMBERS)})"
_TO = r"\s*(?:-|–|—|to|through|and|\.\.)\s*"
_STATED_SCALE = re.compile(
    rf"\bscale\b[^.!?\n0-9]{{0,30}}?\b({_N}){_TO}({_N})\b|\b({_N}){_TO}({_N})\s+(?:\w+\s+)?scale\b|"
    rf"\b(?P<points>{_N})[-\s]point\s+(?:\w+\s+)?scale\b|\bscale\s*(?:of|up\s+to|out\s+of|:|=)\s*({_N})\b(?!{_TO}{_N})|"
    rf"\bwhere\s+(?P<level>{_N})\s+(?:is|means|=)\s+(?:the\s+)?(?:best|highest|top|perfect|excellent|worst|lowest)\b",
    re.IGNORECASE,
)
_OF_OTHERS = re.compile(  # "The answer rates pain on a "
    r"\b(?:answer|response|text|candidate|author|question|it)\s+(?:also\s+)?(?!(?:is|was|deserves|scores|gets|earns)\b)"
    r"(?:\w+s|used|gave|rated|put|asked)\b[^.!?\n]*\Z",
    re.IGNORECASE,
)
_SENTENCE_ENDS = ("\n", ". ", "! ", "? ", "; ", "¤ ")
_TOPS = frozenset({"scale", "max", "max_score", "maximum", "out_of"})


def _statement(labels: str, phrase: str, value: str) -> re.Pattern[str]:
    """`[In short,] [my] [final] LABEL [(range)] : VALUE` from the start of a line or sentence, or a bare [[VALUE]]."""
    lead = r"(?:(?i:so|thus|therefore|hence|overall|finally|in\s+conclusion|in\s+summary|to\s+conclude),?\s+)?"
    start = rf"\s*(?:(?:[-•*+]|[0-9]{{1,2}}[.)])[ \t]+)?{_MARKUP}{lead}"
    label = rf"(?:(?i:my|the)\s+)?(?i:{_FINAL})?(?:(?i:{labels}))"
    shown = r"(?:\s*[(\[](?P<range>[^)\]\n]{1,40})[)\]])?"
    below = r"\n\s*(?=[*_\[]*(?:[0-9]|[AB]\b|[Tt]ie\b))"  # a heading, and the value under it
    colon = rf"(?:{_MARKUP}(?::|：|=|->|→|\s(?i:is|of)\b:?)[\s*_\[({{`$]*|[*_#]*[ \t]*{below}[*_\[]*)"
    opening = rf"(?:<(?i:{labels})>\s*|{label}{shown}{colon}|{phrase}|\[\[\s*)"
    return re.compile(rf"{start}(?P<label>){opening}(?:{value}(?:\s*</(?i:{labels})>)?)?")


def _correction(value: str) -> re.Pattern[str]:
    """What takes a verdict back, at the start of a clause, with the value that it puts in its place if it is plain."""
    between = r"[\s,:;*_–—-]+"
    firm = (
        r"actually|correction|wait|scratch\s+that|(?:up)?on\s+(?:further\s+)?(?:reflection|second\s+thoughts?)|"
        r"let\s+me\s+(?:revise|correct|change|reconsider)|I(?:['’]ll|['’]m|\s+will|\s+must)?\s+"
        r"(?:revis|correct|chang|reconsider|lower|rais)(?:e|ing)?"
    )
    only_with_a_value = r"no(?=\s*[,:;–—-]|\s+wait)|sorry|rather|make\s+(?:it|that)|I\s+meant"
    filling = (
        r"no|wait|sorry|rather|make|change|call|set|give|say|meant|let['’]?s?|me|us|I|I['’]d|would|should|deserves?|is|be|it|"
        r"it['’]s|this|that|that['’]s|the|my|a|an|of|to|as|down|up|score|rating|grade|verdict|winner"
    )
    return re.compile(
        rf"(?<=[.!?;:,(\n–—-])[\s*_]*(?:[Bb]ut\s+)?(?i:(?P<strong>{firm})|{only_with_a_value})\b"
        rf"(?:(?:{between}(?i:{filling})\b)*{between}{value})?"
    )


def _hint(*words: str) -> re.Pattern[str]:
    """Any of the words in any case; each first letter spelt out, since a search that ignores case is slow."""
    spelt = [f"[{word[0].lower()}{word[0].upper()}](?i:{re.escape(word[1:])})" for word in words if word.isascii()]
    return re.compile("|".join([*spelt, r"\[\["]))


@lru_cache(maxsize=256)
def _score_grammar(scale: Scale, name: str) -> _Grammar:
    if not len(scale):
        raise ValueError("the scale has no levels")
    name_pattern = re.escape(name).replace("_", "[_ ]")
    labels = rf"(?:{name_pattern}\s+)?(?:score|rating|grade|verdict)|{name_pattern}"
    phrase = (
        r"(?i:I(?:\s+would|'d|’d)?\s+(?:give|rate|score|grade)\s+(?:it|this|(?:this|the)\s+(?:answer|response))"
        r"(?:\s+(?:an?|as|at|with))?(?:\s+(?:an?\s+)?(?:score|rating|grade)\s+of)?)\s+[*_]*(?=[0-9])"
    )
    lone = re.compile(rf"[*_`\s]*(?:\[\[)?\s*{_NUMBER}\s*(?:\]\])?[*_`\s]*\.?[*_`]*")
    keys = frozenset({"score", "rating", "grade", "verdict", name.lower()})
    hint = _hint("score", "rating", "rate", "grade", "give", "verdict", name.partition("_")[0])
    correction, loose = _correction(_NUMBER), re.compile("[0-9]")
    return _Grammar(lone, hint, _statement(labels, phrase, _NUMBER), correction, loose, keys, scale)


@lru_cache(maxsize=1)
def _preference_grammar() -> _Grammar:
    labels = r"winner|verdict|preference|preferred(?:\s+answer)?|better(?:\s+answer)?|choice|judg(?:e)?ment|decision"
    phrase = (
        r"(?i:I\s+(?:prefer|choose|pick)|it(?:\s+is|['’]s)\s+a(?=\s+tie))\s+[*_]*"
        r"(?=(?i:answer|response|output|option)\s|[AB]\b|tie\b)"
    )
    lone = re.compile(rf"[*_`\s]*(?:\[\[)?\s*{_CHOICE}\s*(?:\]\])?{_LONE_SUFFIX}[*_`\s]*[.!]?[*_`]*")
    keys = frozenset({"winner", "verdict", "preference", "preferred", "better", "choice"})
    words = ("winner", "verdict", "prefer", "better", "choice", "choose", "pick", "judg", "decision")
    hint = _hint(*words, "it is a", "it's a", "it’s a")
    correction, loose = _correction(_CHOICE + _LONE_SUFFIX), re.compile(r"\b(?:[AB]|tie)\b")
    return _Grammar(lone, hint, _statement(labels, phrase, _CHOICE), correction, loose, keys, None)
