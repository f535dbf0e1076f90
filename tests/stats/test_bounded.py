"""Margins and intervals where few cases differ: Tango's numbers, and the rates of METHODS' cells and many more.

`make test` reads a few cells, CI more, `make nightly` all; each prints the rates that it found.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from llmlab.base.errors import DataError
from llmlab.stats.bounded import bounded_mean, effective_cases, share_estimate, share_p_above
from llmlab.stats.estimate import wilson_rate
from llmlab.stats.paired import mean_difference
from tests.stats.made import counted, table

SIZES = ["small", pytest.param("medium", marks=pytest.mark.slow)]
SIZES.append(pytest.param("full", marks=[pytest.mark.nightly, pytest.mark.timeout(7200)]))
TRIALS = {"small": 250, "medium": 400, "full": 1000}
AGAIN = 10
MOST, LEAST = 0.065, 0.93  # PASS at the margin, cover of the 95% interval: in any cell


def normal(d):
    """The score test at the normal quantile, as Tango has it."""
    return bounded_mean(d, low=-1, high=1, size=d.size, df=math.inf)


def test_pass_fail_differences_give_tangos_interval():
    """36/12/2/0: [.061112, .344709] (Tango 1998, from the paper's example)."""
    found = normal(table(12, 2, 50))
    assert found.ends(0.025) == pytest.approx((0.061112, 0.344709), abs=1e-6)
    assert found.p_above(0.061112) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 3, 100), (5, 0, 40), (1, 4, 5), (40, 60, 300)])
def test_the_score_test_is_tangos_for_every_table(gained, lost, n):
    """Tango's constrained estimate solves a quadratic; ours is the likeliest distribution with that mean."""
    for delta in (-0.3, -0.1, 0.02, 0.1):
        b = -gained - lost + (2 * n - gained + lost) * delta
        q = (math.sqrt(b * b + 8 * n * lost * delta * (1 - delta)) - b) / (4 * n)  # share lost
        z = (gained - lost - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))
        found = normal(table(gained, lost, n))
        p = found.p_above(delta) if z > 0 else found.p_below(delta)
        assert p == pytest.approx(stats.norm.sf(abs(z)), rel=1e-6)


@given(
    d=st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=60) | st.lists(st.floats(-1, 1), min_size=2),
    tail=st.sampled_from([0.1, 0.025, 0.005]),
)
def test_the_interval_holds_its_mean_keeps_its_bounds_and_is_what_the_test_leaves(d, tail):
    """Of pass/fail scores the test of no difference is McNemar's chi-square without correction."""
    found = normal(np.array(d))
    low, high = found.ends(tail)
    assert -1 <= low <= found.mean <= high <= 1
    assert found.mirrored.ends(tail) == pytest.approx((-high, -low), abs=1e-9)
    assert low == -1 or found.p_above(low) == pytest.approx(tail, rel=1e-4)
    ups, downs = d.count(1.0), d.count(-1.0)
    if set(d) == {-1.0, 0.0, 1.0}:
        two_sided = 2 * min(found.p_above(0.0), found.p_below(0.0), 0.5)
        assert two_sided == pytest.approx(stats.chi2.sf((ups - downs) ** 2 / (ups + downs), 1), rel=1e-6)


def test_losses_alone_give_wilsons_interval():
    """Where nothing can be gained both ends are."""
    low, high = bounded_mean(table(0, 3, 100), low=-1, high=0, size=100, df=math.inf).ends(0.025)
    wilson = wilson_rate(3, 100)
    assert (-high, -low) == pytest.approx((wilson.low, wilson.high), abs=1e-9)
    assert normal(table(0, 3, 100)).ends(0.025)[0] == pytest.approx(low)


def test_many_graded_values_are_counted_in_cells_without_a_difference():
    rng = np.random.default_rng(1)
    d = np.clip(rng.normal(0.02, 0.2, 4096), -1, 1)
    exact, counted = (bounded_mean(np.tile(d, k), low=-1, high=1, size=9000, df=8999).ends(0.025) for k in (1, 2))
    assert counted == pytest.approx(exact, abs=2e-7)


def test_values_beyond_the_bounds_are_refused():
    with pytest.raises(DataError, match=r"values from 0 to 1\.5, must lie between -1 and 1"):
        mean_difference([0, 1.5, 0.2, 0, 0], bounds=(-1, 1))


def test_the_effective_size_lies_between_clusters_and_cases():
    """Ties count as clusters, one loss nearly so, losses all over as CR2 says, and weights as Kish says."""
    codes = np.repeat(np.arange(20), 10)

    def size(d, weights=None, clusters=codes):
        found = mean_difference(d, clusters, weights=weights)
        sides = np.maximum(d, 0), np.maximum(-d, 0)
        return effective_cases(d, weights, of_case=clusters, variance=found.se**2, sides=sides)

    one, spread = table(0, 1, 200), np.tile(table(0, 2, 10), 20)
    assert size(np.zeros(200)) == pytest.approx(20)
    assert 20 < size(one) < 40
    assert 100 < size(spread) <= 200 + 1e-9  # nothing gained: clusters all alike are joined
    assert size(np.random.default_rng(0).permutation(np.tile(table(2, 2, 10), 20))) > 120
    assert size(np.zeros(4), np.array([1.0, 1, 1, 5]), None) == pytest.approx(64 / 28)
    assert size(one, clusters=None) == 200


# -- rates -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """How often a true harm of the margin passes (NaN: it is no harm), and how often the 95% interval covers it."""

    cell: str
    passed: float
    covered: float


@functools.cache
def read(n: int, gained: int, lost: int) -> tuple[float, float, float]:
    found = counted(gained, lost, n)
    return found.ends(0.90)[0], found.low, found.high


def exact(n: int, gain: float, loss: float, margin: float | None = None) -> tuple[float, float]:
    """Chance of PASS at the margin (the true harm by default) and cover, over every table that can be drawn."""
    gains, losses = (np.arange(int(stats.binom.isf(1e-6, n, share)) + 1 if share else 1) for share in (gain, loss))
    passed = covered = 0.0
    for gained in gains:
        chances = stats.multinomial.pmf(
            [[gained, lost, max(n - gained - lost, 0)] for lost in losses], n, [gain, loss, 1 - gain - loss]
        )
        for lost, chance in zip(losses, chances, strict=True):
            if gained + lost <= n and chance > 1e-9:
                lower, low, high = read(n, int(gained), int(lost))
                passed += chance * (lower > -(loss - gain if margin is None else margin))
                covered += chance * (low <= gain - loss <= high)
    return passed, covered


METHODS = [  # n, margin, gained, Tango's rate of PASS (exact enumeration); t passes 8.8, 11.2, 11.8, 12.4, 14.9, 6.6%
    (20, 0.05, 0.05, 0.042),
    (50, 0.10, 0.00, 0.034),
    (50, 0.20, 0.00, 0.048),  # a whole category: t passes 15.5%
    (100, 0.05, 0.00, 0.037),
    (200, 0.05, 0.00, 0.026),
    (300, 0.02, 0.00, 0.060),
    (400, 0.02, 0.01, 0.045),
]


@pytest.mark.parametrize(("n", "margin", "gained", "tango"), METHODS)
def test_harm_at_the_margin_passes_as_rarely_as_by_tango(n, margin, gained, tango):
    """Where seven differ on either side t takes over: at most half a percent more often."""
    passed, covered = exact(n, gained, gained + margin)
    assert passed <= tango + 0.005
    assert covered >= 0.945


@pytest.mark.parametrize(("n", "tango"), [(100, 0.629), (200, 0.925)])
def test_a_deserved_pass_comes_as_often_as_by_tango(n, tango):
    """2% up, 2% down, margin .05."""
    assert exact(n, 0.02, 0.02, margin=0.05)[0] >= 0.95 * tango


def pass_fail(size: str) -> Iterator[Rate]:
    ns = {"small": [5, 30, 59], "medium": [5, 10, 20, 50, 100], "full": [5, 10, 20, 30, 42, 50, 59, 87, 100, 200, 400]}
    for n in ns[size]:
        for margin in (0.02, 0.05, 0.1, 0.2):
            for gain in (0, 0.01, 0.05, 0.1):
                yield Rate(f"n {n}, {gain:.0%} up, margin {margin}", *exact(n, gain, gain + margin))
    if size == "full":
        for n, gain, loss in ((1000, 0, 0.02), (1000, 0.01, 0.03), (1000, 0, 0.005), (700, 0.02, 0.02)):
            yield Rate(f"n {n}, {gain:.1%} up, {loss:.1%} down", *exact(n, gain, loss))


Draw = Callable[[np.random.Generator], np.ndarray]


def simulated(cell: str, draw: Draw, truth: float, trials: int, **design) -> Rate:
    """The rates of a cell; one that is out is drawn afresh, `AGAIN` times as often: of 200 honest cells a few are."""

    def drawn(seed: int, trials: int) -> Rate:
        rng, passed, covered = np.random.default_rng(seed), 0, 0
        for _ in range(trials):
            found = mean_difference(draw(rng), bounds=(-1, 1), **design)
            covered += found.low <= truth <= found.high
            passed += found.p_above(truth) < 0.05
        return Rate(cell, passed / trials if truth <= 0 else math.nan, covered / trials)

    found = drawn(trials, trials)
    return drawn(trials + 1, AGAIN * trials) if found.passed > MOST or found.covered < LEAST else found


def graded(size: str) -> Iterator[Rate]:
    """Collapses among small gains, noise or ties, well-behaved scores, and repeats averaged."""

    def collapsing(share, fall, rest):
        return lambda rng, n: np.where(rng.random(n) < share, -fall, rest(rng, n))

    def repeats(k, drop):
        def draw(rng, n):
            right = rng.beta(4, 0.5, n)
            return rng.binomial(k, right * (1 - drop)) / k - rng.binomial(k, right) / k

        return draw

    kinds = {
        "3% fall by .85, the rest gain": (collapsing(0.03, 0.85, lambda r, n: r.uniform(0, 0.1, n)), 0.023),
        "27% up .1, 3% down .88": (lambda r, n: r.choice([0.1, -0.88, 0], n, p=[0.27, 0.03, 0.7]), 0.0006),
        "10% fall by .88, the rest up .02": (collapsing(0.1, 0.88, lambda r, n: np.full(n, 0.02)), -0.07),
        "1% fall by 1, the rest noise": (collapsing(0.01, 1.0, lambda r, n: r.normal(0, 0.05, n)), -0.01),
        "5% fall by .8, the rest noise": (collapsing(0.05, 0.8, lambda r, n: r.normal(0.02, 0.1, n)), -0.021),
        "noise": (lambda r, n: np.clip(r.normal(0, 0.2, n), -1, 1), 0.0),
        "beta": (lambda r, n: r.beta(8, 2, n) - r.beta(8, 2, n), 0.0),
        "3 repeats": (repeats(3, 0.03), -0.03 * 8 / 9),
        "5 repeats": (repeats(5, 0.1), -0.1 * 8 / 9),
    }
    ns = {"small": [20, 100], "medium": [5, 20, 50, 100, 300], "full": [5, 10, 20, 30, 50, 100, 200, 300, 500, 1000]}
    chosen = list(kinds.items())[:4:2] if size == "small" else list(kinds.items())  # one gains, one harms
    for cell, (draw, truth) in chosen:
        for n in ns[size]:
            made = functools.partial(lambda rng, draw, n: draw(rng, n), draw=draw, n=n)
            yield simulated(f"n {n}, {cell}", made, truth, TRIALS[size])


def rates(rng: np.random.Generator, mean: float, icc: float, groups: int) -> np.ndarray:
    """A share per cluster, beta-binomial; at icc 1 all or none."""
    if icc in (0, 1) or mean == 0:
        return np.full(groups, mean) if icc < 1 or mean == 0 else (rng.random(groups) < mean).astype(float)
    spread = (1 - icc) / icc
    return rng.beta(mean * spread, (1 - mean) * spread, groups)


def clustered(rng, sizes, gain, loss, icc):
    lost = rng.random(sizes.sum()) < np.repeat(rates(rng, loss, icc, sizes.size), sizes)
    won = ~lost & (rng.random(sizes.sum()) < np.repeat(rates(rng, gain / (1 - loss), icc, sizes.size), sizes))
    return won * 1.0 - lost


def clusters(size: str) -> Iterator[Rate]:
    designs = {
        "20 x 10": np.full(20, 10),
        "40 x 10": np.full(40, 10),
        "10 x 20": np.full(10, 20),
        "100 x 3": np.full(100, 3),
        "8 x 5": np.full(8, 5),
        "20 uneven": np.repeat([3, 10, 30], [10, 6, 4]),
        "40 uneven": np.repeat([2, 8, 40], [20, 15, 5]),
    }
    shapes = {"small": ["20 x 10", "40 x 10"], "medium": ["20 x 10", "40 x 10", "8 x 5", "20 uneven"]}
    for name in shapes.get(size, designs):
        for icc in {"small": [0.3], "medium": [0.1, 0.6]}.get(size, [0, 0.1, 0.3, 0.6, 1]):
            for margin in (0.1,) if size == "small" else (0.05, 0.1, 0.2):
                for gain in (0,) if size == "small" else (0, 0.05):
                    draw = functools.partial(clustered, sizes=designs[name], gain=gain, loss=gain + margin, icc=icc)
                    codes = np.repeat(np.arange(designs[name].size), designs[name])
                    cell = f"{name}, icc {icc}, {gain:.0%} up, margin {margin}"
                    yield simulated(cell, draw, -margin, TRIALS[size], clusters=codes)


def weighted(size: str) -> Iterator[Rate]:
    """Lognormal weights; the harm anywhere, or among the cases of the heaviest two fifths alone."""
    for n in {"small": [100], "medium": [50, 300]}.get(size, [20, 50, 100, 300, 1000]):
        for sd in (1.0,) if size == "small" else (0.5, 1.0, 1.5):
            weights = np.random.default_rng(n).permutation(np.exp(sd * stats.norm.ppf((np.arange(n) + 0.5) / n)))
            for where in ("anywhere", "heavy"):
                hit = weights >= (np.quantile(weights, 0.6) if where == "heavy" else 0)
                for margin in (0.05,) if size == "small" else (0.02, 0.05, 0.2):
                    loss = margin * weights.sum() / weights[hit].sum()

                    def draw(rng, hit=hit, loss=loss):
                        return -1.0 * (hit & (rng.random(hit.size) < loss))

                    cell = f"n {n}, sd {sd}, harm {where}, margin {margin}"
                    yield simulated(cell, draw, -margin, TRIALS[size], weights=weights)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [pass_fail, graded, clusters, weighted])
def test_harm_at_the_margin_passes_in_5_percent_and_intervals_cover(kind, size):
    """PASS at most 5% over the cells and 6.5% in any, cover at least 95% and 93%; three standard errors left."""
    cells = list(kind(size))
    passed, covered = (np.array([getattr(rate, name) for rate in cells]) for name in ("passed", "covered"))
    worst_passed, worst_covered = cells[int(np.nanargmax(passed))].cell, cells[int(covered.argmin())].cell
    print(f"\n{kind.__name__}, {len(cells)} cells: PASS {np.nanmean(passed):.1%}, at most {np.nanmax(passed):.1%}")
    print(f"({worst_passed}); cover {covered.mean():.1%}, at least {covered.min():.1%} ({worst_covered})")
    left = 0.0 if kind is pass_fail else 3 * math.sqrt(MOST * (1 - MOST) / (AGAIN * TRIALS[size]))
    assert np.nanmean(passed) <= 0.05
    assert np.nanmax(passed) <= MOST + left
    assert covered.mean() >= 0.95
    assert covered.min() >= LEAST - left


# -- a share's interval: Wilson's where cases are independent, wider where clusters agree, never outside 0 to 1 --------


def test_without_clusters_it_is_wilsons_interval():
    found = share_estimate([1] * 81 + [0] * 182)
    assert (found.low, found.high) == pytest.approx(proportion_confint(81, 263, method="wilson"), abs=1e-12)


def test_clusters_that_agree_count_as_one_case_each():
    """20 clusters of 10 equal cases tell as much as 20 cases, up to t in place of the normal quantile."""
    once = np.array([1] * 6 + [0] * 14)
    clustered = share_estimate(np.repeat(once, 10), np.repeat(np.arange(20), 10))
    single = share_estimate(once)
    assert clustered.high - clustered.low == pytest.approx(single.high - single.low, rel=0.1)
    assert clustered.n == 200


@pytest.mark.parametrize("clustered", [True, False])
@given(cases=st.lists(st.tuples(st.booleans() | st.floats(0, 1), st.integers(0, 5)), min_size=2, max_size=60))
@example(cases=[(0.0, 0), (4e-88, 1)])  # whose squares can be held, and whose fourth powers cannot
def test_the_interval_holds_the_share_and_stays_between_0_and_1(clustered, cases):
    """Of passes, and of shares of facts or rubric levels."""
    scores, clusters = [score for score, _ in cases], [cluster for _, cluster in cases]
    estimate = share_estimate(scores, clusters if clustered else None)
    if clustered and len(set(clusters)) == 1:
        assert estimate.low is None
        assert "one cluster" in estimate.notes[0]
    else:
        assert 0 <= estimate.low <= estimate.value + 1e-12
        assert max(estimate.low, estimate.value - 1e-12) < estimate.high <= 1


@pytest.mark.parametrize("sizes", [[10] * 20, [40] + [50] * 13 + [72, 78, 146, 150]])
def test_a_mean_on_the_floor_rarely_clears_it(sizes):
    """Failures of 5%, beta-binomial with ICC .3: one side of the 95% interval is 2.5%; by t it was 25% and 20%."""
    rng, codes, cleared = np.random.default_rng(7), np.repeat(np.arange(len(sizes)), sizes), 0
    for _ in range(400):
        failing = rng.beta(0.05 * 7 / 3, 0.95 * 7 / 3, len(sizes))
        hits = rng.random(codes.size) >= failing[codes]
        found = share_estimate(hits, codes)
        cleared += found.low >= 0.95
        assert (share_p_above(hits, 0.95, clusters=codes) < 0.025) == (found.low > 0.95)
    print(f"{len(sizes)} clusters: {cleared / 400:.1%} clear the floor")
    assert cleared / 400 <= 0.05


def test_other_bounds_are_shares_of_their_range():
    """A rubric of 1 to 5 is read as (x - 1) / 4."""
    levels = np.array([5, 4, 5, 3, 5, 5, 4, 5])
    found, share = share_estimate(levels, bounds=(1, 5)), share_estimate((levels - 1) / 4)
    assert (found.value, found.low, found.high) == pytest.approx(
        (1 + 4 * share.value, 1 + 4 * share.low, 1 + 4 * share.high)
    )
    assert share_p_above(levels, 4, bounds=(1, 5)) == pytest.approx(share_p_above((levels - 1) / 4, 0.75))


@pytest.mark.parametrize("hits", [[], [-0.1, 1.0], [2, 0], [float("nan"), 1]])
def test_what_is_no_share_is_refused(hits):
    with pytest.raises(DataError, match="each between 0 and 1"):
        share_estimate(hits)


@pytest.mark.parametrize("share", [1 / k for k in range(2, 24)])
def test_equal_scores_are_no_certainty_whatever_rounding_makes_of_their_mean(share: float) -> None:
    """Ten thirds have a variance of 1e-33, and an interval as wide as ten halves have."""
    estimate = share_estimate([share] * 10)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low > 0.35


@pytest.mark.parametrize(("n", "collapsed"), [(50, 0.01), (50, 0.02), (100, 0.01), (200, 0.005)])
def test_graded_scores_near_each_other_say_little_of_a_rare_collapse(n: int, collapsed: float) -> None:
    """Scores of .9 of which some fall to 0: Wilson with the effective size alone covers 40 to 66%."""
    truth, covered, proved = 0.9 * (1 - collapsed), [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        scores = np.clip(rng.normal(0.9, 0.01, n), 0, 1)
        scores[rng.random(n) < collapsed] = 0.0
        estimate = share_estimate(scores)
        covered.append(estimate.low <= truth <= estimate.high)
        proved.append(share_p_above(scores, truth) <= 0.025)
    assert np.mean(covered) >= LEAST
    assert np.mean(proved) <= 0.04


@pytest.mark.parametrize("clusters", [None, np.arange(50) // 5])
@pytest.mark.parametrize("scores", [[0.9] * 30 + [0.91] * 20, [1, 0, 1, 1, 1] * 10])
def test_the_interval_of_a_mean_is_what_its_test_does_not_reject(scores, clusters) -> None:
    low = share_estimate(scores, clusters).low
    below, above = (share_p_above(scores, low + off, clusters=clusters) for off in (-1e-6, 1e-6))
    assert above > 0.025 > below


@pytest.mark.parametrize("n", [40, 49, 93])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.1])
def test_cases_that_agree_everywhere_count_as_their_clusters_whatever_rounding_makes_of_their_mean(
    n: int, share: float
) -> None:
    """All right is as sure as all wrong; 40 times 1 / 40 is not quite 1."""
    documents = [i // 3 for i in range(n)]
    wrong = share_estimate([0.0] * n, documents)
    right = share_estimate([1.0] * n, documents)
    assert right.low == pytest.approx(1 - wrong.high)
    equal, whole = np.full(n, share), {"of_case": np.array(documents), "variance": 0.0, "sides": (np.zeros(n),) * 2}
    assert effective_cases(equal, None, **whole) == pytest.approx(effective_cases(np.zeros(n), None, **whole))


@given(
    st.lists(st.sampled_from([-1.0, -0.4, 0.0, 0.0, 0.3, 1.0]), min_size=8, max_size=40),
    st.floats(0.001, 0.2),
    st.floats(0.001, 0.4),
)
def test_with_a_part_beside_p_and_ends_agree_and_distances_add_in_squares(values, beside, tail):
    """MOVER; what the part beside adds alone is t's."""
    of_cases, n = np.array(values), len(values)
    alone = bounded_mean(of_cases, low=-1.3, high=1.3, size=n, df=n - 1)
    both = bounded_mean(of_cases, low=-1.3, high=1.3, size=n, df=n - 1, beside=beside)
    (low, high), (least, most) = alone.ends(tail), both.ends(tail)
    t = stats.t.ppf(1 - tail, n - 1) * beside
    assert both.mean - least == pytest.approx(np.hypot(alone.mean - low, t))
    assert most - both.mean == pytest.approx(np.hypot(high - alone.mean, t))
    assert both.p_above(least) == pytest.approx(tail, rel=1e-4)
    assert both.p_below(most) == pytest.approx(tail, rel=1e-4)
    moved = both.moved(times=0.9, by=0.1)
    assert moved.ends(tail) == (pytest.approx(0.9 * least + 0.1), pytest.approx(0.9 * most + 0.1))
