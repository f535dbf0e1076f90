"""The Explorer: the cases of a run one at a time, filtered; which cases match is one call into `cases.filter`."""

from __future__ import annotations

from functools import partial
from typing import Any

import ipywidgets as w

from llmlab.base.cells import Chip, plain
from llmlab.base.numbers import counted
from llmlab.display.html import Html, html_note, html_table
from llmlab.display.page import html_of, html_widget
from llmlab.results.cases import CaseView
from llmlab.results.results import Results
from llmlab.retrieval.attribution import CELLS, Attribution
from llmlab.widgets.filter import FLIPS, ORDERS, choices, matching
from llmlab.widgets.parts import beside, button, column, field, row

ANY = "any"
_LISTED = 200  # cases in the list at once, around the one that is shown
_STATIC_ROWS = 25

_filter_field = partial(field, width="270px")


class Explorer:
    """A form over the cases of a run: filters, the list of what matches, and the case that is chosen in it.

    The number of the case has the keyboard: arrow up and down step, digits jump. (In the list JupyterLab keeps the
    arrow keys to itself; elsewhere they step there too.)

    Attributes:
        matches: ids of the cases that match.
        at: place of the shown case among them.
    """

    def __init__(
        self,
        results: Results,
        attribution: Attribution | None = None,
        *,
        baseline: str | None = None,
        metric: str | None = None,
    ) -> None:
        """A form over these results; `attribution` adds each answer's outcome and a filter for it.

        Args:
            baseline: the variant that answers are compared with, the first by default.
            metric: whose scores are filtered and ordered by, the first scorer by default.
        """
        if attribution is not None and attribution.results is not results:
            raise ValueError("the attribution is of other results; attribute these")
        self._results, self._choices = results, choices(results)
        self._outcomes = None if attribution is None else attribution.outcomes
        self.matches: tuple[str, ...] = ()
        self.at, self._filling = 0, False
        self._make_filters(baseline or results.variants[0], metric)
        self._make_list()
        self._set_range()
        self._filter()

    @property
    def case_id(self) -> str | None:
        """The case that is shown; None where nothing matches."""
        return self.matches[self.at] if self.matches else None

    @property
    def case(self) -> CaseView | None:
        """What is shown of it."""
        if self.case_id is None:
            return None
        repeat = self.repeat.value - 1
        return self._results.view(self.case_id, baseline=self.baseline.value, outcomes=self._outcomes, repeat=repeat)

    def step(self, by: int) -> None:
        """Show the case so many places on, or back; stays within what matches."""
        self._go(self.at + by)

    def _make_filters(self, baseline: str, metric: str | None) -> None:
        offered = self._choices
        self.text = _filter_field(w.Text, "Text", placeholder="in question or answer")
        self.variant = _filter_field(w.Dropdown, "Variant", options=_or_any(offered.variants))
        self.tag = _filter_field(w.Dropdown, "Tag", options=_or_any(offered.tags))
        self.status = _filter_field(w.Dropdown, "Status", options=_or_any(offered.statuses))
        by = metric or next(iter(offered.metrics), None)
        self.metric = _filter_field(w.Dropdown, "Score", options=offered.metrics, value=by)
        # both ends of the read-out have room
        self.range = field(w.FloatRangeSlider, "Score in", width="350px", step=0.01, readout_format=".2f")
        self.order = _filter_field(w.Dropdown, "Order", options=ORDERS)
        self.flipped = _filter_field(w.Dropdown, "Flipped", options=_or_any(FLIPS))
        self.baseline = _filter_field(w.Dropdown, "Baseline", options=offered.variants, value=baseline)
        occurring = tuple(cell for cell in CELLS if cell in (self._outcomes or {}).values())
        self.outcome = _filter_field(w.Dropdown, "Outcome", options=_or_any(occurring))
        self.repeat = _filter_field(w.BoundedIntText, "Answer", min=1, max=max(offered.repeats, 1), value=1)
        self.metric.observe(lambda _: self._set_range(), names="value")
        filters = [self.text, self.variant, self.tag, self.status, self.metric, self.range, self.order]
        for box in [*filters, self.flipped, self.baseline, self.outcome]:
            box.observe(lambda _: self._filter(), names="value")
        self.repeat.observe(lambda _: self._show(), names="value")

    def _make_list(self) -> None:
        self.tally, self.shown = html_widget(), html_widget()
        self.list = w.Select(rows=6, layout=w.Layout(width="auto"))
        self.list.observe(lambda change: self._go(change["new"]), names="value")
        self.number = beside(w.BoundedIntText, "Case", "120px", min=1, continuous_update=True)
        self.number.observe(lambda change: self._go(change["new"] - 1), names="value")
        self.previous = button("◀ Previous", lambda: self.step(-1), tooltip="The case before", width_px=110)
        self.next = button("Next ▶", lambda: self.step(1), tooltip="The next case", width_px=110)
        offered = self._choices
        scored = [self.metric, self.range, self.order] if offered.metrics else []
        compared = [self.flipped, self.baseline] if len(offered.variants) > 1 else []
        outcome = [self.outcome] if self._outcomes is not None else []
        repeat = [self.repeat] if offered.repeats > 1 else []
        filters = [self.text, self.variant, self.tag, self.status, *compared, *outcome, *scored, *repeat]
        self.form = column(
            [row(*filters), row(self.previous, self.next, self.number, self.tally), self.list, self.shown]
        )

    def _filters(self) -> dict[str, Any]:
        """What is chosen, as `matching` takes it."""
        boxes = {"variant": self.variant, "tag": self.tag, "status": self.status, "flipped": self.flipped}
        filters: dict[str, Any] = {name: None if box.value == ANY else box.value for name, box in boxes.items()}
        low, high = self.range.value
        is_whole = (low, high) == (self.range.min, self.range.max)
        filters |= {"low": None if is_whole else low, "high": None if is_whole else high}
        filters |= {"metric": self.metric.value, "order": self.order.value, "text": self.text.value}
        if self._outcomes is not None and self.outcome.value != ANY:
            filters |= {"outcome": self.outcome.value, "outcomes": self._outcomes}
        return filters | {"baseline": self.baseline.value}

    def _set_range(self) -> None:
        """The slider over the scores of the chosen metric."""
        low, high = self._choices.ranges.get(self.metric.value, (0.0, 1.0))
        self._filling = True
        # a slider refuses a minimum above its maximum, and the two are set one after the other
        self.range.max = max(high, self.range.min)
        self.range.min, self.range.max = low, high
        self.range.value = (self.range.min, self.range.max)
        self._filling = False

    def _filter(self) -> None:
        if self._filling:
            return
        before = self.case_id
        try:
            self.matches = matching(self._results, **self._filters())
        except ValueError as error:
            self.tally.value = html_note(str(error), chip=Chip("not possible", "bad"))
            return
        self._go(self.matches.index(before) if before in self.matches else 0)

    def _go(self, at: int | None) -> None:
        if self._filling or at is None:
            return
        self.at = max(0, min(at, len(self.matches) - 1))
        self._fill_list()
        self._show()

    def _fill_list(self) -> None:
        """The cases around the one that is shown; the list is renewed only where it has to be."""
        first = max(0, min(self.at - _LISTED // 2, len(self.matches) - _LISTED)) if len(self.matches) > _LISTED else 0
        listed, questions = self.matches[first : first + _LISTED], self._results.questions
        options = [(plain(f"{case_id}  {questions.get(case_id, '')}"), first + i) for i, case_id in enumerate(listed)]
        self._filling = True
        if tuple(options) != tuple(self.list.options):
            self.list.options = options
        self.list.value = self.at if options else None
        self.number.max, self.number.disabled = max(len(self.matches), 1), not options
        self.number.value = self.at + 1 if options else 1
        self._filling = False

    def _show(self) -> None:
        self.tally.value = html_note(self._sentence())
        self.previous.disabled, self.next.disabled = self.at <= 0, self.at >= len(self.matches) - 1
        self.shown.value = html_of(self.case) if self.matches else html_note("No case matches; widen a filter.")

    def _sentence(self) -> str:
        verb = "matches" if len(self.matches) == 1 else "match"
        return f"{len(self.matches):,} of {counted(self._choices.n_cases, 'case')} {verb}"

    def _repr_html_(self) -> Html:
        """The same content where no widget lives: what matches, and the case that is shown."""
        questions = self._results.questions
        rows = [{"case": case_id, "question": questions.get(case_id, "")} for case_id in self.matches]
        shown = [self.case, html_table(rows, most_rows=_STATIC_ROWS)] if rows else []
        about = "Where widgets live, as in JupyterLab, this is a form that filters and steps through the cases."
        return html_of(f"{self._sentence()}.", *shown, about)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        static = {"text/html": self._repr_html_(), "text/plain": f"Explorer({self._sentence()})"}
        return {**self.form._repr_mimebundle_(), **static}


def _or_any(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(ANY, ANY), *((plain(name), name) for name in names)]
