"""The tries of one sitting: kept, counted, gone back to; samples drawn; a run that is stopped."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from llmlab import Bundle, Case, FakeClient, GoldenSet, Request, scorer, scorers
from llmlab.base.errors import PromptError, TransportError
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.tries import Tries, failing_cases, sample_cases, try_out
from llmlab.results.results import Results

BASE = Bundle.from_prompt("{{ question }}", model="offline/extractive-1", system="long")
GOLDEN = GoldenSet(
    tuple(
        Case(id=f"q{i}", inputs={"question": f"Fact {i}?"}, expected=(f"fact {i}",), tags=("odd",) if i % 2 else ())
        for i in range(6)
    )
)


def answer(request: Request) -> str:
    """Right for the facts below the number that the system text names; q5 is a fault."""
    question = str(request.messages[-1]["content"])
    number, system = int(question.split()[1][0]), str(request.messages[0]["content"])
    if number == 5:
        raise TransportError("the line is dead")
    return f"It is fact {number}." if number < (2 if system == "long" else 4) and number else "No idea."


@pytest.fixture
def start() -> Tries:
    return Tries(baseline=BASE, name="v1", golden=GOLDEN)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {"store": tmp_path / "calls.sqlite"}


def tried(tries: Tries, system: str, options: dict[str, Any], sample: GoldenSet = GOLDEN) -> Tries:
    means = {"client": FakeClient(answer), "progress": False, **options}
    wanted = means.pop("scorers", [scorers.mentions_expected])
    return try_out(tries, BASE.with_(system=system), sample=sample, scorers=wanted, setup=CallSetup(**means))


def test_a_try_stands_beside_the_baseline_the_worse_cases_first(start: Tries, options: dict[str, Any]) -> None:
    """Cases that both answer alike are named, not repeated; an error stands where the answer would."""
    tries = tried(start, "short", options)
    pairs = tries.done[0].side_by_side()
    became = [f"{pair.case.id} {pair.became}" for pair in pairs]
    assert became == ["q2 better", "q3 better", "q5 unknown", "q0 same", "q1 same", "q4 same"]
    assert pairs[0].texts == ("No idea.", "It is fact 2.")
    assert "the line is dead" in pairs[2].problem
    assert "the line is dead" in pairs[2]._repr_html_()
    assert tries.done[0].outcome == "try 1 against v1: 2 better, 3 same, 1 unknown of 6 cases."
    page = tries._repr_html_()
    assert "word for word alike: q0, q1, q4" in page
    assert "the line is dead" in page
    assert "<ins" in page


def test_every_try_is_kept_and_one_goes_back_and_forth(start: Tries, options: dict[str, Any]) -> None:
    """Undo stops at the baseline, redo at the last try; a try made after an undo comes last and drops none."""
    tries = tried(tried(start, "a", options), "b", options)
    assert tries.at == 2
    assert tries.undo().bundle.prompt.system == "a"
    assert tries.undo().undo().undo().bundle == BASE
    assert tries.undo().redo().redo().at == 2
    again = tried(tries.undo(), "c", options)
    assert [one.bundle.prompt.system for one in again.done] == ["a", "b", "c"]
    assert again.at == 3
    assert again.go(0).shown is None
    with pytest.raises(ValueError, match="number == 4, must be from 0 to 3"):
        again.go(4)


def test_distinct_candidates_are_counted_and_the_price_is_said(start: Tries, options: dict[str, Any]) -> None:
    """The baseline itself, the same bundle twice, and a run without an answer are no further candidates."""
    tries = tried(tried(tried(start, "long", options), "a", options), "a", options)
    assert tries.candidates == {BASE.with_(system="a").digest}
    dead = tried(tries, "b", options, GOLDEN.only(ids=["q5"]))
    assert dead.done[-1].results.failed
    assert dead.candidates == tries.candidates
    more = tried(dead, "c", options)
    assert "2 candidates tried on this golden set" in str(more)
    assert "counts each as a look" in str(more)


def test_stored_answers_are_free(start: Tries, options: dict[str, Any]) -> None:
    """The baseline is asked once, however many tries there are."""
    client = FakeClient("No idea.")
    tries = tried(start, "a", {**options, "client": client})
    tried(tries, "b", {**options, "client": client})
    assert len(client.requests) == 3 * len(GOLDEN)


def test_a_run_stopped_before_an_answer_leaves_the_tries_as_they_were(start: Tries, options: dict[str, Any]) -> None:
    """Nothing was seen, so nothing counts."""
    stop = threading.Event()
    stop.set()
    assert tried(start, "a", {**options, "stop": stop}) == start


def test_a_prompt_that_cannot_be_filled_raises_what_run_raises(start: Tries, options: dict[str, Any]) -> None:
    """The form says it in place."""
    bundle = BASE.with_(template="{{ answer }}")
    with pytest.raises(PromptError, match="answer"):
        try_out(start, bundle, sample=GOLDEN, setup=CallSetup(client=FakeClient("x")))


def test_a_sample_is_drawn_by_its_seed_from_all_or_from_a_tag() -> None:
    """The same seed draws the same cases, in the set's order; more than there are gives all."""
    assert sample_cases(GOLDEN, 3, seed=4) == sample_cases(GOLDEN, 3, seed=4)
    assert {tuple(sample_cases(GOLDEN, 3, seed=seed).by_id) for seed in range(20)} != {("q0", "q1", "q2")}
    assert list(sample_cases(GOLDEN, 99, tag="odd").by_id) == ["q1", "q3", "q5"]
    with pytest.raises(ValueError, match="no case has the tag 'even'"):
        sample_cases(GOLDEN, 1, tag="even")
    with pytest.raises(ValueError, match="size == 0"):
        sample_cases(GOLDEN, 0)


def test_failing_cases_are_those_of_the_bundle_asked_for(start: Tries, options: dict[str, Any]) -> None:
    """By its digest; where the results know it not, those that fail on the whole. An unscored case does not fail."""
    results = tried(start, "short", options).done[0].results
    assert failing_cases(results, bundle=BASE) == ("q0", "q2", "q3", "q4")
    assert failing_cases(results, bundle=BASE.with_(system="short")) == ("q0", "q4")
    assert failing_cases(results, bundle=BASE.with_(system="unseen")) == ("q0", "q4")
    with pytest.raises(ValueError, match="no scorer"):
        failing_cases(Results.from_generations([], golden=GOLDEN, bundles={"v1": BASE}))


def test_a_metric_that_is_better_when_lower_turns_the_sides(start: Tries, options: dict[str, Any]) -> None:
    """Three words are better than four, where fewer are wanted."""

    @scorer(low=0, high=10, higher_is_better=False)
    def words(_case: Case, generation: object) -> int:
        return len(generation.text.split())  # type: ignore[attr-defined]  # a Generation

    tries = tried(start, "short", {**options, "scorers": [words]})
    assert [pair.became for pair in tries.done[0].side_by_side()][:2] == ["worse", "worse"]
