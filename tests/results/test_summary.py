"""What each variant scored: means with intervals, and how many answers they rest on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from llmlab.results.answers import commonest
from llmlab.results.summary import age_of, case_mean
from llmlab.stats.bounded import share_estimate
from tests.made_results import made, reads, with_numbers

SCORES = {"v1": [0.2, 0.4, 0.9, 0.5], "v2": [0.5, 0.6, 1.0, None]}


def test_means_are_over_cases_and_agree_with_the_estimator():
    """The same number as `share_estimate` over the cases; repeats only sharpen each case."""
    found = made(SCORES).summary().estimate("v1", "right")
    direct = share_estimate(SCORES["v1"])
    assert (found.value, found.low, found.high) == (direct.value, direct.low, direct.high)
    repeated = made({"v1": [0.2, 0.2, 0.4, 0.4, 0.9, 0.9, 0.5, 0.5]}, repeats=2).summary().estimate("v1", "right")
    assert repeated.low == pytest.approx(direct.low)
    assert repeated.n == 4


def test_clusters_widen_the_interval():
    free, tied = made(SCORES).summary(), made(SCORES, clusters=["a", "a", "b", "b"]).summary()
    assert tied.estimate("v1", "right").method.endswith("of 2 clusters")
    assert free.estimate("v1", "right").value == tied.estimate("v1", "right").value


def test_unscored_answers_are_counted_per_variant():
    summary = made(SCORES).summary()
    assert summary.rows["v2", "right"] == (3, 4)
    assert summary.estimate("v2", "right").n_attempted == 4
    assert "3/4" in str(summary)


def test_a_mean_that_leaves_answers_out_stands_beside_the_one_with_them_at_their_worst():
    """0 for a share; 1.5 sd beyond the slowest of any variant for what nothing bounds. It names no best variant."""
    summary = made(SCORES).summary()
    assert summary.at_worst["v2", "right"].value == pytest.approx(0.525)
    assert "at their worst: right of v2 0.53 [" in str(summary)
    assert "at their worst" not in str(made({"v1": [0.2, 0.4]}).summary())
    waits = made({"v1": [4.0, 9.0], "v2": [2.0, None]}, low=0.0, high=None, higher_is_better=False, name="wait")
    assert waits.summary().at_worst["v2", "wait"].value == pytest.approx((2 + 9 + 1.5 * 2.5) / 2)
    assert made({"v1": [1.0, 1.0, 0.0], "v2": [1.0, None, None]}).best("right") == "v1"


def test_too_few_cases_have_a_mean_without_an_interval():
    assert case_mean(made({"v1": [0.5]}).table("right"), "v1").low is None
    assert case_mean(made({"v1": [None, None]}).table("right"), "v1").value is None
    one_cluster = made({"v1": [0.1, 0.2]}, clusters=["d", "d"]).table("right")
    assert case_mean(one_cluster, "v1").method == "too few cases for an interval"


def test_what_is_unknown_for_every_variant_is_named_and_not_shown_as_zero():
    """Costs of a self-hosted model are unknown, not nothing."""
    text = str(made(SCORES).summary())
    assert "Unknown for every variant: tokens in, tokens out, cost per answer (USD), latency (s)." in text
    known = with_numbers(made({"v1": [0.1, 0.2]}), cost_usd=[0.001, 0.003])
    assert "cost per answer (USD)" in str(known.summary()).splitlines()[0]
    assert "nan" not in str(known.summary()).lower()


def test_a_summary_names_its_sources_and_age():
    results = made(SCORES)
    line = results.summary().lines()[-1]
    assert results.golden_digest[:8] in line
    assert all(bundle.digest[:8] in line for bundle in results.bundles.values())
    assert "made just now" in line


def test_notes_are_lines_of_their_own_and_say_why_answers_are_missing():
    """Whoever sees "FAILED" wants to know whether the key is wrong or the server is down."""
    results = replace(made(SCORES), notes=("SILENT UPDATE: v1.",))
    assert "SILENT UPDATE: v1." in str(results.summary()).splitlines()
    failed = results.with_columns(status="error", error="nothing answers at http://127.0.0.1:8000/v1")
    assert "Errors: 8 x nothing answers at" in str(failed.summary())


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "just now"), (120, "2 minutes ago"), (3_600, "1 hour ago"), (40 * 86_400, "40 days ago")]
)
def test_ages_are_said_in_words(seconds, words):
    moment = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    assert words in age_of(moment)
    assert moment in age_of(moment)
    assert age_of("") == "made at an unknown time"


def test_one_column_counts_for_all_scorers_that_scored_the_same_rows():
    same = made({"v1": [0.1, None]}).scored_by([reads("other")])
    assert str(same.summary()).splitlines()[0].split()[-1] == "scored"
    low = made({"v1": [0.1, 0.2], "v2": [0.1, 0.1]}).scored_by([reads("other", high=0.15)])  # refuses 0.2
    assert str(low.summary()).splitlines()[0].split()[-4:] == ["scored", "(right)", "scored", "(other)"]


def test_no_interval_of_a_mean_reaches_beyond_what_its_metric_can_be():
    """One slow answer among quick ones, and a latency of minus a second would be shown."""
    slow = with_numbers(made({"v1": [1.0, 1.0, 1.0, 1.0]}), latency_s=[0.1, 0.1, 0.1, 9.0])
    found = slow.summary().estimate("v1", "latency_s")
    assert found.low == 0
    assert found.high > found.value


def test_quantiles_of_latency_and_first_token_stand_beside_the_means():
    """numpy's inverted distribution function; a dash where fewer than ten answers lie beyond."""
    seconds = np.random.default_rng(0).lognormal(0, 1, 300)
    summary = with_numbers(made({"v1": [1.0] * 300}), latency_s=seconds, first_token_s=seconds / 10).summary()
    expected = [float(np.quantile(seconds, q, method="inverted_cdf")) for q in (0.5, 0.95)]
    assert summary.latencies["v1", "latency_s"] == (*map(pytest.approx, expected), None)
    assert summary.latencies["v1", "first_token_s"][0] == pytest.approx(expected[0] / 10)
    assert "p95 takes 200 answers" in str(summary)
    assert not made({"v1": [1.0] * 300}).summary().latencies


def test_a_summary_by_tags_has_the_figures_of_each_tags_cases_and_of_all():
    tags = [["a"], ["a"], ["b"], []]
    found = made({"v1": [1, 0, 1, 1]}, tags=tags).summary(by="tags")
    assert [(row["tag"], row["variant"]) for row in found._rows()] == [("all cases", "v1"), ("a", "v1"), ("b", "v1")]
    assert found.tags["a"].estimate("v1", "right").value == 0.5
    assert found.estimate("v1", "right").value == 0.75
    assert "2 tags" in str(found)
    with pytest.raises(ValueError, match="must be 'tags'"):
        made({"v1": [1]}).summary(by="model")
    with pytest.raises(ValueError, match="no case of these results has a tag"):
        made({"v1": [1]}).summary(by="tags")


def test_costs_that_fewer_answers_tell_are_counted_beside_the_scores():
    costs = [0.01 if i % 5 == 0 else float("nan") for i in range(80)]
    told = made({"v1": [1.0] * 40, "v2": [0.5] * 40}).with_columns(cost_usd=costs).summary().lines()
    assert any("v1 8/40" in line and "v2 8/40" in line for line in told)
    assert not any("8/40" in line for line in made({"v1": [1.0] * 40}).summary().lines())


def test_errors_that_are_not_shown_are_counted_and_what_they_quote_does_not_part_them():
    empty = [f"the reply holds no choice: {{'usage': {{'tokens': {n}}}}} (gave up)" for n in (7, 7, 8, 9)]
    said = commonest([*empty, *("abcdf" * 2), "no route"], noted="no route to the host", most=2)
    assert said == "4 x the reply holds no choice: {…} (gave up); 2 x a; and 8 others"
    assert commonest(empty[:2], noted="") == f"2 x {empty[0]}"  # where all quote the same it is shown
