"""One condition of a gate with everything that was read for it, and what that shows in words."""

from __future__ import annotations

from dataclasses import dataclass

from llmlab import gate as room
from llmlab.base.cells import as_sentences
from llmlab.base.numbers import Interval, counted, with_unit
from llmlab.base.verdict import Verdict
from llmlab.display.shown import Shown
from llmlab.results.scores import two_digits
from llmlab.stats.power import Need


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Condition(Shown):
    """One condition with all its numbers.

    Attributes:
        kind, metric, rule, category: goal, guard, floor, category or anchor, and what it asks of which metric.
        verdict: PASS, FAIL or INCONCLUSIVE; NOT JUDGED where there is no baseline.
        value, low, high, level: candidate minus baseline with the interval that was read (a floor: the candidate's
            mean); a share of the baseline where `relative`. Unscored answers are taken at their worst.
        bound: the policy's min_effect, margin or floor.
        relative: whether value, interval and bound are shares of the baseline.
        p_value: of the test that PASS rests on (no_shown_harm: of harm beyond the margin, after Holm).
        se, df: of the difference per case, in the metric's unit.
        n_cases, n_clusters: what it rests on.
        unscored, attempted: answers of the arms that are read.
        missed: the harm (superior: the gain) that would have been seen with 80% power; less is easily missed.
        plan: what it still needs and the truth that is planned for; None where nothing can be planned.
        repeats: how often a case was asked; None = not known.
        estimate: raw, or corrected by people's labels; then `method` says how, `labelled` on how many cases in all
            arms that are read, `judge_alone` what the judge's own numbers are, and `more_labels` what would settle it.
        notes: what weakens it.
    """

    kind: str
    metric: str
    rule: str
    verdict: Verdict
    category: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    bound: float = 0.0
    relative: bool = False
    p_value: float | None = None
    se: float | None = None
    df: float | None = None
    n_cases: int = 0
    n_clusters: int = 0
    unscored: int = 0
    attempted: int = 0
    missed: float | None = None
    plan: Need | None = None
    repeats: float | None = None
    scale: float = 1.0
    unit: str = ""
    higher_is_better: bool = True
    estimate: str = "raw"
    method: str = ""
    labelled: int = 0
    judge_alone: float | None = None
    more_labels: room.corrected.MoreLabels | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The condition in a few words."""
        place = f" in {self.category}" if self.category else ""
        return f"{self.kind}: {self.metric}{', corrected' if self.estimate == 'corrected' else ''}{place}"

    @property
    def reading(self) -> str:
        """What was proved, or only not shown, in one clause."""
        if self.verdict == Verdict.NOT_JUDGED:
            return "not judged: there is no baseline"
        if self.rule == "no_shown_harm":
            if self.verdict == Verdict.FAIL:
                return f"harm of more than {self._amount(self.bound)} is shown"
            if self.verdict == Verdict.INCONCLUSIVE:
                return f"the {counted(self.unscored, 'unscored answer')} decide{'s' if self.unscored == 1 else ''}"
            if self.se == 0:
                return "not shown harmful (nothing varies)"
            return f"not shown harmful (could miss {'any harm' if self.missed is None else self._amount(self.missed)})"
        if self.verdict == Verdict.PASS:
            return {
                "superior": "proved better",
                "non_inferior": f"proved: harm of {self._amount(self.bound)} or more is ruled out",
            }.get(self.rule, "proved: the interval clears it")
        if self.verdict == Verdict.FAIL:
            return {
                "superior": f"a gain of {self._amount(self.bound)} is ruled out" if self.bound else "it is not better",
                "non_inferior": f"it is worse by more than {self._amount(self.bound)}",
            }.get(self.rule, "the whole interval misses it")
        if self.rule == "superior" and self.missed is not None:
            return f"not enough evidence; a gain under {self._amount(self.missed)} is easily missed"
        unscored = f", {counted(self.unscored, 'unscored answer')} may decide" if self.unscored else ""
        return f"not enough evidence{unscored}"

    def _rows(self) -> list[dict[str, object]]:
        value, low, high = (None if x is None else x * self.scale for x in (self.value, self.low, self.high))
        if low == high:  # an interval without width says nothing
            low = high = None
        worse = "lower" if self.higher_is_better else "higher"
        better = "higher" if self.higher_is_better else "lower"
        bound = {
            "superior": f"{self._amount(self.bound)} {better}" if self.bound else better,
            "floor": f"at {'least' if self.higher_is_better else 'most'} {self._amount(self.bound)}",
        }.get(self.rule, f"{self._amount(self.bound)} {worse}")
        return [
            {
                "condition": self.name,
                "rule": self.rule.replace("_", "-"),
                "verdict": self.verdict.chip,
                "difference [CI]": None if value is None else f"{Interval(value, low, high)}{self._unit}",
                "level": f"{self.level:.4g}",
                "bound": bound,
                "means": self.reading,
                "cases": f"{self.n_cases:,}",
            }
        ]

    def _sentence(self) -> str:
        return as_sentences(self.notes)

    @property
    def _unit(self) -> str:
        return "%" if self.relative else self.unit

    def _amount(self, value: float) -> str:
        return with_unit(two_digits(value * self.scale), self._unit)
