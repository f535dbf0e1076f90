"""What makes any verdict impossible: reasons for INVALID, looked for before a single condition is read.

An earlier run may lend the baseline's rows while the questions are the same, the run is young and the model too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from llmlab import gate as room
from llmlab import results as measured
from llmlab import stats
from llmlab.base.errors import FloatingModelError
from llmlab.base.numbers import Interval, counted
from llmlab.base.project import utc
from llmlab.gate.policy import Arms, Rules, age_limit
from llmlab.golden.cases import GoldenSet
from llmlab.results.results import Results
from llmlab.results.scores import above_share

_UNTAGGED = "the policy's categories are the tags of the cases, and no case has a tag; tag them, or drop `categories`"


def invalid_reasons(
    policy: Rules, results: Results, arms: Arms, *, passports: Sequence[room.JudgePassport], now: datetime
) -> list[str]:
    """Why no verdict can rest on these results; empty where one can."""
    candidate, reasons = arms.candidate, [*_of_the_run(results)]
    if arms.baseline is None and not policy.floors_only:
        reasons.append(f"the policy compares with {policy.baseline!r} and no baseline was given")
    if policy.anchor is not None and arms.anchor is None:
        reasons.append(f"no variant stands for the policy's anchor {policy.anchor.bundle!r}; run it too and name it")
    unknown = [name for name in policy.metrics if name not in results.measured]
    known = ", ".join(results.metrics)
    reasons += [f"the policy's metric {name!r} is not in these results (there are: {known})" for name in unknown]
    model = results.bundles[candidate].model
    if not model.pinned:
        floating = f"the candidate's model {model} is floating: {model.pinned.reason}"
        reasons.append(f"{floating}. {FloatingModelError.REMEDY}")
    reasons += _of_the_rows(policy, results, arms.names)
    used = [name for name in policy.metrics if name not in unknown]
    reasons += _of_the_scores(policy, results, used, arms)
    reasons += _of_the_judges(policy, results, used, passports, now)
    if policy.corrected(judged := judges_of(policy, results)):
        reasons += room.corrected.label_reasons(policy, results, arms, judged=judged)
    reasons += _of_the_index(policy, results, candidate, now)
    return list(dict.fromkeys(reasons))


def earlier_reasons(
    policy: Rules, results: Results, earlier: Results, *, baseline: str, candidate: str, now: datetime
) -> list[str]:
    """Why the baseline's rows of an earlier run may not stand in for new ones; empty where they may."""
    reasons = []
    if earlier.golden_digest != results.golden_digest:
        reasons.append("the earlier baseline answered another golden set; run the baseline again")
    made_at = _moment(earlier.created_at)
    if made_at is None or now - made_at > age_limit(policy.max_baseline_age):
        age = f"{f'from {earlier.created_at}' if made_at else 'of unknown age'}, older than {policy.max_baseline_age}"
        reasons.append(f"the earlier baseline run is {age}; run the baseline again")
    if earlier.state != "complete":
        reasons.append(f"the earlier baseline run is {earlier.state}")
    both = [name for name in policy.metrics if name in results.metrics and name in earlier.metrics]
    changed = [n for n in both if replace(earlier.metrics[n], scorer="") != replace(results.metrics[n], scorer="")]
    reasons += [f"the metric {name} meant something else in the earlier run" for name in changed]
    same_model = earlier.bundles[baseline].model.identity == results.bundles[candidate].model.identity
    then, today = earlier.served(baseline), results.served(candidate)
    if same_model and set(then) != set(today):
        was, is_now = (", ".join(sorted(names)) or "unknown" for names in (then, today))
        served = f"{results.bundles[candidate].model} was served as {was} then and as {is_now} now"
        reasons.append(f"{served}; run the baseline again")
    return reasons


def judges_of(policy: Rules, results: Results) -> dict[str, str]:
    """The judged metrics that the policy uses, each with its judge's digest ("" = not known)."""
    marked = {name: metric.judge for name, metric in results.metrics.items() if metric.judge}
    known = {name: record.digest for name, record in results.provenance.judges.items()} | marked
    return {name: str(known.get(name, "")) for name in policy.metrics if name in known or name in policy.judge.metrics}


def _of_the_run(results: Results) -> Iterator[str]:
    if results.state != "complete":
        yield f"the run is {results.state}"
    if not results.golden_digest:
        yield "the results name no golden set"
    origin = results.provenance
    if origin.app and origin.dirty:
        yield f"the application {origin.app} was run from a tree with uncommitted changes"
    if origin.app and not origin.commit:
        yield f"the application {origin.app} is at no known commit"


def case_reasons(policy: Rules, cases: GoldenSet) -> Iterator[str]:
    """Why no verdict can rest on answers to these cases; nothing where one can."""
    yield from _too_few(policy, len(cases))
    if policy.categories is not None and not cases.tags:
        yield _UNTAGGED


def _too_few(policy: Rules, n_cases: int) -> Iterator[str]:
    if n_cases < policy.minimum_cases:
        yield f"{counted(n_cases, 'case')}, the policy wants {policy.minimum_cases} or more"


def _of_the_rows(policy: Rules, results: Results, arms: Sequence[str]) -> Iterator[str]:
    of_arms = results.only(variants=arms)
    tried = of_arms.cells.sums(np.ones(of_arms.n_answers()))
    fewest = int((tried > 0).sum(axis=0).min())
    yield from _too_few(policy, fewest)
    if results.golden is not None and (silent := len(results.golden) - of_arms.n_cases) > 0:
        yield f"{silent:,} of {len(results.golden):,} golden cases were never asked"
    rows = {arm: results.n_answers(arm) for arm in arms}
    if len(set(rows.values())) > 1 and all(rows.values()):
        split = stats.split_check(list(rows.values()), shares=[1 / len(arms)] * len(arms))
        if split.blocks:
            counts = ", ".join(f"{arm} {rows[arm]:,}" for arm in arms)
            yield f"the arms were not asked equally often ({counts} answers attempted)"
    for arm in arms:
        served = sorted(results.served(arm))
        if len(served) > 1:
            yield f"{arm} was answered by {' and '.join(served)}: the model changed under us, run it again"


def _of_the_scores(policy: Rules, results: Results, used: Sequence[str], arms: Arms) -> Iterator[str]:
    compared = {part.metric for part in (policy.goal, *policy.guards) if part is not None}
    if results.failed:
        return
    if policy.categories is not None and used and not results.table(used[0]).categories():
        yield _UNTAGGED
    for name in used:
        if two := results.not_comparable(name, arms.names):
            yield two
        table = results.table(name)
        only_floors = name not in compared and policy.categories is None and policy.anchor is None
        for arm in [arms.candidate] if only_floors else arms.names:
            column = table.column(arm)
            attempted = int(table.attempted[:, column].clip(min=1).sum())
            unscored = attempted - int(table.scored[:, column].sum())
            if above_share(unscored, attempted, policy.unscored_at_most):
                allowed = f"the policy allows {policy.unscored_at_most:.1%}"
                why = measured.summary.why_unscored(results.only(variants=[arm]), name)
                yield f"{name}: {unscored / attempted:.1%} of {arm}'s answers have no score, {allowed}{why}"
        if name in policy.relative_metrics and not (table.metric.low is not None and table.metric.low >= 0):
            yield f"{name} may be below 0, so a margin in percent of it means nothing; give a number"


def _of_the_judges(
    policy: Rules, results: Results, used: Sequence[str], passports: Sequence[room.JudgePassport], now: datetime
) -> Iterator[str]:
    for name, record in results.provenance.judges.items():
        if name in used and record.pinned is False:
            yield f"{name}: the judge's model {record.model} is floating. {FloatingModelError.REMEDY}"
    judged = {name: digest for name, digest in judges_of(policy, results).items() if name in used}
    if judged:
        yield from room.passport.passport_reasons(policy, judged, passports, now=now)


def _of_the_index(policy: Rules, results: Results, candidate: str, now: datetime) -> Iterator[str]:
    """A stale index: what it was measured to fetch is not what the documents say, or will not be."""
    rule, known = policy.index, results.provenance.index_freshness.get(candidate, {})
    retrieves = results.bundles[candidate].retrieval is not None or bool(results.provenance.app)
    if rule is None or not (known or retrieves):
        return
    remedy = f"hold its manifest against the corpus: `retrieval.check(...).recorded_in(results, {candidate!r})`"
    built_at = _moment(str(known.get("built_at") or ""))
    if rule.max_age is not None and built_at is None:
        yield f"nobody knows when the index of {candidate} was built, and the policy bounds its age; {remedy}"
    elif rule.max_age is not None and built_at is not None and now - built_at > age_limit(rule.max_age):
        yield f"the index of {candidate} was built at {known['built_at']}, more than {rule.max_age} ago: rebuild it"
    if rule.stale_at_most is None or known.get("fresh"):
        return
    share, low, high = (known.get(f"stale_{part}") for part in ("share", "low", "high"))
    if share is None:
        yield f"nobody knows how many questions rest on stale documents of {candidate}'s index; {remedy}"
    elif high is None or high > rule.stale_at_most:
        sure = "" if low is not None and low > rule.stale_at_most else "may be more than that: "
        shown = Interval(share, low, high, "%")
        yield (
            f"the index of {candidate} is stale: {sure}{shown} of the questions have a relevant document that "
            f"is not as it was indexed (index of {known.get('index_of')}, now {known.get('corpus')}), "
            f"the policy allows {rule.stale_at_most * 100:.3g}%; rebuild it and run again"
        )


def _moment(text: str) -> datetime | None:
    """A moment in UTC; None for an empty text."""
    return utc(text) if text else None
