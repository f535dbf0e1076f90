"""From results and a policy to a decision: validity first, then the price of looking, then every condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from llmlab import gate as room
from llmlab import golden
from llmlab.base.errors import DataError
from llmlab.base.project import aware
from llmlab.base.verdict import Verdict, required
from llmlab.bundle.bundle import Bundle
from llmlab.gate.condition import Condition
from llmlab.gate.decision import Decision
from llmlab.gate.evaluation import evaluate
from llmlab.gate.looks import DIGITS, Ledger, Look, Price, price_of_looking, tried_before
from llmlab.gate.policy import Arms, Rules
from llmlab.gate.validity import case_reasons, earlier_reasons, invalid_reasons, judges_of
from llmlab.results.results import Results
from llmlab.stats.power import SAVED_AT_LEAST, Need, NeededCases, more_repeats, needed_cases


class GatePolicy(Rules):
    """The rules of a release, and the decision by them; the fields are those of `Rules`."""

    def labelled(self, results: Results, folder: str | Path) -> Results:
        """The results with the labels of the files that the policy names, relative to its folder; as they were else.

        Raises:
            FileRuleError: a file is missing or holds no labels. DataError: no label in it fits an answer.
        """
        for name in self.judge.labels:
            results = results.with_labels(golden.Labels.load(Path(folder) / name))
        return results

    def require_ready(
        self,
        candidate: Bundle,
        judges: Mapping[str, Bundle],
        cases: golden.GoldenSet,
        *,
        passports: Sequence[room.JudgePassport] = (),
        folder: str | Path | None = None,
        now: datetime | None = None,
    ) -> None:
        """Nothing where a verdict is possible, as far as that is known before anything is asked and paid for.

        Args:
            judges: metric -> the bundle that judges it.
            cases: that the gate will read.
            passports: of these judges.
            folder: the policy's own, where the files of labels that it names are looked for.

        Raises:
            FloatingModelError: the candidate's model, or that of a judge which decides, may change under its name.
            FileRuleError: a file of labels is missing or holds none.
            GateError: the verdict would be INVALID, for want of a passport that holds, of cases or of tags.
        """
        deciding = {name: bundle for name, bundle in judges.items() if name in self.metrics}
        for bundle in (candidate, *deciding.values()):
            bundle.model.require_pinned()
        if folder is not None:
            for name in self.judge.labels:
                golden.Labels.load(Path(folder) / name)
        digests = {name: bundle.digest for name, bundle in deciding.items()}
        now = aware(now) if now else datetime.now(UTC)
        vouched = room.passport.passport_reasons(self, digests, passports, now=now)
        if reasons := [*case_reasons(self, cases), *vouched]:
            required(Verdict.INVALID, "pass", sentence="; ".join(reasons), decision=None)

    def decide(
        self,
        results: Results,
        *,
        candidate: str,
        baseline: str | None = None,
        anchor: str | None = None,
        looks: Ledger | Sequence[Look] = (),
        passports: Sequence[room.JudgePassport] = (),
        baseline_results: Results | None = None,
        now: datetime | None = None,
    ) -> Decision:
        """PASS, FAIL, INCONCLUSIVE or INVALID for a candidate of these results, with every condition.

        Corrected estimates need people's labels in the results: see `labelled`.

        Args:
            candidate, baseline: variants of the results. Without a baseline only the floors are judged.
            anchor: the variant that stands for the policy's anchor; by default one named like its file, or "anchor".
            looks: the ledger (`registry.ledger`), or earlier decisions: looking again has a price.
            passports: of the judges whose metrics are used.
            baseline_results: an earlier run that has the baseline's rows, where `results` has none.
            now: the moment of the decision; later looks are ignored, so that a decision can be made again.

        Raises:
            ValueError: a variant is not in the results, or candidate and baseline are the same.
        """
        now = aware(now) if now else datetime.now(UTC)
        asked_with = results.digest  # of the results as they are logged, before rows are joined or left out
        results = self.held_out(results)
        reasons: list[str] = []
        borrowed: dict[str, Any] = {}
        if baseline is not None and baseline not in results.variants and baseline_results is not None:
            earlier = self.held_out(baseline_results)
            joined = results.joined(earlier, variants=[baseline])
            reasons += earlier_reasons(self, results, earlier, baseline=baseline, candidate=candidate, now=now)
            results = joined
            borrowed = {"results_digest": earlier.digest, "created_at": earlier.created_at}
        if anchor is None and self.anchor is not None:
            stem = PurePosixPath(self.anchor.bundle).stem
            anchor = next((name for name in (stem, "anchor") if name in results.variants), None)
        arms = Arms(candidate=candidate, baseline=baseline, anchor=anchor)
        _check_names(results, arms)
        if self.timeouts == "missing":
            results = _without_timeouts(results)
        reasons += invalid_reasons(self, results, arms, passports=passports, now=now)
        look, price = _look(self, results, arms, Ledger.of(looks), now, results_digest=asked_with)
        conditions = () if reasons else evaluate(self, results, arms, price=price)
        verdicts = {Verdict.INVALID} if reasons else {c.verdict for c in conditions}
        worst_first = (Verdict.INVALID, Verdict.FAIL, Verdict.INCONCLUSIVE)
        word = next((verdict for verdict in worst_first if verdict in verdicts), Verdict.PASS)
        planned = word == Verdict.INCONCLUSIVE and not _is_one_bundle(results, arms)
        return Decision(
            word=word,
            conditions=conditions,
            reasons=tuple(reasons),
            **(_settling(results, conditions, arms, price) if planned else {}),
            n_cases=results.n_cases,
            price=price,
            look=replace(look, verdict=word),
            notes=_notes(self, results, arms, borrowed),
            facts={**_facts(self, results, arms, passports, borrowed), "results_digest": asked_with},
            documents={
                f"policy-{self.digest}.json": self.model_dump_json(),
                **{f"passport-{passport.digest}.json": passport.to_json() for passport in passports},
            },
            **arms._asdict(),
        )


def _check_names(results: Results, arms: Arms) -> None:
    for role, name in arms._asdict().items():
        if name is not None and name not in results.variants:
            raise ValueError(f"no variant {name!r} for the {role} in these results ({', '.join(results.variants)})")
    if arms.candidate == arms.baseline:
        raise ValueError(f"{arms.candidate!r} is both candidate and baseline")


def _without_timeouts(results: Results) -> Results:
    """Timeouts as missing: their scores become unscored, whatever the scorers said."""
    late = np.array([status == "timeout" for (status,) in results.answers("status")])
    return results.with_columns(**{name: np.where(late, np.nan, results.scores(name)) for name in results.metrics})


def _look(
    policy: Rules, results: Results, arms: Arms, ledger: Ledger, now: datetime, *, results_digest: str
) -> tuple[Look, Price]:
    candidate, digests = arms.candidate, {name: bundle.digest for name, bundle in results.bundles.items()}
    fixed = {digests[name] for name in (arms.baseline, arms.anchor) if name is not None}
    this = Look(
        results_digest=results_digest,
        policy_digest=policy.digest,
        bundle_digest=digests[candidate],
        golden_digest=results.golden_digest,
        verdict="",
        made_at=now.isoformat(timespec="milliseconds"),
        name=results.bundles[candidate].name,
        alias=policy.alias,
        beside=_listed({*digests.values()} - fixed - {digests[candidate]}),
        holdout=str(policy.held_share or ""),
        cases=frozenset(results.contents.values()),
    )
    looks = ledger.cycle(this, baseline="" if arms.baseline is None else digests[arms.baseline])
    sets = {look.golden_digest for look in (*looks, this)} | {results.golden.parent if results.golden else ""}
    tried = tried_before(results.bundles[candidate], sets - {""}) - fixed  # in the Playground
    this = replace(this, tried=_listed(tried - {digests[candidate]}))
    price = price_of_looking(looks, this, confidence=policy.confidence, declared=policy.candidates, state=ledger.state)
    return this, price


def _listed(digests: Iterable[str]) -> str:
    return " ".join(sorted(digest[:DIGITS] for digest in digests))


def _settling(results: Results, conditions: Sequence[Condition], arms: Arms, price: Price) -> dict[str, Any]:
    """What would settle an open decision: cases in all, repeats instead, and what the missing cases would cost."""
    n_cases = results.n_cases
    needs = _needs(conditions, price, n_cases=n_cases)
    if (needed := _needed(needs)) is None:
        return {}
    missing = needed.likely - n_cases
    spent = results.total("cost_usd", variants=[arm for arm in (arms.baseline, arms.candidate) if arm])
    return {
        "needed_cases": needed,
        "needed_with_repeats": _with_repeats(conditions, needs, needed),
        "cost_of_more_usd": spent / n_cases * missing if spent is not None and missing > 0 else None,
    }


def _needs(conditions: Sequence[Condition], price: Price, *, n_cases: int) -> list[Need]:
    """What every proof needs of the next look; a goal that is proved already is not planned again."""
    if any(c.df is not None and c.df < 4 for c in conditions if c.verdict == Verdict.INCONCLUSIVE):
        return []  # more clusters are needed, whatever the number of cases
    stricter = (1 - price.after) / (1 - price.asked)
    return [
        replace(c.plan, tail=c.plan.tail * stricter, share=min(1.0, c.n_cases / n_cases))
        for c in conditions
        if c.plan is not None and (c.rule, c.verdict) != ("superior", Verdict.PASS)
    ]


def _needed(needs: Sequence[Need], *, times_repeats: float = 1.0) -> NeededCases | None:
    try:
        return needed_cases(needs, times_repeats=times_repeats)
    except DataError:  # nothing is planned, or nothing can settle it
        return None


def _with_repeats(
    conditions: Sequence[Condition], needs: Sequence[Need], needed: NeededCases
) -> tuple[int, int, NeededCases] | None:
    """Repeats instead of today's, and the cases needed then; None where that saves less than a fifth of the cases."""
    asked = [c.repeats for c in conditions if c.repeats is not None]
    if not asked:
        return None
    repeats, now = more_repeats(min(asked))
    then = _needed(needs, times_repeats=repeats / now)
    return (repeats, now, then) if then is not None and then.likely < (1 - SAVED_AT_LEAST) * needed.likely else None


def _is_one_bundle(results: Results, arms: Arms) -> bool:
    bundles = results.bundles
    return arms.baseline is not None and bundles[arms.baseline].digest == bundles[arms.candidate].digest


def _notes(policy: Rules, results: Results, arms: Arms, borrowed: dict[str, Any]) -> tuple[str, ...]:
    baseline, notes = arms.baseline, [*results.notes]
    if _is_one_bundle(results, arms):
        digest = results.bundles[arms.candidate].digest[:8]
        notes.append(
            f"Candidate and baseline are one bundle ({digest}): what differs is chance, and more cases show nothing."
        )
    if baseline is None:
        notes.append("There is no baseline: only the floors were judged.")
    if borrowed:
        notes.append(f"The rows of {baseline} come from an earlier run of {borrowed['created_at']}.")
    if policy.timeouts == "missing":
        notes.append("Timeouts count as missing, as the policy says.")
    if weighting := results.table("cost_usd").weighting:
        notes.append(weighting)
    return tuple(notes)


def _facts(
    policy: Rules, results: Results, arms: Arms, passports: Sequence[room.JudgePassport], borrowed: dict[str, Any]
) -> dict[str, Any]:
    candidate, baseline, anchor = arms
    bundle, origin = results.bundles[candidate], results.provenance
    judges = judges_of(policy, results)
    return {
        "bundle_name": bundle.name,
        "bundle_version": bundle.version,
        "bundle_digest": bundle.digest,
        "baseline_digest": results.bundles[baseline].digest if baseline else "",
        "anchor_digest": results.bundles[anchor].digest if anchor else "",
        "golden_digest": results.golden_digest,
        "golden_parent": results.golden.parent if results.golden else "",
        "index_digest": results.index_digests.get(candidate, ""),
        "index_freshness": origin.index_freshness.get(candidate, {}),
        "policy_digest": policy.digest,
        "results_created_at": results.created_at,
        "judges": judges,
        "scorers": {n: digest for n in policy.metrics if (digest := results.scorers_of(n)[candidate])},
        "labels": {n: d for n, d in results.labels_digests.items() if n in policy.corrected(judges)},
        "passports": {p.judge_digest: p.digest for p in passports if p.judge_digest in judges.values()},
        "endpoint": origin.endpoints.get(candidate, ""),
        "served_model": next(iter(results.served(candidate)), ""),
        "dirty": origin.dirty,
        "earlier_baseline": borrowed,
        "author": str(bundle.metadata.get("author") or ""),
    }
