"""The Explorer without a browser: its traits are set as the page would set them; its static form shows the same."""

from dataclasses import replace

import pytest

import llmlab as ll
from llmlab.widgets import Explorer
from tests.made_results import made


def four(**options):
    tags = [("date",), ("gap", "date"), (), ("gap",)]
    return made({"v1": [1.0, 0.0, 0.4, 0.9], "v2": [0.2, 0.8, None, 1.0]}, tags=tags, **options)


def test_it_says_how_many_of_how_many_match_and_shows_one():
    """From the start, and after each filter."""
    explorer = Explorer(four())
    assert explorer.case_id == "q000"
    assert "4 of 4 cases match" in explorer.tally.value
    assert "question 0?" in explorer.shown.value
    explorer.tag.value = "gap"
    assert explorer.matches == ("q001", "q003")
    explorer.flipped.value = "bad to good"
    assert explorer.matches == ("q001",)
    explorer.text.value = "nothing like it"
    assert (explorer.matches, explorer.case_id, explorer.case) == ((), None, None)
    assert "No case matches" in explorer.shown.value
    assert explorer.next.disabled


def test_stepping_stays_within_what_matches_and_the_list_follows():
    """By button, by the list, and past both ends."""
    explorer = Explorer(four())
    explorer.next.click()
    assert (explorer.case_id, explorer.list.value) == ("q001", 1)
    explorer.list.value = 3
    assert (explorer.case_id, explorer.next.disabled) == ("q003", True)
    explorer.number.value = 2
    assert (explorer.case_id, explorer.list.value) == ("q001", 1)
    explorer.step(5)
    assert explorer.case_id == "q003"
    explorer.step(-9)
    assert (explorer.case_id, explorer.previous.disabled) == ("q000", True)


def test_a_filter_keeps_the_case_that_is_shown_if_it_can():
    """Else the first one is shown."""
    explorer = Explorer(four())
    explorer.list.value = 3
    explorer.tag.value = "gap"
    assert (explorer.case_id, explorer.at) == ("q003", 1)
    explorer.tag.value = "date"
    assert (explorer.case_id, explorer.at) == ("q000", 0)


def test_scores_are_filtered_by_a_range_and_ordered():
    """The slider spans the scores that occur; the whole of it asks nothing, so unscored cases match."""
    explorer = Explorer(four())
    assert (explorer.range.min, explorer.range.max) == (0.0, 1.0)
    explorer.variant.value = "v2"
    assert len(explorer.matches) == 4
    explorer.range.value = (0.5, 1.0)
    assert explorer.matches == ("q001", "q003")
    explorer.order.value = "highest first"
    assert explorer.matches == ("q003", "q001")


def test_a_filter_that_is_not_possible_says_so_in_place():
    """What was matched stays."""
    explorer = Explorer(made({"v1": [1, 2], "v2": [2, 1]}, low=None, high=None))
    explorer.flipped.value = "good to bad"
    assert "no bounds" in explorer.tally.value
    assert len(explorer.matches) == 2


def test_outcomes_of_an_attribution_are_shown_and_filtered():
    """Right, lucky and the two failures."""
    cases = [ll.Case(id=n, inputs={"question": "?"}, expected=("yes",), relevant={"a": 2}) for n in ("q1", "q2")]
    rows = [
        ll.Generation(variant="v1", case_id=case_id, text="yes", retrieved=(fetched,))
        for case_id, fetched in (("q1", "b"), ("q2", "a"))
    ]
    bundles = {"v1": ll.Bundle.from_prompt("{{ question }}", model="offline/extractive-1")}
    results = ll.Results.from_generations(rows, golden=ll.GoldenSet(tuple(cases)), bundles=bundles)
    results = results.scored_by([ll.scorers.mentions_expected])
    explorer = Explorer(results, ll.retrieval.attribute(results))
    assert "lucky" in explorer.shown.value
    assert "not retrieved: a" in explorer.shown.value
    assert [value for _, value in explorer.outcome.options[1:]] == ["right", "lucky"]
    explorer.outcome.value = "right"
    assert explorer.matches == ("q2",)
    with pytest.raises(ValueError, match="of other results"):
        Explorer(replace(results), ll.retrieval.attribute(results))


def test_a_list_of_thousands_holds_only_those_around_the_shown_one():
    """The page is not given every case."""
    explorer = Explorer(made({"v1": [0.5] * 1000}))
    assert len(explorer.list.options) == 200
    explorer.list.value = 199
    assert explorer.case_id == "q199"
    assert explorer.list.options[0][1] == 99
    explorer.step(1000)
    assert (explorer.case_id, explorer.list.value) == ("q999", 999)


def test_repeats_are_one_field_away():
    """The third answer of the case."""
    explorer = Explorer(made({"v1": [0.1, 0.2, 0.3]}, repeats=3))
    explorer.repeat.value = 3
    assert "0.3" in explorer.shown.value


def test_without_scorers_or_golden_set_there_is_still_something_to_read():
    """Fewer filters, the same cases."""
    bare = replace(four(), golden=None, metrics={})
    explorer = Explorer(bare)
    assert len(explorer.matches) == 4
    assert "q000" in explorer.shown.value


def test_its_static_form_shows_the_matching_cases_and_the_shown_one():
    """For VS Code, Colab, papermill and nbconvert; the widget's own form lies beside it."""
    explorer = Explorer(four())
    explorer.tag.value = "gap"
    shown = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert "2 of 4 cases match" in shown["text/html"]
    assert "question 1?" in shown["text/html"]
    assert "question 3?" in shown["text/html"]
    assert shown["text/plain"].startswith("Explorer(2 of 4 cases match")
