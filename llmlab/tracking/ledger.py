"""The ledger of looks: every decision of a gate, kept twice, so that the price of looking cannot be tidied away.

A look is a tag of the candidate's run, and a numbered tag of its experiment. A run in MLflow's trash still counts, and
so does a look that is left in one of the two places; of one that is gone from both, the number that is missing counts
and is told. Not noticed is the newest look of an experiment where both tags were deleted, or the experiment itself.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from llmlab.base.cells import plain
from llmlab.base.documents import plain_json
from llmlab.base.errors import DataError
from llmlab.base.project import utc
from llmlab.gate.looks import MISSING, Look
from llmlab.golden.cases import is_held_out
from llmlab.results.results import Results
from llmlab.tracking.reach import TRANSFER_S
from llmlab.tracking.store import Store, open_store, reported

CASES_FILE = "cases.parquet"
LOOK_TAG = "look."  # of a run: look.RESULTS.POLICY.BUNDLE, of its experiment: look.NUMBER.RESULTS.POLICY.BUNDLE
_LONGEST_TAG_CHARS = 4_900  # of an experiment; a run's may be longer


def keep_look(store: Store, run_id: str, look: Look) -> None:
    """Write a look into both places; the same look again is no second one."""
    run, key = store.client.get_run(run_id), ".".join(digest[:12] for digest in look.key)
    if f"{LOOK_TAG}{key}" in run.data.tags:
        return
    experiment = store.client.get_experiment(run.info.experiment_id)
    number = 1 + max(_numbers(experiment), default=0)
    text = json.dumps(look.to_record())
    short = text if len(text) <= _LONGEST_TAG_CHARS else json.dumps(replace(look, beside="", tried="").to_record())
    # in this order: after a write that failed, the run's tag alone would say that the look is in both places
    store.client.set_experiment_tag(experiment.experiment_id, f"{LOOK_TAG}{number}.{key}", short)
    store.client.set_tag(run_id, f"{LOOK_TAG}{key}", text)


def looks(*golden_digests: str, name: str = "", root: Path | None = None) -> tuple[Look, ...]:
    """Every decision of a gate that was logged on these golden sets, or of bundles of this name; oldest first.

    `registry.ledger` gives what `decide(looks=...)` wants. A look that is missing has the verdict "MISSING", and counts
    as one of the next look's kind.
    """
    store, runs = open_store(root), dict[str, Any]()
    queries = [f"tags.golden_digest = '{re.sub(r'[^0-9a-f]', '', digest)}'" for digest in golden_digests]
    queries += [f"tags.bundle_name = '{name}' and tags.gate LIKE '%'"] if re.fullmatch(r"[\w.-]+", name) else []
    with reported("the ledger of looks cannot be read"):
        for query in queries:
            runs |= {run.info.run_id: run for run in store.search(query, trash=True)}
        tags = [tag for run in runs.values() for tag in run.data.tags.items()]
        logged = [_read(text, key, where="a run") for key, text in tags if key.startswith(LOOK_TAG)]
        for look in _numbered(store):
            logged += [look] if look.golden_digest in golden_digests or (name and look.name == name) else []
        every = _with_cases(store, list(runs.values()), list(dict.fromkeys(logged)))
    return tuple(sorted(every, key=lambda look: utc(look.made_at)))


def gaps(store: Store, name: str) -> tuple[Look, ...]:
    """The looks at bundles of this name that are missing from both places."""
    with reported("the ledger of looks cannot be read"):
        return tuple(look for look in _numbered(store) if look.verdict == MISSING and look.name == name)


def cases_of(store: Store, run_id: str) -> Results:
    """The results that a run of one variant keeps."""
    with tempfile.TemporaryDirectory(prefix="llmlab-") as folder:
        return Results.from_parquet(store.file(run_id, CASES_FILE, folder, longest_s=TRANSFER_S))


def _read(text: str, tag: str, *, where: str) -> Look:
    try:
        record = plain_json(text)
        look = Look.from_record(record if isinstance(record, Mapping) else {})
        utc(look.made_at)
    except (DataError, ValueError) as error:
        edited = f"the tag {plain(tag)} of {where} is no look any more ({error})"
        remedy = "delete it in MLflow: the look is kept in a second place, and counts where it is gone from both"
        raise DataError(f"{edited}; {remedy}") from None
    return look


def _numbers(experiment: Any) -> dict[int, str]:
    """The looks of an experiment by their number; llmlab wrote none beyond 99,999."""
    matches = {key: re.fullmatch(rf"{re.escape(LOOK_TAG)}(\d{{1,5}})\..*", key) for key in sorted(experiment.tags)}
    return {int(match[1]): experiment.tags[key] for key, match in matches.items() if match}


def _numbered(store: Store) -> Iterator[Look]:
    """The looks of every experiment; one that is missing is like the next, and came just before it."""
    for experiment in store.experiments(trash=True):
        texts, following = _numbers(experiment), None
        for number in range(max(texts, default=0), 0, -1):
            if number in texts:
                where = f"the experiment {plain(experiment.name)}"
                following = _read(texts[number], f"{LOOK_TAG}{number}. ...", where=where)
                yield following
            elif following is not None:
                made_at = (utc(following.made_at) - timedelta(milliseconds=1)).isoformat(timespec="milliseconds")
                gone = f"look {number} of experiment {experiment.name}"
                yield replace(following, results_digest=gone, verdict=MISSING, made_at=made_at, beside="", tried="")


def _with_cases(store: Store, runs: Sequence[Any], found: Sequence[Look]) -> Iterator[Look]:
    """The looks with the cases that they judged: one download for each golden set, none where all its runs are gone."""
    holders = {run.data.tags.get("golden_digest", ""): run for run in runs}
    wanted = {look.golden_digest for look in found} & set(holders)
    contents = {digest: _contents_of(store, holders[digest]) for digest in wanted}
    for look in found:
        cases, share = contents.get(look.golden_digest, frozenset()), float(look.holdout or 1)
        yield replace(look, cases=frozenset(case for case in cases if share == 1 or is_held_out(case, share)))


def _contents_of(store: Store, run: Any) -> frozenset[str]:
    """`Case.content` of the cases of a run; none where somebody removed them, and only its golden digest tells then."""
    if not any(file.path == CASES_FILE for file in store.client.list_artifacts(run.info.run_id)):
        return frozenset()
    return frozenset(cases_of(store, run.info.run_id).contents.values())
