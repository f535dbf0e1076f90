"""Whether a model id is pinned, and why: rules per provider, kept as data.

"No date means floating" is wrong, and so is "a date means pinned": each provider has its own grammar
(`pinning_rules.yaml`, with the page each rule was read from). Used by `bundle.ModelRef.pinned`,
by the gate, by the registry and by `llmlab check-model`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

from llmlab.base.cells import Chip
from llmlab.base.yamlfile import read_yaml
from llmlab.display.shown import Shown

RULES_FILE = Path(__file__).with_name("pinning_rules.yaml")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Pinning(Shown):
    """The verdict on one model id; true in a condition when the id is pinned.

    Attributes:
        pinned: whether the same id will keep naming the same weights.
        reason: the rule in one sentence.
        overridden_by: who vouched for a floating id, "" when nobody did.
        source: page that the rule was read from, "" where there is none.
    """

    provider: str
    model_id: str
    pinned: bool
    reason: str
    overridden_by: str = ""
    source: str = ""

    def __bool__(self) -> bool:
        return self.pinned

    def _rows(self) -> list[dict[str, object]]:
        verdict = Chip("pinned", "good") if self.pinned else Chip("floating", "bad")
        row: dict[str, object] = {"provider": self.provider, "model": self.model_id, "verdict": verdict}
        return [{**row, "why": self.reason, "source": self.source}]


def judge_pin(provider: str, model_id: str, *, revision: str | None = None) -> Pinning:
    """The verdict of the first rule of this provider that matches; an unknown provider or id is floating.

    >>> judge_pin("openai", "gpt-4o").pinned, judge_pin("openai", "gpt-4o-2024-08-06").pinned
    (False, True)
    """
    verdict = partial(Pinning, provider=provider, model_id=model_id)
    rules = _rules()
    name = provider.lower().replace("-", "_")
    family = rules["aliases"].get(name, name)
    if family not in ("fake", "offline") and (doubt := _doubt(model_id) or _doubt(revision or "")):
        return verdict(pinned=False, reason=doubt)
    subjects = [model_id] if revision is None else [f"{model_id}@@{revision}", model_id]
    for rule in rules["providers"].get(family, ()):
        fitting = (re.fullmatch(rule["match"], subject, flags=re.IGNORECASE) for subject in subjects)
        if (match := next(filter(None, fitting), None)) is not None:
            pinned, why = rule["pinned"], rule["why"]
            if no_date := _no_date(2000, **match.groupdict()):  # a leap year: the id does not say which
                pinned, why = False, no_date
            return verdict(pinned=pinned, reason=why, source=rule.get("source", ""))
    if family in rules["providers"]:
        return verdict(pinned=False, reason=f"no rule of {family} knows this id")
    names = ", ".join(sorted({*rules["providers"], *rules["aliases"]} - {"fake", "hosts"}))  # no provider's name
    return verdict(pinned=False, reason=f"unknown provider (known: {names})")


def _doubt(name: str) -> str:
    """Why no rule may call this name pinned, "" where there is no reason."""
    if not name.isascii():
        return "it holds letters that are no ASCII, and some of them only look like it"
    if re.search(r"(?<![a-z])latest(?![a-z])", name, re.IGNORECASE):
        return "latest is what its provider moves to newer snapshots"
    days = re.finditer(r"(?<!\d)(20\d\d)(-?)(\d\d)\2(\d\d)(?!\d)", name)
    return next(filter(None, (_no_date(int(day[1]), day[3], day[4]) for day in days)), "")


def _no_date(year: int, month: str | None = None, day: str | None = None) -> str:
    """That there is no such day, "" where there is, or where nothing is said of it."""
    try:
        date(year, int(month or 1), int(day or 1))
    except ValueError:
        return f"there is no day {day or 1} of month {month}"
    return ""


@cache
def _rules() -> Any:
    return read_yaml(RULES_FILE)[0]
