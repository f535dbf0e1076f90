"""McNemar on a published table and against an oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.stats.agreement import mcnemar


def arms(both, only_baseline, only_candidate, neither):
    counts = [both, only_baseline, only_candidate, neither]
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


def test_mcnemar_of_the_approval_ratings():
    """Agresti's prime minister table [[794, 150], [86, 570]]."""
    assert mcnemar(*arms(794, 150, 86, 570)) == pytest.approx(3.71594e-5, rel=2e-6)


@given(counts=st.tuples(*[st.integers(0, 40)] * 4))
def test_mcnemar_matches_statsmodels(counts):
    """`statsmodels.stats.contingency_tables.mcnemar`, exact; without disagreement 1."""
    from statsmodels.stats.contingency_tables import mcnemar as oracle

    expected = oracle(np.reshape(counts, (2, 2)), exact=True).pvalue if counts[1] + counts[2] else 1
    assert mcnemar(*arms(*counts)) == pytest.approx(expected, rel=1e-9)
