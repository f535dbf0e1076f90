"""Which step lost a case: cells, counts, what is left out, and where cases go between two variants."""

from dataclasses import replace

import pytest

from llmlab.base.errors import DataError
from llmlab.golden.cases import GoldenSet
from llmlab.retrieval.attribution import CELLS, attribute, grade_at_least, recall_at_least
from llmlab.stats.bounded import share_estimate
from llmlab.stats.estimate import wilson_rate
from tests.made_results import made as made_scores
from tests.retrieval.made import made

R, G, F, L = CELLS


def test_each_case_lies_in_the_cell_of_its_two_answers():
    """Enough fetched x right: an empty result counts as not fetched."""
    found = attribute(made({"v1": [R, R, G, F, F, F, L]}))
    assert {cell: found.count(cell) for cell in CELLS} == {R: 2, G: 1, F: 3, L: 1}
    assert found.cases(F).case_ids == ("q3", "q4", "q5")
    assert found.share(F).value == pytest.approx(3 / 7)
    assert found.share(F).interval() == wilson_rate(3, 7).interval()


def test_shares_are_clustered_where_cases_are():
    clusters = ["s", "s", "s", "t", "t", "t", "u", "u"]
    found = attribute(made({"v1": [R, R, R, F, F, F, R, F]}, clusters=clusters))
    whole = share_estimate([0, 0, 0, 1, 1, 1, 0, 1], clusters)
    assert (found.share(F).low, found.share(F).high) == (whole.low, whole.high)
    independent = wilson_rate(4, 8)
    assert whole.high - whole.low > independent.high - independent.low


def test_cases_without_a_score_or_a_judgement_are_left_out_and_counted():
    found = attribute(made({"v1": [R, "error", "unjudged", F]}))
    assert sum(found.count(cell) for cell in CELLS) == 2
    assert found.share(R).n == 2
    assert "1 case without a score" in found._sentence()
    assert "1 case without a judged relevant document" in found._sentence()
    assert found._rows()[0]["unscored"] == 1


def test_what_is_enough_is_the_users_to_say():
    """Grade 1 was fetched for the generation failure; grade 2 and all of the documents were not."""
    results = made({"v1": [R, G]})
    assert attribute(results, enough=grade_at_least(2)).count(F) == 1
    assert attribute(results, enough=recall_at_least(1.0)).count(L) == 1
    assert attribute(results, enough=recall_at_least(0.5)).count(R) == 1
    assert attribute(results, enough=lambda case, retrieved: "x" in retrieved).count(G) == 1
    with pytest.raises(ValueError, match="share == 0"):
        recall_at_least(0)


def test_the_threshold_decides_what_is_right():
    results = made({"v1": [R, G]})
    assert attribute(results, good_from=0.0).count(R) == 2
    with pytest.raises(ValueError, match="has no bounds"):
        attribute(results, metric="output_tokens")


def test_the_transition_counts_every_pair_of_cells_and_gives_its_cases():
    before = [F] * 14 + [R] * 3 + [G] * 2 + [F] * 4 + ["error"]
    after = [R] * 14 + [G] * 3 + [R] * 2 + [G] * 4 + [R]
    moved = attribute(made({"v1": before, "v2": after})).transition("v1", "v2")
    assert moved.count(F, R) == 14
    assert moved.cases(R, G).case_ids == ("q14", "q15", "q16")
    assert sum(moved.count(was, now) for was in CELLS for now in CELLS) == 23
    sentence = moved._sentence()
    assert "14 retrieval failures and 2 generation failures fixed" in sentence
    assert "0 new retrieval failures and 3 new generation failures" in sentence
    assert "4 cases found now are still answered wrong" in sentence
    assert "1 case without a score in both" in sentence


def test_the_change_of_a_share_is_tested_in_pairs():
    """10 of 20 retrieval failures fixed: the mean of the differences is -.5."""
    results = made({"v1": [F] * 20, "v2": [R, F] * 10})
    change = attribute(results).transition("v1", "v2").comparison
    row = change.row("retrieval failure")
    assert row.difference.value == -0.5
    assert row.reading == "better"
    assert change.row("lucky").reading == "not enough evidence"


def test_the_change_of_a_share_counts_cases_by_their_weight_as_the_shares_do():
    results = made({"v1": [F] * 20, "v2": [R, F] * 10})
    cases = (replace(case, weight=1.0 + 2 * (i % 2 == 0)) for i, case in enumerate(results.golden))
    found = attribute(replace(results, golden=GoldenSet(tuple(cases))))
    difference = found.transition("v1", "v2").comparison.row(F).difference.value
    assert difference == pytest.approx(found.share(F, "v2").value - found.share(F, "v1").value) == -0.75


def test_tags_with_most_failures_come_first_and_a_case_counts_in_each_of_its_tags():
    rows = attribute(made({"v1": [R, F, R, F, G, R]})).by_tag().rows
    assert [(row["tag"], row["cases"]) for row in rows] == [("odd", 3), ("both", 3), ("even", 3)]


def test_quality_is_split_by_what_was_fetched():
    (row,) = attribute(made({"v1": [R, G, G, F, L]})).quality("mentions_expected").rows
    assert row["mentions_expected, fetched"].value == pytest.approx(1 / 3)
    assert row["mentions_expected, not fetched"].value == 0.5


def test_quality_reckons_with_what_so_few_cases_do_not_show():
    (row,) = attribute(made({"v1": [R] * 12})).quality("mentions_expected").rows
    right = share_estimate([1.0] * 12)
    assert (row["mentions_expected, fetched"].low, row["mentions_expected, fetched"].high) == (right.low, right.high)


def test_without_judgements_or_golden_set_there_is_nothing_to_attribute():
    """FAULTS 45: no judgements are undefined, not zero."""
    with pytest.raises(DataError, match="names a relevant document"):
        attribute(made({"v1": ["unjudged", "unjudged"]}))
    with pytest.raises(DataError, match="names a relevant document"):
        attribute(made_scores({"v1": [0.0, 1.0]}))


def test_wrong_names_are_told_with_those_there_are():
    found = attribute(made({"v1": [R], "v2": [F]}))
    with pytest.raises(ValueError, match="must be one of v1, v2"):
        found.count(R)
    with pytest.raises(ValueError, match="must be one of right"):
        found.count("bad luck", "v1")


def test_a_variant_that_retrieves_nothing_is_named():
    assert "v1 retrieved nothing" in attribute(made({"v1": [L, L]}))._sentence()


def test_the_table_of_cases_shows_what_was_fetched_against_what_should_have_been():
    """With two variants a row each, the question in the first alone."""
    results = made({"v1": [F], "v2": [R]})
    (single,) = attribute(results).cases(F, "v1").rows
    assert (single["should be fetched"], single["fetched"], single["answer"]) == ("a, b", "x", "no")
    first, second = attribute(results).transition("v1", "v2").cases(F, R).rows
    assert (first["variant"], second["variant"], second["question"]) == ("v1", "v2", "")
    assert (first["score"].value, second["score"].value) == (0.0, 1.0)
