"""A first policy for an experiment: margins that its golden set can settle, and what it could still miss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.numbers import counted, number, with_unit
from llmlab.display.shown import Shown
from llmlab.gate.decide import GatePolicy
from llmlab.golden.cases import GoldenSet
from llmlab.results.results import Results
from llmlab.results.scores import Metric, scale_of, two_digits
from llmlab.stats.arrays import paired_differences
from llmlab.stats.paired import mean_difference
from llmlab.stats.power import POWER, Spread, detectable, would_show

_LARGEST_MARGIN = 0.1  # share of a metric's range above which nobody would call it harmless
_USUAL_SD = 0.45  # of the difference per case of pass/fail scores: 20% of the cases change sides
_LEAST_EFFECT = 0.02  # share of a metric's range below which a gain is hardly worth a release


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Proposal(Shown):
    """A policy, and per condition what this golden set can show."""

    policy: GatePolicy
    remarks: tuple[tuple[str, str], ...]

    def to_yaml(self) -> str:
        """The policy as a file, with what it can detect in comments above it."""
        remarks = "".join(f"# {metric}: {' '.join(remark.split())}\n" for metric, remark in self.remarks)
        return remarks + self.policy.to_yaml()

    def _rows(self) -> list[dict[str, object]]:
        return [{"metric": metric, "these cases": remark} for metric, remark in self.remarks]


def propose(results: Results, *, baseline: str, candidate: str, goal: str | None = None) -> Proposal:
    """A goal on one metric, the others as guards whose margins these cases settle with 80% power together."""
    names = [name for name, metric in results.metrics.items() if metric.bounded]
    goal = goal or (names[0] if names else "")
    if goal not in names:
        raise ValueError(f"goal == {goal!r}, must be a bounded metric of these results ({', '.join(names) or 'none'})")
    noise, of_goal = {}, None
    for name in names:
        table = results.table(name)
        a, b = table.values[:, table.column(baseline)], table.values[:, table.column(candidate)]
        known = ~(np.isnan(a) | np.isnan(b))
        try:
            better, worse = (b[known], a[known]) if table.metric.higher_is_better else (a[known], b[known])
            change = paired_differences(better, worse, scale=table.metric.span)
            d = mean_difference(change, **table.design(known), bounds=table.metric.change_bounds)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        noise[name] = (Spread.of(d), d.n, d.n_clusters)
        if name == goal and d.se:
            of_goal = would_show(d, tail=0.025, least_value=_least_effect(table.metric))
    spent = "output_tokens" if results.total("cost_usd") is None else "cost_usd"
    metrics = {name: results.metric(name) for name in names}
    return _proposal(metrics, noise, goal, of_goal, f"bundles/{baseline}.yaml", spent)


def propose_for_cases(
    golden: GoldenSet, *, metric: str, baseline: str = "bundles/v1.yaml", guards: Sequence[str] = ()
) -> Proposal:
    """A policy before anything was run: pass/fail scores are assumed, and clusters to be worth one case each.

    `guards` are further metrics from 0 to 1; each gets a margin that these cases can settle, or is watched for harm.
    """
    clusters = len({case.cluster or f"\0{case.id}" for case in golden})
    n = len(golden)
    spread = Spread(sd=_USUAL_SD * math.sqrt(n / clusters), cases=n, df=max(1.0, clusters - 1.0))
    shares = {name: Metric(name=name, low=0.0, high=1.0) for name in (metric, *guards)}
    shown = detectable(spread, tail=0.025, least_value=_least_effect(shares[metric]))
    noise = dict.fromkeys(shares, (spread, n, clusters))
    return _proposal(shares, noise, metric, shown, baseline, "output_tokens")


def _proposal(
    metrics: dict[str, Metric],
    noise: dict[str, tuple[Spread, int, int]],
    goal: str,
    of_goal: float | None,
    baseline: str,
    spent: str,
) -> Proposal:
    guards, remarks = [], []
    for name, metric in metrics.items():
        spread, n, clusters = noise[name]
        span = metric.span or 0.0
        scale, unit = scale_of(metric)
        if name == goal:
            seen = ""
            if of_goal is not None:
                gain = with_unit(two_digits(of_goal * scale), unit)
                seen = f"; a true gain of {gain} shows with 80% power, smaller ones are easily missed"
            if of_goal is not None and of_goal >= span > 0:
                seen = "; no gain that there can be shows with 80% power: add cases that are independent of these"
            remarks.append((name, f"{counted(n, 'case')} in {counted(clusters, 'cluster')}{seen}."))
            continue
        margin = _rounded_up(_margin(spread, clusters, span, conditions=max(1, len(metrics) - 1)))
        if margin > _LARGEST_MARGIN * span:
            largest = with_unit(number(_LARGEST_MARGIN * span * scale), unit)
            remarks.append((name, f"no margin up to {largest} can be settled, so it is only watched for shown harm."))
            guards.append({"metric": name, "rule": "no_shown_harm", "margin": _rounded_up(span / 20)})
            continue
        guards.append({"metric": name, "rule": "non_inferior", "margin": margin})
        shown = with_unit(number(margin * scale), unit)
        remarks.append((name, f"a margin of {shown} can be settled with 80% power if nothing differs."))
    rules = {
        "baseline": "production",
        "baseline_file": baseline,
        "goal": {"metric": goal, "rule": "superior", "min_effect": _least_effect(metrics[goal])},
        "guards": [*guards, {"metric": spent, "rule": "no_shown_harm", "margin": "10%"}],
    }
    return Proposal(policy=GatePolicy.model_validate(rules), remarks=tuple(remarks))


def _least_effect(metric: Metric) -> float:
    return _rounded_up(_LEAST_EFFECT * (metric.span or 0.0))


def _margin(spread: Spread, clusters: int, span: float, *, conditions: int) -> float:
    """The margin that can be settled; where nothing varied, the one that no harm among so many clusters rules out."""
    if spread.sd > 0:
        return detectable(spread, tail=0.05, power=POWER ** (1 / conditions))
    return float(span * (1 - 0.05 ** (1 / clusters)))


def _rounded_up(value: float) -> float:
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.6g}")
