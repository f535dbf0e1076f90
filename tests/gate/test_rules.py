"""The gate's error rates, simulated: what it lets through and what it holds back, on clustered and repeated data."""

import numpy as np

from llmlab.gate.rules import non_inferior, reaches, superior
from llmlab.stats.paired import mean_difference

SETTINGS = {"asked": 0.95, "confidence": 0.95}


def clustered(rng, mean):
    """20 documents x 10 questions with a document effect (ICC about .3)."""
    return rng.normal(mean, 0.2, (20, 10)) + rng.normal(0, 0.13, (20, 1))


def shares(rule, mean, **settings):
    """Shares of PASS and FAIL among 400 simulated gates."""
    rng, codes = np.random.default_rng(7), np.repeat(np.arange(20), 10)
    words = [rule(mean_difference(clustered(rng, mean).ravel(), codes), **settings, **SETTINGS) for _ in range(400)]
    return words.count("PASS") / 400, words.count("FAIL") / 400


def test_a_change_without_effect_rarely_passes_as_superior():
    """One side of a two-sided 95% interval: 2.5%, within simulation error."""
    assert shares(superior, 0.0, min_effect=0.0)[0] < 0.05


def test_harm_of_exactly_the_margin_passes_in_5_percent():
    passed, failed = shares(non_inferior, -0.05, margin=0.05)
    assert passed < 0.08
    assert failed < 0.08


def test_a_mean_on_the_floor_rarely_clears_it():
    assert shares(reaches, 0.0)[0] < 0.05


def test_a_true_gain_passes_and_a_true_loss_fails():
    assert shares(superior, 0.15, min_effect=0.02)[0] > 0.95
    assert shares(non_inferior, -0.25, margin=0.05)[1] > 0.95
