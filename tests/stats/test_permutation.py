"""Sign flips: exact enumeration, random draws, clusters."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.permutation import sign_flip_test
from llmlab.stats.proportions import mcnemar, paired_table

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def test_sleep_data_give_the_exact_p():
    """METHODS: .00390625 = 4 of 1,024 patterns."""
    test = sign_flip_test(SLEEP, seed=0)
    assert test.p_value == 0.00390625
    assert "exact" in test.method


@given(d=st.lists(st.integers(-4, 4), min_size=2, max_size=9))
@settings(max_examples=40, deadline=None)
def test_exact_p_matches_counting_every_pattern(d):
    """All sign patterns one by one, ties with the observed sum included."""
    sums = [abs(sum(sign * x for sign, x in zip(signs, d, strict=True))) for signs in product((-1, 1), repeat=len(d))]
    assert sign_flip_test(d, seed=0).p_value == pytest.approx(np.mean(np.array(sums) >= abs(sum(d))))


@given(seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_pass_fail_scores_give_mcnemars_exact_p(seed):
    """On 0 and 1 the exact sign-flip test is the binomial test of the discordant cases."""
    baseline, candidate = np.random.default_rng(seed).integers(0, 2, size=(2, 18))
    exact = mcnemar(paired_table(baseline, candidate)).p_exact
    assert sign_flip_test(candidate - baseline, seed=0).p_value == pytest.approx(exact)


def test_random_flips_approach_the_exact_p_of_scipy():
    """200 cases, 20,000 draws, against `scipy.stats.permutation_test`; the same seed gives the same p."""
    from scipy import stats

    d = np.random.default_rng(4).normal(0.12, 1, 200)
    ours = sign_flip_test(d, seed=1, n_resamples=20_000)
    oracle = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=5_000, rng=2)
    assert ours.p_value == pytest.approx(oracle.pvalue, abs=0.025)
    assert ours == sign_flip_test(d, seed=1, n_resamples=20_000)


def test_a_cluster_flips_as_a_whole():
    """Twelve clusters of 30: the exact p of their sums, not of 360 independent cases."""
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(12), 30)
    d = rng.normal(0, 0.5, 12)[codes] + rng.normal(0.1, 1, 360)
    clustered = sign_flip_test(d, [f"doc {code}" for code in codes], seed=0)
    assert clustered.p_value == sign_flip_test(np.bincount(codes, weights=d), seed=0).p_value
    assert (clustered.n, clustered.n_clusters) == (360, 12)


def test_no_difference_at_all_gives_p_one():
    """Nothing to flip is no evidence."""
    assert sign_flip_test([0.0] * 50, seed=0).p_value == 1


def test_p_is_never_zero():
    """Random draws count the observed pattern as one of them."""
    assert sign_flip_test(np.ones(500), seed=0, n_resamples=999).p_value == pytest.approx(1 / 1000)


@pytest.mark.slow
def test_false_positives_stay_at_the_level():
    """Skewed but symmetric-under-the-null differences, 30 cases, 400 runs at 5%."""
    rng = np.random.default_rng(6)
    hits = sum(sign_flip_test(rng.laplace(0, 1, 30) ** 3, seed=i, n_resamples=999).p_value <= 0.05 for i in range(400))
    assert 0.02 < hits / 400 < 0.085


def test_too_little_is_refused():
    """One case, or one cluster."""
    with pytest.raises(DataError, match="at least 2"):
        sign_flip_test([1.0], seed=0)
    with pytest.raises(DataError, match="one cluster"):
        sign_flip_test([1.0, 2.0], [3, 3], seed=0)
    with pytest.raises(ValueError, match="n_resamples == 0"):
        sign_flip_test([1.0, 2.0], seed=0, n_resamples=0)
