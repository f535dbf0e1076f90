"""Whether a receipt still holds: what it says against what its run logged, the verdict recomputed from the cases.

The check is made once, by a promotion or an adoption; its outcome and the digest of what it read stand in the move,
which `load`, `export` and `history` believe. `audit` makes it again.

What it finds: a receipt, a cases file, a policy, a passport or a look that was edited, alone or together with every
digest inside it. What somebody can still forge who may write all of the store: scores of scorers of their own and of
judges, with answers, run, look, receipt and move that fit them; how fresh an index is; commit, author and CI; and the
moves themselves. A key in LLMLAB_SIGNING_KEY, which CI alone has, closes that for `promote` and `audit` in CI:
decisions (answers and scores by their digest, freshness) and moves that it signed are not made without it. A service
has no key and cannot tell: it believes the moves that the last audit in CI believed.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from llmlab import scorers
from llmlab.base.documents import is_forged, plain_json, signature
from llmlab.base.errors import DataError, FileRuleError, RegistryError, StoreError
from llmlab.base.numbers import counted
from llmlab.base.project import project_root
from llmlab.base.verdict import Verdict
from llmlab.base.yamlfile import read_yaml
from llmlab.gate.decide import GatePolicy
from llmlab.gate.decision import Receipt
from llmlab.gate.passport import JudgePassport
from llmlab.gate.policy import Floor, age_limit
from llmlab.gate.validity import judges_of
from llmlab.golden.cases import GoldenSet
from llmlab.registry.connection import Registry, Version
from llmlab.registry.moves import History
from llmlab.registry.registering import CLOCKS_DIFFER, read_receipt
from llmlab.registry.release import ledger
from llmlab.registry.versions import sha256, text_of
from llmlab.results.results import Results
from llmlab.scorers.shipped import shipped_scorer
from llmlab.tracking.runs import (
    MEASURED_TAG,
    ORIGIN_TAG,
    measured_by,
    newest_of_sweeps,
    origin,
    origin_tag,
    signed_text,
    sweep_of,
)
from llmlab.tracking.screening import redacted_cases, redactor
from llmlab.tracking.store import reported


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """That a version may stand at an alias, after the moves so far; who asks for it, None where nobody knows."""

    registry: Registry
    version: Version
    alias: str
    past: History
    approver: str | None = None
    root: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a receipt is checked by: golden set (None = the logged one), policy and passports, as of a moment."""

    receipt: Receipt
    policy: GatePolicy
    golden: GoldenSet | None = None
    passports: tuple[JudgePassport, ...] = ()
    made: tuple[scorers.Scorer, ...] = ()  # shipped ones with arguments, which need case and answer alone
    now: datetime

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
            made=_made(folder / "experiment.yaml"),
            now=datetime.now(UTC),
        )

    @classmethod
    def logged(cls, registry: Registry, receipt: Receipt, *, now: datetime | None = None) -> Evidence:
        """With policy and passports as the gate logged them, by the digests that the receipt names.

        Raises:
            RegistryError: they are not there, or are not what they were. StoreError: the store is away.
        """
        runs = _runs(registry, receipt.results_digest)
        run_id = next((run.info.run_id for run in runs if run.data.tags.get("variant") == receipt.candidate), "")
        policy = text_of(registry, run_id, f"gate/policy-{receipt.policy_digest}.json", what="the policy of its gate")
        names = sorted(set(receipt.passports.values()))
        texts = [text_of(registry, run_id, f"gate/passport-{name}.json", what="a passport") for name in names]
        try:
            rules = GatePolicy.model_validate_json(policy)
            passports = tuple(JudgePassport.from_json(text) for text in texts)
        except (pydantic.ValidationError, FileRuleError) as error:
            raise RegistryError(f"what its gate logged was changed: {str(error).splitlines()[0]}") from None
        return cls(receipt=receipt, policy=rules, passports=passports, now=now or datetime.now(UTC))


def check(claim: Claim, evidence: Callable[[Receipt], Evidence]) -> tuple[list[str], dict[str, str]]:
    """Every reason why its receipt does not carry this version to this alias, and what a move names of the check.

    That is the digests of receipt, policy, golden set and evidence: of all that was read. `evidence` gives what to
    check the receipt by.
    """
    digests: dict[str, str] = {}
    try:
        receipt = read_receipt(claim.registry, claim.version)
        if receipt is None:
            return ["it has no receipt: gate it, and `llmlab register BUNDLE.yaml --receipt FILE`"], digests
        digests = {"receipt": receipt.digest}
        return _objections(claim, evidence(receipt))
    except (DataError, FileRuleError, RegistryError, StoreError) as error:  # then force still moves the alias
        return [str(error)], digests
    except ValueError as error:  # it names a baseline that the cases do not have, or a holdout that they cannot give
        return [f"it cannot be decided again: {error}"], digests


def _objections(claim: Claim, evidence: Evidence) -> tuple[list[str], dict[str, str]]:
    registry, root, receipt = claim.registry, claim.root, evidence.receipt
    against = [*_of_the_receipt(evidence, claim.version)]
    read: list[Results] = []
    try:
        runs = _runs(registry, receipt.results_digest)
        read.append(sweep_of(runs[0], root=root))
        borrowed = receipt.earlier_baseline.get("results_digest")
        read += [sweep_of(_runs(registry, borrowed)[0], root=root)] if borrowed else []
    except (DataError, RegistryError, StoreError) as error:
        against.append(f"the cases that it rests on cannot be read: {error}")
    else:
        results, earlier = read[0], next(iter(read[1:]), None)
        candidate_runs = [run for run in runs if run.data.tags.get("variant") == receipt.candidate]
        decided, signed = _where_decided(registry, candidate_runs, receipt)
        if not signed:
            against.append("its decision is not signed by the key in LLMLAB_SIGNING_KEY: gate in CI")
        if decided is None:
            how = "with the ledger (notebook 05, `llmlab gate --ledger`)"
            against.append(f"no gate logged this decision: gate again, {how}")
        against += _broken_rules(claim, evidence.policy, decided or receipt, candidate_runs)
        against += _otherwise_made(runs, results)
        against += _recomputed(evidence, results, earlier, root)
        against += [differs for part in read for differs in _rescored(evidence, part)]
        grown, newer = _grown(claim, evidence, results)
        against += grown
        read += [newer] if newer is not None else []
    golden = receipt.golden_digest if evidence.golden is None else evidence.golden.digest
    digests = {"receipt": receipt.digest, "policy": evidence.policy.digest, "golden": golden}
    return against, {**digests, "evidence": sha256(json.dumps([digests, *(part.digest for part in read)]))}


def _of_the_receipt(evidence: Evidence, version: Version) -> Iterator[str]:
    """What speaks against it before anything is computed."""
    receipt, policy, now = evidence.receipt, evidence.policy, evidence.now
    if receipt.verdict != Verdict.PASS:
        yield f"its receipt says {receipt.verdict}: {receipt.sentence}"
    if receipt.bundle_digest != version.digest:
        yield f"the receipt is for the bundle {receipt.bundle_digest[:8]}, this is {version.digest[:8]}"
    if receipt.policy_digest != policy.digest:
        yield "gate.yaml changed since the receipt was made: gate again"
    age = now - receipt.decided_at()
    if age > age_limit(policy.receipt_max_age):
        yield f"the receipt is {age.days} days old, receipt_max_age is {policy.receipt_max_age}: gate again"
    if -age > CLOCKS_DIFFER:
        yield f"the receipt is of {receipt.created_at}, which is yet to come: a date or a clock is wrong"
    shown = {passport.digest for passport in evidence.passports}
    for judge, digest in receipt.passports.items():
        if digest not in shown:
            yield f"it rests on the passport {digest[:8]} of judge {judge[:8]}, which was not shown"


def _broken_rules(claim: Claim, policy: GatePolicy, receipt: Receipt, runs: Sequence[Any]) -> Iterator[str]:
    """What the policy asks for besides a receipt; `receipt` and `runs` say where it was made."""
    rules = policy.promotion
    dirty = receipt.dirty or any(run.data.tags.get("git_dirty") == "true" for run in runs)
    if rules.clean_commit and (dirty or not receipt.commit):
        yield "the policy asks for a clean commit, and the gate ran on a tree with changes"
    if rules.signed and not signature(""):
        yield "the policy asks for a signed decision, and LLMLAB_SIGNING_KEY is not here to tell: promote in CI"
    if rules.ci and not receipt.ci:
        yield "the policy asks for a CI run, and the gate ran outside of CI"
    if rules.approver_not_author and claim.approver in (None, "", receipt.author):
        yield f"the policy asks for an approver other than the author ({receipt.author})"
    earlier, number = rules.after_alias, claim.version.number
    if earlier and claim.alias != earlier and not any(move.version == number for move in claim.past.valid(earlier)):
        yield f"the policy asks for {earlier} first, which never was version {number}"


def _runs(registry: Registry, sweep_id: str) -> list[Any]:
    with reported(f"sweep {sweep_id[:8]} cannot be searched"):
        runs = registry.store.whole_runs("sweep_id", sweep_id)
    if not runs:
        who = "notebook 05 and `llmlab gate --ledger` do, notebook 01 an earlier run whose baseline rows were borrowed"
        raise RegistryError(f"sweep {sweep_id[:8]} is not in the store; log it: {who}")
    return runs


def _otherwise_made(runs: Sequence[Any], results: Results) -> Iterator[str]:
    """Variants whose scores were made by something else than their runs say."""
    for run in runs:
        variant, logged = run.data.tags.get("variant", ""), run.data.tags.get(MEASURED_TAG)
        if variant in results.bundles and logged is not None and logged != measured_by(results, variant):
            yield f"scorers, judges or index of {variant} are not those that its run logged"


def _where_decided(registry: Registry, candidate_runs: Sequence[Any], receipt: Receipt) -> tuple[Receipt | None, bool]:
    """The receipt with commit, author, CI and date as the candidate's runs logged them, None where none did.

    And whether they were signed as the key here signs, if there is one.
    """
    for run in candidate_runs:
        if text := run.data.tags.get(origin_tag(receipt)):
            decided, signed = _as_decided(receipt, text)
            return decided, not is_forged(signed_text(decided), signed)
    for run in candidate_runs:  # before 0.2 a run kept one receipt and no tags
        if "gate" in run.data.tags and not any(tag.startswith(ORIGIN_TAG) for tag in run.data.tags):
            text = text_of(registry, run.info.run_id, "gate/receipt.json", what="the receipt that the run logged")
            logged = Receipt.from_json(text)
            if logged.created_at == receipt.created_at:
                return receipt.model_copy(update=origin(logged)), not signature("")
    return None, True


def _as_decided(receipt: Receipt, text: str) -> tuple[Receipt, str]:
    """The receipt with the facts of a run's tag, and their signature; DataError where the tag is none of llmlab's."""
    try:
        content = plain_json(text)
        facts = dict(content) if isinstance(content, Mapping) else {}
        signed = facts.pop("signature", "")
        if facts and set(facts) <= set(origin(receipt)) and isinstance(signed, str):
            return Receipt.model_validate({**receipt.model_dump(), **facts}), signed
    except ValueError:  # pydantic's too
        pass
    raise DataError(f"the tag {origin_tag(receipt)} of its run, where its gate logged it, was edited: gate again")


def _recomputed(evidence: Evidence, results: Results, earlier: Results | None, root: Path | None) -> Iterator[str]:
    """What the verdict is when it is computed again from the logged cases, as of the receipt's day.

    `earlier` is the run that the baseline's rows were borrowed from, if they were.
    """
    receipt = evidence.receipt
    if receipt.candidate not in results.bundles:
        yield f"the logged cases have no variant {receipt.candidate!r}, which it calls its candidate"
        return
    passport_digests = set(receipt.passports.values())
    decision = evidence.policy.decide(
        results,
        candidate=receipt.candidate,
        baseline=receipt.baseline or None,
        anchor=receipt.anchor or None,
        looks=ledger(evidence.policy, results.bundles[receipt.candidate], root=root),
        passports=[passport for passport in evidence.passports if passport.digest in passport_digests],
        baseline_results=earlier,
        now=receipt.decided_at(),
    )
    if differs := receipt.differences(decision):
        yield f"the logged cases give another {', '.join(differs)} than the receipt says"
    if decision.word != Verdict.PASS and receipt.verdict == Verdict.PASS:
        yield f"the logged cases say {decision.word}: {decision.sentence}"


def _made(path: Path) -> tuple[scorers.Scorer, ...]:
    """The shipped scorers of an `experiment.yaml`, without those of passages and those that cannot be made."""
    content, _ = read_yaml(path) if path.is_file() else ({}, None)
    shipped = []
    for spec in (content.get("scorers") if isinstance(content, Mapping) else None) or ():
        with contextlib.suppress(ValueError, TypeError):  # what cannot be made has scored nothing
            shipped.append(shipped_scorer(spec, corpus=_no_corpus))
    return tuple(shipped)


def _no_corpus() -> None:
    raise ValueError("scores of passages are held to their digest")


def _rescored(evidence: Evidence, results: Results) -> Iterator[str]:
    """Scores that a shipped scorer, which needs case and answer alone, does not give again; of one's own, none."""
    if results.golden is None or results.provenance.redacted_from:  # the answers are not those that were scored
        return
    known = {name: getattr(scorers, name) for name in scorers.__all__}
    known |= {scorer.name: scorer for scorer in evidence.made}
    for metric in evidence.policy.metrics:
        shipped = known.get(metric) if metric in results.metrics else None
        if not isinstance(shipped, scorers.Scorer) or set(results.scorers_of(metric).values()) != {shipped.digest}:
            continue
        again = results.scored_by([shipped]).scores(metric)
        if differ := int((~np.isclose(again, results.scores(metric), equal_nan=True)).sum()):
            yield f"{differ} logged scores of {metric} are not what it gives for the logged answers"


def _grown(claim: Claim, evidence: Evidence, results: Results) -> tuple[list[str], Results | None]:
    """Today's golden set must be the receipt's, or hold all its cases and some more that pass too (and where)."""
    results = evidence.policy.held_out(results)
    today, before = evidence.golden, results.golden
    if today is None or today.digest == evidence.receipt.golden_digest:
        return [], None
    if results.provenance.redacted_from:  # personal data was logged as pseudonyms: compare like with like
        today = redacted_cases(today, redactor(claim.root or project_root()))
    if before is None:
        return ["golden.jsonl changed, and the logged results do not hold the cases they were run on: gate again"], None
    if changed := [case.id for case in before if today.by_id.get(case.id) != case]:
        how = f"{counted(len(changed), 'case')} of golden.jsonl changed or went since the receipt ({changed[0]!r})"
        return [f"{how}: gate again"], None
    added = [case.id for case in today if case.id not in before.by_id]
    newer = _with_cases(claim, evidence, today, added)
    if newer is None:
        how = f"golden.jsonl has grown by {counted(len(added), 'case')} that this bundle has not answered"
        return [f"{how}: run and log them"], None
    return _added_fail(evidence, newer, added), newer


def _with_cases(claim: Claim, evidence: Evidence, today: GoldenSet, added: Sequence[str]) -> Results | None:
    """The newest logged results in which the candidate (and the baseline) answered the added cases."""
    receipt = evidence.receipt
    with reported("the runs of this bundle cannot be searched"):
        runs = claim.registry.store.whole_runs("bundle_digest", receipt.bundle_digest)
    for run in newest_of_sweeps(runs).values():
        results = sweep_of(run, root=claim.root)
        if (
            results.golden is not None
            and all(results.golden.by_id.get(case_id) == today.by_id[case_id] for case_id in added)
            and all(set(results.scorers_of(metric).values()) == {by} for metric, by in receipt.scorers.items())
            and {receipt.bundle_digest, receipt.baseline_digest} <= {"", *(b.digest for b in results.bundles.values())}
        ):
            return results
    return None


def _added_fail(evidence: Evidence, results: Results, added: Sequence[str]) -> list[str]:
    """The added cases alone: the mean reaches every floor, and no condition is shown to be broken.

    They are too few to prove a goal again; that was proved on the others. Judged as the receipt's cases were: with its
    passports as of its day, and on people's labels where the policy reads those (two of them will do).
    """
    receipt, policy = evidence.receipt, evidence.policy
    names = {bundle.digest: name for name, bundle in results.bundles.items()}
    added_results = results.only(cases=added)
    candidate, where = names[receipt.bundle_digest], f"on the {counted(len(added), 'case')} added since"
    below_par = []
    for floor in policy.floors:
        mean = _floor_mean(policy, added_results, floor, candidate)
        low = -math.inf if floor.at_least is None else floor.at_least
        high = math.inf if floor.at_most is None else floor.at_most
        if not low <= mean <= high:
            below_par.append(f"{where}, {floor.metric} has a mean of {mean:.3g}: below par")
    if len(added) > 1 and not below_par:
        labels = policy.judge.model_copy(update={"labels_at_least": 2})
        lenient = policy.model_copy(update={"minimum_cases": 2, "categories": None, "anchor": None, "judge": labels})
        decision = lenient.decide(
            added_results,
            candidate=candidate,
            baseline=names.get(receipt.baseline_digest),
            passports=evidence.passports,
            now=receipt.decided_at(),
        )
        if decision.word in (Verdict.FAIL, Verdict.INVALID):
            return [f"{where}: {decision.sentence.rstrip('.')}"]
    return below_par


def _floor_mean(policy: GatePolicy, results: Results, floor: Floor, candidate: str) -> float:
    """The candidate's mean as the floor reads it: raw, or corrected where labels of these cases can do that.

    Cases count by their weight, and what is unscored at its worst; where nothing bounds that, there is no value: the
    worst seen of so few cases says little.
    """
    if policy.is_corrected(floor, judges_of(policy, results)) and floor.metric in results.labels_digests:
        value = results.labelled(floor.metric).mean(candidate).corrected.value
        if value is not None:
            return value
    table = results.table(floor.metric, aggregation=policy.aggregation if floor.metric in results.metrics else "mean")
    column = table.column(candidate)
    low, high = table.pessimistic([column]) or (table.values[:, [column]],) * 2
    values, worst = (high, math.inf) if floor.at_least is None else (low, -math.inf)
    if table.assumed([column]) or np.isnan(values).any():
        return worst
    return float(np.average(values[:, 0], weights=table.weights))
