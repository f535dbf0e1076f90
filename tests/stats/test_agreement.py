"""Agreement with people and the biases of judges: known answers, oracles, real verdicts, planted biases."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import DataError
from llmlab.stats.agreement import (
    agreement,
    cohen_kappa,
    confusion_matrix,
    judge_rates,
    kappa_bootstrap,
    labels_for_agreement,
    labels_for_kappa,
)
from llmlab.stats.bias import length_slope, position_bias, self_preference
from llmlab.stats.logit import logit_fit

VERDICTS = Path(__file__).parents[2] / "../shared/data/llmbar_verdicts.csv"


def _pairs(table):
    """Label pairs (human, judge) that have this table of counts."""
    cells = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return [i for i, _ in cells], [j for _, j in cells]


def _se(estimate):
    return (estimate.high - estimate.low) / 2 / 1.959963984540054


def _llmbar(judge):
    if not VERDICTS.exists():
        pytest.skip("llmbar_verdicts.csv is not in ../shared/data")
    pd = pytest.importorskip("pandas")
    verdicts = pd.read_csv(VERDICTS)
    rows = verdicts[(verdicts.judge == judge) & (verdicts.method == "Vanilla")]
    return {name: rows[name].to_numpy() for name in ("winner_order1", "winner_order2", "label", "words_1", "words_2")}


def test_kappa_of_a_textbook_table():
    """[[20, 5], [10, 15]]: kappa .4, standard error .126996."""
    kappa = cohen_kappa(*_pairs([[20, 5], [10, 15]]), labels=[0, 1])
    assert kappa.value == pytest.approx(0.4)
    assert _se(kappa) == pytest.approx(0.126996, abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "value"), [("unweighted", 0.491525), ("linear", 0.473684), ("quadratic", 0.454545)]
)
def test_weighted_kappas_of_a_three_by_three_table(weights, value):
    """[[88, 14, 18], [10, 40, 10], [2, 6, 12]], Fleiss & Cohen's example."""
    human, judge = _pairs([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    assert cohen_kappa(human, judge, labels=[0, 1, 2], weights=weights).value == pytest.approx(value, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(table=st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=3, max_size=3))
def test_kappa_agrees_with_sklearn_and_statsmodels_or_is_undefined(table):
    from sklearn.metrics import cohen_kappa_score
    from statsmodels.stats.inter_rater import cohens_kappa

    counts = np.array(table)
    human, judge = _pairs(table)
    kappa = cohen_kappa(human, judge, labels=[0, 1, 2], weights="quadratic")
    if (counts.sum(axis=0) > 0).sum() < 2 or (counts.sum(axis=1) > 0).sum() < 2:
        assert kappa.value is None
        assert kappa.notes
        return
    assert kappa.value == pytest.approx(cohen_kappa_score(human, judge, labels=[0, 1, 2], weights="quadratic"))
    assert -1 <= kappa.low <= kappa.value + 1e-9
    assert kappa.value - 1e-9 <= kappa.high <= 1
    if kappa.low > -1 and kappa.high < 1:
        assert _se(kappa) == pytest.approx(cohens_kappa(counts, wt="quadratic").std_kappa)


def test_the_label_set_is_fixed_and_changes_weighted_kappa():
    human, judge = _pairs([[10, 3], [2, 10]])
    narrow = cohen_kappa(human, judge, labels=[0, 1], weights="linear")
    wide = cohen_kappa([2 * h for h in human], [2 * j for j in judge], labels=[0, 1, 2], weights="linear")
    assert narrow.value == pytest.approx(wide.value)
    assert len(confusion_matrix(human, judge, labels=[0, 1, 2]).counts) == 3
    with pytest.raises(DataError, match=r"judge\[1\] == 7"):
        cohen_kappa([1, 0], [1, 7], labels=[0, 1])


def test_one_class_only_leaves_kappa_undefined_and_says_so():
    for human, judge in (([1] * 9, [1] * 9), ([1] * 9, [0, 1] * 4 + [1]), ([0, 1] * 5, [1] * 10), ([], []), ([1], [0])):
        kappa = cohen_kappa(human, judge, labels=[0, 1])
        assert kappa.value is None
        assert kappa.low is None
        assert kappa.notes


def test_perfect_agreement_has_an_honest_lower_end():
    kappa = cohen_kappa([0, 1] * 10, [0, 1] * 10, labels=[0, 1])
    assert (kappa.value, kappa.high) == (1.0, 1.0)
    assert 0.5 < kappa.low < 0.9


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


@settings(max_examples=50)
@given(half_width=st.floats(0.01, 0.3), expected=st.floats(0, 1))
def test_labels_for_agreement_are_the_fewest_that_suffice(half_width, expected):
    n = labels_for_agreement(half_width, expected=expected).labels

    def half(size):
        z2 = 1.959963984540054**2
        return math.sqrt(z2 * expected * (1 - expected) / size + z2**2 / 4 / size**2) / (1 + z2 / size)

    assert half(n) <= half_width * (1 + 1e-9)
    assert n == 1 or half(n - 1) > half_width * (1 - 1e-9)


@pytest.mark.parametrize(
    ("judge", "order1", "order2", "both", "consistent", "first", "second"),
    [("ChatGPT", 0.4057, 0.3938, 0.2291, 0.6587, 133, 10), ("GPT-4", 0.8282, 0.8616, 0.8091, 0.9284, 20, 10)],
)
def test_position_bias_of_real_judges(judge, order1, order2, both, consistent, first, second):
    """LLMBar (Zeng et al. 2024), Vanilla prompts, 419 items."""
    data = _llmbar(judge)
    found = position_bias(data["winner_order1"], data["winner_order2"], gold=data["label"])
    assert found.accuracy_order1.value == pytest.approx(order1, abs=5e-5)
    assert found.accuracy_order2.value == pytest.approx(order2, abs=5e-5)
    assert found.accuracy_both.value == pytest.approx(both, abs=5e-5)
    assert found.consistency.value == pytest.approx(consistent, abs=5e-5)
    assert (found.first, found.second, found.missing) == (first, second, 0)
    if judge == "GPT-4":
        assert found.p_value == pytest.approx(0.0987, abs=5e-5)
        assert "no leaning" in str(found)


def test_length_slope_of_a_real_judge_that_follows_length_and_not_quality():
    """LLMBar, ChatGPT Vanilla: order 1 alone 1.59457 (SE .274599), both orders clustered by item 1.371 (SE .207)."""
    data = _llmbar("ChatGPT")
    rest = {"gold": data["label"], "lengths_1": data["words_1"], "lengths_2": data["words_2"]}
    one = length_slope(data["winner_order1"], **rest)
    assert (one.value, one.se) == pytest.approx((1.59457, 0.274599), abs=1e-5)
    assert (one.gold, one.gold_p_value) == pytest.approx((-0.1036, 0.665), abs=1e-3)
    both = length_slope(data["winner_order1"], data["winner_order2"], **rest)
    assert (both.value, both.se) == pytest.approx((1.371, 0.207), abs=1e-3)
    assert (both.n, both.clusters) == (838, 419)
    assert "follows length" in str(both)
    assert "not shown to follow the human verdict" in str(both)


def test_logit_agrees_with_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(6)
    design = np.column_stack([np.ones(300), rng.normal(0, 1, (300, 2))])
    outcomes = (rng.random(300) < 1 / (1 + np.exp(-design @ [0.2, 1.0, -0.5]))).astype(float)
    clusters = rng.integers(0, 40, 300)
    plain, robust = logit_fit(design, outcomes=outcomes), logit_fit(design, outcomes=outcomes, clusters=clusters)
    oracle = api.Logit(outcomes, design)
    assert plain.coefficients == pytest.approx(oracle.fit(disp=0).params)
    assert plain.se == pytest.approx(oracle.fit(disp=0).bse)
    clustered = oracle.fit(disp=0, cov_type="cluster", cov_kwds={"groups": clusters})
    assert robust.se == pytest.approx(clustered.bse)


def test_ties_and_missing_verdicts_stay_in_n_and_are_not_right():
    found = position_bias([1, "tie", None, "2"], [1, "tie", 1, 1], gold=[1, 1, 1, 2])
    assert found.n == 4
    assert found.missing == 1
    assert (found.accuracy_order1.value, found.accuracy_both.value) == (0.5, 0.25)
    assert found.consistency.value == 0.5
    assert (found.first, found.second) == (0, 1)


def test_verdicts_that_are_none_of_the_allowed_ones_are_refused():
    with pytest.raises(DataError, match=r"order1\[0\] == 3"):
        position_bias([3], [1])
    with pytest.raises(DataError, match="gold must name"):
        position_bias([1], [1], gold=["tie"])
    assert position_bias([1, 2], [1, 2]).p_value is None


def _biased_judge(rng, n, position=0.0, length=0.0, quality=2.0):
    """Verdicts of a judge with planted log-odds for quality, length (tanh) and the first place."""
    gold = rng.integers(1, 3, n)
    words = rng.integers(10, 200, (2, n))
    difference = words[0] - words[1]
    pull = quality * (gold == 1) - quality / 2 + length * np.tanh(difference / difference.std(ddof=1))
    orders = [np.where(rng.random(n) < 1 / (1 + np.exp(-(pull + sign * position))), 1, 2) for sign in (1, -1)]
    return orders, {"gold": gold, "lengths_1": words[0], "lengths_2": words[1]}


def test_a_planted_length_bias_is_covered_at_the_nominal_rate():
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        orders, rest = _biased_judge(rng, 250, length=0.8)
        slope = length_slope(*orders, **rest)
        covered += slope.low <= 0.8 <= slope.high
    assert covered / 300 >= 0.92


def test_position_p_values_are_honest_without_a_bias_and_small_with_one():
    rng = np.random.default_rng(8)
    fair = [position_bias(*_biased_judge(rng, 200)[0]).p_value < 0.05 for _ in range(500)]
    biased = position_bias(*_biased_judge(rng, 400, position=1.0)[0])
    assert np.mean(fair) <= 0.06
    assert biased.p_value < 1e-6
    assert "favours the first answer" in str(biased)


def test_equal_lengths_or_a_settled_outcome_leave_the_slope_undefined():
    same = length_slope([1, 2, 1, 2, 2], gold=[1, 2, 2, 1, 1], lengths_1=[5] * 5, lengths_2=[5] * 5)
    assert same.value is None
    assert "do not vary enough" in str(same)
    settled = length_slope([1] * 5, gold=[1, 2, 2, 1, 1], lengths_1=[5, 1, 3, 4, 2], lengths_2=[3] * 5)
    assert "every verdict is the same" in settled.note


@pytest.mark.parametrize("judges", [1, 3])
def test_a_planted_self_preference_is_recovered(judges):
    rng = np.random.default_rng(9)
    n, names = 3000, ["a", "b", "c"]
    gold, skill = rng.integers(1, 3, n), {"a": 0.5, "b": 0.0, "c": -0.5}
    pairs = [rng.permutation(names)[:2] for _ in range(n)]
    judge = rng.choice(names[:judges], n)
    own = np.array([(one == j) * 1.0 - (two == j) for (one, two), j in zip(pairs, judge, strict=True)])
    known = np.array([skill[one] - skill[two] for one, two in pairs]) * (judges > 1)
    probability = 1 / (1 + np.exp(-(1.5 * (gold == 1) - 0.75 + known + 0.7 * own)))
    verdicts = np.where(rng.random(n) < probability, 1, 2)
    found = self_preference(
        verdicts,
        gold=gold,
        judges=judge,
        authors_1=[one for one, _ in pairs],
        authors_2=[two for _, two in pairs],
        items=np.arange(n),
    )
    assert found.low <= 0.7 <= found.high
    assert found.low > 0.3
    assert "follows its own answers" in str(found)
    assert ("One judge only" in found.note) == (judges == 1)
