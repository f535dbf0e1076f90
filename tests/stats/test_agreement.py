"""Agreement with people: known answers, oracles, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.agreement import (
    agreement,
    cohen_kappa,
    confusion_matrix,
    consistency,
    judge_rates,
    kappa_bootstrap,
    labels_for_kappa,
    mcnemar,
)


def _pairs(table):
    """Label pairs (human, judge) that have this table of counts."""
    cells = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return [i for i, _ in cells], [j for _, j in cells]


def _se(estimate):
    return (estimate.high - estimate.low) / 2 / 1.959963984540054


@pytest.mark.parametrize(
    ("weights", "value"), [("unweighted", 0.491525), ("linear", 0.473684), ("quadratic", 0.454545)]
)
def test_weighted_kappas_of_a_three_by_three_table(weights, value):
    """[[88, 14, 18], [10, 40, 10], [2, 6, 12]], Fleiss & Cohen's example."""
    human, judge = _pairs([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    assert cohen_kappa(human, judge, labels=[0, 1, 2], weights=weights).value == pytest.approx(value, abs=1e-6)


@given(
    table=st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=3, max_size=3),
    weights=st.sampled_from(["unweighted", "linear", "quadratic"]),
)
@example(table=[[0, 0, 0]] * 3, weights="linear")  # no pair at all
@example(table=[[0, 0, 0], [5, 4, 0], [0, 0, 0]], weights="unweighted")  # one class only, to people
def test_kappa_agrees_with_sklearn_and_statsmodels_or_is_undefined(table, weights):
    from sklearn.metrics import cohen_kappa_score
    from statsmodels.stats.inter_rater import cohens_kappa

    counts = np.array(table)
    human, judge = _pairs(table)
    kappa = cohen_kappa(human, judge, labels=[0, 1, 2], weights=weights)
    theirs = None if weights == "unweighted" else weights
    if (counts.sum(axis=0) > 0).sum() < 2 or (counts.sum(axis=1) > 0).sum() < 2:
        assert (kappa.value, kappa.low) == (None, None)
        assert kappa.notes
        return
    assert kappa.value == pytest.approx(cohen_kappa_score(human, judge, labels=[0, 1, 2], weights=theirs))
    assert -1 <= kappa.low <= kappa.value + 1e-9
    assert kappa.value - 1e-9 <= kappa.high <= 1
    if kappa.low > -1 and kappa.high < 1:
        assert _se(kappa) == pytest.approx(cohens_kappa(counts, wt=theirs).std_kappa)


def test_the_label_set_is_fixed_and_changes_weighted_kappa():
    human, judge = _pairs([[10, 3], [2, 10]])
    narrow = cohen_kappa(human, judge, labels=[0, 1], weights="linear")
    wide = cohen_kappa([2 * h for h in human], [2 * j for j in judge], labels=[0, 1, 2], weights="linear")
    assert narrow.value == pytest.approx(wide.value)
    assert len(confusion_matrix(human, judge, labels=[0, 1, 2]).counts) == 3
    with pytest.raises(DataError, match=r"judge\[1\] == 7"):
        cohen_kappa([1, 0], [1, 7], labels=[0, 1])


def test_missing_labels_are_counted():
    table = confusion_matrix([1, None, 2, float("nan")], [1, 1, 2, 2], labels=[1, 2])
    assert (table.n, table.n_attempted) == (2, 4)
    share = agreement([1, None, 2], [1, 1, 1], labels=[1, 2])
    assert (share.value, share.n, share.n_attempted) == (0.5, 2, 3)


def test_bootstrap_interval_of_kappa_agrees_with_the_large_sample_one():
    rng = np.random.default_rng(0)
    human = rng.integers(1, 6, 10_000)
    judge = np.where(rng.random(10_000) < 0.6, human, rng.integers(1, 6, 10_000))
    formula = cohen_kappa(human, judge, labels=range(1, 6), weights="linear")
    drawn = kappa_bootstrap(human, judge, labels=range(1, 6), weights="linear", seed=1)
    alone = kappa_bootstrap(human, judge, labels=range(1, 6), weights="linear", clusters=np.arange(10_000), seed=1)
    assert (drawn.low, drawn.high) == pytest.approx((formula.low, formula.high), abs=0.003)
    assert (alone.low, alone.high) == pytest.approx((formula.low, formula.high), abs=0.003)


def test_clusters_of_copies_widen_kappa_as_if_each_were_one_pair():
    rng = np.random.default_rng(2)
    human = rng.integers(0, 2, 80)
    judge = np.where(rng.random(80) < 0.8, human, 1 - human)
    once = cohen_kappa(human, judge, labels=[0, 1])
    copies = np.repeat(np.arange(80), 5)
    clustered = cohen_kappa(human[copies], judge[copies], labels=[0, 1], clusters=copies)
    drawn = kappa_bootstrap(human[copies], judge[copies], labels=[0, 1], clusters=copies, seed=3)
    assert clustered.high - clustered.low == pytest.approx(once.high - once.low, rel=0.05)
    assert drawn.high - drawn.low == pytest.approx(once.high - once.low, rel=0.15)


@pytest.mark.parametrize("sizes", [[20] * 10, [3, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 40]])
def test_kappa_of_a_few_clusters_covers_the_truth_at_its_level(sizes):
    """The judge is right in 0.75 to 0.95 of a cluster's items, half are passes: kappa is 0.7; percentiles cover 88%."""
    rng, of_item = np.random.default_rng(5), np.repeat(np.arange(len(sizes)), sizes)
    hits = []
    for _ in range(300):
        human = rng.integers(0, 2, of_item.size)
        judge = np.where(rng.random(of_item.size) < rng.uniform(0.75, 0.95, len(sizes))[of_item], human, 1 - human)
        kappa = kappa_bootstrap(human, judge, labels=[0, 1], clusters=of_item, resamples=500)
        hits.append(kappa.low <= 0.7 <= kappa.high)
    assert 0.93 <= np.mean(hits) <= 0.98


def test_clusters_that_tell_too_little_are_told_beside_a_drawn_kappa():
    rng, of_item = np.random.default_rng(6), np.repeat(np.arange(10), [8] * 9 + [60])
    human = rng.integers(0, 2, of_item.size)
    judge = np.where(rng.random(of_item.size) < 0.8, human, 1 - human)
    assert "degrees of freedom" in kappa_bootstrap(human, judge, labels=[0, 1], clusters=of_item).notes[0]
    alone = kappa_bootstrap(human, judge, labels=[0, 1], clusters=[0] * of_item.size)
    assert (alone.low, alone.notes) == (None, ("one cluster only: there is no interval",))


def test_shares_and_youdens_j_of_clustered_labels_cover_the_truth_at_their_level():
    """40 clusters of 10 in which the judge is right in 0.8 of the items on average: Beta(1.6, .4) over clusters."""
    rng, of_item = np.random.default_rng(4), np.repeat(np.arange(40), 10)
    hits = []
    for _ in range(300):
        human = rng.integers(0, 2, 400)
        judge = np.where(rng.random(400) < rng.beta(1.6, 0.4, 40)[of_item], human, 1 - human)
        found = []
        for clusters in (of_item, None):
            same = agreement(human, judge, labels=[0, 1], clusters=clusters)
            youden = judge_rates(human, judge, positive=1, clusters=clusters).youden
            found += [same.low <= 0.8 <= same.high, youden.low <= 0.6 <= youden.high]
        hits.append(found)
    share, youden, *as_if_independent = np.mean(hits, axis=0)
    assert min(share, youden) > 0.92
    assert max(as_if_independent) < 0.8


def test_kappa_interval_covers_the_truth_at_its_level():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(600):
        human = rng.integers(0, 2, 120)
        judge = np.where(rng.random(120) < 0.6, human, rng.integers(0, 2, 120))
        kappa = cohen_kappa(human, judge, labels=[0, 1])
        covered += kappa.low <= 0.6 <= kappa.high
    assert covered / 600 == pytest.approx(0.95, abs=0.025)


def test_error_rates_of_a_judge_and_youdens_j():
    human, judge = _pairs([[40, 10], [5, 45]])
    rates = judge_rates(human, judge, positive=1)
    assert (rates.sensitivity.value, rates.specificity.value) == (0.9, 0.8)
    assert rates.youden.value == pytest.approx(0.7)
    statsmodels = pytest.importorskip("statsmodels.stats.proportion")
    low, high = statsmodels.confint_proportions_2indep(45, 50, 10, 50, method="newcomb")
    assert (rates.youden.low, rates.youden.high) == pytest.approx((low, high))


def test_error_rates_without_one_class_are_undefined():
    rates = judge_rates([1, 1, 1], [1, 0, 1], positive=1)
    assert rates.specificity.value is None
    assert rates.youden.value is None
    assert "both kinds" in str(rates)


def test_labels_for_kappa_give_the_wanted_precision():
    rng = np.random.default_rng(5)
    n = labels_for_kappa(0.08, expected=0.5, shares=[0.2, 0.3, 0.5], weights="linear").labels
    human = rng.choice(3, n, p=[0.2, 0.3, 0.5])
    judge = np.where(rng.random(n) < 0.5, human, rng.choice(3, n, p=[0.2, 0.3, 0.5]))
    kappa = cohen_kappa(human, judge, labels=[0, 1, 2], weights="linear")
    assert (kappa.high - kappa.low) / 2 == pytest.approx(0.08, rel=0.15)


def test_perfect_agreement_has_an_honest_lower_end_and_in_few_documents_a_lower_one():
    labels, documents = [0, 1] * 60, [i // 10 for i in range(120)]
    alone, clustered = (cohen_kappa(labels, labels, labels=[0, 1], clusters=groups) for groups in (None, documents))
    assert (alone.value, alone.high) == (1.0, 1.0)
    assert clustered.low < 0.6 < alone.low < 0.99
    assert alone == kappa_bootstrap(labels, labels, labels=[0, 1])
    assert clustered == kappa_bootstrap(labels, labels, labels=[0, 1], clusters=documents)


@pytest.mark.parametrize(
    ("judge", "clusters", "value", "why"),
    [([0, 1] * 4 + [0, 0], ["a"] * 10, 0.8, "one cluster"), ([1, 0] * 5, None, -1.0, "no variation")],
)
def test_where_nothing_tells_how_sure_kappa_is_it_has_no_interval(judge, clusters, value, why):
    kappa = cohen_kappa([0, 1] * 5, judge, labels=[0, 1], clusters=clusters)
    assert (kappa.value, kappa.low) == (pytest.approx(value), None)
    assert why in kappa.notes[-1]


# -- McNemar against an oracle ----------------------------------------------------------------------------------------


def arms(both, only_baseline, only_candidate, neither):
    counts = [both, only_baseline, only_candidate, neither]
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


@given(counts=st.tuples(*[st.integers(0, 40)] * 4))
@example(counts=(794, 150, 86, 570))  # Agresti's ratings of a prime minister: 3.71594e-5
def test_mcnemar_matches_statsmodels(counts):
    """`statsmodels.stats.contingency_tables.mcnemar`, exact; without disagreement 1."""
    from statsmodels.stats.contingency_tables import mcnemar as oracle

    expected = oracle(np.reshape(counts, (2, 2)), exact=True).pvalue if counts[1] + counts[2] else 1
    assert mcnemar(*arms(*counts)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("arm", "error", "said"),
    [
        ([0.5, 1], ValueError, "mean_difference"),
        ([1, 1, 1], ValueError, "pair them by id"),
        ([None, 1], DataError, r"candidate\[0\] is missing"),
    ],
)
def test_what_mcnemar_cannot_count_is_refused(arm, error, said):
    with pytest.raises(error, match=said):
        mcnemar([0, 1], arm)


# -- consistency of repeats --------------------------------------------------------------------------------------------


def test_consistency_is_the_share_of_equal_pairs():
    """Cases with answers 111, 110, 10: 3/3, 1/3 and 0/1 pairs agree; a case asked once is only counted."""
    result = consistency([1, 1, 1, 1, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1, 2, 2, 3])
    assert result.value == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert (result.n, result.n_attempted) == (3, 4)


@given(seed=st.integers(0, 100), repeats=st.integers(2, 4))
def test_consistency_matches_counting_pairs(seed, repeats):
    """All pairs of repeats, one by one, on a three-point rubric."""
    scores = np.random.default_rng(seed).integers(0, 3, size=(6, repeats))
    upper = np.triu_indices(repeats, 1)
    expected = (scores[:, upper[0]] == scores[:, upper[1]]).mean(axis=1).mean()
    result = consistency(scores.ravel(), np.repeat(np.arange(6), repeats))
    assert result.value == pytest.approx(expected)


def test_consistency_without_repeats_is_refused():
    with pytest.raises(DataError, match="repeats=2"):
        consistency([1, 0, 1], [0, 1, 2])


def test_consistency_can_be_clustered():
    result = consistency([1, 1, 1, 0, 1, 1, 0, 0, 1], [0, 0, 1, 1, 2, 3, 3, 4, 4], clusters=["a", "a", "b", "b", "c"])
    assert result.n == 4
    assert "3 clusters" in result.method


def test_steadiness_is_a_share_and_never_beyond_one():
    steady = consistency([1, 1] * 40, np.repeat(np.arange(40), 2))
    flaky = consistency([1, 1] * 38 + [1, 0] * 2, np.repeat(np.arange(40), 2))
    assert steady.high == 1.0
    assert steady.low == pytest.approx(0.91, abs=0.01)
    assert flaky.low < 0.9 < flaky.value < flaky.high < 1
