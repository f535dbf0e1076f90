"""Judges with planted faults: calibration recovers the planted size within its interval at the nominal rate."""

import math

import pytest

import llmlab as ll
from llmlab.judge import calibrate_scores, calibrate_verdicts
from llmlab.simulate import judged_arms, judged_grades, judged_results, judged_scores, judged_verdicts
from llmlab.stats.correction import ppi_difference
from llmlab.stats.estimate import wilson_rate

LENGTHS = {"length1": "words_1", "length2": "words_2"}
AUTHORS = {"judge": "judge", "author1": "author_1", "author2": "author_2"}


def first_answers_share(group):
    return wilson_rate(group.position.first, group.position.first + group.position.second)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "columns", "read", "size"),
    [
        ({"length": 1.2}, LENGTHS, lambda group: group.length, 1.2),
        # Among verdicts that follow the position the first answer's share is 1 / (1 + exp(-2 position)).
        ({"position": 0.6}, {}, first_answers_share, 1 / (1 + math.exp(-2 * 0.6))),
        ({"own": 0.8, "position": 0.4, "n": 400}, AUTHORS, lambda group: group.own, 0.8),
    ],
)
def test_a_planted_leaning_is_recovered_at_the_nominal_rate(planted, columns, read, size):
    """Of length, of place, of its own answers: 95% intervals cover it in 90 to 99% of 200 judges."""
    tables = (judged_verdicts(**{"n": 300, **planted}, seed=seed) for seed in range(200))
    found = [read(calibrate_verdicts(table, resamples=0, **columns).only) for table in tables]
    assert 180 <= sum(one.low <= size <= one.high for one in found) <= 198


@pytest.mark.slow
def test_planted_leniency_and_liking_of_length_are_recovered_at_the_nominal_rate():
    """200 judges that are 0.3 levels too kind and add 0.2 levels per sd of words: both intervals cover 90 to 99%."""
    tables = (judged_grades(150, seed=seed, leniency=0.3, length=0.2) for seed in range(200))
    found = [calibrate_scores(table, scale=range(1, 6), length="words", resamples=0).only for table in tables]
    assert 180 <= sum(one.leaning.low <= 0.3 <= one.leaning.high for one in found) <= 198
    assert 180 <= sum(one.length.low <= 0.2 <= one.length.high for one in found) <= 198


def test_a_judge_without_faults_is_not_accused():
    """No leaning to a position, no slope of length, in at most 10% of 100 runs each."""
    found = [calibrate_verdicts(judged_verdicts(200, seed=seed), resamples=0, **LENGTHS).only for seed in range(100)]
    assert sum((group.position.p_value or 1) < 0.05 for group in found) <= 10
    assert sum(not group.length.low <= 0 <= group.length.high for group in found) <= 10
    leaning = calibrate_verdicts(judged_verdicts(400, seed=8, position=1.0), resamples=0).only.position
    assert leaning.p_value < 1e-6
    assert "favours the first answer" in str(leaning)


def test_planted_error_rates_are_recovered():
    """Sensitivity and specificity of a judge over 4,000 answers."""
    table = judged_scores(4000, seed=3, sensitivity=0.85, specificity=0.65)
    rates = calibrate_scores(table, resamples=0).only.rates
    assert rates.sensitivity.low <= 0.85 <= rates.sensitivity.high
    assert rates.specificity.low <= 0.65 <= rates.specificity.high


def test_leniency_to_one_arm_is_no_gain_after_correction():
    """True .70 in both arms; the judge shows about +6 points, the corrected difference includes 0."""
    table = judged_arms(4000, seed=5).astype(float)
    table.loc[500:, ["human_1", "human_2"]] = math.nan
    before, after, judged, other = (table[name].to_numpy() for name in ("human_1", "human_2", "judge_1", "judge_2"))
    found = ppi_difference(judged, other, human_baseline=before, human_candidate=after)
    assert found.raw.low > 0.02
    assert found.corrected.low <= 0 <= found.corrected.high


def test_missing_verdicts_are_counted():
    """A tenth of the verdicts never came: they stay in n and are not right."""
    group = calibrate_verdicts(judged_verdicts(500, seed=1, missing=0.1), resamples=0).only
    assert group.n == 500
    assert 50 < group.missing < 150


@pytest.mark.slow
def test_a_planted_difference_is_recovered_whatever_the_judge_adds_to_one_arm():
    """100 judges half a level kinder to v2, which is 0.2 better to people: corrected covers .2, the judge says .7."""
    covers = raw = 0
    for seed in range(100):
        planted = judged_results(300, labelled=80, seed=seed, gain=0.2, kindness=(0.0, 0.5))
        found = ll.judge.corrected_difference(
            planted.results, "correctness", planted.labels, baseline="v1", candidate="v2"
        )
        covers += found.corrected.low <= 0.2 <= found.corrected.high
        raw += found.raw.low <= 0.2 <= found.raw.high
    assert 89 <= covers <= 99
    assert raw == 0


@pytest.mark.parametrize(
    "faults", [{"leniency": 1.2}, {"length": 0.6}, {"noise": -0.1}, {"leniency": 0.5, "noise": 0.6}]
)
def test_faults_that_would_leave_the_scale_are_refused(faults):
    """Else the planted size would not be what is in the table."""
    with pytest.raises(ValueError, match="leave the scale"):
        judged_grades(10, seed=1, **faults)


def test_a_judge_that_only_errs_is_not_called_kind():
    """Noise either way, no leaning: at most 12 of 100 intervals miss 0."""
    tables = (judged_grades(80, seed=seed, noise=0.6) for seed in range(100))
    leanings = [calibrate_scores(table, scale=range(1, 6), resamples=0).only.leaning for table in tables]
    assert sum(not leaning.low <= 0 <= leaning.high for leaning in leanings) <= 12
