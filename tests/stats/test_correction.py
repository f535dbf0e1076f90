"""Corrected judge scores: known answers, the traps, and coverage with planted truths."""

import numpy as np
import pytest

from llmlab.base.errors import DataError
from llmlab.stats.agreement import judge_rates
from llmlab.stats.correction import ppi_difference, ppi_mean, rogan_gladen
from tests.real_data import llmbar


def _llmbar(judge):
    """Judge's and people's `output 1 is better` for 419 items, labels kept on every fourth."""
    rows = llmbar(judge)
    judged, human = (rows.winner_order1 == 1).to_numpy(float), (rows.label == 1).to_numpy(float)
    return judged, np.where(np.arange(len(rows)) % 4 == 0, human, np.nan)


def _rates(q0, m0, q1, m1):
    """Error rates of a judge with specificity q0 among m0 fails and sensitivity q1 among m1 passes."""
    human = [0] * m0 + [1] * m1
    right = [0] * round(q0 * m0) + [1] * (m0 - round(q0 * m0)) + [1] * round(q1 * m1) + [0] * (m1 - round(q1 * m1))
    return judge_rates(human, right, positive=1)


def test_rogan_gladen_covers_the_true_rate_at_its_level():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        human = np.repeat([0, 1], 60)
        judged = rng.random(120) < np.where(human == 1, 0.85, 0.25)
        passes = int((rng.random(400) < np.where(rng.random(400) < 0.6, 0.85, 0.25)).sum())
        found = rogan_gladen(passes, 400, rates=judge_rates(human, judged.astype(int), positive=1)).corrected
        covered += found.low <= 0.6 <= found.high
    assert 0.935 <= covered / 1000 <= 0.985


def test_rogan_gladen_is_refused_for_a_judge_that_knows_nothing():
    """LLMBar, ChatGPT Vanilla: sensitivity .556, specificity .314; the formula would give .4748, ends inverted."""
    judged, human = _llmbar("ChatGPT")
    labelled = ~np.isnan(human)
    rates = judge_rates(human[labelled], judged[labelled], positive=1.0)
    assert rates.sensitivity.value == pytest.approx(0.556, abs=5e-4)
    assert rates.specificity.value == pytest.approx(0.314, abs=5e-4)
    found = rogan_gladen(int(judged[~labelled].sum()), int((~labelled).sum()), rates=rates)
    assert found.corrected.value is None
    assert "Youden's J" in str(found)


def test_rogan_gladen_is_refused_where_the_interval_of_youdens_j_reaches_zero():
    assert rogan_gladen(50, 100, rates=_rates(0.6, 10, 0.6, 10)).corrected.value is None
    assert rogan_gladen(50, 100, rates=judge_rates([1, 1], [1, 1], positive=1)).corrected.value is None


def test_ppi_mean_on_real_verdicts_gives_the_known_answer():
    """LLMBar, GPT-4 Vanilla, items 0, 4, 8, ... labelled: .52154 [.44404, .59904], conventions to 3e-4."""
    found = ppi_mean(*_llmbar("GPT-4"))
    assert (found.n_labelled, found.n_unlabelled) == (105, 314)
    assert found.corrected.value == pytest.approx(0.52154, abs=1e-5)
    assert (found.corrected.low, found.corrected.high) == pytest.approx((0.44404, 0.59904), abs=3e-4)
    assert found.labels_only.value == pytest.approx(0.5143, abs=5e-5)


def test_ppi_mean_falls_back_to_the_labels_for_a_useless_judge():
    """LLMBar, ChatGPT Vanilla: .514 [.419, .610]."""
    found = ppi_mean(*_llmbar("ChatGPT"))
    assert found.lam == 0
    corrected = found.corrected
    assert (corrected.value, corrected.low, corrected.high) == pytest.approx((0.514, 0.419, 0.610), abs=1e-3)
    assert "labels alone count" in str(found)


@pytest.mark.parametrize("n", [12, 30, 105, 400])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("in_clusters", [False, True])
def test_at_lambda_zero_the_interval_is_the_labels_own(n, bounds, in_clusters):
    """A judge that says the same of every case."""
    human = np.where(np.arange(400) < n, np.arange(400) % 2, np.nan)
    clusters = np.arange(400) // 2 if in_clusters else None
    found = ppi_mean([1.0] * 400, human, clusters=clusters, bounds=bounds)
    own, corrected = found.labels_only, found.corrected
    assert found.lam == 0
    assert (corrected.value, corrected.low, corrected.high, found.se) == (own.value, own.low, own.high, found.labels_se)


@pytest.mark.parametrize("n", [10, 20, 60])
def test_what_n_labels_may_have_missed_is_in_the_interval(n):
    """All n agree with the judge: of cases that it gets wrong, 1 - .025 ** (1 / n) may have gone unseen."""
    judged = np.tile([1.0, 0.0], 500)
    human = np.where(np.arange(1000) < n, judged, np.nan)
    found = ppi_mean(judged, human, bounds=(0.0, 1.0))
    unseen = 1 - 0.025 ** (1 / n)
    assert found.lam > 0.9
    assert found.corrected.high - found.corrected.value > 0.9 * unseen
    assert found.corrected.value - found.corrected.low > 0.9 * unseen
    plain = ppi_mean(judged, human).corrected
    assert plain.high - plain.low < 1.5 * unseen
    flat = ppi_mean([1] * 60, [1] * n + [None] * (60 - n), bounds=(0, 1)).corrected
    assert (flat.low, flat.high) == (pytest.approx(0.025 ** (1 / n), abs=0.1), pytest.approx(1.0))


def test_rare_leniency_to_the_candidate_is_covered_with_bounds_and_not_without():
    """True difference 0; of 60 labelled cases three on average show that the judge passes 5% too many."""
    rng, covered = np.random.default_rng(12), []
    for _ in range(60):
        a = (rng.random(600) < 0.7) * 1.0
        b = np.where(rng.random(600) < 0.98, a, rng.random(600) < 0.7) * 1.0
        lenient = np.where((b == 0) & (rng.random(600) < 0.07), 1.0, b)
        labelled = np.arange(600) < 60
        arms = {"human_baseline": np.where(labelled, a, np.nan), "human_candidate": np.where(labelled, b, np.nan)}
        found = [ppi_difference(a, lenient, **arms, bounds=bounds).corrected for bounds in (None, (-1.0, 1.0))]
        covered.append([one.low is not None and one.low <= 0 <= one.high for one in found])
    by_t, with_bounds = np.mean(covered, axis=0)
    assert by_t < 0.7
    assert with_bounds >= 0.95


def test_small_errors_everywhere_do_not_hide_a_rare_large_one():
    """Grades that the judge misses by .05; of 3% of the candidate's answers it misses that they are worth nothing."""
    rng, covered = np.random.default_rng(31), []
    for _ in range(120):
        a, gain, noise_a, noise_b, bad = rng.normal(0, 1, (5, 800))
        before = np.clip(0.8 + 0.1 * a, 0, 1)
        seen = np.clip(before + 0.08 * gain, 0, 1)
        after = np.where(bad > 1.881, np.maximum(seen - 0.8, 0), seen)
        judged = np.clip(before + 0.05 * noise_a, 0, 1), np.clip(seen + 0.05 * noise_b, 0, 1)
        labels = (np.where(np.arange(800) < 60, human, np.nan) for human in (before, after))
        arms = dict(zip(("human_baseline", "human_candidate"), labels, strict=True))
        found = ppi_difference(*judged, **arms, bounds=(-1, 1)).corrected
        covered.append(found.low <= -0.025 <= found.high)
    assert np.mean(covered) >= 0.95


@pytest.mark.parametrize("design", ["clusters", "weights", "inclusion"])
def test_rare_leniency_is_covered_in_clusters_with_weights_and_with_unequal_chances_too(design):
    """True rate .8; a judge that passes 3% too many, whole clusters of three at once, and 30 labels of 600."""
    rng, covered = np.random.default_rng(21), []
    for _ in range(60):
        cluster = np.arange(600) // (3 if design == "clusters" else 1)
        right, missed, chosen = rng.random((3, 600))[:, cluster]
        truth, hard = (right < 0.8) * 1.0, rng.random(600) < 0.2
        judged = np.where((truth == 0) & (missed < 0.15), 1.0, truth)
        chance = np.where(hard & (design == "inclusion"), 0.1, 0.05)
        human = np.where(chosen < chance, truth, np.nan)
        how = {"clusters": cluster, "weights": np.where(hard, 3.0, 1.0), "inclusion": chance}
        found = [ppi_mean(judged, human, bounds=b, **{design: how[design]}).corrected for b in (None, (0.0, 1.0))]
        covered.append([one.low is not None and one.low <= 0.8 <= one.high for one in found])
    by_t, with_bounds = np.mean(covered, axis=0)
    assert by_t < 0.92
    assert with_bounds >= 0.95


def _judged(rng, truth, sensitivity=0.9, specificity=0.7):
    return (rng.random(truth.shape) < np.where(truth == 1, sensitivity, 1 - specificity)).astype(float)


def _labels(rng, truth, n):
    human = np.full(len(truth), np.nan)
    chosen = rng.choice(len(truth), n, replace=False)
    human[chosen] = truth[chosen]
    return human


@pytest.mark.slow
@pytest.mark.parametrize("n", [15, 30, 100])
def test_ppi_mean_covers_the_truth_with_few_and_many_labels(n):
    rng = np.random.default_rng(n)
    covered, corrected_width, labels_width = 0, 0.0, 0.0
    for _ in range(600):
        truth = (rng.random(500) < 0.6).astype(float)
        found = ppi_mean(_judged(rng, truth), _labels(rng, truth, n))
        covered += found.corrected.low <= 0.6 <= found.corrected.high
        corrected_width += found.corrected.high - found.corrected.low
        labels_width += found.labels_only.high - found.labels_only.low
    assert 0.92 <= covered / 600 <= 0.98
    if n >= 30:
        assert corrected_width < labels_width


CLUSTERS = np.repeat(np.arange(40), 10)


def whole_clusters(rng):
    """Forty clusters of alike cases, fifteen of them labelled; the true mean is .5."""
    ability = rng.normal(0, 1, 40)[CLUSTERS]
    truth = (ability + rng.normal(0, 0.5, 400) > 0).astype(float)
    labelled = np.isin(CLUSTERS, rng.choice(40, 15, replace=False))
    return _judged(rng, truth, 0.8, 0.7), np.where(labelled, truth, np.nan), {"clusters": CLUSTERS}


def where_the_judge_is_unsure(rng):
    """Half the uncertain cases and few of the others are labelled; the true mean is .62."""
    hard = rng.random(800) < 0.3
    truth = (rng.random(800) < np.where(hard, 0.2, 0.8)).astype(float)
    judged, inclusion = np.where(hard, 0.5, _judged(rng, truth)), np.where(hard, 0.5, 0.05)
    return judged, np.where(rng.random(800) < inclusion, truth, np.nan), {"inclusion": inclusion}


def as_in_production(rng):
    """Hard cases are a tenth of the set and half of production, whose true mean is .5."""
    hard = rng.random(600) < 0.1
    truth = (rng.random(600) < np.where(hard, 0.2, 0.8)).astype(float)
    human = np.where(rng.random(600) < 0.4, truth, np.nan)
    return _judged(rng, truth), human, {"weights": np.where(hard, 9.0, 1.0)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("design", "mean", "ignored"),
    [(whole_clusters, 0.5, 0.85), (where_the_judge_is_unsure, 0.62, 0.5), (as_in_production, 0.5, 0.01)],
)
def test_clusters_inclusion_and_weights_cover_the_truth_where_ignoring_them_does_not(design, mean, ignored):
    rng, covered = np.random.default_rng(4), []
    for _ in range(400):
        judged, human, how = design(rng)
        estimates = [ppi_mean(judged, human, **more).corrected for more in (how, {})]
        covered.append([one.low <= mean <= one.high for one in estimates])
    with_it, without = np.mean(covered, axis=0)
    assert 0.92 <= with_it <= 0.99
    assert without < ignored


def test_equal_inclusion_probabilities_change_little():
    judged, human = _llmbar("GPT-4")
    plain = ppi_mean(judged, human).corrected
    weighted = ppi_mean(judged, human, inclusion=np.full(len(judged), 0.25)).corrected
    assert weighted.value == pytest.approx(plain.value, abs=2e-3)
    assert weighted.high - weighted.low == pytest.approx(plain.high - plain.low, rel=0.05)


@pytest.mark.slow
def test_a_judge_lenient_to_one_variant_is_corrected_where_shared_error_rates_make_it_worse():
    """True .70 in both arms, sensitivity .9, specificity .8 against .6: raw +6 points, shared rates about +10."""
    rng = np.random.default_rng(5)
    raw, shared, covered, found_values = [], [], 0, []
    for _ in range(300):
        truth = (rng.random((2, 1500)) < 0.7).astype(float)
        judged = np.stack([_judged(rng, truth[0], 0.9, 0.8), _judged(rng, truth[1], 0.9, 0.6)])
        chosen = rng.choice(1500, 150, replace=False)
        human = np.full((2, 1500), np.nan)
        human[:, chosen] = truth[:, chosen]
        found = ppi_difference(judged[0], judged[1], human_baseline=human[0], human_candidate=human[1])
        rates = judge_rates(truth[:, chosen].ravel(), judged[:, chosen].ravel(), positive=1.0)
        by_rates = [rogan_gladen(int(arm.sum()), 1500, rates=rates).corrected.value for arm in judged]
        raw.append(found.raw.value)
        shared.append(by_rates[1] - by_rates[0])
        found_values.append(found.corrected.value)
        covered += found.corrected.low <= 0 <= found.corrected.high
    assert np.mean(raw) == pytest.approx(0.06, abs=0.01)
    assert np.mean(shared) == pytest.approx(0.10, abs=0.01)
    assert np.mean(found_values) == pytest.approx(0.0, abs=0.01)
    assert covered / 300 >= 0.92


def test_labels_on_one_arm_only_are_counted_and_not_used():
    nan = float("nan")
    found = ppi_difference(
        [0, 1, 0, 1, 1, 0],
        [1, 1, 0, 1, 0, 0],
        human_baseline=[0, 1, 0, nan, nan, 1],
        human_candidate=[1, 1, 0] + [nan] * 3,
    )
    assert found.n_labelled == 3
    assert "labelled in one arm only, and not used: 1 case" in str(found)


def test_all_cases_labelled_gives_the_mean_of_the_labels():
    found = ppi_mean([1, 0, 1, 1], [1, 0, 0, 1])
    assert (found.lam, found.corrected.value) == (0.0, 0.5)
    assert "all cases are labelled" in found.corrected.method


def test_degenerate_input_gives_none_with_a_reason_and_never_nan():
    none = ppi_mean([1, 0, 1], [None, None, None])
    assert none.corrected.value is None
    assert "at least 2" in str(none)
    one_cluster = ppi_mean([1, 0, 1, 0], [1, 0, None, None], clusters=["a", "a", "b", "b"])
    assert one_cluster.corrected.low is None
    assert "one cluster" in str(one_cluster)
    flat = ppi_mean([1] * 6, [1, 1, 1, None, None, None])
    assert flat.corrected.value == pytest.approx(1)
    assert flat.corrected.low is None
    assert "not certainty" in str(flat)
    assert ppi_mean([], []).raw.value is None


def test_unscored_cases_are_counted():
    found = ppi_mean([1, 0, None, 1, None, 0], [1, 0, 1, None, None, 0])
    assert found.corrected.n_attempted == 6
    assert "without a judge's score, and not used: 1 case" in str(found)
    with pytest.raises(DataError, match="inclusion"):
        ppi_mean([1, 0, 1], [1, 0, None], inclusion=[0.5, 0.0, 0.5])


def test_weighted_cases_give_the_weighted_mean_by_hand():
    """sum(w lam f) / sum(w) over all cases, plus the mean residual of the labelled ones by w / inclusion."""
    rng = np.random.default_rng(8)
    truth = (rng.random(300) < 0.6).astype(float)
    judged, w, chance = _judged(rng, truth), rng.uniform(0.5, 4, 300), np.where(truth == 1, 0.4, 0.6)
    labelled = rng.random(300) < chance
    human = np.where(labelled, truth, np.nan)
    for inclusion in (None, chance):
        found = ppi_mean(judged, human, weights=w, inclusion=inclusion)
        counts = w[labelled] / (1 if inclusion is None else chance[labelled])
        residual = truth[labelled] - found.lam * judged[labelled]
        by_hand = found.lam * np.average(judged, weights=w) + np.average(residual, weights=counts)
        assert found.corrected.value == pytest.approx(by_hand, abs=1e-12)
        assert found.raw.value == pytest.approx(np.average(judged, weights=w))
        assert found.labels_only.value == pytest.approx(np.average(truth[labelled], weights=counts))
        assert 0 < found.lam < 1


def test_equal_weights_change_nothing_and_their_unit_does_not_matter():
    rng = np.random.default_rng(9)
    truth = (rng.random(200) < 0.6).astype(float)
    judged, human, w = _judged(rng, truth), np.where(np.arange(200) < 80, truth, np.nan), rng.uniform(1, 3, 200)
    assert ppi_mean(judged, human, weights=np.full(200, 7.0)) == ppi_mean(judged, human)
    one, other = (ppi_mean(judged, human, weights=scale * w).corrected for scale in (1, 50))
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


@pytest.mark.parametrize(("share", "said"), [(0.03, 0.9), (0.5, 0.0)])
def test_few_labels_of_the_rarer_kind_are_told_where_the_interval_falls_short(share, said):
    """100 labels of 1,000 cases: with 3% passing the interval covers under 90%, and nearly every draw says so."""
    rng, covered, noted = np.random.default_rng(6), [], []
    for _ in range(200):
        human = (rng.random(1000) < share) * 1.0
        judged = np.where(human == 1, rng.random(1000) < 0.8, rng.random(1000) > 0.95) * 1.0
        found = ppi_mean(judged, np.where(np.arange(1000) < 100, human, np.nan)).corrected
        covered.append(found.low is not None and found.low <= share <= found.high)
        noted.append(bool(found.notes))
    assert np.mean(noted) == pytest.approx(said, abs=0.1)
    assert (np.mean(covered) < 0.91) == (said > 0.5)
