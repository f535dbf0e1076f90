"""McNemar, Newcombe and Tango on published tables and against oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.proportions import PairedTable, mcnemar, newcombe_interval, paired_table, tango_interval

NEWCOMBE_1998 = PairedTable(both=36, only_candidate=12, only_baseline=2, neither=0)
APPROVAL = PairedTable(both=794, only_baseline=150, only_candidate=86, neither=570)
TABLES = st.tuples(*[st.integers(0, 40)] * 4).filter(any)


def table_of(counts):
    return PairedTable(both=counts[0], only_baseline=counts[1], only_candidate=counts[2], neither=counts[3])


def test_mcnemar_of_the_approval_ratings():
    """Agresti's prime minister table [[794, 150], [86, 570]]."""
    test = mcnemar(APPROVAL)
    assert test.chi2 == pytest.approx(17.355932, abs=5e-7)
    assert test.p_exact == pytest.approx(3.71594e-5, rel=2e-6)
    assert test.p_mid == pytest.approx(2.89339e-5, rel=2e-6)
    assert test.n_discordant == 236


def test_intervals_of_newcombes_example():
    """36/12/2/0, Newcombe 1998."""
    newcombe, tango = newcombe_interval(NEWCOMBE_1998), tango_interval(NEWCOMBE_1998)
    assert (newcombe.low, newcombe.high) == pytest.approx((0.056930, 0.340428), abs=5e-7)
    assert (tango.low, tango.high) == pytest.approx((0.061112, 0.344709), abs=5e-7)
    assert newcombe.value == tango.value == pytest.approx(0.2)


@given(counts=TABLES)
@settings(max_examples=60, deadline=None)
def test_mcnemar_matches_statsmodels(counts):
    """`statsmodels.stats.contingency_tables.mcnemar`, exact and chi-square without correction."""
    from statsmodels.stats.contingency_tables import mcnemar as oracle

    test, cells = mcnemar(table_of(counts)), np.reshape(counts, (2, 2))
    if counts[1] + counts[2] == 0:
        assert test.p_exact == test.p_mid == test.p_chi2 == 1
        return
    assert test.p_exact == pytest.approx(oracle(cells, exact=True).pvalue, rel=1e-9)
    assert test.p_chi2 == pytest.approx(oracle(cells, exact=False, correction=False).pvalue, rel=1e-9)
    assert test.p_mid <= test.p_exact + 1e-12


@given(counts=TABLES, level=st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_intervals_hold_their_value_and_turn_round_with_the_arms(counts, level):
    """Inside [-1, 1], around the difference, mirrored when the arms are exchanged."""
    table, swapped = table_of(counts), table_of((counts[0], counts[2], counts[1], counts[3]))
    for interval_of in (newcombe_interval, tango_interval):
        interval, mirrored = interval_of(table, level=level), interval_of(swapped, level=level)
        assert -1 <= interval.low <= table.difference + 1e-9
        assert table.difference - 1e-9 <= interval.high <= 1
        assert (interval.low, interval.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-9)


@given(counts=TABLES)
@settings(max_examples=40, deadline=None)
def test_tango_excludes_zero_where_the_score_test_rejects(counts):
    """At difference 0 Tango's statistic is McNemar's chi-square."""
    table = table_of(counts)
    p_value = mcnemar(table).p_chi2
    interval = tango_interval(table)
    if abs(p_value - 0.05) > 1e-6:
        assert (interval.low > 0 or interval.high < 0) == (p_value < 0.05)


def test_no_disagreement_still_leaves_room():
    """Forty cases without a flip do not prove that there is no difference."""
    for interval_of in (newcombe_interval, tango_interval):
        interval = interval_of(PairedTable(both=30, only_baseline=0, only_candidate=0, neither=10))
        assert interval.value == 0
        assert interval.low < -0.01
        assert interval.high > 0.01


def test_table_counts_the_cases():
    """Four kinds of case, the arms in their places."""
    table = paired_table([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 1])
    assert (table.both, table.only_baseline, table.only_candidate, table.neither) == (2, 1, 3, 0)
    assert table.difference == pytest.approx(2 / 6)


def test_unfit_tables_are_refused():
    """No cases, graded scores, unequal arms, negative counts."""
    with pytest.raises(DataError, match="no cases"):
        table_of((0, 0, 0, 0))
    with pytest.raises(ValueError, match="mean_difference"):
        paired_table([0.5, 1], [1, 1])
    with pytest.raises(ValueError, match="pair them by id"):
        paired_table([0, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="0 or more"):
        table_of((1, -1, 0, 0))
