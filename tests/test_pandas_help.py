"""The embedded default: its questions are sound, and its variants differ for the reasons they give."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from statistics import mean

import pandas as pd
import pytest

from llmlab.base.yamlfile import read_yaml
from llmlab.bundle.bundle import Bundle, load_bundles
from llmlab.clients.base import Generation, Request
from llmlab.clients.offline import OfflineClient
from llmlab.golden.cases import GoldenSet
from llmlab.scorers import citations_valid, cites_source, mentions_expected
from llmlab.search.corpus import Corpus
from llmlab.search.index import build_index

FOLDER = Path(__file__).parents[1] / "experiments" / "pandas_help"
OF_ITS_PANDAS = pytest.mark.skipif(
    pd.__version__.startswith("3.0."), reason="a question is about a function that pandas has since 3.1"
)


@pytest.fixture(scope="module")
def golden() -> GoldenSet:
    return GoldenSet.load(FOLDER / "golden.jsonl")


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    return load_bundles(FOLDER / "bundles")


@pytest.fixture(scope="module")
def answers(golden: GoldenSet, bundles: dict[str, Bundle]) -> dict[str, list[Generation]]:
    return {name: asyncio.run(_answers(bundle, golden)) for name, bundle in bundles.items()}


async def _answers(bundle: Bundle, golden: GoldenSet) -> list[Generation]:
    assert bundle.retrieval is not None
    index, client = build_index(bundle.retrieval), OfflineClient()
    found = index.search([case.inputs["question"] for case in golden])
    generations = []
    for case, hits in zip(golden, found, strict=True):
        messages = bundle.prompt.messages({**case.inputs, "passages": index.passages(hits)})
        got = await client.complete(Request(model=bundle.model, messages=messages, sampling=bundle.sampling))
        ids = tuple(hit.doc_id for hit in hits)
        generations.append(Generation(status=got.status, text=got.text, usage=got.usage, retrieved=ids))
    return generations


def _score(golden: GoldenSet, generations: list[Generation]) -> float:
    values = [mentions_expected(case, got).value for case, got in zip(golden, generations, strict=True)]
    return mean(value for value in values if value is not None)


def test_there_are_enough_questions_over_enough_tags_in_clusters_of_different_size(golden: GoldenSet) -> None:
    assert len(golden) >= 160
    assert len(golden.tags) >= 10
    assert min(Counter(tag for case in golden for tag in case.tags).values()) >= 8
    sizes = Counter(case.cluster for case in golden)
    assert None not in sizes
    assert len(set(sizes.values())) >= 4


@OF_ITS_PANDAS
def test_every_relevant_id_is_a_document_of_the_installed_pandas(golden: GoldenSet) -> None:
    corpus = Corpus.from_package("pandas")
    assert [(case.id, name) for case in golden for name in case.relevant if name not in corpus] == []


def test_every_question_is_asked_once_and_has_an_answer(golden: GoldenSet) -> None:
    questions = [case.inputs["question"].casefold() for case in golden]
    assert len(set(questions)) == len(questions)
    assert all(case.expected and 2 in case.relevant.values() for case in golden)
    assert {grade for case in golden for grade in case.relevant.values()} == {1, 2}


@OF_ITS_PANDAS
def test_an_expected_name_is_that_of_a_relevant_document(golden: GoldenSet) -> None:
    groups = {name: document.group for name, document in Corpus.from_package("pandas").by_id.items()}
    for case in golden:
        named = set(re.findall(r"\w+", " ".join(case.expected)))
        assert named & {groups[name] for name in case.relevant}, case.id


def test_most_questions_do_not_name_the_function_that_answers_them(golden: GoldenSet) -> None:
    naming = [
        case.id
        for case in golden
        if set(re.findall(r"[a-z_]+", case.inputs["question"].casefold()))
        & set(re.findall(r"[a-z_]+", " ".join(case.expected).casefold()))
    ]
    assert len(naming) < 0.3 * len(golden)


def test_the_variants_differ_in_what_they_retrieve_and_how_much_they_say(bundles: dict[str, Bundle]) -> None:
    first, second = bundles["v1"], bundles["v2"]
    changed = {field for field, _, _ in first.diff(second).changes}
    assert {"retrieval.k", "retrieval.distinct_by", "retrieval.passage_chars", "prompt.system"} <= changed
    assert all(bundle.model.pinned.pinned for bundle in bundles.values())


def test_v2_names_the_right_function_more_often_from_half_the_prompt(
    golden: GoldenSet, answers: dict[str, list[Generation]]
) -> None:
    scores = {name: _score(golden, generations) for name, generations in answers.items()}
    assert all(0.4 < score < 0.85 for score in scores.values())
    assert scores["v2"] > scores["v1"] + 0.03
    tokens = {name: mean(got.usage.input_tokens or 0 for got in generations) for name, generations in answers.items()}
    assert tokens["v2"] < 0.75 * tokens["v1"]


def test_v3_cites_documents_that_it_was_given(golden: GoldenSet, answers: dict[str, list[Generation]]) -> None:
    pairs = list(zip(golden, answers["v3"], strict=True))
    assert 0.3 < mean(cites_source(case, got).value or 0 for case, got in pairs) < 0.95
    assert mean(cites_source(case, got).value or 0 for case, got in zip(golden, answers["v1"], strict=True)) < 0.05
    valid = [score for case, got in pairs if (score := citations_valid(case, got).value) is not None]
    assert mean(valid) > 0.95


def test_the_gate_names_a_baseline_that_exists(bundles: dict[str, Bundle]) -> None:
    gate, _ = read_yaml(FOLDER / "gate.yaml")
    assert gate["baseline"] == "production"
    assert (FOLDER / gate["baseline_file"]).stem in bundles  # until the alias exists
    assert gate["goal"]["metric"] == "mentions_expected"
