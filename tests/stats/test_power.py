"""Plans against papers, statsmodels and trial: what is promised at 80% power is seen in four of five tries."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.results.comparing import compare_tables
from llmlab.results.scores import CaseGroups, Metric, score_table
from llmlab.stats import burdens
from llmlab.stats.paired import mean_difference, tables_above
from llmlab.stats.power import Need, Spread, chance_to_show, detectable, needed_cases, would_show
from tests.stats.made import counted


def need(distance=0.03, sd=0.4, **more):
    return Need(**{"name": "goal", "distance": distance, "spread": Spread(sd=sd), "tail": 0.025, **more})


@pytest.mark.parametrize(
    ("variance", "cases"), [(1 / 9, 968.9975), (1 / 9 + 1 / 3, 3875.99), (1 / 9 + 1 / 30, 1259.6967)]
)
def test_a_single_need_is_millers_formula_and_what_t_adds_to_it(variance, cases):
    """Miller 2024, arXiv 2411.00640: difference .03, w2 1/9, s2 0 or 1/6 asked once or ten times; t: z^2 / 2 more."""
    assert needed_cases([need(sd=math.sqrt(variance))]).likely == math.ceil(cases + 1.96**2 / 2)


@pytest.mark.parametrize(("effect", "power"), [(0.2, 0.8), (0.5, 0.9), (0.05, 0.8), (1.5, 0.95)])
def test_the_chance_is_that_of_statsmodels_paired_t_test(effect, power):
    """`TTestPower` is the oracle; dz .2 needs 198.1508 cases."""
    from statsmodels.stats.power import TTestPower

    cases = float(TTestPower().solve_power(effect_size=effect, alpha=0.05, power=power))
    assert chance_to_show(need(effect, sd=1.0), cases) == pytest.approx(power, abs=1e-5)


def test_categories_need_thousands_of_cases_each():
    """Standard deviation .45, margin .02: about 3,100 in one, 8 x 6,400 for 80% joint power over eight."""
    one = need(0.02, sd=0.45, tail=0.05)
    assert needed_cases([one]).likely == pytest.approx(3130, abs=3)
    assert needed_cases([replace(one, share=1 / 8)] * 8).likely == pytest.approx(8 * 6430, rel=0.001)


@given(
    sd=st.floats(0.01, 10),
    cases=st.integers(8, 10_000),
    least=st.floats(0, 1),
    tail=st.floats(0.001, 0.1),
)
def test_what_is_detectable_is_what_so_many_cases_are_needed_for(sd, cases, least, tail):
    spread = Spread(sd=sd)
    seen = detectable(spread, tail=tail, cases=cases, least_value=least * sd)
    needed = needed_cases([need(seen, spread=spread, tail=tail, least_value=least * sd)])
    assert needed.likely == pytest.approx(cases, abs=1)


def test_repeats_take_away_their_noise_and_no_more():
    spread = Spread(sd=2.0, noise=0.75)
    assert spread.with_repeats(3).sd ** 2 == pytest.approx(4 * (0.25 + 0.25))
    assert spread.with_repeats(3).noise == pytest.approx(0.5)
    assert (spread.with_repeats(math.inf).sd, spread.with_repeats(math.inf).noise) == (1.0, 0.0)


def test_a_small_category_binds_and_an_estimated_spread_widens_the_range():
    needed = needed_cases([need(0.05), need(0.05, name="rare", share=0.1)])
    assert needed.binding == "rare"
    assert needed.low <= needed.likely == needed.high
    guessed = needed_cases([need(0.05, spread=Spread(sd=0.4, cases=20, df=19))])
    assert guessed.low < guessed.likely < guessed.high


@pytest.mark.parametrize("wrong", [{"distance": 0.0}, {"distance": 0.02, "least_value": 0.02}, {"share": 0.0}])
def test_what_no_number_of_cases_settles_is_named(wrong):
    """A goal planned for a truth at `min_effect` is one: there PASS is a coin toss at any number."""
    with pytest.raises(DataError, match="'goal'"):
        needed_cases([need(**wrong)])


# -- the promise, by trial ---------------------------------------------------------------------------------------

EIGHT = np.repeat(np.arange(8), 10)
UNEVEN = np.repeat(np.arange(12), [30, 4, 12, 8, 6, 10, 16, 5, 9, 11, 7, 12])
DESIGNS = {
    "eight clusters": {"clusters": EIGHT},
    "twelve uneven clusters": {"clusters": UNEVEN},
    "weights": {"clusters": np.arange(60), "weights": np.linspace(0.2, 3.0, 60)},
    "eight cases": {"clusters": np.arange(8)},
    "five candidates": {"clusters": np.repeat(np.arange(40), 2), "candidates": 5},
    "fifteen rows": {"clusters": np.repeat(np.arange(30), 3), "candidates": 15},
}


def rows_of(rng, gain, clusters, weights=None, candidates=1):
    """One comparison of normal scores in which the first candidate gains `gain` and the others nothing."""
    n, names = clusters.size, ["base", *(f"c{i}" for i in range(candidates))]
    scores = rng.normal(size=(n, candidates + 1)) + rng.normal(0, 0.5, (n, candidates + 1))[clusters]
    scores[:, 1] += gain
    groups = CaseGroups(clusters=clusters, clustered=np.unique(clusters).size < n, tags=((),) * n, weights=weights)
    cases, variants = np.divmod(np.arange(scores.size), len(names))
    codes = {"case_codes": cases, "variant_codes": variants, "case_ids": [str(i) for i in range(n)], "variants": names}
    return compare_tables([score_table(Metric(name="x"), scores=scores.ravel(), groups=groups, **codes)], "base")


def shown_share(design, draws, seed):
    """How often a truth as large as what "would show" on average is shown."""
    rng, design = np.random.default_rng(seed), DESIGNS[design]
    promised = float(np.mean([rows_of(rng, 0.0, **design)[0].detectable for _ in range(draws)]))
    return float(np.mean([rows_of(rng, promised, **design)[0].reading == "better" for _ in range(draws)]))


def passed_share(design, draws, seed):
    """How often `superior` passes at the truth and with the cases that are planned, clusters of five."""
    rng, (sd, min_effect) = np.random.default_rng(seed), design
    gain = burdens.PLANNED_GAIN * min_effect
    spread = Spread(sd=math.sqrt(sd**2 * (1 + 4 * 0.2)), cases=5, df=0)
    plan = Need(name="g", distance=gain, spread=spread, tail=0.025, least_value=min_effect)
    groups = math.ceil(needed_cases([plan]).likely / 5)
    codes = np.repeat(np.arange(groups), 5)

    def passes():
        d = gain + sd * (math.sqrt(0.8) * rng.normal(size=codes.size) + math.sqrt(0.2) * rng.normal(size=groups)[codes])
        return burdens.superior(mean_difference(d, codes), min_effect=min_effect, asked=0.95, confidence=0.95) == "PASS"

    return float(np.mean([passes() for _ in range(draws)]))


def pass_fail(rng, n, up, down):
    u = rng.random(n)
    return mean_difference(np.where(u < up, 1.0, np.where(u < up + down, -1.0, 0.0)), bounds=(-1.0, 1.0))


def shown_gains(design, draws, seed):
    """How often gains as many as would show, on top of what differs by chance, are shown."""
    rng, (n, differ) = np.random.default_rng(seed), design
    seen = [pass_fail(rng, n, differ / 2, differ / 2) for _ in range(draws // 4)]
    promised = float(np.mean([would_show(d, tail=0.025) for d in seen if d.se > 0]))
    found = [pass_fail(rng, n, differ / 2 + promised, differ / 2) for _ in range(draws)]
    return float(np.mean([d.value > 0 and d.p_value <= 0.05 for d in found]))


def margin_held(design, draws, seed, margin=0.05):
    """How often harm of the margin is ruled out with the cases that are planned, where nothing differs."""
    rng, (n, differ) = np.random.default_rng(seed), design
    seen = [pass_fail(rng, n, differ / 2, differ / 2) for _ in range(draws // 4)]
    needed = [needed_cases([Need(name="m", distance=margin, spread=Spread.of(d), tail=0.05)]).likely for d in seen]
    arms = (pass_fail(rng, round(np.mean(needed)), differ / 2, differ / 2) for _ in range(draws))
    return float(np.mean([burdens.non_inferior(d, margin=margin) == "PASS" for d in arms]))


def trials(rate, quick, nightly, *, draws=300, within=0.08):
    """Few draws of some designs in every run, 2,000 of all every night: draws, tolerance and seed behind the design."""
    every_night = [pytest.param(rate, design, 2_000, 0.03, 1, marks=pytest.mark.nightly) for design in nightly]
    return [*((rate, design, draws, within, 0) for design in quick), *every_night]


@pytest.mark.parametrize(
    ("rate", "design", "draws", "within", "seed"),
    [
        *trials(shown_share, ["eight clusters", "five candidates"], DESIGNS, draws=240),
        *trials(passed_share, [(0.3, 0.1)], [(0.5, 0.1), (0.4, 0.05), (0.2, 0.02)], draws=400, within=0.06),
        *trials(shown_gains, [(300, 0.1)], [(100, 0.3), (300, 0.1), (100, 0.1), (30, 0.2)]),
        *trials(margin_held, [(200, 0.2)], [(200, 0.2), (100, 0.1), (100, 0.04)]),
    ],
)
def test_what_is_promised_at_80_percent_power_is_seen_in_four_of_five_tries(rate, design, draws, within, seed):
    seen = rate(design, draws, seed)
    print(f"{rate.__doc__} {design}: {seen:.1%}")
    assert seen == pytest.approx(0.8, abs=within)


@pytest.mark.parametrize("n", [5, 8, 25])
def test_all_tables_at_once_are_decided_as_one_by_one(n):
    tables = [(gained, lost) for gained in range(n + 1) for lost in range(n + 1 - gained)]
    gained, lost = np.array(tables, dtype=float).T
    each = [counted(*one, n) for one in tables]
    for bound in (0.0, -0.05, -0.3, -1.0, 0.05):
        for tail in (0.05, 0.025, 0.004):
            found = tables_above(gained, lost, n=n, bound=bound, tail=tail).tolist()
            assert found == [d.p_above(bound) <= tail for d in each]


SPARSE = [(0, 100, 0.05), (1, 200, 0.02), (2, 100, 0.05), (1, 100, 0.05), (4, 100, 0.1)]


@pytest.mark.parametrize(("lost", "n", "margin"), SPARSE)
def test_the_cases_planned_for_sparse_scores_are_the_fewest_that_keep_the_power(lost, n, margin):
    """By enumeration: as many gained as lost; from the planned number on 80% or more, and not with two fewer."""
    guard = Need(name="m", distance=margin, spread=Spread.of(counted(lost, lost, n)), tail=0.05)
    needed = needed_cases([guard])
    assert needed.power == chance_to_show(guard, needed.likely) >= 0.8
    assert min(chance_to_show(guard, cases) for cases in range(needed.likely, 3 * needed.likely)) >= 0.8
    assert chance_to_show(guard, needed.likely - 2) < 0.8


@pytest.mark.parametrize(
    ("lost", "n", "margin", "draws", "within"),
    [(*SPARSE[2], 300, 0.07), *(pytest.param(*plan, 2_000, 0.03, marks=pytest.mark.nightly) for plan in SPARSE)],
)
def test_a_plan_states_the_power_that_it_has(lost, n, margin, draws, within):
    rng, spread = np.random.default_rng(2), Spread.of(counted(lost, lost, n))
    needed = needed_cases([Need(name="m", distance=margin, spread=spread, tail=0.05)])
    arms = (pass_fail(rng, needed.likely, spread.half, spread.half) for _ in range(draws))
    seen = float(np.mean([burdens.non_inferior(d, margin=margin) == "PASS" for d in arms]))
    print(f"margin {margin}, {lost} of {n} lost: planned power {needed.power:.1%}, seen {seen:.1%}")
    assert seen == pytest.approx(needed.power, abs=within)


@pytest.mark.parametrize(
    ("clusters", "of", "alike", "sd", "draws"),
    [(16, 6, 0.15, 0.12, 100), (10, 8, 0.2, 0.15, 60), (6, 10, 0.2, 0.1, 60), (15, 1, 0, 0.1, 40), (9, 1, 0, 0.2, 40)],
)
def test_few_clusters_and_few_cases_show_the_graded_gain_that_each_pilot_is_told(clusters, of, alike, sd, draws):
    """At that gain nearly everything gains: the bound is far from the values, and few clusters lose."""
    rng, codes = np.random.default_rng(12), np.repeat(np.arange(clusters), of)

    def drawn(gain):
        d = math.sqrt(alike) * rng.normal(size=clusters)[codes] + math.sqrt(1 - alike) * rng.normal(size=codes.size)
        return mean_difference(np.clip(gain + sd * d, -1, 1), None if of == 1 else codes, bounds=(-1, 1))

    told = [gain for gain in (would_show(drawn(0.0), tail=0.025) for _ in range(draws)) if gain is not None]
    shown = np.mean([drawn(gain).p_value <= 0.05 for gain in told for _ in range(4)])
    print(f"{clusters} clusters of {of}: told {np.mean(told):.3f}, shown in {shown:.1%}")
    assert shown >= 0.77
    assert np.mean(told) < 1
