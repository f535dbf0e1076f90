"""What changes from one bundle to another, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmlab import display
from llmlab.display.shown import Shown


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BundleDiff(Shown):
    """The behaviour-bearing fields in which two bundles differ, as (field, before, after)."""

    names: tuple[str, str]
    digests: tuple[str, str]
    changes: tuple[tuple[str, Any, Any], ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def _rows(self) -> list[dict[str, object]]:
        return [{"field": field, self.names[0]: a, self.names[1]: b} for field, a, b in self.changes]

    def _sentence(self) -> str:
        if not self.changes:
            return f"Same behaviour: both have digest {self.digests[0][:8]}."
        fields = ", ".join(field for field, _, _ in self.changes)
        before, after = (digest[:8] for digest in self.digests)
        return f"Changed: {fields}. Digest {before} becomes {after}."

    def _repr_html_(self) -> str:
        texts = [c for c in self.changes if isinstance(c[1], str) and isinstance(c[2], str)]
        rows = [row for row, change in zip(self._rows(), self.changes, strict=True) if change not in texts]
        html, (old, new) = display.html, self.names
        diffs = "".join(
            html.html_diff(a, b, before_name=f"{field}: {old}", after_name=f"{field}: {new}") for field, a, b in texts
        )
        return (html.html_table(rows) if rows else "") + diffs + html.html_table([], caption=self._sentence())


def between(
    old: Mapping[str, Any], new: Mapping[str, Any], *, names: tuple[str, str], digests: tuple[str, str]
) -> BundleDiff:
    """The difference between two behaviours."""
    import rfc8785

    before, after = flat(old), flat(new)
    # Python's == takes False for 0, and get() an absent field for null; canonical JSON does not, and 1.0 is 1 in it
    was, becomes = ({key: rfc8785.dumps(leaf) for key, leaf in side.items()} for side in (before, after))
    changes = tuple(
        (key, before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if was.get(key) != becomes.get(key)
    )
    return BundleDiff(names=names, digests=digests, changes=changes)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted names, such as `sampling.temperature`."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    dotted = f"{prefix}." if prefix else ""
    return {path: leaf for key, item in value.items() for path, leaf in flat(item, dotted + key).items()}
