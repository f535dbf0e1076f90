"""What statistics read of a run: per metric one matrix of cases x variants, repeats already averaged.

`Results` builds it from its rows, the command line from other tools' tables; comparisons, summaries and the gate
consume it. Repeats of a case become one number here, in one place, so that they are never counted as cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.numbers import number
from llmlab.golden.cases import GoldenSet
from llmlab.stats.arrays import FloatArray
from llmlab.stats.estimate import Aggregation, reduce_repeats
from llmlab.stats.standard_error import effective_size

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# A lost answer that nothing bounds may be worse than any seen: it is taken so many standard deviations beyond. False
# "better" where the candidate's worst 2 to 8% of 100 to 1,000 are lost, at most, for normal / uniform / gamma (2) /
# lognormal (.6) values, and power with .5% of 1,000 lost at random (simulated):
#   0 sd: 2.2, 2.5, 1.5, 0.6%, power 98.7%;   1 sd: 1.3, 1.6, 0.8, 0.2%, 98.3%;   1.5 sd: 1.0, 1.3, 0.7, 0.1%, 97.9%
BEYOND_SEEN = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a number in a column means: its bounds (None = unbounded), its direction and its unit.

    `judge` is the digest of the judge's bundle where a judge gave the numbers, `scorer` that of the scorer's code where
    one did ("" = not known, as of other tools' numbers and those of version 0.1).
    """

    name: str
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    unit: str = ""
    judge: str = ""
    scorer: str = ""

    @property
    def bounded(self) -> bool:
        """Whether the pessimistic value of a missing row is known."""
        return self.bounds is not None

    @property
    def span(self) -> float | None:
        """How far two scores can lie apart; None without both bounds."""
        return None if self.low is None or self.high is None else self.high - self.low

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the most that a score can be, None where either is open."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def change_bounds(self) -> tuple[float, float] | None:
        """The most that a case can lose and gain, None where there is no such bound."""
        return None if (span := self.span) is None else (-span, span)


RESOURCE_METRICS = {
    "cost_usd": Metric(name="cost_usd", low=0.0, higher_is_better=False, unit="USD"),
    "latency_s": Metric(name="latency_s", low=0.0, higher_is_better=False, unit="s"),
    "first_token_s": Metric(name="first_token_s", low=0.0, higher_is_better=False, unit="s"),
    "output_tokens": Metric(name="output_tokens", low=0.0, higher_is_better=False, unit="tokens"),
    "input_tokens": Metric(name="input_tokens", low=0.0, higher_is_better=False, unit="tokens"),
}


class CaseDesign(TypedDict):
    """How cases were drawn, as every estimator of a mean takes it: `mean_difference(d, **table.design(chosen))`."""

    clusters: NDArray[np.int64] | None
    weights: FloatArray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseGroups:
    """Which cases belong together, and how much each counts.

    Attributes:
        clusters: (n_cases,) cluster codes; a case without a cluster is its own.
        clustered: whether any case was given a cluster that another one shares.
        tags: tags of each case.
        weights: (n_cases,) how many production cases each stands for; None = all the same.
    """

    clusters: NDArray[np.int64]
    clustered: bool
    tags: tuple[tuple[str, ...], ...]
    weights: FloatArray | None = None

    def design(self, chosen: NDArray[np.bool_] | None = None) -> CaseDesign:
        """Clusters (None = independent cases) and weights (None = equal ones) of the chosen cases, or of all."""
        some = slice(None) if chosen is None else chosen
        return {
            "clusters": self.clusters[some] if self.clustered else None,
            "weights": None if self.weights is None else self.weights[some],
        }

    @classmethod
    def of(cls, case_ids: Sequence[str], golden: GoldenSet | None) -> CaseGroups:
        """Clusters, tags and weights that a golden set gives these cases; without one every case stands alone."""
        cases = [golden.by_id.get(case_id) if golden else None for case_id in case_ids]
        return cls.of_columns(
            [case.cluster if case else None for case in cases],
            tags=(case.tags if case else () for case in cases),
            weights=np.array([case.weight if case else 1.0 for case in cases]),
        )

    @classmethod
    def of_columns(
        cls, clusters: Sequence[str | int | None], *, tags: Iterable[tuple[str, ...]], weights: FloatArray
    ) -> CaseGroups:
        """The same from one value per case: its cluster (any label, None = its own), its tags and its weight."""
        import pandas as pd

        codes = pd.factorize(np.array(clusters, dtype=object))[0].astype(np.int64)  # -1 = none
        alone = codes < 0
        n_named = int(codes.max(initial=-1)) + 1
        codes[alone] = n_named + np.arange(int(alone.sum()))
        kinds: dict[tuple[str, ...], tuple[str, ...]] = {}
        return cls(
            clusters=pd.factorize(codes)[0].astype(np.int64),
            clustered=n_named + int(alone.sum()) < len(codes),
            tags=tuple(kinds.setdefault(some, some) for some in tags),  # a million cases have few different sets
            weights=weights if len(weights) and (weights != weights[0]).any() else None,
        )

    def taken(self, places: NDArray[np.intp]) -> CaseGroups:
        """Those of the cases at these places."""
        weights = np.ones(len(places)) if self.weights is None else self.weights[places]
        tags = [self.tags[place] for place in places]
        return CaseGroups.of_columns(self.clusters[places].tolist(), tags=tags, weights=weights)

    def joined(self, case_codes: NDArray[np.intp], call_keys: NDArray[Any] | None) -> CaseGroups:
        """The same, with cases that got one and the same answer (rows with equal call keys) in one cluster.

        An empty key (0, where keys are numbers) is no key: who sent what is not known then.
        """
        import pandas as pd
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if call_keys is None:
            return self
        keys, known = pd.factorize(call_keys)
        none = 0 if call_keys.dtype.kind == "i" else ""
        if len(known) == len(keys) or list(known[:2]) == [none]:  # every answer is one of its own, or nobody knows
            return self
        sent = pd.DataFrame({"case": case_codes, "key": keys})[(keys >= 0) & (call_keys != none)].drop_duplicates()
        sent = sent[sent["key"].duplicated(keep=False)]
        if sent.empty:
            return self
        clusters, size = self.clusters[sent["case"]], int(self.clusters.max()) + 1 + int(sent["key"].max()) + 1
        ends = (clusters, self.clusters.max() + 1 + sent["key"].to_numpy())
        together = connected_components(coo_array((np.ones(len(sent)), ends), shape=(size, size)), directed=False)[1]
        codes = pd.factorize(together[self.clusters])[0].astype(np.int64)
        return replace(self, clusters=codes, clustered=True)

    @property
    def weighting(self) -> str:
        """That cases are weighted, what that leaves of them, and what the heavy ones hold; "" where all count alike."""
        if self.weights is None:
            return ""
        n, low, high = self.weights.size, self.weights.min(), self.weights.max()
        heavy = self.weights[self.weights > 1]  # drawn from production; a case by hand stands for itself
        percent = int(100 * heavy.sum() / self.weights.sum())  # never 100 while others hold some
        held = f" The {heavy.size:,} that stand for more than one hold {percent}% of the weight."
        return (
            f"Cases are weighted by how many cases of production each stands for ({low:g} to {high:g}): "
            f"{n:,} cases tell as much as {effective_size(self.weights):,.0f} equally weighted ones."
            f"{held if 0 < heavy.size < n else ''}"
        )


class AtEnd(NamedTuple):
    """Scores with every unscored repeat at one end of what it can have been, shape (cases, variants).

    `known` counts a repeat without a bound as 0, and `open` is the share that such repeats have in their case: at a
    value x of theirs the scores are known + open * x. `beyond`, shape (variants,), is that value for each variant:
    `BEYOND_SEEN` further than any score of its answers, NaN where none is scored.
    """

    known: FloatArray
    open: FloatArray
    beyond: FloatArray

    def scores(self, cells: tuple[NDArray[np.intp], ...], value: float) -> FloatArray:
        """The scores of these cells with what nothing bounds at this value."""
        open_ = self.open[cells]
        scores: FloatArray = self.known[cells] + np.where(open_ > 0, open_ * value, 0.0)
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable(CaseGroups):
    """One metric of a run as arrays, with the groups of its cases.

    Attributes:
        metric: what the numbers mean.
        case_ids: n_cases ids.
        variants: n_variants names.
        values: (n_cases, n_variants) scores, repeats aggregated; NaN where no repeat was scored.
        scored, attempted: (n_cases, n_variants) counts of repeats.
        ends: `values` with every unscored repeat at its own low and at its own high, else the metric's; None = nothing
            is unscored. `pessimistic` reads them.
        within: (n_variants,) variance of repeats to the same case; NaN where no case has two, None where no variant
            has or the repeats are not averaged.
    """

    metric: Metric
    case_ids: tuple[str, ...]
    variants: tuple[str, ...]
    values: FloatArray
    scored: NDArray[np.int64]
    attempted: NDArray[np.int64]
    ends: tuple[AtEnd, AtEnd] | None = None
    within: FloatArray | None = None

    def repeat_noise(self, chosen: NDArray[np.bool_], columns: Sequence[int]) -> tuple[float, float] | None:
        """The variance that repeats leave in a case's difference between these columns, and how many repeats it has.

        On the scale of n se^2, so it is larger by what weights cost. None where it cannot be told: no case has two
        scored repeats, or the repeats are not averaged.
        """
        if self.within is None or np.isnan(self.within[list(columns)]).any():
            return None
        inverse = (1 / self.scored[chosen][:, list(columns)]).mean(axis=0)
        lost = 1.0 if self.weights is None else chosen.sum() / effective_size(self.weights[chosen])
        return float(lost * (inverse @ self.within[list(columns)])), float(1 / inverse.mean())

    def pessimistic(
        self, columns: Sequence[int], chosen: NDArray[np.bool_] | None = None
    ) -> tuple[FloatArray, FloatArray] | None:
        """These columns, shape (cases, columns), with every unscored repeat at its lowest and at its highest.

        A repeat that nothing bounds is taken at the least and the most that any of these columns stands for. None
        where nothing of the chosen cases is unscored, or where nothing is scored that could stand for it.

        >>> table = score_table(
        ...     Metric(name="words"), scores=np.array([3.0, 9.0, 5.0, np.nan]), case_codes=np.array([0, 0, 1, 1]),
        ...     variant_codes=np.array([0, 1, 0, 1]), case_ids=["q1", "q2"], variants=["v1", "v2"],
        ...     groups=CaseGroups.of(["q1", "q2"], None),
        ... )
        >>> [end.tolist() for end in table.pessimistic([0, 1])]
        [[[3.0, 9.0], [5.0, 1.5]], [[3.0, 9.0], [5.0, 9.0]]]
        """
        cells, at = self._cells(columns, chosen), list(columns)
        if self.ends is None or (self.scored[cells] >= self.attempted[cells].clip(1)).all():
            return None
        least, most = self.ends
        low = least.scores(cells, np.fmin.reduce(least.beyond[at]))
        high = most.scores(cells, np.fmax.reduce(most.beyond[at]))
        return None if np.isnan(low).any() or np.isnan(high).any() else (low, high)

    def assumed(self, columns: Sequence[int], chosen: NDArray[np.bool_] | None = None) -> bool:
        """Whether some unscored repeat of these columns has no bound, so that its worst is read off those seen."""
        cells = self._cells(columns, chosen)
        return any(bool(end.open[cells].any()) for end in self.ends or ())

    def _cells(self, columns: Sequence[int], chosen: NDArray[np.bool_] | None) -> tuple[NDArray[np.intp], ...]:
        rows = np.arange(len(self.case_ids)) if chosen is None else np.flatnonzero(chosen)
        return np.ix_(rows, np.asarray(columns, dtype=np.intp))

    def column(self, variant: str) -> int:
        """The column of a variant; ValueError names those there are."""
        if variant not in self.variants:
            raise ValueError(f"no variant {variant!r} in these results (there are: {', '.join(self.variants)})")
        return self.variants.index(variant)

    def categories(self) -> dict[str, NDArray[np.bool_]]:
        """Which cases carry each tag, tags in order of first use."""
        kinds: dict[tuple[str, ...], int] = {}  # a million cases have few different sets of tags
        codes = np.fromiter((kinds.setdefault(tags, len(kinds)) for tags in self.tags), dtype=np.int64)
        every = dict.fromkeys(tag for tags in kinds for tag in tags)
        return {tag: np.array([tag in tags for tags in kinds])[codes] for tag in every}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cell of every row.

    Attributes:
        case_ids: the cases in the order in which they first occur.
        variants: the variants in the order they were given.
        cases, columns: (rows,) place of each row's case and variant in these.
    """

    case_ids: tuple[str, ...]
    variants: tuple[str, ...]
    cases: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def of(cls, frame: pd.DataFrame, variants: Sequence[str]) -> Cells:
        """The cells of a frame's rows; DataError where one has a variant that is not among these."""
        import pandas as pd

        codes, case_ids = pd.factorize(frame["case_id"])
        columns = pd.Index(variants).get_indexer(pd.Index(frame["variant"]))
        if (columns < 0).any():
            stranger = frame["variant"][columns < 0].iloc[0]
            raise DataError(f"the frame has a variant {stranger!r} without a bundle ({', '.join(variants)})")
        return cls(
            case_ids=tuple(case_ids),
            variants=tuple(variants),
            cases=codes.astype(np.int64),
            columns=columns.astype(np.int64),
        )

    def sums(self, values: NDArray[Any]) -> FloatArray:
        """Shape (cases, variants): the sum over a cell's rows of a number (or of true ones) per row."""
        shape = len(self.case_ids), len(self.variants)
        places = self.cases * shape[1] + self.columns
        return np.bincount(places, weights=values, minlength=shape[0] * shape[1]).reshape(shape).astype(float)

    def any_row(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Shape (cases, variants): whether any of a cell's rows is among these."""
        some: NDArray[np.bool_] = self.sums(rows) > 0
        return some


def score_table(
    metric: Metric,
    *,
    scores: FloatArray,
    case_codes: NDArray[np.int64],
    variant_codes: NDArray[np.int64],
    case_ids: Sequence[str],
    variants: Sequence[str],
    groups: CaseGroups,
    aggregation: Aggregation = "mean",
    bounds: tuple[FloatArray, FloatArray] | None = None,
) -> ScoreTable:
    """Rows of a run as one matrix. `scores` and the codes have one element per row; NaN = unscored.

    `bounds` are the lowest and the highest that each row's score can have been, where its own are known (NaN = not);
    elsewhere an unscored row has the metric's.

    Raises:
        DataError: a score is infinite, or out of the metric's bounds.
        ValueError: majority, all or any of scores that are not 0 or 1.

    >>> table = score_table(
    ...     Metric(name="right", low=0, high=1), scores=np.array([1.0, 0.0, 1.0, np.nan]), case_ids=["q1", "q2"],
    ...     case_codes=np.array([0, 0, 0, 1]), variant_codes=np.array([0, 0, 1, 1]), variants=["v1", "v2"],
    ...     groups=CaseGroups.of(["q1", "q2"], None),
    ... )
    >>> table.values.tolist(), table.attempted.tolist()
    ([[0.5, 1.0], [nan, nan]], [[2, 1], [0, 1]])
    """
    _check_bounds(metric, scores)
    if aggregation != "mean":  # it takes and gives 0 and 1
        metric = replace(metric, low=0.0, high=1.0)
    n_cells = len(case_ids) * len(variants)
    shape = (len(case_ids), len(variants))
    cells = case_codes * len(variants) + variant_codes
    known = ~np.isnan(scores)
    attempted = np.bincount(cells, minlength=n_cells)

    def reduced(values: FloatArray, of: NDArray[np.int64]) -> FloatArray:
        return reduce_repeats(values, of, aggregation=aggregation, n_cases=n_cells).reshape(shape)

    def at_end(end: float | None, own: FloatArray | None, beyond: FloatArray) -> AtEnd:
        of_row = np.full(scores.size, np.nan if end is None else end)
        of_row = of_row if own is None else np.where(np.isnan(own), of_row, own)
        open_ = ~known & np.isnan(of_row)
        filled = reduced(np.where(known, scores, np.where(open_, 0.0, of_row)), cells)
        share = np.bincount(cells[open_], minlength=n_cells).reshape(shape) / attempted.reshape(shape).clip(min=1)
        untried = np.isnan(filled)
        at_zero = np.where(untried, 0.0 if end is None else end, filled)
        return AtEnd(at_zero, np.where(untried, float(end is None), share), beyond)

    values = reduced(scores[known], cells[known])
    scored = np.bincount(cells[known], minlength=n_cells).reshape(shape)
    averaged = aggregation == "mean" and bool((scored > 1).any())
    ends = None
    if not (known.all() and (attempted > 0).all()):
        own_low, own_high = bounds or (None, None)
        least, most = _beyond_seen(scores[known], variant_codes[known], len(variants))
        ends = at_end(metric.low, own_low, least), at_end(metric.high, own_high, most)
    return ScoreTable(
        metric=metric,
        case_ids=tuple(case_ids),
        variants=tuple(variants),
        values=values,
        scored=scored,
        attempted=attempted.reshape(shape),
        clusters=groups.clusters,
        clustered=groups.clustered,
        tags=groups.tags,
        weights=groups.weights,
        ends=ends,
        within=_within(scores[known] - values.ravel()[cells[known]], cells[known], scored) if averaged else None,
    )


def _within(residuals: FloatArray, cells: NDArray[np.int64], scored: NDArray[np.int64]) -> FloatArray:
    """Per variant the pooled variance of repeats around their case's mean; NaN where no case has two."""
    squares = np.bincount(cells, weights=residuals**2, minlength=scored.size).reshape(scored.shape).sum(axis=0)
    freedom = np.maximum(scored - 1, 0).sum(axis=0)
    pooled: FloatArray = np.divide(squares, freedom, out=np.full(freedom.shape, np.nan), where=freedom > 0)
    return pooled


def above_share(part: int, whole: int, share: float) -> bool:
    """Whether part / whole is more than a share, counted exactly.

    >>> above_share(2, 40, 0.05), 1 - 38 / 40 > 0.05
    (False, True)
    """
    return part > Fraction(str(float(share))) * whole


def _beyond_seen(x: FloatArray, of: NDArray[np.int64], n_variants: int) -> tuple[FloatArray, FloatArray]:
    """Per variant `BEYOND_SEEN` standard deviations below its lowest score and above its highest; NaN without any."""
    low, high = np.full(n_variants, np.nan), np.full(n_variants, np.nan)
    np.fmin.at(low, of, x)
    np.fmax.at(high, of, x)
    n = np.bincount(of, minlength=n_variants).clip(min=1)
    mean = np.bincount(of, weights=x, minlength=n_variants) / n
    further = BEYOND_SEEN * np.sqrt(np.bincount(of, weights=(x - mean[of]) ** 2, minlength=n_variants) / n)
    return low - further, high + further


def _check_bounds(metric: Metric, scores: FloatArray) -> None:
    low = -np.inf if metric.low is None else metric.low
    high = np.inf if metric.high is None else metric.high
    wrong = np.isinf(scores) | (scores < low) | (scores > high)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{metric.name}: {scores[first]} in row {first + 1} is infinite or outside {metric.low} to {metric.high} "
            f"(such scores: {int(wrong.sum()):,}); mark it unscored, or correct the bounds"
        )


def scale_of(metric: Metric) -> tuple[float, str]:
    """How a metric's numbers are said: shares as points of 100, others in their unit.

    >>> scale_of(Metric(name="m", low=0, high=1)), scale_of(Metric(name="m", low=1, high=5, unit="USD"))
    ((100.0, ' points'), (1.0, ' USD'))
    """
    if metric.low == 0 and metric.high == 1:
        return 100.0, " points"
    return 1.0, f" {metric.unit}" if metric.unit else ""


def two_digits(value: float) -> str:
    """A number with two significant digits, for what is known no better.

    >>> two_digits(0.0346), two_digits(1234.0)
    ('0.035', '1,200')
    """
    return number(float(f"{value:.2g}"))
