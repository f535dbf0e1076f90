"""Two arms that each pass or fail the same cases: McNemar's test and the intervals that suit small counts.

One answer per case and independent cases only: with repeats or clusters these are wrong, and `paired` is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from llmlab.base.display import Shown
from llmlab.base.errors import DataError
from llmlab.stats.arrays import floats

__all__ = ["McNemar", "PairedTable", "mcnemar", "paired_table"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairedTable(Shown):
    """How many cases passed in both arms, in one of them, in neither."""

    both: int
    only_baseline: int
    only_candidate: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both, self.only_baseline, self.only_candidate, self.neither) < 0:
            raise ValueError(f"counts must be 0 or more: {self!r}")
        if self.n == 0:
            raise DataError("no cases: a paired table needs at least one case that both arms answered")

    @property
    def n(self) -> int:
        """All cases."""
        return self.both + self.only_baseline + self.only_candidate + self.neither

    @property
    def difference(self) -> float:
        """Candidate's share minus baseline's share."""
        return (self.only_candidate - self.only_baseline) / self.n


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class McNemar(Shown):
    """McNemar's test of equal shares, from the cases on which the arms disagree.

    Attributes:
        n, n_discordant: cases, and those on which the arms disagree.
        p_exact: two-sided binomial p; never too small, often too large.
        p_mid: the mid-p version, close to the nominal rate (Fagerland, Lydersen and Laake 2013).
        chi2, p_chi2: the large-sample version without continuity correction.
    """

    n: int
    n_discordant: int
    p_exact: float
    p_mid: float
    chi2: float
    p_chi2: float


def paired_table(baseline: ArrayLike, candidate: ArrayLike) -> PairedTable:
    """The four counts from two vectors of 0 and 1 over the same cases, shape (n,).

    >>> paired_table([1, 1, 0, 0], [1, 0, 1, 1])
    PairedTable(both=1, only_baseline=1, only_candidate=2, neither=0)
    """
    a, b = floats(baseline, "baseline"), floats(candidate, "candidate")
    if a.shape != b.shape:
        raise ValueError(f"baseline has {a.size} cases, candidate {b.size}: pair them by id first")
    if not (np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all()):
        raise ValueError("paired_table needs 0 and 1, one answer per case: use `mean_difference` for other scores")
    neither, only_candidate, only_baseline, both = np.bincount((2 * a + b).astype(np.intp), minlength=4).tolist()
    return PairedTable(both=both, only_baseline=only_baseline, only_candidate=only_candidate, neither=neither)


def mcnemar(table: PairedTable) -> McNemar:
    """McNemar's test (1947): are the two kinds of disagreement equally likely? No disagreement gives p = 1.

    >>> round(mcnemar(PairedTable(both=794, only_baseline=150, only_candidate=86, neither=570)).chi2, 6)
    17.355932
    """
    from scipy.special import bdtr, chdtrc, gammaln

    fewer = min(table.only_baseline, table.only_candidate)
    discordant = table.only_baseline + table.only_candidate
    if discordant == 0:
        return McNemar(n=table.n, n_discordant=0, p_exact=1.0, p_mid=1.0, chi2=0.0, p_chi2=1.0)
    log_ways = gammaln(discordant + 1) - gammaln(fewer + 1) - gammaln(discordant - fewer + 1)
    at_observed = math.exp(log_ways - discordant * math.log(2))
    tail = float(bdtr(fewer, discordant, 0.5))
    chi2 = (table.only_candidate - table.only_baseline) ** 2 / discordant
    return McNemar(
        n=table.n,
        n_discordant=discordant,
        p_exact=min(1.0, 2 * tail),
        p_mid=min(1.0, 2 * tail - at_observed),
        chi2=chi2,
        p_chi2=float(chdtrc(1, chi2)),
    )
