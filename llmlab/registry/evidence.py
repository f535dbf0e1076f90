"""Whether a receipt still holds: its verdict recomputed from the logged cases, for today's golden set and policy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from llmlab import tracking
from llmlab.base.errors import DataError, RegistryError, StoreError
from llmlab.base.project import project_root
from llmlab.base.verdict import Verdict
from llmlab.gate.decide import GatePolicy
from llmlab.gate.decision import Receipt
from llmlab.gate.policy import Floor, age_limit
from llmlab.gate.validity import judges_of
from llmlab.golden.cases import GoldenSet
from llmlab.registry.connection import Registry
from llmlab.registry.release import ledger
from llmlab.registry.versions import Version
from llmlab.results.passport import JudgePassport
from llmlab.results.results import Results
from llmlab.tracking.screening import redacted_cases
from llmlab.tracking.store import reported

__all__ = ["Evidence", "objections"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a promotion is judged by: the receipt, and today's golden set and policy."""

    receipt: Receipt
    policy: GatePolicy
    golden: GoldenSet
    passports: tuple[JudgePassport, ...] = ()

    @classmethod
    def read(cls, receipt: Receipt, experiment: str | Path, *, passports: Sequence[JudgePassport] = ()) -> Evidence:
        """With `golden.jsonl` and `gate.yaml` of the experiment's folder as they are now."""
        folder = Path(experiment)
        policy = GatePolicy.load(folder / "gate.yaml")
        return cls(
            receipt=receipt,
            policy=policy,
            golden=policy.held_out(GoldenSet.load(folder / "golden.jsonl")),
            passports=tuple(passports),
        )


def objections(registry: Registry, evidence: Evidence, version: Version, *, root: Path | None = None) -> Iterator[str]:
    """Why the receipt does not carry this version today; nothing when it does."""
    receipt, policy = evidence.receipt, evidence.policy
    if receipt.verdict != Verdict.PASS:
        yield f"its receipt says {receipt.verdict}: {receipt.sentence}"
    if receipt.bundle_digest != version.digest:
        yield f"the receipt is for the bundle {receipt.bundle_digest[:8]}, this is {version.digest[:8]}"
    if receipt.policy_digest != policy.digest:
        yield "gate.yaml changed since the receipt was made: gate again"
    age = datetime.now(UTC) - receipt.decided_at()
    if age > age_limit(policy.receipt_max_age):
        yield f"the receipt is {age.days} days old, receipt_max_age is {policy.receipt_max_age}: gate again"
    try:
        results = _sweep(registry, receipt.results_digest, root)
        borrowed = receipt.earlier_baseline.get("results_digest")
        earlier = _sweep(registry, borrowed, root) if borrowed else None
    except (DataError, RegistryError, StoreError) as error:
        yield f"the cases that it rests on cannot be read: {error}"
        return
    yield from _recomputed(evidence, results, earlier, root)
    yield from _grown(registry, evidence, results, root)


def _sweep(registry: Registry, sweep_id: str, root: Path | None) -> Results:
    with reported(f"sweep {sweep_id[:8]} cannot be searched"):
        runs = registry.store.whole_runs("sweep_id", sweep_id)
        experiment = registry.store.client.get_experiment(runs[0].info.experiment_id).name if runs else ""
    if not runs:
        raise RegistryError(
            f"sweep {sweep_id[:8]} is not in the store; log it: notebook 05 and `llmlab gate --ledger` do, "
            "and notebook 01 an earlier run whose baseline rows were borrowed"
        )
    return tracking.load(sweep_id, experiment=experiment, root=root)


def _recomputed(evidence: Evidence, results: Results, earlier: Results | None, root: Path | None) -> Iterator[str]:
    """What the verdict is when it is computed again from the logged cases, as of the receipt's day.

    `earlier` is the run that the baseline's rows were borrowed from, if they were.
    """
    receipt = evidence.receipt
    decision = evidence.policy.decide(
        results,
        candidate=receipt.candidate,
        baseline=receipt.baseline or None,
        anchor=receipt.anchor or None,
        looks=ledger(evidence.policy, results.bundles[receipt.candidate], root=root),
        passports=evidence.passports,
        baseline_results=earlier,
        now=receipt.decided_at(),
    )
    if differs := receipt.differences(decision):
        yield f"the logged cases give another {', '.join(differs)} than the receipt says"
    if decision.word != Verdict.PASS and receipt.verdict == Verdict.PASS:
        yield f"the logged cases say {decision.word}: {decision.sentence}"


def _grown(registry: Registry, evidence: Evidence, results: Results, root: Path | None) -> Iterator[str]:
    """Today's golden set must be the receipt's, or hold all its cases and some more that pass too."""
    results = evidence.policy.held_out(results)
    today, before = evidence.golden, results.golden
    if today.digest == evidence.receipt.golden_digest:
        return
    if results.provenance.redacted_from:  # personal data was logged as pseudonyms: compare like with like
        today = redacted_cases(today, root=root or project_root())
        evidence = replace(evidence, golden=today)
    if before is None:
        yield "golden.jsonl changed, and the logged results do not hold the cases they were run on: gate again"
        return
    changed = [case.id for case in before if today.by_id.get(case.id) != case]
    if changed:
        yield f"{len(changed)} cases of golden.jsonl changed or went since the receipt ({changed[0]!r}): gate again"
        return
    added = [case.id for case in today if case.id not in before.by_id]
    newer = _with_cases(registry, evidence, added, root)
    if newer is None:
        yield f"golden.jsonl has grown by {len(added)} cases that this bundle has not answered: run and log them"
    else:
        yield from _added_fail(evidence, newer, added)


def _with_cases(registry: Registry, evidence: Evidence, added: Sequence[str], root: Path | None) -> Results | None:
    """The newest logged results in which the candidate (and the baseline) answered the added cases."""
    receipt = evidence.receipt
    with reported("the runs of this bundle cannot be searched"):
        runs = registry.store.whole_runs("bundle_digest", receipt.bundle_digest)
    for sweep_id in dict.fromkeys(run.data.tags["sweep_id"] for run in runs if "sweep_id" in run.data.tags):
        results = _sweep(registry, sweep_id, root)
        same = results.golden is not None and all(
            results.golden.by_id.get(case_id) == evidence.golden.by_id[case_id] for case_id in added
        )
        names = {bundle.digest: name for name, bundle in results.bundles.items()}
        same = same and all(
            set(results.scorers_of(metric).values()) == {version} for metric, version in receipt.scorers.items()
        )
        if same and receipt.bundle_digest in names and (receipt.baseline_digest in {"", *names}):
            return results
    return None


def _added_fail(evidence: Evidence, results: Results, added: Sequence[str]) -> list[str]:
    """The added cases alone: the mean reaches every floor, and no condition is shown to be broken.

    They are too few to prove a goal again; that was proved on the others. Judged as the receipt's cases were: with its
    passports as of its day, and on people's labels where the policy reads those (two of them will do).
    """
    receipt, policy = evidence.receipt, evidence.policy
    names = {bundle.digest: name for name, bundle in results.bundles.items()}
    part = results.only(cases=added)
    candidate, where = names[receipt.bundle_digest], f"on the {len(added)} cases added since"
    below_par = []
    for floor in policy.floors:
        mean = _floor_mean(policy, part, floor, candidate)
        low = -math.inf if floor.at_least is None else floor.at_least
        high = math.inf if floor.at_most is None else floor.at_most
        if not low <= mean <= high:
            below_par.append(f"{where}, {floor.metric} has a mean of {mean:.3g}: below par")
    if len(added) > 1 and not below_par:
        labels = policy.judge.model_copy(update={"labels_at_least": 2})
        lenient = policy.model_copy(update={"minimum_cases": 2, "categories": None, "anchor": None, "judge": labels})
        decision = lenient.decide(
            part,
            candidate=candidate,
            baseline=names.get(receipt.baseline_digest),
            passports=evidence.passports,
            now=receipt.decided_at(),
        )
        if decision.word in (Verdict.FAIL, Verdict.INVALID):
            return [f"{where}: {decision.sentence.rstrip('.')}"]
    return below_par


def _floor_mean(policy: GatePolicy, part: Results, floor: Floor, candidate: str) -> float:
    """The candidate's mean as the floor reads it: raw, or corrected where labels of these cases can do that.

    Cases count by their weight, and what is unscored at its worst; where nothing bounds that, there is no value: the
    worst seen of so few cases says little.
    """
    if policy.is_corrected(floor.metric, floor, judges_of(policy, part)) and floor.metric in part.labels_digests:
        value = part.labelled(floor.metric).mean(candidate).corrected.value
        if value is not None:
            return value
    table = part.table(floor.metric, aggregation=policy.aggregation if floor.metric in part.metrics else "mean")
    column = table.column(candidate)
    low, high = table.pessimistic([column]) or (table.values[:, [column]],) * 2
    values, worst = (high, math.inf) if floor.at_least is None else (low, -math.inf)
    if table.assumed([column]) or np.isnan(values).any():
        return worst
    return float(np.average(values[:, 0], weights=table.weights))
