"""Filtering cases: each condition alone and together, against a plain loop over rows, and on 100,000 rows."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmlab as ll
from llmlab.results.results import Results
from llmlab.widgets.filter import FLIPS, ORDERS, choices, matching
from tests.made_results import made, reads

TAGS = [("date",), ("gap", "date"), (), ("gap",)]


def four():
    """Four cases, two variants; the third case of v2 is unscored."""
    return made({"v1": [1.0, 0.0, 0.4, 0.9], "v2": [0.2, 0.8, None, 1.0]}, tags=TAGS)


def test_nothing_asked_is_every_case_in_its_order():
    assert matching(four()) == ("q000", "q001", "q002", "q003")
    given_ = choices(four())
    assert (given_.variants, given_.tags, given_.statuses) == (("v1", "v2"), ("date", "gap"), ("ok",))
    assert (given_.metrics, given_.repeats, given_.n_cases) == (("right",), 1, 4)


def test_case_of_letters_baseline_and_order():
    """What each other condition finds is told by a loop, below."""
    results = four()
    assert matching(results, text="QUESTION 2") == ("q002",)
    assert matching(results, flipped="bad to good", baseline="v2") == ("q000",)
    assert matching(results, order="lowest first") == ("q001", "q000", "q002", "q003")
    assert matching(results, order="highest first", variant="v2") == ("q003", "q001", "q000", "q002")


def test_flips_are_those_of_the_flips_table():
    results = made({"v1": [1, 0, 1, 0, 0.5], "v2": [0, 1, None, 0, 0.4]})
    found = results.flips("v1", "v2")
    assert set(matching(results, flipped="good to bad")) == {flip.case_id for flip in found.harmed}
    assert set(matching(results, flipped="bad to good")) == {flip.case_id for flip in found.mended}


def test_the_status_may_be_that_of_any_repeat():
    results = made({"v1": [1.0] * 6}, repeats=3)
    results = replace(results, frame=results.frame.assign(status=["ok", "refused", *["ok"] * 4]))
    assert matching(results, status="refused") == ("q000",)
    assert choices(results).repeats == 3


def test_an_outcome_of_the_attribution_is_a_condition():
    golden = ll.GoldenSet(
        tuple(ll.Case(id=f"q{i}", inputs={"question": "?"}, expected=("yes",), relevant={"a": 1}) for i in range(4))
    )
    rows = [
        ll.Generation(variant="v1", case_id=f"q{i}", text=text, retrieved=docs)
        for i, (text, docs) in enumerate([("yes", ("a",)), ("no", ("a",)), ("no", ("b",)), ("yes", ())])
    ]
    bundles = {"v1": ll.Bundle.from_prompt("{{ question }}", model="offline/extractive-1")}
    results = Results.from_generations(rows, golden=golden, bundles=bundles).scored_by([ll.scorers.mentions_expected])
    outcomes = ll.retrieval.attribute(results).outcomes
    expected = {"right": "q0", "generation failure": "q1", "retrieval failure": "q2", "lucky": "q3"}
    for outcome, case_id in expected.items():
        assert matching(results, outcome=outcome, outcomes=outcomes) == (case_id,)
    with pytest.raises(ValueError, match="attribute"):
        matching(results, outcome="right")
    with pytest.raises(ValueError, match="outcome == 'wrong'"):
        matching(results, outcome="wrong", outcomes=outcomes)


@pytest.mark.parametrize(
    "wrong", [{"variant": "v9"}, {"baseline": "v9"}, {"tag": "x"}, {"status": "x"}, {"order": "x"}]
)
def test_unknown_names_are_told_with_those_there_are(wrong):
    with pytest.raises(ValueError, match="must be one of"):
        matching(four(), **wrong)


def by_hand(results, *, variant, tag, low, high, flipped, text):
    """The same conditions, case by case."""
    scores = results.frame.set_index(["case_id", "variant"])["right"]
    texts = results.frame.set_index(["case_id", "variant"])["text"]
    found = []
    for case in results.golden:
        for name in [variant] if variant else results.variants:
            score, before = scores[case.id, name], scores[case.id, "v1"]
            went = {"good to bad": before >= 0.5 > score, "bad to good": before < 0.5 <= score, None: True}
            went["either way"] = went["good to bad"] or went["bad to good"]
            scored = (low is None or score >= low) and (high is None or score <= high)
            said = text in texts[case.id, name] or text in f"{case.id} {case.inputs} {case.tags}"
            if (tag is None or tag in case.tags) and scored and went[flipped] and said:
                found.append(case.id)
                break
    return tuple(found)


SCORE = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, None])


@given(
    scores=st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=8),
    asked=st.fixed_dictionaries(
        {
            "variant": st.sampled_from([None, "v1", "v2"]),
            "low": st.sampled_from([None, 0.25, 0.5]),
            "high": st.sampled_from([None, 0.5, 0.75]),
            "flipped": st.sampled_from([None, *FLIPS]),
            "text": st.sampled_from(["", "0.5", "q000", "question"]),
        }
    ),
)
def test_it_finds_what_a_loop_finds(scores, asked):
    tags = [TAGS[i % 4] for i in range(len(scores))]
    results = made({"v1": [one for one, _ in scores], "v2": [two for _, two in scores]}, tags=tags)
    for tag in (None, *choices(results).tags):
        assert matching(results, tag=tag, **asked) == by_hand(results, tag=tag, **asked)


@pytest.mark.bench
def test_a_hundred_thousand_rows_are_filtered_in_a_fraction_of_the_time_it_takes_to_make_them():
    """Every condition together; a ratio within one run."""
    n = 50_000
    golden = ll.GoldenSet(
        tuple(ll.Case(id=f"q{i}", inputs={"question": f"How {i}?"}, tags=(f"t{i % 9}",)) for i in range(n))
    )
    scores = np.random.default_rng(0).random(2 * n).round(3)
    ids = [f"q{i}" for i in range(n)] * 2
    rows = pd.DataFrame({"variant": np.repeat(["v1", "v2"], n), "case_id": ids, "text": scores.astype(str)})
    start = time.perf_counter()
    results = Results.from_frame(rows, golden=golden, scorers=[reads("right")])
    made_s = time.perf_counter() - start
    start = time.perf_counter()
    results.table("right")  # the coding of rows, which every view of results shares
    found = matching(results, tag="t1", status="ok", text="0.1", flipped="either way", order=ORDERS[1], low=0.1)
    assert found
    assert time.perf_counter() - start < made_s / 3
