"""What users asked and got, all requests together; and how a person is forgotten.

`Traces` is to production what `Results` is to a run: one frame with a row per request, and what was wrong with it.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic_core import from_json

from llmlab.base.documents import whole_file
from llmlab.base.errors import DataError, FileRuleError, LlmlabError
from llmlab.base.numbers import counted
from llmlab.base.private import project_key
from llmlab.base.project import aware, located, runs_folder
from llmlab.bundle.bundle import Bundle
from llmlab.display.shown import Rows, Shown
from llmlab.golden.cases import GoldenSet
from llmlab.production.harvest import Harvest, harvested, why_nothing
from llmlab.production.lines import SIGNAL, Trace, trace_of, with_signals
from llmlab.production.reading import ENDINGS, from_files, from_objects, from_table, is_ours, requests_told_of
from llmlab.production.recorder import is_held, pseudonym
from llmlab.production.service_metrics import Figures, figures_of
from llmlab.tracking.reports import read_traces

if TYPE_CHECKING:
    import pandas as pd

_ROWS_SHOWN = 10
_SHOWN = ("time", "request_id", "unit_id", "service", "arm", "status", "latency_s", "cost_usd", "text")


@dataclass(frozen=True, kw_only=True, repr=False)
class Traces(Shown):
    """Requests of production, in order of time.

    Attributes:
        frame: one row per request: when, who, which arm; status, text and amounts (NaN = unknown); `signals.NAME`.
        problems: what was wrong with the files, how many of what, with the first lines.
        source: how they were read.
    """

    frame: pd.DataFrame
    problems: Rows
    source: str

    @classmethod
    def load(cls, paths: str | Path | Sequence[str | Path]) -> Self:
        """The requests in files: JSON lines, Parquet or CSV, of ours or of the tools that `reading` knows.

        Args:
            paths: a file, a folder, a pattern with `*`, or a list of them.

        Raises:
            FileRuleError: no such file, or none of the formats.
        """
        frame, problems, source = from_files([paths] if isinstance(paths, (str, Path)) else paths)
        return cls(frame=frame, problems=problems, source=source)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, mapping: Mapping[str, str] | None = None) -> Self:
        """The requests in a table, a row each.

        Args:
            mapping: our field -> column of the table, such as {"time": "created_at", "signals.thumbs": "liked"}.

        Raises:
            DataError: a column is not there, or none says when. ValueError: no such field.
        """
        requests, problems = from_table(frame, dict(mapping or {}))
        return cls(frame=requests, problems=problems, source="read from a table")

    @classmethod
    def from_mlflow(cls, experiment: str, *, root: Path | None = None) -> Self:
        """The requests that live as traces in an experiment of MLflow, whole: its short form cuts texts.

        Raises:
            StoreError: the store cannot be read, or has no such experiment.
        """
        frame, problems = from_objects(read_traces(experiment, root=root), name="MLflow")
        return cls(frame=frame, problems=problems, source=f"read from MLflow's experiment {experiment}")

    def with_signals(self, frame: pd.DataFrame, *, on: str = "request_id") -> Self:
        """The traces with signals that came later: every other column of the table is one, NaN = nothing said.

        Raises:
            DataError: the table has no column `on`, or a column that is no number, or endless ones.
        """
        if on not in frame or on not in self.frame:
            raise DataError(f"signals are joined on {on!r}, which the table and the traces must both have")
        try:
            renamed = {name: f"{SIGNAL}{str(name).removeprefix(SIGNAL)}" for name in frame.columns if name != on}
            numbers = frame.rename(columns=renamed).astype(dict.fromkeys(renamed.values(), float))
        except (TypeError, ValueError) as error:
            raise DataError(f"a signal is a number for each request: {error}") from None
        if endless := [name for name in renamed.values() if np.isinf(numbers[name]).any()]:
            raise DataError(
                f"{endless[0]} has endless numbers; a signal is a finite one, or NaN where nothing was said"
            )
        joined, unknown = with_signals(self.frame, numbers, on=on)
        rows = self.problems.rows
        if unknown:
            rows = (*rows, {"problem": "signal for a request that is not here", "count": unknown, "first": ""})
        return replace(self, frame=joined, problems=replace(self.problems, rows=rows))

    def between(self, start: datetime, end: datetime) -> Self:
        """Those that began from `start` (with its time zone) on and before `end`."""
        times = self.frame["time"]
        chosen = (times >= aware(start)) & (times < aware(end))
        return replace(self, frame=self.frame[chosen].reset_index(drop=True))

    def figures(
        self, by: str | None = None, *, maturity: Mapping[str, timedelta] | None = None, now: datetime | None = None
    ) -> Figures:
        """What the field watches, as one table with the n of each figure.

        Args:
            by: hour, day (in UTC), service, bundle, arm, model or another column of the frame; None = all together.
                Second answers of a shadow are a group by arm, and else left out, and counted.
            maturity: signal -> age from which its silence counts; younger requests are left out of it, and counted.
            now: the moment that ages are reckoned to (with its time zone), by default this one.

        Raises:
            DataError: no requests, no such column or signal, or more than 1,000 groups.
        """
        wrong = sum(int(str(row["count"])) for row in self.problems.rows)
        moment = None if now is None else aware(now)
        return figures_of(self.frame, by=by, maturity=maturity, now=moment, problems=wrong)

    def harvest(
        self,
        n: int = 200,
        *,
        more_of: Mapping[str, float] | None = None,
        seed: int = 0,
        golden: GoldenSet | None = None,
        bundles: Iterable[Bundle] = (),
        root: Path | None = None,
    ) -> Harvest:
        """A worklist of about n requests, drawn by chance with known probabilities: candidates for the golden set.

        Requests that ask the same but for case, spacing and punctuation are drawn once at most; those of a shadow are
        left out. Personal data is replaced by the project's pseudonyms before anything is kept.

        Args:
            n: how many are expected.
            more_of: what is drawn so many times as often: `thumbs_down`, a status such as `refused`, a guard that
                fired, a signal above 0, or `low_NAME` for a signal below .5 (`low_groundedness`).
            golden: whose questions are left out, because they are asked already.
            bundles: whose few-shot examples are left out, because a prompt gives them away.

        Raises:
            DataError: nothing is left to draw from. ValueError: no such request to want more of.
        """
        seen, more_of = self._seen, more_of or {}
        return harvested(
            seen.frame, list(seen), n=n, more_of=more_of, seed=seed, golden=golden, bundles=bundles, root=root
        )

    def nothing_to_harvest(self, *, golden: GoldenSet | None = None, bundles: Iterable[Bundle] = ()) -> str:
        """Why `harvest` has nothing to draw from, as where all was asked before; "" where it has something."""
        return why_nothing(list(self._seen), golden, bundles)

    @property
    def _seen(self) -> Traces:
        """Those whose answer somebody saw."""
        return replace(self, frame=self.frame[(self.frame["arm"] != "shadow").to_numpy(bool)].reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[Trace]:
        for start in range(0, len(self.frame), 1000):
            for row in self.frame[start : start + 1000].to_dict("records"):
                yield trace_of({str(name): value for name, value in row.items()})

    def to_frame(self) -> pd.DataFrame:
        """The frame."""
        return self.frame

    def _rows(self) -> list[dict[str, object]]:
        first = self.frame.head(_ROWS_SHOWN)[list(_SHOWN)].to_dict("records")
        return [{name: None if value != value else value for name, value in row.items()} for row in first]  # type: ignore[misc]  # mypy: names are texts

    def _sentence(self) -> str:
        times, units = self.frame["time"], self.frame["unit_id"].replace("", np.nan).nunique()
        span = f", {times.iloc[0]:%Y-%m-%d %H:%M} to {times.iloc[-1]:%Y-%m-%d %H:%M} UTC" if len(times) else ""
        requests = f"{counted(len(times), 'request')} of {counted(units, 'unit')}, {self.source}{span}."
        shadows = int((self.frame["arm"] == "shadow").sum())
        seen = (
            f"{counted(shadows, 'request')} of them second answers of a shadow, which nobody saw. " if shadows else ""
        )
        return f"{requests} {seen}{'; '.join(self.wrong)}".strip()

    @property
    def wrong(self) -> list[str]:
        """What was wrong with the files, and how much of it, as notes."""
        return [f"{row['problem']}: {row['count']:,}" for row in self.problems.rows]


def forget(folder: str | Path, unit: str, *, key: bytes | None = None) -> int:
    """Deletes every line about a person, signals included: how many went. Each file is replaced whole or not at all.

    Args:
        folder: of the trace files; whose lines are the recorder's lose those of the person, others are looked into.
        unit: as the service calls the person, or the pseudonym in the files.
        key: of the pseudonyms, by default the project's.

    Raises:
        FileRuleError: no such folder.
        DataError: other files (Parquet, CSV, compressed, of other tools) still hold the person, or cannot be looked
            into; what could be deleted is deleted all the same.
    """
    if unit is None or not (unit := str(unit)):
        raise ValueError(f"unit == {unit!r}, must name somebody: lines of nobody are nobody's to delete")
    if not (folder := located(folder)).is_dir():
        raise FileRuleError("is no folder, so nobody can be forgotten there", path=folder)
    mine = {unit, pseudonym(unit, key=project_key(runs_folder()) if key is None else key)}
    named = [path for path in sorted(folder.rglob("*")) if {*path.suffixes} & {*ENDINGS} and path.suffix != ".part"]
    files = [path for path in named if path.is_file() and _holds_anything(path)]
    ours = set(filter(is_ours, files))
    requests, left = set[str](), list[tuple[Path, str]]()
    for path in files:
        theirs, why = _requests_in(path, mine) if path in ours else _requests_elsewhere(path, mine)
        requests |= theirs
        left += [(path, why)] if why else []
    for path in {*files} - ours - {path for path, _ in left}:  # scores in files of their own
        if n := len(requests & requests_told_of(path)):
            left += [(path, f"still signals for {counted(n, 'request')} of theirs")]
    torn = re.compile("|".join(rf'"unit_id": ?{re.escape(json.dumps(name, ensure_ascii=False))}' for name in mine))

    def is_theirs(line: bytes) -> bool:
        row = _parsed(line)
        if not row:
            return torn.search(line.decode("utf-8", "replace")) is not None
        return _text(row, "unit_id") in mine or _text(row, "request_id") in requests

    gone = sum(_without(path, is_theirs) for path in files if path in ours)
    if left:
        raise DataError(
            f"{counted(gone, 'line')} deleted, but the person is not forgotten: delete their rows in these files, or "
            f"write them as JSON lines and forget again: {'; '.join(f'{path} ({why})' for path, why in sorted(left))}"
        )
    return gone


def _holds_anything(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # deleted by who keeps traces for some days
        return any(map(bytes.strip, file))
    return False


def _requests_in(path: Path, mine: set[str]) -> tuple[set[str], str]:
    """The ids of a person's requests in lines of ours, and "", for none stays there."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        return {_text(row, "request_id") for row in map(_parsed, file) if _text(row, "unit_id") in mine} - {""}, ""
    return set(), ""


def _requests_elsewhere(path: Path, mine: set[str]) -> tuple[set[str], str]:
    """Those in a file of another format, which is left as it is, and why some stay there, "" for none."""
    try:
        frame = from_files([path])[0]
    except LlmlabError as error:
        return set(), error.rule if isinstance(error, FileRuleError) else str(error)
    theirs = frame.loc[frame["unit_id"].isin(mine), "request_id"]
    return set(theirs), f"still {counted(len(theirs), 'request')} of theirs" if len(theirs) else ""


def _parsed(line: bytes) -> Mapping[str, Any]:
    """The object of a line; nothing of one that is torn."""
    try:
        row = from_json(line.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _text(row: Mapping[str, Any], name: str) -> str:
    """A field as `load` reads it, "" where there is none."""
    return "" if (value := row.get(name)) is None else str(value)


def _without(path: Path, is_theirs: Callable[[bytes], bool]) -> int:
    """How many such lines the file had, which is without them now; writers wait, and go on in it."""
    with contextlib.suppress(FileNotFoundError):  # who keeps traces for some days has deleted it meanwhile
        while True:
            with path.open("rb") as file:
                if not is_held(file.fileno(), (path, os.fstat(file.fileno())), alone=True):
                    continue
                if gone := sum(map(is_theirs, file)):
                    for left in path.resolve().parent.glob(f".{glob.escape(path.resolve().name)}.*.part"):
                        left.unlink()  # whoever wrote it was killed, for the file is ours alone now
                    file.seek(0)
                    _replace(path, (line for line in file if not is_theirs(line)))
                return gone
    return 0


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    """The file with these lines alone, of the same owner and as readable as it was."""
    with whole_file(path) as part, part.open("wb") as kept:
        before = path.stat()
        part.chmod(before.st_mode)
        if hasattr(os, "chown"):  # else a service could not go on in a file that root replaced
            os.chown(part, before.st_uid, before.st_gid)
        kept.writelines(lines)
        kept.flush()
        # On disk before it takes the old file's name: a crash must not leave an empty file in its place.
        os.fsync(kept.fileno())
