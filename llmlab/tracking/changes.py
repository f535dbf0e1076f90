"""What changed between two runs of the same bundles: what went in, and what that did to the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.display.html import Html, html_table
from llmlab.display.page import html_of
from llmlab.display.shown import Shown
from llmlab.results.comparison import Comparison
from llmlab.results.results import Results
from llmlab.tracking.runs import newest_of_sweeps, sweep_of
from llmlab.tracking.store import open_store, reported

BEFORE = " (before)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RunChanges(Shown):
    """What differs between an old run and a new one.

    Attributes:
        changes: (variant, what, before, after); variant "" for what all share, such as cases.
        comparisons: variant -> its new answers against its old ones, on the cases that are the same in both.
        n_cases: how many cases those are.
        notes: variants and metrics that only one of the runs has, or that cannot be compared.
        ages: when the old run and the new one were made.
    """

    changes: tuple[tuple[str, str, Any, Any], ...]
    comparisons: Mapping[str, Comparison]
    n_cases: int
    notes: tuple[str, ...]
    ages: tuple[str, str]

    def _rows(self) -> list[dict[str, object]]:
        return [
            {"variant": variant or "all", "changed": changed, "before": before, "after": after}
            for variant, changed, before, after in self.changes
        ]

    def _sentence(self) -> str:
        same = "" if self.changes else " Nothing that is known of either changed."
        of = f"{counted(self.n_cases, 'case')} that both asked"
        return "\n".join([f"From the run of {self.ages[0]} to that of {self.ages[1]}, on {of}.{same}", *self.notes])

    def __str__(self) -> str:
        return "\n\n".join([Shown.__str__(self), *map(str, self.comparisons.values())])

    def _repr_html_(self) -> Html:
        return html_of(html_table(self._rows(), caption=self._sentence()), *self.comparisons.values())


def compare_runs(
    old: Results | str | Path | None, new: Results | str | Path, *, root: Path | None = None
) -> RunChanges:
    """What changed from one run to another of the same variants, and what that did, paired on the cases of both.

    Args:
        old, new: results, or a file or folder that `Results.load` reads. `old=None` is the last run that was logged
            of a bundle of this name before the new one.
        root: the project whose store is asked for it, by default the one around the current folder.

    Raises:
        DataError: the runs share no variant or no case, or nothing was logged before. RunFailedError: too many rows
            have no answer.
    """
    after = new if isinstance(new, Results) else Results.load(new)
    before = _last_logged(after, root) if old is None else old if isinstance(old, Results) else Results.load(old)
    shared = [name for name in after.variants if name in before.variants]
    if not shared:
        raise DataError(f"the runs share no variant ({', '.join(before.variants)}; {', '.join(after.variants)})")
    cases = _same_cases(before, after)
    if not cases:
        raise DataError("no case is the same in both runs, so their scores cannot be compared")
    notes = []
    for which, run, other in (("old", before, after), ("new", after, before)):
        alone = [name for name in (*run.variants, *run.metrics) if name not in (*other.variants, *other.metrics)]
        notes += [f"Only in the {which} run: {', '.join(alone)}."] if alone else []
    comparisons = {}
    for name in shared:
        arms = [run.only(variants=[name], cases=cases) for run in (before, after)]
        pair = arms[1].joined(_renamed(arms[0], name))
        refused = {metric: why for metric in pair.metrics if (why := pair.not_comparable(metric, pair.variants))}
        notes += [f"{name}: {why}" for why in refused.values()]
        if metrics := [metric for metric in pair.metrics if metric not in refused]:
            comparisons[name] = pair.compare(f"{name}{BEFORE}", metrics=metrics)
    return RunChanges(
        changes=(*_of_all(before, after), *(row for name in shared for row in _of_variant(name, before, after))),
        comparisons=comparisons,
        n_cases=len(cases),
        notes=tuple(notes),
        ages=(before.created_at or "an unknown day", after.created_at or "an unknown day"),
    )


def _same_cases(before: Results, after: Results) -> list[str]:
    """Ids of the cases that both runs asked, with the same inputs and expectations where they are known."""
    old, new, there = before.contents, after.contents, set(before.cells.case_ids)
    shared = [case_id for case_id in after.cells.case_ids if case_id in there]
    return [case_id for case_id in shared if not old or not new or old.get(case_id) == new.get(case_id)]


def _renamed(results: Results, name: str) -> Results:
    called, original = f"{name}{BEFORE}", results.provenance
    scorers = {called: original.scorers[name]} if name in original.scorers else {}
    renamed = results.with_columns(variant=[called] * results.n_answers())
    bundles, provenance = {called: results.bundles[name]}, replace(original, scorers=scorers)
    return replace(renamed, bundles=bundles, index_digests={}, provenance=provenance)


def _of_all(before: Results, after: Results) -> Iterator[tuple[str, str, Any, Any]]:
    old, new = before.contents, after.contents
    if old and new:
        both = old.keys() & new.keys()
        counts = {"added": len(new) - len(both), "gone": len(old) - len(both)}
        counts["changed"] = sum(old[case_id] != new[case_id] for case_id in both)
        if any(counts.values()):
            yield "", "cases", len(old), f"{len(new)} ({', '.join(f'{n} {kind}' for kind, n in counts.items() if n)})"
    for attribute in ("commit", "app", "source"):
        a, b = getattr(before.provenance, attribute), getattr(after.provenance, attribute)
        if a != b:
            yield "", attribute, a, b


def _of_variant(name: str, before: Results, after: Results) -> Iterator[tuple[str, str, Any, Any]]:
    """What went into the answers of a variant and their scores, where it differs."""
    for field, a, b in before.bundles[name].diff(after.bundles[name]).changes:
        yield name, field, a, b
    sides = [
        {
            "endpoint": results.provenance.endpoints.get(name, ""),
            "index": results.index_digests.get(name, "")[:12],
            "served model": ", ".join(results.served(name)),
            **{f"scorer of {m}": results.scorers_of(m).get(name, "")[:12] for m in results.metrics},
        }
        for results in (before, after)
    ]
    for fact in filter(sides[1].__contains__, sides[0]):
        if sides[0][fact] != sides[1][fact]:
            yield name, fact, sides[0][fact], sides[1][fact]


def _last_logged(new: Results, root: Path | None) -> Results:
    """The newest whole run of a bundle of this name that is not this one, and was not made after it."""
    store, names = open_store(root), {bundle.name for bundle in new.bundles.values()}
    with reported("the runs that were logged before cannot be read"):
        runs = [run for name in sorted(names) for run in store.whole_runs("bundle_name", name)]
        runs.sort(key=lambda run: int(run.info.start_time), reverse=True)
    for sweep_id, run in newest_of_sweeps(runs).items():
        if sweep_id != new.digest:
            results = sweep_of(run, root=root)
            if not new.created_at or results.created_at <= new.created_at:
                return results
    raise DataError(f"no run of {', '.join(sorted(names))} was logged before this one; give the old results themselves")
