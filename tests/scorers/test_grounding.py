"""The lexical check of statements against what was retrieved: what it supports and what it leaves open."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers import cites_support, grounded
from llmlab.scorers.grounding import statements
from llmlab.search.corpus import Corpus, Document

CASE = Case(id="q", inputs={"question": "?"})
TEXTS = {
    "DataFrame.dropna": "Remove missing values. Rows with at least 3 missing values are dropped, see `thresh`.",
    "DataFrame.fillna": "Fill missing values with a number.",
    "DataFrame.sort_values": "Sort by the values along either axis, ascending or descending.",
    "heading": "価格は税込みで表示されます。返品は三十日以内に受け付けます。",
}


def said(text, *retrieved, **fields):
    return Generation(text=text, retrieved=retrieved, **fields)


@pytest.mark.parametrize(
    ("text", "retrieved", "share"),
    [
        ("Missing values are removed.", ["DataFrame.dropna"], 1.0),
        ("Missing values are removed.", ["DataFrame.sort_values"], 0.0),
        ("Missing values are removed. The frame is e-mailed to your accountant.", ["DataFrame.dropna"], 0.5),
        ("Rows with at least 3 missing values are dropped.", ["DataFrame.dropna"], 1.0),
        ("Rows with at least 4 missing values are dropped.", ["DataFrame.dropna"], 0.0),  # another number
        ("Use `DataFrame.dropna` to remove missing values.", ["DataFrame.dropna"], 1.0),  # the name is its id
        ("Use `DataFrame.vanish` to remove missing values.", ["DataFrame.dropna"], 0.0),  # no document has it
        ("- Fill missing values\n- Sort by values", ["DataFrame.fillna", "DataFrame.sort_values"], 1.0),
        ("Missing values are removed.", [], 0.0),  # nothing retrieved supports nothing
        ("返品は三十日以内に受け付けます。送料は無料です。", ["heading"], 0.5),
        ("Remove missing values [DataFrame.dropna].", ["DataFrame.dropna"], 1.0),
        ("Remove missing values:\n```python\nlaunch_rockets(now=True)\n```", ["DataFrame.dropna"], 1.0),  # code
    ],
)
def test_the_share_of_supported_statements(text, retrieved, share):
    assert grounded(TEXTS)(CASE, said(text, *retrieved)).value == share


@pytest.mark.parametrize(
    "answer",
    [
        said("I don't know.", "DataFrame.dropna"),
        said("The passages do not say.", "DataFrame.dropna"),
        said("I'm sorry, but I can't help with that.", "DataFrame.dropna"),
        said("", "DataFrame.dropna", status="refused"),
        said("```\ndf.dropna()\n```", "DataFrame.dropna"),
        said("Remove missing values.", "DataFrame.dropna", "of another corpus"),
    ],
)
def test_what_cannot_be_judged_is_unscored_and_says_why(answer):
    """Nothing stated, or a corpus that is not the one the answer came from: None, never 0."""
    score = grounded(TEXTS)(CASE, answer)
    assert score.value is None
    assert score.explanation


def test_the_unsupported_statement_is_named():
    why = grounded(TEXTS)(CASE, said("Values are removed. Cats purr loudly.", "DataFrame.dropna")).explanation
    assert "Cats purr loudly" in why


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Remove missing values [DataFrame.dropna].", 1.0),
        ("Remove missing values. [DataFrame.dropna] Sort ascending [DataFrame.dropna].", 0.5),
        ("Remove missing values [DataFrame.fillna].", 0.0),  # in the corpus, but not retrieved
        ("Remove missing values [DataFrame.vanish].", 0.0),
        ("Remove missing values.", None),
    ],
)
def test_a_citation_is_valid_when_its_document_was_retrieved_and_says_so(text, share):
    assert cites_support(TEXTS)(CASE, said(text, "DataFrame.dropna", "DataFrame.sort_values")).value == share


def test_aliases_of_a_corpus_are_its_documents():
    corpus = Corpus(documents=(Document(id="a", text="Remove missing values.", aliases=("b",)),))
    assert grounded(corpus)(CASE, said("Missing values are removed.", "b")).value == 1.0


def test_the_digest_names_the_corpus_and_the_threshold():
    """A scorer over other documents is another metric; the same documents in another order are not."""
    other = {**TEXTS, "DataFrame.fillna": "Fill gaps."}
    digests = {grounded(TEXTS).digest, grounded(other).digest, grounded(TEXTS, supported_from=0.5).digest}
    assert len(digests) == 3
    assert grounded(dict(reversed(TEXTS.items()))).digest == grounded(TEXTS).digest


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="supported_from == 0"):
        grounded(TEXTS, supported_from=0)
    with pytest.raises(ValueError, match="no documents"):
        grounded({})


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_a_share_or_nothing_and_is_supported_by_itself(text):
    answer = said(text, "d")
    score = grounded({"d": text, "e": "other"})(CASE, answer)
    assert score.value is None or score.value == 1.0
    assert cites_support({"d": text})(CASE, answer).value in (None, 0.0, 1.0)


def test_sentences_survive_abbreviations_decimals_and_names():
    text = "Use pandas.DataFrame.dropna, e.g. with axis=0.5 here. Then sort! Do it?\n\n* a list"
    assert statements(text) == ["Use pandas.DataFrame.dropna, e.g. with axis=0.5 here.", "Then sort!", "* a list"]


def test_quoted_documents_support_themselves_and_hardly_any_other_questions_documents_do():
    """The threshold's calibration: first sentences of pandas docstrings, against their own and three other texts."""
    corpus = Corpus.from_package("pandas")
    scorer, rng = grounded(corpus), random.Random(4)
    documents = rng.sample(corpus.documents, 150)
    quotes = [said(" ".join(d.text.split("\n\n")[0].split())[:300], d.id) for d in documents]
    own = [scorer(CASE, quote).value for quote in quotes]
    known = [i for i, value in enumerate(own) if value is not None]
    assert sum(own[i] == 1.0 for i in known) >= 0.97 * len(known)
    foreign = []
    for i in known:
        others = [d.id for d in rng.sample(corpus.documents, 3) if d.group != documents[i].group]
        foreign.append(scorer(CASE, replace(quotes[i], retrieved=tuple(others))).value)
    assert sum(foreign) / len(foreign) < 0.12
