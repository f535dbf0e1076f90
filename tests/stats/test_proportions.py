"""McNemar on a published table and against an oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.agreement import PairedTable, mcnemar, paired_table

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


@given(counts=TABLES)
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


def test_table_counts_the_cases():
    table = paired_table([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 1])
    assert (table.both, table.only_baseline, table.only_candidate, table.neither) == (2, 1, 3, 0)
    assert table.difference == pytest.approx(2 / 6)


def test_unfit_tables_are_refused():
    with pytest.raises(DataError, match="no cases"):
        table_of((0, 0, 0, 0))
    with pytest.raises(ValueError, match="mean_difference"):
        paired_table([0.5, 1], [1, 1])
    with pytest.raises(ValueError, match="pair them by id"):
        paired_table([0, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="0 or more"):
        table_of((1, -1, 0, 0))
