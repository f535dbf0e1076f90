"""The file of a run's results: one Parquet file of the rows, with bundles, cases, metrics and digests in its metadata.

Used by `results` alone. A file that was damaged, or changed by hand, is refused by its digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.base.errors import DataError, FileRuleError
from llmlab.bundle.bundle import Bundle
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.answers import read_frame, write_frame
from llmlab.results.scores import Metric

if TYPE_CHECKING:
    from llmlab.results.results import Results

__all__ = ["read_attributes", "write_results"]

FORMAT = "llmlab-results-1"
_FACTS = ("golden_digest", "index_digests", "complete", "failed_share_allowed", "provenance", "notes", "created_at")


def write_results(results: Results, path: str | Path) -> Path:
    """The path, with rows, bundles, cases and digests written to it."""
    golden = results.golden
    about = {
        "format": FORMAT,
        "metrics": [asdict(metric) for metric in results.metrics.values()],
        "bundles": {name: bundle.model_dump(mode="json") for name, bundle in results.bundles.items()},
        "bundle_digests": {name: bundle.digest for name, bundle in results.bundles.items()},
        "cases": None if golden is None else [case.to_row() for case in golden],
        "golden": None if golden is None else {"name": golden.name, "parent": golden.parent},
        **{name: _plain(getattr(results, name)) for name in _FACTS},
    }
    return write_frame(results.frame, path, about=about)


def read_attributes(path: str | Path) -> dict[str, Any]:
    """The attributes of the results that `write_results` wrote, by name; FileRuleError for any other file."""
    frame, about = read_frame(path)
    if about.get("format") != FORMAT:
        raise FileRuleError("was not written by Results.to_parquet; use `llmlab compare` for other tables", path=path)
    try:
        return {"frame": frame, **_attributes(about)}
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise FileRuleError(f"is damaged or was changed by hand ({error})", path=path) from None


def _attributes(about: Mapping[str, Any]) -> dict[str, Any]:
    cases = about["cases"]
    golden = None if cases is None else GoldenSet(tuple(Case.from_row(row) for row in cases), **about["golden"])
    bundles = {name: Bundle.model_validate(row) for name, row in about["bundles"].items()}
    if {name: bundle.digest for name, bundle in bundles.items()} != about["bundle_digests"]:
        raise ValueError("a bundle does not have the digest it was run with")
    if golden and golden.digest != about["golden_digest"] and "redacted_from" not in about["provenance"]:
        raise ValueError("the cases do not have the digest that was run")
    return {
        "metrics": {row["name"]: Metric(**row) for row in about["metrics"]},
        "bundles": bundles,
        "golden": golden,
        **{name: about[name] for name in _FACTS},
        "notes": tuple(about["notes"]),
    }


def _plain(value: Any) -> Any:
    plain = {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
    return list(plain) if isinstance(plain, tuple) else plain
