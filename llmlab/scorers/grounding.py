"""Does the answer stick to what was retrieved: a deterministic lexical check, statement by statement.

A statement is supported by a document that holds most of its key terms, rare ones weighing more, and all of its
numbers and names of code (in backticks). It needs no model and cannot be argued with; it cannot see a negation, and
a paraphrase in other words counts as unsupported. A judge is for those.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

from llmlab.base.words import words
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers.base import Score, Scorer, scorer
from llmlab.scorers.citations import cited_ids
from llmlab.scorers.refusals import is_refusal
from llmlab.search.corpus import Document

_SUPPORTED_FROM = 0.7  # share of a statement's weight that one document must hold
_LONGEST_SHOWN_CHARS = 120
Texts: TypeAlias = Iterable[Document] | Mapping[str, str]  # documents as a `Corpus` holds them, or texts by their id

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_BRACKETED = re.compile(r"(?<![\w\])])\[([^\[\]\n]{1,300})\](?![(\[:])")
_SPLIT = re.compile(r"(?<=[.!?…])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\betc\.)(?<!\bvs\.)[\"')\]]*\s+|(?<=[。！？])|\n+")
_WORD = re.compile(r"[A-Za-z_]\w*")
_TOKEN = re.compile(r"[^\W_]+")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f\uac00-\ud7af]+")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?![\w])")
_CODE_NAME = re.compile(r"`(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)[^`\n]*`")
_UNKNOWN = re.compile(
    r"\b(?:i (?:do not|don't) know|(?:passages?|context|documents?|sources?) (?:do|does) not (?:say|cover|contain|"
    r"answer|mention))\b",
    re.IGNORECASE,
)


def grounded(corpus: Texts, *, supported_from: float = _SUPPORTED_FROM, name: str = "grounded") -> Scorer:
    """Share of the answer's statements that one of the retrieved documents supports.

    `corpus` is a `Corpus`, or texts by document id. A statement is a sentence or line; fenced code is none. Documents
    are taken whole, also where the prompt showed only a part. An answer that states nothing ("I don't know", a
    refusal) is unscored; one that states something with nothing retrieved scores 0.

    >>> score = grounded({"d1": "dropna removes missing values.", "d2": "sort_values sorts rows by column."})
    >>> answer = Generation(text="It removes missing values. It also emails your boss.", retrieved=("d1",))
    >>> score(Case(id="q", inputs={"question": "?"}), answer).value
    0.5
    """
    known = _Corpus(corpus)
    digest, least = known.digest, _share(supported_from)

    @scorer(name=name, revision=4)
    def judge(case: Case, generation: Generation) -> Score:
        stated = [] if says_nothing(generation) else statements(generation.text)
        if not stated:
            return Score(value=None, explanation="the answer states nothing that could be supported")
        if missing := [doc_id for doc_id in generation.retrieved if doc_id not in known]:
            return Score(value=None, explanation=f"retrieved, but not in corpus {digest[:8]}: {', '.join(missing)}")
        wanting = [text for text in stated if known.support(text, generation.retrieved) < least]
        shown = "; ".join(repr(text[:_LONGEST_SHOWN_CHARS]) for text in wanting)
        return Score(value=1 - len(wanting) / len(stated), explanation=f"not supported: {shown}" if wanting else "")

    return judge


def cites_support(corpus: Texts, *, supported_from: float = _SUPPORTED_FROM, name: str = "cites_support") -> Scorer:
    """Share of the citations `[id]` whose document was retrieved and holds the key terms of the cited statement.

    Unscored when nothing is cited (see `cites_source` for whether anything is).

    >>> score = cites_support({"d1": "dropna removes missing values.", "d2": "sort_values sorts rows by column."})
    >>> answer = Generation(text="Missing values are removed [d1]. Rows are sorted [d1].", retrieved=("d1", "d2"))
    >>> score(Case(id="q", inputs={"question": "?"}), answer).value
    0.5
    """
    known = _Corpus(corpus)
    digest, least = known.digest, _share(supported_from)

    @scorer(name=name, revision=4)
    def judge(case: Case, generation: Generation) -> Score:
        pairs = [
            (text, doc_id)
            for text in statements(generation.text, with_citations=True)
            for doc_id in cited_ids(text, known=generation.retrieved, corpus=known)
        ]
        if not pairs:
            return Score(value=None, explanation="nothing is cited")
        if gone := [doc_id for doc_id in generation.retrieved if doc_id not in known]:
            return Score(value=None, explanation=f"retrieved, but not in corpus {digest[:8]}: {', '.join(gone)}")
        wrong = [
            doc_id
            for text, doc_id in pairs
            if doc_id not in generation.retrieved or known.support(_without_citations(text), [doc_id]) < least
        ]
        why = f"cited without support: {', '.join(dict.fromkeys(wrong))}" if wrong else ""
        return Score(value=1 - len(wrong) / len(pairs), explanation=why)

    return judge


def statements(text: str, *, with_citations: bool = False) -> list[str]:
    """The sentences and lines of a text that say something, fenced code left out.

    A citation that follows the full stop belongs to the sentence before it.

    >>> statements("Use dropna. [d1] It removes rows, e.g. empty ones.", with_citations=True)
    ['Use dropna. [d1]', 'It removes rows, e.g. empty ones.']
    """
    sentences: list[str] = []
    for part in (piece.strip() for piece in _SPLIT.split(_FENCED.sub("\n", text)) if piece):
        led = _BRACKETED.match(part)
        while led and sentences:  # `... . [d1] Next sentence`
            sentences[-1] += f" {led[0]}"
            part = part[led.end() :].lstrip(" .")
            led = _BRACKETED.match(part)
        if _key_terms(_without_citations(part)):
            sentences.append(part)
    return sentences if with_citations else [_without_citations(part) for part in sentences]


def _key_terms(text: str) -> frozenset[str]:
    """What a statement is recognised by: stemmed words without stop words, numbers, and for other scripts words as
    they stand; where a script has no spaces, pairs of characters.

    >>> sorted(_key_terms("The 3 rows are sorted")), sorted(_key_terms("行の並べ替え"))[:2]
    (['3', 'row', 'sort'], ['の並', 'べ替'])
    """
    terms = set(words(text))
    if not text.isascii():
        for token in _TOKEN.findall(text.casefold()):
            if not token.isascii():
                runs = _UNSPACED.findall(token)
                terms.update(run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1)))
                terms.update([] if runs else [token])
    return frozenset(terms)


def says_nothing(generation: Generation) -> bool:
    """Whether an answer is a refusal, or says that it does not know: nothing in it could be supported."""
    text = generation.text
    return generation.status == "refused" or is_refusal(text) or (len(text) < 200 and bool(_UNKNOWN.search(text)))


class _Corpus:
    """Texts by id (and alias), with the weight of each term; built when the first answer is scored."""

    def __init__(self, corpus: Texts) -> None:
        if isinstance(corpus, Mapping):
            self._texts = {doc_id: f"{doc_id}\n{text}" for doc_id, text in corpus.items()}
            self._names = {doc_id: doc_id for doc_id in corpus}
        else:
            documents = list(corpus)
            self._texts = {d.id: f"{d.id}\n{d.title}\n{d.text}" for d in documents}
            self._names = {name: d.id for d in documents for name in (d.id, *getattr(d, "aliases", ()))}
        if not self._texts:
            raise ValueError("the corpus has no documents, so nothing can be supported")
        content = json.dumps(sorted(self._texts.items()))
        self.digest = hashlib.sha256(content.encode()).hexdigest()
        self._terms: dict[str, tuple[frozenset[str], frozenset[str]]] = {}

    def __contains__(self, doc_id: object) -> bool:
        return doc_id in self._names

    def support(self, statement: str, doc_ids: Sequence[str]) -> float:
        """The largest share of the statement's weight that one document holds; 0 where it lacks a number or name."""
        asked, exactly = _key_terms(statement), _numbers(statement) | frozenset(_CODE_NAME.findall(statement))
        total = sum(map(self._weight, asked))
        return max(
            (sum(map(self._weight, asked & held)) / total for held, stated in self._held(doc_ids) if exactly <= stated),
            default=0.0,
        )

    def _held(self, doc_ids: Sequence[str]) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
        for doc_id in doc_ids:
            own = self._names.get(doc_id)
            if own is None:
                continue
            if own not in self._terms:
                text = self._texts[own]
                self._terms[own] = _key_terms(text), _numbers(text) | frozenset(_WORD.findall(text))
            yield self._terms[own]

    def _weight(self, term: str) -> float:
        """Inverse document frequency, log(1 + N / (n + 1)): a word that no document has weighs most."""
        return math.log1p(len(self._texts) / (self._frequency[term] + 1))

    @cached_property
    def _frequency(self) -> Counter[str]:
        return Counter(term for text in self._texts.values() for term in _key_terms(text))


def _without_citations(text: str) -> str:
    return re.sub(r"\s+([.!?,;])", r"\1", _BRACKETED.sub(" ", text)).strip()


def _numbers(text: str) -> frozenset[str]:
    return frozenset(number.replace(",", "").rstrip(".") for number in _NUMBER.findall(text))


def _share(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"supported_from == {value}, must be above 0 and at most 1")
    return value
