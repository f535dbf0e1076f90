"""Results on disk, and several put together: one Parquet file, or a folder with a part per shard, which `joined` reads.

A file has bundles, cases, metrics and digests in its metadata; one that was damaged or changed by hand is refused by
them. Every part has a manifest, so that missing, doubled, foreign, damaged and incomplete shards are refused by name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from llmlab.base.documents import Sealed, is_deep, whole_file
from llmlab.base.errors import DataError, FileRuleError
from llmlab.bundle.bundle import Bundle
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.provenance import Provenance
from llmlab.results.scores import CaseGroups, Metric

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FORMAT = "llmlab-results-1"
_FACTS = ("golden_digest", "index_digests", "complete", "failed_share_allowed", "notes", "created_at")
PART, SCORES, CASES, MANIFEST = "part.parquet", "scores.parquet", "cases.parquet", "manifest.json"
_TEXT_COLUMNS = ("text", "thought", "retrieved", "tool_calls", "explanations", "steps", "system_fingerprint")
_TEXTS_APART = "The texts stay in the parts: `show` reads those of one case from there."


class Shard(NamedTuple):
    """One of several parts of a golden set, numbered from 1: the cases whose sha256 falls there, whatever their order.

    >>> [case_id for case_id in ("q1", "q2", "q3", "q4") if Shard.parse("1/2").holds(case_id)]
    ['q1']
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/16`, the third of sixteen; ValueError for anything else."""
        match = re.fullmatch(r"\s*(\d{1,5})\s*/\s*(\d{1,5})\s*", str(text))
        shard = cls(*map(int, match.groups())) if match else cls(0, 0)
        if not 1 <= shard.number <= shard.of:
            raise ValueError(f"shard == {text!r}, must be such as '3/16': the third of sixteen, numbered from 1")
        return shard

    def holds(self, case_id: str) -> bool:
        """Whether a case belongs to this shard."""
        return self.of_case(case_id, self.of) == self.number

    @staticmethod
    def of_case(case_id: str, of: int) -> int:
        """The number of the shard that a case belongs to."""
        first = hashlib.sha256(case_id.encode("utf-8", "surrogatepass")).digest()[:8]
        return int.from_bytes(first) % of + 1

    @property
    def folder(self) -> str:
        """The name of its folder, `shard=03`."""
        return f"shard={self.number:0{max(2, len(str(self.of)))}}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class Manifest(Sealed):
    """What a part is of: written last, so that a part without one was cut off.

    Attributes:
        shard: such as "3/16".
        bundles, scorers, indexes: digests by name, of the whole run.
        golden, parent, n_cases: the digest of the whole golden set, that of its parent, and how many cases it has.
        repeats: answers per variant and case.
        rows: how many answers are here.
        complete: whether that is all of the shard.
        files: sha256 of each of its files.
    """

    _noun: ClassVar[str] = "manifest of a shard"
    _file: ClassVar[str] = "manifest"

    shard: str
    bundles: Mapping[str, str]
    golden: str
    parent: str = ""
    n_cases: int
    scorers: Mapping[str, str]
    repeats: int
    indexes: Mapping[str, str] = {}
    rows: int = 0
    complete: bool = False
    files: Mapping[str, str] = {}

    def other_than(self, other: Manifest) -> str:
        """What another part is of that this one is not, in words; "" where both are parts of one run."""
        for name in ("golden", "bundles", "scorers", "indexes", "repeats", "n_cases"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                what = {"golden": "golden set", "n_cases": "number of cases"}.get(name, name)
                return f"other {what} ({_briefly(mine)}, not {_briefly(theirs)})"
        return ""


def write_part(folder: Path, attributes: Mapping[str, Any], *, places: Mapping[str, int], manifest: Manifest) -> None:
    """Write one shard's results into its folder: answers, cases by their place in the golden set, the manifest last."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / MANIFEST).unlink(missing_ok=True)
    write_attributes(folder / PART, attributes)
    frame, cases = attributes["frame"], list(attributes["golden"])
    light = frame.drop(columns=list(_TEXT_COLUMNS), errors="ignore")
    keys = (int(key[:15], 16) if key else 0 for key in frame["call_key"])  # 60 bits tell which rows are one answer
    light["call_key"] = np.fromiter(keys, dtype=np.int64, count=len(frame))
    _write_frame(light, folder / SCORES, about={**_about(attributes), "cases": None, "golden": None})
    columns = {
        "case_id": [case.id for case in cases],
        "place": [places[case.id] for case in cases],
        "cluster": pa.array([case.cluster for case in cases], pa.string()),
        "weight": [case.weight for case in cases],
        "tags": pa.array([json.dumps(case.tags) for case in cases]).dictionary_encode(),
    }
    with whole_file(folder / CASES) as part:
        pq.write_table(pa.table(columns), part)
    manifest.model_copy(
        update={
            "indexes": dict(attributes["index_digests"]),
            "rows": len(attributes["frame"]),
            "complete": attributes["complete"],
            "files": {name: _sha256_of(folder / name) for name in (PART, SCORES, CASES)},
        }
    ).save(folder / MANIFEST)


def joined(folder: str | Path, *, texts: bool) -> dict[str, Any]:
    """The attributes of the results whose parts are in a folder, as one run without shards would have them.

    Without `texts`, only what figures need is read, and the rest stays in the parts.

    Raises:
        FileRuleError: a shard is missing, doubled, of another run, damaged or incomplete.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = _checked(Path(folder))
    tables = [pq.read_table(place / CASES, partitioning=None) for place, _ in parts]
    cases = pa.concat_tables(tables).unify_dictionaries().sort_by("place").to_pandas()
    whole = _with_texts(parts, cases) if texts else _without_texts(parts, cases, Path(folder))
    first = parts[0][1]
    if texts and whole["golden"].digest != first.golden:
        raise FileRuleError(f"the cases of its parts are not the golden set {first.golden[:8]}", path=folder)
    return {**whole, "golden_digest": first.golden, "index_digests": dict(first.indexes)}


@dataclass(frozen=True, eq=False)
class Parts:
    """Where the texts of results are that were read without them, and what each case is: cluster, tags and weight.

    Attributes:
        folder: the folder of the run.
        of: how many shards there are.
        case_ids: ids of all cases, in the order of the golden set.
        all_groups: what is known of them, in that order.
    """

    folder: Path
    of: int
    case_ids: tuple[str, ...]
    all_groups: CaseGroups

    def groups(self, case_ids: Sequence[str]) -> CaseGroups:
        """Clusters, tags and weights of these cases."""
        if tuple(case_ids) == self.case_ids:
            return self.all_groups
        return self.all_groups.taken(np.array([self._place[case_id] for case_id in case_ids], dtype=np.intp))

    def file_of(self, case_id: str) -> Path:
        """The file that has a case's texts."""
        return self.folder / Shard(Shard.of_case(case_id, self.of), self.of).folder / PART

    @cached_property
    def _place(self) -> dict[str, int]:
        return {case_id: place for place, case_id in enumerate(self.case_ids)}


def _checked(folder: Path) -> list[tuple[Path, Manifest]]:
    """Every shard's folder with its manifest, in order; FileRuleError for what cannot be joined."""
    if not (places := sorted(place for place in folder.glob("shard=*") if place.is_dir())):
        raise FileRuleError("has no folder shard=NN, so it is no run with shards", path=folder)
    if cut := [place.name for place in places if not (place / MANIFEST).exists()]:
        raise FileRuleError(f"{', '.join(cut)}: not finished (no manifest); {_again(cut)}", path=folder)
    parts = [(place, Manifest.load(place / MANIFEST)) for place in places]
    shards = [Shard.parse(manifest.shard) for _, manifest in parts]
    about = {"golden", "bundles", "scorers", "indexes", "repeats"}
    runs = [json.dumps(manifest.model_dump(include=about), sort_keys=True) for _, manifest in parts]
    model = parts[runs.index(Counter(runs).most_common(1)[0][0])][1]  # of the run that most parts are of
    for (place, manifest), shard in zip(parts, shards, strict=True):
        if other := manifest.other_than(model) or (f"{shard.of} shards" * (shard.of != Shard.parse(model.shard).of)):
            raise FileRuleError(f"{place.name} is a part of another run: {other}; move it away", path=folder)
    if twice := [str(shard) for shard, n in Counter(shards).items() if n > 1]:
        names = [place.name for (place, _), shard in zip(parts, shards, strict=True) if str(shard) == twice[0]]
        raise FileRuleError(f"shard {twice[0]} is there twice ({', '.join(names)}); move one away", path=folder)
    every = [Shard(number, shards[0].of) for number in range(1, shards[0].of + 1)]
    if missing := [str(shard) for shard in every if shard not in shards]:
        raise FileRuleError(f"shard {', '.join(missing)} is missing; run it: shard={missing[0]!r}", path=folder)
    if partial := [place.name for place, manifest in parts if not manifest.complete]:
        raise FileRuleError(f"{', '.join(partial)}: incomplete; {_again(partial)}", path=folder)
    for place, manifest in parts:
        for file, digest in manifest.files.items():
            if not (place / file).exists() or _sha256_of(place / file) != digest:
                why = f"{file} is missing or was changed after the run; {_again([place.name])}"
                raise FileRuleError(why, path=place)
    return [part for _, part in sorted(zip(shards, parts, strict=True), key=lambda pair: pair[0])]


def _with_texts(parts: Sequence[tuple[Path, Manifest]], cases: pd.DataFrame) -> dict[str, Any]:
    read = [read_attributes(place / PART) for place, _ in parts]
    by_id = {case.id: case for attributes in read for case in attributes["golden"]}
    whole = tuple(by_id[case_id] for case_id in cases["case_id"])
    golden = replace(read[0]["golden"], cases=whole, parent=parts[0][1].parent)
    frames = [attributes["frame"] for attributes in read]
    frame = ordered_frame(frames, variants=read[0]["bundles"], case_ids=cases["case_id"])
    return {**_facts(read), "golden": golden, "frame": frame}


def _without_texts(parts: Sequence[tuple[Path, Manifest]], cases: pd.DataFrame, folder: Path) -> dict[str, Any]:
    frames, abouts = zip(*(_read_frame(place / SCORES) for place, _ in parts), strict=True)
    known = [_attributes({**about, "golden_digest": ""}) for about in abouts]
    frame = ordered_frame(frames, variants=known[0]["bundles"], case_ids=cases["case_id"])
    of_case = cases["tags"].cat
    kinds = [tuple(json.loads(text)) for text in of_case.categories]
    groups = CaseGroups.of_columns(
        list(cases["cluster"].to_numpy(dtype=object)),
        tags=[kinds[code] for code in of_case.codes],
        weights=cases["weight"].to_numpy(),
    )
    parts_of = Parts(folder, len(parts), tuple(cases["case_id"].to_numpy(dtype=object)), groups)
    facts = _facts(known)
    return {**facts, "frame": frame, "golden": None, "parts": parts_of, "notes": (*facts["notes"], _TEXTS_APART)}


def _facts(read: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the parts say of their run, but for frame and cases: the same of all, or what can be said of all."""
    first = dict(read[0])
    notes = dict.fromkeys(note for attributes in read for note in attributes["notes"])
    provenance = first["provenance"]
    if len(commits := {attributes["provenance"].commit for attributes in read}) > 1:
        provenance = replace(provenance, commit="", dirty=True)
        notes[f"The shards ran code of {len(commits)} different commits."] = None
    return {
        **first,
        "provenance": provenance,
        "notes": tuple(notes),
        "complete": all(attributes["complete"] for attributes in read),
        "created_at": max(attributes["created_at"] for attributes in read),
    }


def ordered_frame(
    frames: Sequence[pd.DataFrame], *, variants: Iterable[str], case_ids: pd.Series[str] | None = None
) -> pd.DataFrame:
    """The rows of all, sorted by case (in this order; None = as they first occur), repeat and variant."""
    import pandas as pd

    frame = pd.concat(frames, ignore_index=True)
    cases = frame["case_id"].drop_duplicates() if case_ids is None else case_ids
    places = pd.Index(cases).get_indexer(pd.Index(frame["case_id"]))
    columns = pd.Index([*variants]).get_indexer(pd.Index(frame["variant"]))
    frame = frame.take(np.lexsort((columns, frame["repeat"].to_numpy(), places))).reset_index(drop=True)
    return frame.fillna({name: "" for name in ("explanations", "bounds") if name in frame.columns})


def _briefly(value: Any) -> str:
    return ", ".join(f"{k} {v[:8]}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)[:8]


def _again(folders: Sequence[str]) -> str:
    return f"run {'it' if len(folders) == 1 else 'them'} again, which asks only for what is not stored yet"


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_attributes(path: str | Path, attributes: Mapping[str, Any]) -> Path:
    """The path, with the rows of the frame and everything else of the results' attributes written to it."""
    return _write_frame(attributes["frame"], Path(path), about=_about(attributes))


def _about(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the frame, as plain values."""
    if (parts := attributes["parts"]) is not None:
        raise DataError(f"the texts are in {parts.folder}: load them too, Results.load(..., texts=True)")
    golden, bundles, provenance = attributes["golden"], attributes["bundles"], attributes["provenance"]
    return {
        "format": FORMAT,
        "metrics": [asdict(metric) for metric in attributes["metrics"].values()],
        "bundles": {name: bundle.model_dump(mode="json") for name, bundle in bundles.items()},
        "bundle_digests": {name: bundle.digest for name, bundle in bundles.items()},
        "cases": None if golden is None else [case.to_row() for case in golden],
        "golden": None if golden is None else {"name": golden.name, "parent": golden.parent},
        "provenance": dict(provenance),
        **{name: attributes[name] for name in _FACTS},
    }


def read_attributes(path: str | Path) -> dict[str, Any]:
    """The attributes of the results that `write_attributes` wrote, by name; FileRuleError for any other file."""
    frame, about = _read_frame(path)
    if about.get("format") != FORMAT:
        raise FileRuleError("was not written by Results.to_parquet; use `llmlab compare` for other tables", path=path)
    try:
        if lacking := sorted({"variant", "case_id", "status", "retrieved"} - set(frame.columns)):
            raise ValueError(f"column {lacking[0]!r} is missing")
        return {"frame": frame, **_attributes(about)}
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise FileRuleError(f"is damaged or was changed by hand ({error})", path=path) from None


def _attributes(about: Mapping[str, Any]) -> dict[str, Any]:
    cases, provenance = about["cases"], Provenance.of(about["provenance"])
    golden = None if cases is None else GoldenSet(tuple(Case.from_row(row) for row in cases), **about["golden"])
    bundles = {name: Bundle.model_validate(row) for name, row in about["bundles"].items()}
    if {name: bundle.digest for name, bundle in bundles.items()} != about["bundle_digests"]:
        raise ValueError("a bundle does not have the digest it was run with")
    if golden and golden.digest != about["golden_digest"] and not provenance.redacted_from:
        raise ValueError("the cases do not have the digest that was run")
    return {
        "metrics": {row["name"]: Metric(**row) for row in about["metrics"]},
        "bundles": bundles,
        "golden": golden,
        "provenance": provenance,
        **{name: about[name] for name in _FACTS},
        "notes": tuple(about["notes"]),
    }


def _write_frame(frame: pd.DataFrame, path: Path, *, about: Mapping[str, Any]) -> Path:
    """The frame as a Parquet file that carries `about` as JSON; a killed process leaves no half a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame.drop(columns="retrieved", errors="ignore"), preserve_index=False)
    if "retrieved" in frame.columns:
        ids = pa.array([list(row) for row in frame["retrieved"]], type=pa.list_(pa.string()))
        table = table.add_column(list(frame.columns).index("retrieved"), "retrieved", ids)
    with whole_file(path) as part:
        pq.write_table(table.replace_schema_metadata({b"llmlab": json.dumps(about).encode()}), part)
    return path


def _read_frame(path: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The frame and what it carries, which is empty for a Parquet file of somebody else's; FileRuleError for others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, partitioning=None)  # no column from a folder called run=1
    except pa.ArrowException as error:
        raise FileRuleError(f"is not a Parquet file ({error})", path=path) from None
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise FileRuleError(f"cannot be read ({why})", path=path) from None
    try:
        about = json.loads((table.schema.metadata or {}).get(b"llmlab", b"{}"))
    except (ValueError, RecursionError):
        about = {}
    if not isinstance(about, dict) or is_deep(about):
        about = {}
    if about and (odd := next((name for name in table.column_names if _is_odd(table.column(name), name)), "")):
        raise FileRuleError(f"column {odd!r} holds something else than results do", path=path)
    frame = table.to_pandas()
    if "retrieved" in frame.columns:
        frame["retrieved"] = [tuple(ids) for ids in frame["retrieved"]]
    return frame, about


def _is_odd(column: pa.ChunkedArray, name: str) -> bool:
    """Whether it cannot be this column of results: ids and texts are texts, what was retrieved are lists of texts."""
    import pyarrow as pa

    def is_text(kind: pa.DataType) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    if not len(column):  # of a run that was stopped at once, where nothing has a type
        return False
    if name == "retrieved":
        inside = column.type.value_type if pa.types.is_list(column.type) else None
        return inside is None or not (is_text(inside) or pa.types.is_null(inside)) or column.null_count > 0
    if name in ("variant", "case_id", "status", "text", "error"):
        return not is_text(column.type) or column.null_count > 0
    return bool(pa.types.is_nested(column.type) or pa.types.is_binary(column.type))
