"""What a judge is moved by: real verdicts, statsmodels and planted biases."""

import math
from itertools import product

import numpy as np
import pytest

from llmlab.base.errors import DataError
from llmlab.stats.bias import clustered_contrast, length_slope, logit_fit, position_bias, self_preference
from llmlab.stats.paired import mean_difference
from tests.real_data import llmbar


def test_length_slope_of_a_real_judge_that_follows_length_and_not_quality():
    """LLMBar, ChatGPT Vanilla: order 1 alone 1.59457 (SE .274599), both orders clustered by item 1.371 (SE .207)."""
    data = llmbar("ChatGPT")
    rest = {"gold": data.label, "lengths_1": data.words_1, "lengths_2": data.words_2}
    order1 = length_slope(data.winner_order1, **rest)
    assert (order1.value, order1.se) == pytest.approx((1.59457, 0.274599), abs=1e-5)
    assert (order1.gold, order1.gold_p_value) == pytest.approx((-0.1036, 0.665), abs=1e-3)
    both = length_slope(data.winner_order1, data.winner_order2, **rest)
    assert (both.value, both.se) == pytest.approx((1.371, 0.207), abs=1e-3)
    assert (both.n, both.clusters) == (838, 419)
    assert "follows length" in str(both)
    assert "not shown to follow the human verdict" in str(both)


@pytest.mark.parametrize(("clusters", "size"), [(40, 10), (12, 30)])
def test_a_judge_that_leans_within_clusters_but_not_on_average_is_not_called_biased(clusters, size):
    """Half of all verdicts follow a position that differs from cluster to cluster: nominal 5% must stay about 5%."""
    rng = np.random.default_rng(1)
    of_pair, found = np.repeat(np.arange(clusters), size), []
    for _ in range(300):
        first = rng.random(of_pair.size) < rng.beta(1, 1, clusters)[of_pair]
        followed, named = rng.random(of_pair.size) < 0.5, rng.integers(1, 3, of_pair.size)
        one, two = np.where(followed, np.where(first, 1, 2), named), np.where(followed, np.where(first, 2, 1), named)
        found.append([position_bias(one, two, clusters=way).p_value for way in (of_pair, None)])
    clustered, taken_as_independent = (np.array(found) < 0.05).mean(axis=0)
    assert clustered < 0.08
    assert taken_as_independent > 0.15


def test_flipping_whole_clusters_has_the_exact_chance_of_every_pattern_of_signs():
    """Leanings 3, 2, 2, 1, -1 of five clusters, against all 32 patterns counted one by one."""
    sums = [3, 2, 2, 1, -1]
    patterns = [sum(s * x for s, x in zip(signs, sums, strict=True)) for signs in product((1, -1), repeat=5)]
    exact = np.mean([abs(one) >= sum(sums) for one in patterns])
    one = [1 if x > 0 else 2 for x in sums for _ in range(abs(x))]
    clusters = [i for i, x in enumerate(sums) for _ in range(abs(x))]
    assert position_bias(one, [3 - x for x in one], clusters=clusters).p_value == pytest.approx(exact, rel=1e-9)


def test_verdicts_that_are_none_of_the_allowed_ones_are_refused():
    with pytest.raises(DataError, match=r"order1\[0\] == 3"):
        position_bias([3], [1])
    with pytest.raises(DataError, match="gold must name"):
        position_bias([1], [1], gold=["tie"])
    assert position_bias([1, 2], [1, 2]).p_value is None


@pytest.mark.parametrize("sizes", [[10] * 6, [3, 4, 5, 6, 8, 10, 12, 15, 18, 24]])
def test_lengths_that_come_by_cluster_are_said_to_move_a_judge_at_the_level_of_the_test(sizes):
    """Items of a document are alike in length and in how they are judged; t of G - 1 said it in 12%."""
    rng, of_item = np.random.default_rng(7), np.repeat(np.arange(len(sizes)), sizes)
    shown = []
    for _ in range(500):
        gold, longer = rng.integers(1, 3, of_item.size), rng.normal(0, 1, len(sizes))[of_item]
        logit = 2.0 * (gold == 1) - 1 + rng.normal(0, 1, len(sizes))[of_item]
        orders = [np.where(rng.random(of_item.size) < 1 / (1 + np.exp(-logit)), 1, 2).tolist() for _ in range(2)]
        lengths = {"lengths_1": longer + rng.normal(0, 0.2, of_item.size), "lengths_2": np.zeros(of_item.size)}
        slope = length_slope(*orders, gold=gold.tolist(), **lengths, clusters=of_item.tolist())
        shown.append(slope.p_value is not None and slope.p_value < 0.05)
    assert 0.02 <= np.mean(shown) <= 0.085


def test_equal_lengths_or_a_settled_outcome_leave_the_slope_undefined():
    same = length_slope([1, 2, 1, 2, 2], gold=[1, 2, 2, 1, 1], lengths_1=[5] * 5, lengths_2=[5] * 5)
    assert same.value is None
    assert "do not vary enough" in str(same)
    settled = length_slope([1] * 5, gold=[1, 2, 2, 1, 1], lengths_1=[5, 1, 3, 4, 2], lengths_2=[3] * 5)
    assert "every verdict is the same" in settled.note


def test_a_length_that_one_document_alone_has_moves_no_judge():
    """Four long answers of one document, of which seven verdicts in eight pick the long one."""
    rng = np.random.default_rng(0)
    gold = rng.integers(1, 3, 40)
    orders = [np.where(rng.random(40) < 0.7, gold, 3 - gold).tolist() for _ in range(2)]
    orders[0][:4], orders[1][:4] = [1, 1, 1, 2], [1] * 4
    about = {"gold": gold.tolist(), "lengths_2": [5] * 40, "clusters": [item // 4 for item in range(40)]}
    slope = length_slope(*orders, lengths_1=[50] * 4 + [5] * 36, **about)
    assert (slope.value, slope.note) == (None, "it hangs on one item, or on the items of one cluster")
    assert length_slope(*orders, lengths_1=[50] * 6 + [5] * 34, **about).value is not None


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


# -- logistic regression against statsmodels ---------------------------------------------------------------------------


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


# -- cluster-robust least squares against its definition, statsmodels and simulation -----------------------------------


def test_heteroscedastic_rows_alone_in_their_clusters_give_statsmodels_hc2():
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(3)
    design = np.column_stack([np.ones(60), rng.normal(0, 1, 60), rng.random(60)])
    response = design @ [1.0, 2.0, 3.0] + rng.normal(0, 1 + design[:, 2], 60)
    oracle = api.OLS(response, design).fit(cov_type="HC2")
    for term, row in enumerate(np.eye(3)):
        fit = clustered_contrast(design, row, response=response, clusters=np.arange(60))
        assert (fit.value, fit.se) == pytest.approx((oracle.params[term], oracle.bse[term]))


def test_clustered_errors_match_the_definition_of_cr2_written_out():
    """Bell & McCaffrey with explicit N x N matrices, weighted, unequal clusters."""
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(7), [1, 2, 3, 5, 8, 4, 9])
    n = len(clusters)
    weights = rng.random(n) + 0.5
    design = np.column_stack([np.ones(n), rng.normal(0, 1, n)])
    response = rng.normal(0, 1, n)
    fit = clustered_contrast(design, [0.0, 1.0], response=response, clusters=clusters, weights=weights)
    x, y = design * np.sqrt(weights)[:, None], response * np.sqrt(weights)
    bread = np.linalg.inv(x.T @ x)
    annihilator = np.eye(n) - x @ bread @ x.T
    columns = []
    for cluster in range(7):
        own = clusters == cluster
        values, vectors = np.linalg.eigh(annihilator[np.ix_(own, own)])
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        columns.append(annihilator[own].T @ root @ x[own] @ bread[:, 1])
    matrix = np.array(columns) @ np.array(columns).T
    residual = annihilator @ y
    variance = sum(float(residual @ column) ** 2 for column in columns)
    assert fit.se == pytest.approx(math.sqrt(variance))
    assert fit.df == pytest.approx(np.trace(matrix) ** 2 / (matrix**2).sum())


def test_with_an_intercept_alone_it_is_the_clustered_mean():
    rng, clusters = np.random.default_rng(5), np.repeat(np.arange(10), [100] + [10] * 9)
    response = rng.normal(0, math.sqrt(0.15), 10)[clusters] + rng.normal(0, math.sqrt(0.85), 190)
    fit = clustered_contrast(np.ones((190, 1)), [1.0], response=response, clusters=clusters)
    mean = mean_difference(response, clusters)
    assert (fit.value, fit.se, fit.df) == pytest.approx((mean.value, mean.se, mean.df))
    assert (fit.low, fit.high) == pytest.approx((mean.low, mean.high))
