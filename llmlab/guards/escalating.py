"""A cascade: the cheap bundle answers, and where a check fails, the strong one; and what that buys for what it costs.

`cascade` is an application for `ll.run(app=...)`, a variant like any other. `frontier` needs no further call: where
both bundles have answered the same cases, what a cascade would have answered at each threshold of the check is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from llmlab.base.errors import CallError, DataError
from llmlab.base.numbers import Interval, counted
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Client, Generation
from llmlab.clients.endpoints import Reaching, client_for
from llmlab.display.shown import Shown
from llmlab.engine.app import kept_call
from llmlab.golden.cases import Case
from llmlab.guards.applying import Guard, guard
from llmlab.results.comparing import compare_tables
from llmlab.results.comparison import PairedRow
from llmlab.results.results import Results
from llmlab.results.scores import ScoreTable, score_table
from llmlab.results.summary import case_mean
from llmlab.scorers.base import Scorer
from llmlab.stats.arrays import FloatArray
from llmlab.stats.estimate import Estimate
from llmlab.stats.paired import PairedDifference

CHEAP, STRONG = "cheap", "strong"  # steps of a cascade's answer
_MOST_THRESHOLDS = 6
_RECOVERED = (0.5, 0.8)  # shares of the gap, after RouteLLM's CPT(50%) and CPT(80%)


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """An application: asks the variant's own bundle, then the strong one where the check fires (`cascade` makes one).

    Within a run each of its calls is stored as that of a plain run is, so that either replays the other's.

    Attributes:
        strong: the second bundle.
        check: reads the first answer.
        known: digests of both, by which the call store tells one cascade from another.
    """

    strong: Bundle
    check: Guard
    endpoints: Reaching | None = None
    through: Callable[[Client], Client] = field(default=lambda client: client)
    known: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", f"{self.strong.digest} {self.check.digest}")

    # this code and the default of `through` are part of what stored answers are known by (`engine.app`)
    async def __call__(self, case: Case, bundle: Bundle) -> Generation:
        """The cheap answer, or the strong one with what both of them took."""
        first = await self._asked(case, bundle)
        verdict = await self.check.judge(case, first)
        if not verdict.fires:
            return Generation.of_calls({CHEAP: first})
        try:
            second = await self._asked(case, self.strong)
        except CallError as error:
            calls = Generation.of_calls({CHEAP: first, STRONG: Generation(status="error")})
            error.partly = replace(calls, usage=first.usage, cost_usd=first.cost_usd, attempts=first.attempts)
            raise
        waited_s = (first.latency_s, second.first_token_s)  # nobody sees the first answer
        seen_s = None if None in waited_s else sum(filter(None, waited_s))
        return replace(Generation.of_calls({CHEAP: first, STRONG: second}), first_token_s=seen_s)

    async def _asked(self, case: Case, bundle: Bundle) -> Generation:
        request = bundle.request(**case.inputs)
        answer = await kept_call(self.through(client_for(bundle.model, self.endpoints)), request)
        passage_ids = tuple(passage["id"] for passage in (request.about or {}).get("retrieved", ()))
        return replace(answer, retrieved=answer.retrieved or passage_ids)


def cascade(
    strong: Bundle,
    *,
    check: Scorer,
    limit: float | None = None,
    endpoints: Reaching | None = None,
    through: Callable[[Client], Client] | None = None,
) -> Cascade:
    """An application for `ll.run({"cascade": cheap}, golden, app=cascade(strong, check=...))`.

    Args:
        check: a scorer of the cheap answer that needs no expectation, such as `grounded(corpus)` or `cites_source`. One
            that breaks sends the case to the strong bundle; an unscored answer stays.
        limit: escalate where the score is worse than this; by default where it is not the best.
        endpoints, through: as of `ll.Fallback`.
    """
    fires = guard(check, side="output", then="flag", limit=limit)
    optional = {} if through is None else {"through": through}
    return Cascade(strong=strong, check=fires, endpoints=endpoints, **optional)


@dataclass(frozen=True, kw_only=True, repr=False)
class Frontier(Shown):
    """Quality against cost of two bundles and of cascades between them, on the same cases (`frontier` makes it).

    Attributes:
        cheap, strong: the ends.
        check: the metric that decides who answers.
        quality, cost: cases x variants; the variants are the ends and the cascades, by share sent to the strong bundle.
        shares: variant -> share of answers that the strong bundle gave.
        left_out: answers without a partner in the other arm.
    """

    cheap: str
    strong: str
    check: str
    quality: ScoreTable
    cost: ScoreTable
    shares: Mapping[str, float]
    left_out: int = 0

    @cached_property
    def differences(self) -> Mapping[str, PairedRow]:
        """Variant -> its quality less the strong bundle's, paired, Holm over all."""
        return {row.candidate: row for row in compare_tables([self.quality], self.strong)}

    @cached_property
    def recovered(self) -> Mapping[str, float]:
        """Variant -> share of the gap in quality that it makes up; empty where the strong one is not shown better."""
        gap = self.differences[self.cheap]
        if gap.reading != "worse":
            return {}
        means = _means(self.quality)
        low, high = means[self.cheap], means[self.strong]
        return {name: (mean - low) / (high - low) for name, mean in means.items()}

    def share_for(self, part: float) -> float | None:
        """The share of answers that must be the strong bundle's to make up this part of the gap; None without a gap.

        Between thresholds cases are sent at random: straight lines.
        """
        points = sorted((self.shares[name], made_up) for name, made_up in self.recovered.items())
        for (share, before), (more, after) in pairwise(points):
            if after >= part > before:
                return share + (more - share) * (part - before) / (after - before)
        return None

    def _rows(self) -> list[dict[str, object]]:
        differences = {name: row.difference for name, row in self.differences.items()}
        return [
            {
                "variant": name,
                f"to {self.strong}": f"{self.shares[name]:.0%}",
                self.quality.metric.name: _interval(case_mean(self.quality, name)),
                f"{self.cost.metric.name} per answer": _interval(case_mean(self.cost, name)),
                f"- {self.strong}": _interval(differences.get(name)),
                "of the gap": f"{self.recovered[name]:.0%}" if name in self.recovered else None,
            }
            for name in self.quality.variants
        ]

    def _sentence(self) -> str:
        if not self.recovered:
            return f"{self.strong} is not shown to be better than {self.cheap}: there is no gap to make up."
        needed = {recovered: share for recovered in _RECOVERED if (share := self.share_for(recovered)) is not None}
        shares = " and ".join(f"{share:.0%} for {recovered:.0%} of the gap" for recovered, share in needed.items())
        at_random = " and ".join(f"{recovered:.0%}" for recovered in needed)
        sentence = f"By {self.check}, {self.strong} has to answer {shares} (at random {at_random})."
        costs = _means(self.cost)
        if dearer := sum(cost > costs[self.strong] for cost in costs.values()):
            sentence += f" {dearer} of {len(costs) - 2} cascades cost more than {self.strong} alone."
        if self.left_out:
            sentence += f" {counted(self.left_out, 'answer')} had no partner."
        return f"{sentence}\nThese cases chose the thresholds: run the one you take on others, `app=cascade(...)`."


def frontier(
    results: Results,
    *,
    cheap: str,
    strong: str,
    check: str,
    metric: str | None = None,
    cost: str = "cost_usd",
    measured: Sequence[str] = (),
) -> Frontier:
    """What cascades from `cheap` to `strong` would have answered and cost, at each threshold of the check.

    Args:
        results: both variants on the same cases, with the check among the scorers.
        check: a metric of the cheap answers that is known without an expectation.
        metric: the quality, by default the first scorer's that is not the check.
        cost: cost_usd, output_tokens, input_tokens or latency_s; a cascade pays for both of its answers.
        measured: variants that are cascades themselves, run with `app=` and joined; shown as they ran.

    Raises:
        DataError: no answers in common, no cost, or a check that never fails.
        ValueError: no such variant or metric, or the check is the quality itself.
    """
    quality = metric or next((name for name in results.metrics if name != check), check)
    if quality == check:
        raise ValueError(f"check == {check!r} is the quality itself, which nobody knows online; name another metric")
    direction = 1.0 if results.metric(check).higher_is_better else -1.0
    rows = {name: _rows_of(results, name) for name in (cheap, strong, *measured)}
    shared = [cell for cell in rows[cheap] if cell in rows[strong]]
    if not shared:
        raise DataError(f"{cheap!r} and {strong!r} answered no case in common")
    first, second = (np.array([rows[name][cell] for cell in shared]) for name in (cheap, strong))
    checked, scores, costs = (results.scores(name) for name in (check, quality, cost))
    if not np.nansum(costs[second]) > 0:
        raise DataError(f"{cost} is zero or unknown for {strong!r}; name another: cost='output_tokens'")
    arms = {cheap: _Arm(scores[first], costs[first], shared, 0.0)}
    for limit in _limits(direction * checked[first], check):
        sign = "<" if direction > 0 else ">"
        short, whole = (f"{check} {sign} {direction * limit:{digits}}" for digits in (".3g", ".9g"))
        name = whole if short in arms else short
        sent = direction * checked[first] < limit  # not where it is unscored: NaN is below nothing
        answered = np.where(sent, scores[second], scores[first])
        arms[name] = _Arm(answered, costs[first] + np.where(sent, costs[second], 0.0), shared, float(sent.mean()))
    for name in measured:
        indices = np.array(list(rows[name].values()))
        sent_on = [STRONG in answer.steps for answer in results.generations() if answer.variant == name]
        arms[name] = _Arm(scores[indices], costs[indices], list(rows[name]), sum(sent_on) / len(sent_on))
    arms[strong] = _Arm(scores[second], costs[second], shared, 1.0)
    return Frontier(
        cheap=cheap,
        strong=strong,
        check=check,
        quality=_table(results, quality, arms, np.concatenate([arm.scores for arm in arms.values()])),
        cost=_table(results, cost, arms, np.concatenate([arm.costs for arm in arms.values()])),
        shares={name: arm.share for name, arm in arms.items()},
        left_out=len(rows[cheap]) + len(rows[strong]) - 2 * len(shared),
    )


Cell = tuple[int, int]  # code of the case, repeat


class _Arm(NamedTuple):
    """A variant, real or made up: a score and a cost for each of its cells, and the share of the strong bundle."""

    scores: FloatArray
    costs: FloatArray
    cells: list[Cell]
    share: float


def _rows_of(results: Results, variant: str) -> dict[Cell, int]:
    """Cell -> row of the results."""
    if variant not in results.variants:
        raise ValueError(f"no variant {variant!r} in these results (there are: {', '.join(results.variants)})")
    codes, repeats = results.cells.cases, [repeat for (repeat,) in results.answers("repeat")]
    chosen = np.flatnonzero(results.cells.columns == results.variants.index(variant))
    return {(int(codes[row]), int(repeats[row])): int(row) for row in chosen}


def _limits(checked: FloatArray, check: str) -> FloatArray:
    """Values below which a cheap answer may be sent on, so that at each other ones are; DataError without any."""
    known = checked[~np.isnan(checked)]
    limits: FloatArray = np.unique(known)[1:]
    if not len(limits):
        raise DataError(f"{check} says the same of every cheap answer, so nothing would be sent on by it")
    if len(limits) > _MOST_THRESHOLDS:  # about as many more answers at each
        parts = np.linspace(0, 1, _MOST_THRESHOLDS + 2)[1:-1]
        limits = np.intersect1d(np.quantile(known, parts, method="higher"), limits)
    return limits


def _table(results: Results, metric: str, arms: Mapping[str, _Arm], scores: FloatArray) -> ScoreTable:
    codes = np.array([code for arm in arms.values() for code, _ in arm.cells])
    used, cases = np.unique(codes, return_inverse=True)
    whole = results.table(metric)
    return score_table(
        results.metric(metric),
        scores=scores,
        case_codes=cases.astype(np.int64),
        variant_codes=np.repeat(np.arange(len(arms)), [len(arm.cells) for arm in arms.values()]).astype(np.int64),
        case_ids=[whole.case_ids[code] for code in used],
        variants=tuple(arms),
        groups=whole.taken(used),
    )


def _interval(share: Estimate | PairedDifference | None) -> Interval | None:
    return None if share is None else Interval(share.value, share.low, share.high)


def _means(table: ScoreTable) -> dict[str, float]:
    return {name: case_mean(table, name).value or 0.0 for name in table.variants}
