"""The Labeller: answers to grade, or pairs to choose from, one at a time and blind; every click is on disk at once.

A form over a `judge.labelling.Session`, which keeps the order, the place and the file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ipywidgets as w

from llmlab.base.cells import Chip
from llmlab.base.errors import LlmlabError
from llmlab.base.project import runs_folder, who
from llmlab.display.html import Html, html_note
from llmlab.display.page import html_of, html_widget
from llmlab.golden.labels import Labels, Worklist
from llmlab.judge.labelling import LabellerAgreement, Session, between_labellers, label_grades, label_preferences
from llmlab.judge.rubrics import Rubric
from llmlab.judge.rubrics import rubric as ready_rubric
from llmlab.production.harvest import Harvest
from llmlab.results.results import Results
from llmlab.widgets.parts import beside, button, column, row

_OPENERS = {"pointwise": label_grades, "pairwise": label_preferences}
READ_S = 0.4  # nobody has read an answer sooner: the second click of two, or a held key, was meant for the one before
SIDES: dict[Any, str] = {"left": "the left answer is better", "right": "the right answer is better", "tie": "a tie"}


class Labeller:
    """A form that shows one answer, or two, and takes a grade from a button or a key.

    Keys are typed into the field "Keys", which empties itself: it works wherever ipywidgets does.

    Attributes:
        session: order, place, labels and file.
    """

    def __init__(
        self,
        results: Results | Harvest,
        chosen: Worklist | Sequence[str] | None = None,
        rubric: str | Rubric = "correctness",
        path: str | Path = "",
        *,
        labeller: str = "",
        kind: Literal["pointwise", "pairwise"] = "pointwise",
        seed: int = 0,
        base: str | Path | None = None,
    ) -> None:
        """A form over what is still to be labelled.

        Args:
            results: the answers; or a harvest of production, whose worklist it is then.
            chosen: a worklist of `to_label`, case ids, or None for all cases.
            rubric: whose levels are the grades; the name of a ready one, or your own.
            path: a JSONL file of labels, by default `mlruns/labels_RUBRIC.jsonl`; what it holds already is kept and
                resumed.
            labeller: who labels, by default the account: labels of two people are told apart by it.
            kind: `pointwise` grades one answer, `pairwise` chooses the better of two.
            seed: of the order, and of the sides of a pair.
            base: the folder that relative corpus paths start from, for rubrics that need the passages.
        """
        self._rubric = ready_rubric(rubric) if isinstance(rubric, str) else rubric
        if isinstance(results, Harvest):
            chosen = results.worklist(self._rubric.name) if chosen is None else chosen
            results = results.results
        self._results, self._pressed_s = results, -math.inf
        path, labeller = path or runs_folder() / f"labels_{self._rubric.name}.jsonl", labeller or who()
        self.session: Session = _OPENERS[kind](
            results, chosen, rubric=self._rubric, path=path, labeller=labeller, seed=seed, base=base
        )
        self._make()
        self._show("")

    def agreement(self) -> LabellerAgreement:
        """How far the labellers of this file agree; FileRuleError while it holds no label."""
        return between_labellers(Labels.load(self.session.path), self._results, rubric=self._rubric)

    def press(self, key: str) -> None:
        """What a key in the field does: a grade, u(ndo), s(kip), b(ack), n(ote)."""
        if key == "n":
            self.note.focus()
            return
        today = datetime.now(UTC).date().isoformat()
        self._in_place(lambda: self.session.press(key, note=self.note.value, date=today))

    def _make(self) -> None:
        session = self.session
        question = f"Which is better? {self._rubric.question}" if session.pairwise else self._rubric.question
        self.bar = w.IntProgress(max=len(session.items), layout=w.Layout(width="160px"))
        self.progress, self.item, self.status, self.agreed = html_widget(), html_widget(), html_widget(), html_widget()
        self.grades = {key: button(key, partial(self._on_press, key), width_px=44) for key in session.keys}
        anchors: dict[Any, str] = dict(self._rubric.anchors) if not session.pairwise else SIDES
        levels = [row(grade, html_widget(html_note(anchors[session.keys[key]]))) for key, grade in self.grades.items()]
        self.keys = beside(w.Text, "Keys", "220px", placeholder=" ".join([*session.keys, "u", "s", "b", "n"]))
        self.keys.observe(lambda change: self._on_key(change["new"]), names="value")
        self.note = beside(
            w.Text, "Note", "420px", continuous_update=False, placeholder="optional, saved with the grade"
        )
        self.note.observe(lambda _: self.keys.focus(), names="value")
        self.undo = button("Undo (u)", partial(self.press, "u"), tooltip="Take the last label back, also on disk")
        self.skip = button("Skip (s)", partial(self.press, "s"), tooltip="Leave it open; it comes again at the end")
        self.back = button("Back (b)", partial(self.press, "b"), tooltip="Show the one before; its label stays")
        compare = partial(self._in_place, self._compare)
        self.compare = button("Agreement", compare, tooltip="Once all is labelled", width_px=110)
        self.form = column(
            [
                row(self.bar, self.progress),
                self.item,
                html_widget(html_note(question)),
                *levels,
                row(self.keys, self.note),
                row(self.undo, self.skip, self.back, self.compare, self.status),
                self.agreed,
            ]
        )

    def _on_key(self, typed: str) -> None:
        if not typed:
            return
        self.keys.value = ""  # which calls this again
        if len(typed) == 1:
            self._on_press(typed.lower())
        else:  # typed before the next answer was on the screen
            self._say("One key at a time: nothing was saved for the last keys.", Chip("not saved", "unsure"))

    def _on_press(self, key: str) -> None:
        """A key or a click of somebody: a grade counts where there was time to read the answer that it is for."""
        too_quick, self._pressed_s = time.monotonic() < self._pressed_s + READ_S, time.monotonic()
        if too_quick and key in self.grades:
            self._say("Too quick to have been read: nothing was saved for the last press.", Chip("not saved", "unsure"))
            return
        self.press(key)
        self._pressed_s = time.monotonic()

    def _in_place(self, do: Callable[[], str]) -> None:
        """Do it; what goes wrong is said in the form."""
        try:
            self._show(do())
        except (LlmlabError, OSError, ValueError) as error:
            self._say(str(error), Chip("not saved", "bad"))

    def _compare(self) -> str:
        self.agreed.value = html_of(self.agreement())
        return ""

    def _show(self, message: str) -> None:
        session = self.session
        self.bar.value = session.n_done
        self.progress.value = html_note(self._progress())
        self.item.value = html_of(session.current or html_note("All of these are labelled.", chip=Chip("done", "good")))
        for key, grade in self.grades.items():
            grade.button_style = "primary" if session.value == session.keys[key] else ""
            grade.disabled = session.current is None
        self.note.value = session.note
        self.compare.disabled = session.n_done < len(session.items)  # blind until then
        self._say(message)

    def _say(self, text: str, chip: Chip | None = None) -> None:
        self.status.value = html_note(text, chip=chip) if text else Html("")

    def _progress(self) -> str:
        session = self.session
        stale = f" {session.n_stale:,} stale labels are not used." if session.n_stale else ""
        return f"{session.progress} labelled by {session.labeller}; order shuffled with seed {session.seed}.{stale}"

    def _repr_html_(self) -> Html:
        """The same content where no widget lives."""
        about = f"Where widgets live, as in JupyterLab, this is a form. Labels are kept in {self.session.path}."
        shown = [self.session.current] if self.session.current is not None else []
        return html_of(self._progress(), *shown, self._rubric, about)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        live = dict(self.form._repr_mimebundle_())
        return {**live, "text/html": self._repr_html_(), "text/plain": f"Labeller({self.session.progress} labelled)"}
