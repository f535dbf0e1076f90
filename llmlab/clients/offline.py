"""Two rule-based stand-ins for models, so that every notebook runs free of charge; neither is a language model.

`offline/extractive-1` reads: it splits the passages of a prompt into sentences, weighs how many of the question's words
each shares, and says the best ones with the name of the function they come from. It follows four plain instructions
in the system text (or in the user message ahead of `Question:`): be brief or use so many sentences, cite sources,
say when you do not know. Docstrings in numpy's format are read by their sections: the first sentence weighs most,
descriptions of parameters less, an entry of "See Also" is a sentence about the function it names, code is left out.

`offline/overlap-judge-1` judges: it counts how many words of the reference an answer holds, plus a little for every
further word. So it favours long answers, and the first of two that it holds to be equal: real faults, for calibration
to find. It reads the prompts that `judge.judges` makes, and it follows no order in them.

Everything but the latency is a pure function of the request.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from llmlab.base.errors import RequestRefusedError
from llmlab.base.words import words
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.base import Generation, Request, Status, Usage

_CHARS_PER_TOKEN = 4
_SENTENCES = 3  # of an answer, where the prompt does not say
_PASSAGE_SHARE = 0.5  # what the rest of a passage counts, beside the sentence itself
_RANK_DISCOUNT = 0.03  # what each place further down the prompt costs
_TEMPERATURE_UNIT = 0.15  # difference of scores that temperature 1 makes e times as likely
_CITED_FROM = 0.3  # share of the question's weight that a sentence must hold to be cited
_KNOWN_FROM = 0.3  # share that the best passage must hold for an answer, where the prompt asks to say otherwise
NO_PASSAGES = "The prompt holds no passages, and this reader knows nothing else."
NOT_KNOWN = "I don't know: the passages do not cover this question."

_NUMBERS = {"one": 1, "a single": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_NO_ID = re.compile(r"[\[\]\s]|\A\Z")
_SENTENCE_COUNT = re.compile(rf"\b({'|'.join(_NUMBERS)}|[1-9])(?: short)? sentences?\b", re.IGNORECASE)
_BRIEF = re.compile(r"\b(?:brief|briefly|concise|concisely|short|shortly)\b", re.IGNORECASE)
_CITE = re.compile(r"\bcit(?:e|es|ing|ations?)\b", re.IGNORECASE)
_ADMIT = re.compile(
    r"\b(?:don't|do not) know\b|\bsay so\b|\bdo(?:es)? not (?:say|cover|contain|answer)\b", re.IGNORECASE
)

_SUMMARY_WEIGHT, _BODY_WEIGHT, _SEE_ALSO_WEIGHT, _DETAIL_WEIGHT = 1.0, 0.8, 0.7, 0.5
_LONGEST_SENTENCE_CHARS = 400
_SECTION = re.compile(r"^(\S[^\n]*)\n-{3,}[ \t]*$", re.MULTILINE)
_SKIPPED = frozenset({"examples", "references"})
_PROSE = frozenset({"", "notes"})
_DIRECTIVE = re.compile(r"^([ \t]*)\.\. [^\n]*(?:\n(?:\1[ \t]+\S[^\n]*|[ \t]*(?=\n\1[ \t]+\S)))*", re.MULTILINE)
_ROLE = re.compile(r":[a-z:]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_SEE_ALSO = re.compile(r"^([A-Za-z_][\w.]*)[ \t]*:[ \t]*(\S[^\n]*(?:\n[ \t]+\S[^\n]*)*)", re.MULTILINE)
_BREAK = re.compile(r"\n\s*\n|\n\s*(?=[*-] )")
_END = re.compile(r"(?<=[.!?])\s+(?=[\"'`(]?[A-Z])")
_FUNCTION = re.compile(r"[A-Za-z_]+(?:\.[A-Za-z_]+)*")
_PLACE = re.compile(r"^(?:[a-z_]+\.)+(?=[A-Z])")

_LENGTH_UNIT_WORDS = 60  # so many words are worth as much as _LENGTH_WORTH of the reference
_LENGTH_WORTH = 0.4
_INDIFFERENT_BELOW = 0.08  # a smaller difference of two answers counts as none, and the first wins
_BLOCK = re.compile(
    r"^\[(Question|Reference|Passages|Answer|Answer A|Answer B) ([0-9a-f]{16})\]\n(.*?)\n\[end of \w+(?: \w)? \2\]$",
    re.MULTILINE | re.DOTALL,
)
_LEVEL = re.compile(r"^(-?[0-9]+): ", re.MULTILINE)


class OfflineClient:
    """Answers for `offline/extractive-1`, without network or key, at no cost.

    >>> import asyncio
    >>> from llmlab.bundle.bundle import Sampling
    >>> prompt = "How do I remove missing rows?\\n\\n[DataFrame.dropna] Remove missing values.\\n\\n[Series.abs] Size."
    >>> model, messages = ModelRef.parse("offline/extractive-1"), ({"role": "user", "content": prompt},)
    >>> request = Request(model=model, messages=messages, sampling=Sampling(max_tokens=50))
    >>> asyncio.run(OfflineClient().complete(request)).text
    'Use `DataFrame.dropna`: Remove missing values.'
    """

    fingerprint = "offline/extractive-1"

    async def complete(self, request: Request) -> Generation:
        """The answer. RequestRefusedError for another model, and for a parameter that this reader does not have."""
        _refuse_what_it_cannot_take(request, self.fingerprint, frozenset({"temperature", "max_tokens", "stop"}))
        started_s = time.perf_counter()
        text, status = _within_limits(_answer(request), request)
        input_tokens = sum(_tokens(len(message["content"])) for message in request.messages)
        return _generation(request, text, status, input_tokens=input_tokens, started_s=started_s)

    def price_usd(self, model: ModelRef, usage: Usage) -> Decimal | None:
        """Zero, for this client's model; None (unknown) for any other."""
        return Decimal(0) if str(model) == self.fingerprint else None


class OfflineJudge:
    """Judges for `offline/overlap-judge-1`, without network or key, at no cost. A pure function of the request."""

    fingerprint = "offline/overlap-judge-1"

    async def complete(self, request: Request) -> Generation:
        """The verdict as JSON. RequestRefusedError for another model or a prompt that holds nothing to judge."""
        _refuse_what_it_cannot_take(request, self.fingerprint, frozenset({"temperature", "max_tokens"}))
        started_s = time.perf_counter()
        text = _judged(_system_text(request), request.messages[-1]["content"])
        input_tokens = _tokens(sum(len(message["content"]) for message in request.messages))
        return _generation(request, text, "ok", input_tokens=input_tokens, started_s=started_s)

    def price_usd(self, model: ModelRef, usage: Usage) -> Decimal | None:
        """Zero, for this client's model; None (unknown) for any other."""
        return Decimal(0) if str(model) == self.fingerprint else None


class _Sentence(NamedTuple):
    """A sentence: its plain text, the words it is found by, whose it is ("" = nobody's), and what it weighs."""

    text: str
    words: frozenset[str]
    name: str
    weight: float


@lru_cache(maxsize=16_384)
def sentences_of(doc_id: str, passage: str) -> tuple[frozenset[str], tuple[_Sentence, ...]]:
    """The words of a passage (name included) and its sentences, in order.

    >>> [(s.name, s.text) for s in sentences_of("DataFrame.dropna", "Remove missing values. See ``fillna``.")[1]]
    [('DataFrame.dropna', 'Remove missing values.'), ('DataFrame.dropna', 'See `fillna`.')]
    """
    title, object_name = frozenset(words(doc_id)), _name(doc_id)
    sentences = tuple(
        _Sentence(text, (title if name == object_name else frozenset(words(name))).union(words(text)), name, weight)
        for name, text, weight in _said(doc_id, passage)
    )
    return title.union(*(sentence.words for sentence in sentences)), sentences


def _plain_text(text: str) -> str:
    """Text without reStructuredText directives and roles, white space made single.

    >>> _plain_text("See :func:`~pandas.read_csv` and\\n``sep``.")
    'See `pandas.read_csv` and `sep`.'
    """
    text = _ROLE.sub(r"`\1`", text.replace("``", "`"))
    return " ".join(text.split())


class _Candidate(NamedTuple):
    """A sentence with its score, and the share of the question's weight that it and its passage hold."""

    score: float
    share: float
    passage_share: float
    doc_id: str
    sentence: _Sentence


def _answer(request: Request) -> str:
    user_texts = [message["content"] for message in request.messages if message["role"] == "user"]
    instructions, question, prompt = _question_of(user_texts[-1] if user_texts else "")
    _, passages = _passages(prompt)
    if not passages:
        return NO_PASSAGES
    directions = f"{_system_text(request)} {instructions}"
    candidates = _candidates(question, passages)
    if not candidates or (_ADMIT.search(directions) and max(c.passage_share for c in candidates) < _KNOWN_FROM):
        return NOT_KNOWN
    temperature = request.sampling.temperature or 0.0
    if temperature > 0:
        candidates = _sampled(candidates, temperature, request)
    distinct: dict[str, _Candidate] = {}
    for candidate in candidates:
        distinct.setdefault(candidate.sentence.text, candidate)
    if count := _SENTENCE_COUNT.search(directions):
        n_sentences = _NUMBERS.get(count[1].lower()) or int(count[1])
    else:
        n_sentences = 1 if _BRIEF.search(directions) else _SENTENCES
    return _prose(list(distinct.values())[:n_sentences], cites=_CITE.search(directions) is not None)


def _system_text(request: Request) -> str:
    return " ".join(message["content"] for message in request.messages if message["role"] == "system")


def _question_of(prompt: str) -> tuple[str, str, str]:
    """Instructions ahead of the question, the question, and the prompt without it.

    The question follows `Question:` at the start of a line, up to a blank line. Without that label it is what
    stands ahead of the passages, or where nothing does, the last paragraph.
    """
    before, label, after = f"\n{prompt}".rpartition("\nQuestion:")
    head, _ = _passages(before if label else prompt)
    if label:
        question, _, rest = after.partition("\n\n")
        return head, question, f"{before}\n\n{rest}"
    if head.strip():
        return "", head, prompt
    before, _, question = prompt.rstrip().rpartition("\n\n")
    return "", question, before


def _passages(prompt: str) -> tuple[str, list[tuple[str, str]]]:
    """What stands ahead of the passages, and each passage as (doc_id, text): blocks `[doc_id] text`."""
    head, *blocks = f"\n\n{prompt.lstrip()}".split("\n\n[")
    passages = [("", head)]
    for block in blocks:
        doc_id, mark, text = block.partition("] ")
        if mark and not _NO_ID.search(doc_id):
            passages.append((doc_id, text))
        else:  # a bracket inside a passage
            doc_id, text = passages.pop()
            passages.append((doc_id, f"{text}\n\n[{block}"))
    return passages[0][1], passages[1:]


def _candidates(question: str, passages: Sequence[tuple[str, str]]) -> list[_Candidate]:
    """Sentences that share a word with the question, best first; equal ones in the order of the prompt."""
    question_words = set(words(question))
    split = [(doc_id, *sentences_of(doc_id, text)) for doc_id, text in passages]
    frequency = {word: sum(word in passage_words for _, passage_words, _ in split) for word in question_words}
    weight = {word: math.log1p(len(split) / (1 + frequency[word])) for word in question_words}
    total = sum(weight.values()) or 1.0
    candidates = []
    for rank, (doc_id, passage_words, sentences) in enumerate(split):
        passage_share = sum(weight[word] for word in question_words & passage_words) / total
        for sentence in sentences:
            shared = question_words & sentence.words
            if shared:
                share = sum(weight[word] for word in shared) / total
                score = sentence.weight * share / (1 + 0.02 * len(sentence.words)) + _PASSAGE_SHARE * passage_share
                candidates.append(_Candidate(score - _RANK_DISCOUNT * rank, share, passage_share, doc_id, sentence))
    return sorted(candidates, key=lambda candidate: -candidate.score)


def _sampled(candidates: list[_Candidate], temperature: float, request: Request) -> list[_Candidate]:
    """The candidates in an order drawn without replacement, with probabilities that grow with their scores.

    By the Gumbel top-k trick (Kool, van Hoof and Welling, 2019), seeded by the request, its repeat included.
    """
    seed = int.from_bytes(hashlib.sha256(request.to_json().encode("utf-8", "surrogatepass")).digest()[:8], "big")
    draw, unit = random.Random(seed), temperature * _TEMPERATURE_UNIT
    noisy = [
        (candidate.score / unit - math.log(-math.log(draw.random() or 0.5)), candidate) for candidate in candidates
    ]
    return [candidate for _, candidate in sorted(noisy, key=lambda pair: -pair[0])]


def _prose(chosen: Sequence[_Candidate], *, cites: bool) -> str:
    by_name: dict[str, list[_Candidate]] = {}
    for candidate in chosen:
        by_name.setdefault(candidate.sentence.name, []).append(candidate)
    parts = []
    for position, (name, candidates) in enumerate(by_name.items()):
        text = " ".join(_with_source(candidate, cites) for candidate in candidates)
        lead = ("Use" if position == 0 else "See also") + f" `{name}`: " if name else ""
        parts.append(lead + text)
    return " ".join(parts)


def _with_source(candidate: _Candidate, cites: bool) -> str:
    text = candidate.sentence.text
    if cites and candidate.share >= _CITED_FROM:
        return f"{text.rstrip('.')} [{candidate.doc_id}]."
    return text if text[-1] in ".!?" else f"{text}."


def _within_limits(text: str, request: Request) -> tuple[str, Status]:
    for stop in request.sampling.stop:
        text = text.partition(stop)[0]
    limit = request.sampling.max_tokens
    if limit is not None and _tokens(len(text)) > limit:
        return text[: limit * _CHARS_PER_TOKEN], "truncated"
    return text, "ok" if text.strip() else "empty"


def _generation(request: Request, text: str, status: Status, *, input_tokens: int, started_s: float) -> Generation:
    usage = Usage(input_tokens=input_tokens, output_tokens=_tokens(len(text)), cached_input_tokens=0)
    return Generation(
        status=status,
        text=text,
        usage=usage,
        latency_s=time.perf_counter() - started_s,
        cost_usd=Decimal(0),
        served_model=request.model.id,
    )


def _tokens(n_chars: int) -> int:
    """Tokens as these stand-ins count them: one for every four characters begun."""
    return math.ceil(n_chars / _CHARS_PER_TOKEN)


def _refuse_what_it_cannot_take(request: Request, served: str, taken: frozenset[str]) -> None:
    if str(request.model) != served:
        raise RequestRefusedError(f"this offline client serves {served}, not {request.model}")
    unknown = sorted(set(request.sampling.sent) - taken)
    if unknown or request.tools:
        refused = ", ".join([*unknown, *(["tools"] if request.tools else [])])
        raise RequestRefusedError(f"{served} cannot take {refused}; leave it out of the bundle")
    if not all(isinstance(message.get("content"), str) for message in request.messages):
        raise RequestRefusedError(f"{served} reads text only; every message needs its content as text")


def _said(doc_id: str, passage: str) -> Iterator[tuple[str, str, float]]:
    first = True
    for section, body in _sections(_DIRECTIVE.sub("", passage)):
        if section == "see also":
            for entry in _SEE_ALSO.finditer(body):
                yield _name(entry[1]), _plain_text(entry[2]), _SEE_ALSO_WEIGHT
        elif section not in _SKIPPED:
            is_prose = section in _PROSE
            if not is_prose:  # what is said of each parameter is indented, its name and type are not
                body = "\n".join(line if line[:1].isspace() else "" for line in body.split("\n"))
            for text in _split(body):
                weight = _SUMMARY_WEIGHT if first else _BODY_WEIGHT if is_prose else _DETAIL_WEIGHT
                first = False
                yield _name(doc_id), text, weight


def _sections(passage: str) -> Iterator[tuple[str, str]]:
    heads = list(_SECTION.finditer(passage))
    starts = [*(head.start() for head in heads), len(passage)]
    yield "", passage[: starts[0]]
    for head, end in zip(heads, starts[1:], strict=True):
        yield head[1].strip().lower(), passage[head.end() : end]


def _split(body: str) -> Iterator[str]:
    for paragraph in _BREAK.split(body):
        text = _plain_text(paragraph).lstrip("*- ")
        if ">>>" not in text:
            yield from (part for part in _END.split(text) if 8 <= len(part) <= _LONGEST_SENTENCE_CHARS)


def _name(doc_id: str) -> str:
    """How the prose names a function: `api.typing.Rolling.mean` is Rolling.mean; "" for what is no function."""
    return _PLACE.sub("", doc_id) if _FUNCTION.fullmatch(doc_id) else ""


def _judged(system: str, prompt: str) -> str:
    sections: dict[str, str] = {}
    for title, _, text in _BLOCK.findall(prompt):
        sections.setdefault(title, text)
    reference = sections.get("Reference") or sections.get("Passages") or sections.get("Question", "")
    levels = [int(level) for level in _LEVEL.findall(system)]
    if "Answer" in sections and levels:
        merit = min(1.0, _merit(sections["Answer"], reference))
        level = levels[min(len(levels) - 1, int(merit * len(levels)))]
        return json.dumps({"reason": f"Overlap with length: {merit:.2f}.", "score": level})
    if "Answer A" in sections and "Answer B" in sections:
        merit_a, merit_b = (_merit(sections[name], reference) for name in ("Answer A", "Answer B"))
        winner = "B" if merit_b - merit_a > _INDIFFERENT_BELOW else "A"
        return json.dumps({"reason": f"Overlap with length: {merit_a:.2f} against {merit_b:.2f}.", "winner": winner})
    raise RequestRefusedError("offline/overlap-judge-1 found no answer in the prompt; use the prompts of llmlab.judge")


def _merit(answer: str, reference: str) -> float:
    """The share of the reference's words in the answer, and what its length adds."""
    reference_words, answer_words = set(words(reference)), words(answer)
    share = len(reference_words & set(answer_words)) / len(reference_words) if reference_words else 0.0
    return (1 - _LENGTH_WORTH) * share + _LENGTH_WORTH * min(2.0, len(answer_words) / _LENGTH_UNIT_WORDS)
