"""The catalogue of models in use, `experiments/models.yaml`: who serves them, how good they are, and until when.

It decides nothing by itself: `llmlab models` says what expires and which production bundles that touches, and a
migration is a gated change like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import pydantic
from pydantic import Field

from llmlab.base.cells import Chip
from llmlab.base.documents import Strict
from llmlab.base.yamlfile import OfFile
from llmlab.bundle.bundle import Bundle, ModelRef, Word
from llmlab.display.shown import Shown


def _day(value: Any) -> Any:
    return date.fromisoformat(value) if isinstance(value, str) else value


Day = Annotated[date, pydantic.BeforeValidator(_day)]


class FineTune(Strict):
    """Where a fine-tuned model comes from."""

    base_model: Word
    training_data: Word
    config: Word


class Changelog(Strict):
    """Where the provider announces changes, and when somebody last read it. Dates are quoted: "2026-01-31"."""

    url: Word
    last_read: Day | None = None


class KnownModel(Strict):
    """One model in use.

    Attributes:
        provider, id, revision: as in a bundle's `model`.
        deployed_to: environments or applications.
        scores: metric -> value, of the last gate.
        deployed_at, deprecation_date: from when, and until when the provider serves it.
        fallback: `provider/id` that would take over.
    """

    provider: Word
    id: Word
    revision: Word | None = None
    deployed_to: Annotated[tuple[Word, ...], Field(strict=False)] = ()
    scores: Mapping[str, float] = Field(default_factory=dict)
    deployed_at: Day | None = None
    deprecation_date: Day | None = None
    fallback: Word | None = None
    fine_tune: FineTune | None = None
    changelog: Changelog | None = None
    notes: str = ""

    @pydantic.field_validator("fallback")
    @classmethod
    def _names_a_model(cls, text: str | None) -> str | None:
        if text is not None:
            ModelRef.parse(text)
        return text

    @property
    def name(self) -> str:
        """`provider/id`."""
        return f"{self.provider}/{self.id}"

    def serves(self, model: ModelRef) -> bool:
        """Whether a bundle with this model depends on the entry; one without a revision stands for all."""
        same = (self.provider, self.id) == (model.provider, model.id)
        return same and self.revision in (None, model.revision)


class Catalogue(Shown, OfFile):
    """The models of `models.yaml`."""

    models: Annotated[tuple[KnownModel, ...], Field(strict=False)]

    @pydantic.model_validator(mode="after")
    def _each_once(self) -> Catalogue:
        names = [(model.name, model.revision) for model in self.models]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice[0]} stands here twice")
        return self

    def find(self, model: ModelRef) -> KnownModel | None:
        """The entry that a bundle's model depends on, None where there is none."""
        return next((entry for entry in self.models if entry.serves(model)), None)

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "model": entry.name,
                "deployed to": entry.deployed_to,
                "since": _text(entry.deployed_at),
                "until": _text(entry.deprecation_date),
                "fallback": entry.fallback,
                "scores": ", ".join(f"{name} {value:g}" for name, value in entry.scores.items()) or None,
                "changelog read": _text(entry.changelog.last_read) if entry.changelog else None,
            }
            for entry in self.models
        ]


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Expiry(Shown):
    """A model whose days are counted, and the aliases that depend on it. `days` is negative once it is past."""

    model: str
    deprecation_date: date
    days: int
    fallback: str | None = None
    bundles: tuple[str, ...] = ()

    @property
    def past(self) -> bool:
        """Whether the provider's date has passed."""
        return self.days < 0

    def _rows(self) -> list[dict[str, object]]:
        chip = Chip(f"{-self.days} days past" if self.past else f"{self.days} days", "bad" if self.past else "unsure")
        row: dict[str, object] = {"model": self.model, "until": _text(self.deprecation_date), "left": chip}
        return [{**row, "fallback": self.fallback, "touches": self.bundles}]


def expiries(
    catalogue: Catalogue, *, today: date, within_days: int, released: Mapping[str, Bundle] | None = None
) -> tuple[Expiry, ...]:
    """The models whose date is past or at most `within_days` away, soonest first.

    Args:
        released: reference such as `pandas_help@production` -> bundle; those that depend on the model are named.
    """
    models = {
        reference: (bundle.model, bundle.retrieval.embedding if bundle.retrieval else None)
        for reference, bundle in (released or {}).items()
    }
    expiring = []
    for entry in catalogue.models:
        if entry.deprecation_date is None or (days := (entry.deprecation_date - today).days) > within_days:
            continue
        touched = [reference for reference, used in models.items() if any(map(entry.serves, filter(None, used)))]
        expiring.append(
            Expiry(
                model=entry.name,
                deprecation_date=entry.deprecation_date,
                days=days,
                fallback=entry.fallback,
                bundles=tuple(sorted(touched)),
            )
        )
    return tuple(sorted(expiring, key=lambda expiry: expiry.days))
