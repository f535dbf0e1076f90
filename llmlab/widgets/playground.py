"""The Playground: change a prompt, run it on a few cases, read what changed, go back, and save what was better.

Everything it does is one call into `editing` or `tries`. Calls run in a thread beside the kernel's own, so that the
form and other cells stay alive, and stop when asked; every answer received is in the call store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as w
from IPython.display import publish_display_data

from llmlab.base.cells import Chip
from llmlab.base.errors import FileRuleError
from llmlab.base.yamlfile import parse_yaml, to_yaml
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Client
from llmlab.display.html import Html, html_note, html_table
from llmlab.display.page import html_of, html_widget
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.editing import PromptCheck, check_prompt, next_version, save_next
from llmlab.engine.progress import Progress
from llmlab.engine.tries import Tries, failing_cases, sample_cases, try_out
from llmlab.experiment.folder import Experiment
from llmlab.golden.cases import GoldenSet
from llmlab.results.results import Results
from llmlab.scorers.answers import mentions_expected
from llmlab.scorers.base import ScoreFunction, Scorer, as_scorers
from llmlab.widgets.parts import (
    CtrlEnter,
    Report,
    button,
    column,
    field,
    indented,
    row,
    small_field,
    text_area,
    when_settled,
)

_RANDOM, TAG, _FAILING = "random cases", "cases with a tag", "failing cases"
_CONCURRENCY = 16  # a sample is small, and somebody waits


class Playground:
    """A form to iterate on a prompt, and a report of the tries below it.

    Attributes:
        tries: every try so far, and which one is shown.
        saved: the file that was saved last.
    """

    def __init__(
        self,
        bundle: Bundle | Experiment,
        golden: GoldenSet | None = None,
        client: Client | None = None,
        *,
        scorers: Sequence[Scorer | ScoreFunction] | None = None,
        name: str | None = None,
        results: Results | None = None,
        folder: str | Path | None = None,
        size: int = 8,
        seed: int = 0,
        **options: Any,
    ) -> None:
        """A form that starts at `bundle`.

        Args:
            bundle: the baseline, called `name` in the report; or an experiment, which gives whatever is not named.
            golden: what samples are drawn from.
            client: answers; by default the models' own.
            scorers: the first one decides which answers became better or worse; by default `mentions_expected`.
            results: of an earlier run, from which failing cases are known before anything was tried.
            folder: where "save" writes the next version; without one nothing can be saved.
            size, seed: of the sample to begin with.
            options: more for `ll.run`: endpoints, store, base, concurrency, budget_usd.
        """
        if isinstance(bundle, Experiment):
            exp, name = bundle, name or bundle.baseline
            bundle, golden, folder = exp.bundles[name], golden or exp.explored, folder or exp.base
            scorers = scorers or [*sorted(exp.scorers, key=lambda scorer: scorer.name != exp.metric)]
            options = {"endpoints": exp.endpoints, "base": exp.base, **options}
        if golden is None:
            raise TypeError("Playground needs an experiment, or a bundle and a golden set")
        self.tries = Tries(baseline=bundle, name=name or "baseline", golden=golden)
        self.saved: Path | None = None
        self._results, self._folder, self._draft = results, folder, bundle
        self._scorers = as_scorers(scorers or (mentions_expected,))
        self._thread = threading.Thread()
        self._report, self._stop, self._busy, self._failed = Report(), threading.Event(), False, False
        options = {"concurrency": _CONCURRENCY, **options, "progress": self._tell, "stop": self._stop}
        self._setup = CallSetup(client=client, **options)
        self._make_fields(size, seed)
        self._make_buttons()
        self._fill()

    @property
    def bundle(self) -> Bundle:
        """The bundle as the form has it now; ValueError where a field holds what no bundle may."""
        before = self.tries.bundle
        fields = _fields(before)
        typed = {key: getattr(self, key).value for key in fields}
        changes = {key: _read(key, text) for key, text in typed.items() if text != _text(key, fields[key])}
        if before.sampling.max_completion_tokens is not None and "max_tokens" in changes:
            changes["max_completion_tokens"] = changes.pop("max_tokens")
        changes = {key: value for key, value in changes.items() if key not in fields or value != fields[key]}
        return before.with_(**changes) if changes else before

    @property
    def check(self) -> PromptCheck:
        """Whether what stands in the form makes a bundle, and every case fills its prompt."""
        try:
            return check_prompt(self.bundle, self.tries.golden)
        except ValueError as error:
            return PromptCheck(errors=(str(error),))

    def wait(self) -> None:
        """Return when nothing runs any more."""
        if self._thread.is_alive():
            self._thread.join()

    def _make_fields(self, size: int, seed: int) -> None:
        golden = self.tries.golden
        self.system = text_area("System", rows=3, placeholder="no system text")
        self.template = text_area("Template", rows=5)
        self.model = field(w.Text, "Model")
        self.temperature = small_field(w.Text, "Temperature", placeholder="unset")
        self.max_tokens = small_field(w.Text, "Max tokens", placeholder="unset")
        self.reasoning_effort = small_field(w.Text, "Effort", placeholder="unset")
        self.examples = text_area("Examples", rows=4, placeholder="- inputs: {question: ...}\n  output: ...")
        self.response_format = text_area("Response", rows=4, placeholder="type: json_object")
        names = [scorer.name for scorer in self._scorers]
        self.metric = field(w.Dropdown, "Better by", options=names)
        self.metric.observe(lambda _: self._on_metric(), names="value")
        self.file = field(w.Text, "File")
        self.k = small_field(w.BoundedIntText, "Passages k", min=1, max=1000)
        self.how = field(w.Dropdown, "Try on", options=[_RANDOM, *([TAG] if golden.tags else []), _FAILING])
        self.tag = field(w.Dropdown, "Tag", options=golden.tags)
        self.size = small_field(w.BoundedIntText, "Cases", min=1, max=len(golden), value=min(size, len(golden)))
        self.seed = small_field(w.IntText, "Seed", value=seed)
        self.checked, self.status, self.to_save = indented(html_widget()), indented(html_widget()), html_widget()
        for box in self._boxes():
            box.observe(lambda _: self._show_undo(), names="value")
            box.observe(lambda _: self._show_check(), names="value")
        for box in (self.model, self.temperature, self.max_tokens, self.reasoning_effort):
            box.on_msg(self._on_key)
        self.how.observe(lambda _: self._show_tag(), names="value")

    def _make_buttons(self) -> None:
        hint = "Ask these cases (Ctrl+Enter); stored answers are free"
        self.run = button("Run", self._on_run, style="primary", tooltip=hint)
        self.stop = button("Stop", self._on_stop, tooltip="Stop now; every answer received is kept")
        self.undo = button("Undo", self._on_undo, tooltip="Back to the try before; first, what was not run")
        self.redo = button("Redo", lambda: self._go(self.tries.redo()), tooltip="Forth to the next try")
        self.history = field(w.Dropdown, "Show", width="330px")
        self.history.observe(lambda change: self._on_history(change["new"]), names="value")
        hint = "As the next version, after you saw the diff" if self._folder else "Nowhere: give Playground(folder=...)"
        self.save = button("Save as bundle …", self._on_save, tooltip=hint, width_px=140)
        self.confirm = button("Write it", lambda: self._in_place(self._write), style="success")
        self.cancel = button("Cancel", self._hide_save)
        self.saving = indented(column([self.to_save, row(self.file, self.confirm, self.cancel)]))
        baseline = self.tries.baseline
        settings = [self.temperature, *([self.k] if baseline.retrieval else []), self.max_tokens, self.reasoning_effort]
        self.more = w.Accordion([column([self.examples, self.response_format])])
        self.more.set_title(0, "Examples and response format, in YAML")
        self.more.selected_index = 0 if baseline.prompt.examples or baseline.sampling.response_format else None
        self.form = column(
            [
                *(self.system, self.template, self.more, self.checked),
                *(row(self.model, *settings), row(self.how, self.size, self.seed, self.tag), self.metric),
                indented(row(self.run, self.stop, self.undo, self.redo, self.save)),
                *(self.status, self.saving, self.history, CtrlEnter(self._on_run)),
            ]
        )
        self.form.add_class("llmlab-form")
        self._hide_save()

    def _fill(self) -> None:
        for key, value in _fields(self.tries.bundle).items():
            getattr(self, key).value = _text(key, value)
        self._show_check()
        self._show_tag()
        self._show_state()

    def _boxes(self) -> list[Any]:
        return [getattr(self, key) for key in _fields(self.tries.baseline)]

    def _on_metric(self) -> None:
        chosen = self.metric.value
        self._scorers = tuple(sorted(self._scorers, key=lambda scorer: scorer.name != chosen))
        self.tries = self.tries.by(chosen)
        self._show_report()

    def _show_check(self) -> None:
        if self._failed:  # it was said of the form as it was
            self._say("")
        self.checked.value = html_of(self.check)

    def _show_tag(self) -> None:
        self.tag.layout.display = "" if self.how.value == TAG else "none"

    def _show_state(self) -> None:
        tries = self.tries
        self.run.disabled, self.stop.disabled = self._busy, not self._busy
        self._show_undo()
        self.redo.disabled = self._busy or tries.at == len(tries.done)
        self.save.disabled = self._busy or self._folder is None
        self.history.disabled = self._busy or not tries.done
        labels = [f"{tries.name}, as it was", *(done.title for done in tries.done)]
        self.history.layout.display = "" if tries.done else "none"
        with self.history.hold_sync():
            self.history.value = None  # new options would choose the first
            self.history.options = [(label, number) for number, label in enumerate(labels)]
            self.history.value = tries.at

    def _show_undo(self) -> None:
        self.undo.disabled = self._busy or (self.tries.at == 0 and self._as_shown())

    def _as_shown(self) -> bool:
        """Whether the form is as the try that is shown has it."""
        try:
            return self.bundle == self.tries.bundle
        except ValueError:  # a field holds what no bundle may
            return False

    def _on_undo(self) -> None:
        self._go(self.tries.undo() if self._as_shown() else self.tries)

    def _on_history(self, number: int | None) -> None:
        if number is not None and number != self.tries.at:
            self._go(self.tries.go(number))

    def _go(self, tries: Tries) -> None:
        self.tries = tries
        self._fill()
        self._hide_save()
        self._say("")
        self._show_report()

    def _show_report(self) -> None:
        self._report.show(self.tries)

    def _say(self, text: str, chip: Chip | None = None) -> None:
        self.status.value, self._failed = html_note(text, chip=chip) if text else Html(""), False

    def _in_place(self, do: Callable[[], None]) -> None:
        """Do it; what goes wrong is said in the form."""
        try:
            do()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a client or a scorer raises belongs into the form
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            self._say(f"{kind}{error}", Chip("error", "bad"))
            self._failed = True

    def _on_key(self, _: Any, message: Mapping[str, Any], __: Any) -> None:
        if message.get("event") == "submit" and not self.run.disabled:  # Enter
            self._on_run()

    def _on_run(self) -> None:
        if self._busy:
            return
        self._hide_save()
        when_settled(lambda: self._in_place(self._start), seen=self._typed)

    def _start(self) -> None:
        if self._busy:
            return
        if not self.check:
            raise ValueError("nothing was asked: the form has an error, see above")
        bundle, sample = self.bundle, self._sample()
        self._stop.clear()
        self._busy = True
        self._show_state()
        self._say("Preparing the calls …", Chip("running"))
        work = partial(self._work, bundle, sample)
        self._thread = threading.Thread(target=copy_context().run, args=(work,), name="llmlab-playground", daemon=True)
        self._thread.start()

    def _sample(self) -> GoldenSet:
        golden, size, seed = self.tries.golden, self.size.value, self.seed.value
        if self.how.value != _FAILING:
            return sample_cases(golden, size, seed=seed, tag=self.tag.value if self.how.value == TAG else None)
        latest = self.tries.shown.results if self.tries.shown is not None else self._results
        if latest is None:
            raise ValueError("which cases fail is not known yet: run a try first, or give Playground(results=...)")
        ids = set(failing_cases(latest, bundle=self.tries.bundle))
        if not (failing := [case.id for case in golden if case.id in ids]):
            raise ValueError("no case that was asked fails; try random cases")
        return sample_cases(golden.only(ids=failing), size, seed=seed)

    def _work(self, bundle: Bundle, sample: GoldenSet) -> None:
        """In the thread."""

        def run() -> None:
            tries = try_out(self.tries, bundle, sample=sample, setup=self._setup, scorers=self._scorers)
            if tries is self.tries:
                self._say("Stopped before an answer arrived.", Chip("stopped", "unsure"))
            else:
                self.tries = tries
                self._say(*_outcome(tries))

        self._in_place(run)
        self._busy = False
        self._show_state()
        self._show_report()

    def _tell(self, progress: Progress) -> None:
        if not self._stop.is_set():
            self._say(progress.sentence(), Chip("running"))

    def _on_stop(self) -> None:
        self._stop.set()
        self._say("Stopping …", Chip("running"))

    def _on_save(self) -> None:
        when_settled(lambda: self._in_place(self._ask_to_save), seen=self._typed)

    def _typed(self) -> tuple[Any, ...]:
        return tuple(box.value for box in (*self._boxes(), self.size, self.seed))

    def _ask_to_save(self) -> None:
        bundle, (path, version) = self.bundle, next_version(self._folder or "")
        if not self.tries.baseline.diff(bundle).changes:
            self._hide_save()
            raise ValueError(f"nothing changed: the form is {self.tries.name} as it was; change a field first")
        self._draft, self.file.value = bundle, path.stem  # what is written is what was shown
        self.to_save.value = html_of(
            html_note(f"{path.name}, version {version}, compared with {self.tries.name}:", chip=Chip("new file")),
            self.tries.baseline.diff(bundle.with_(version=version)),
        )
        self.saving.layout.display = ""

    def _write(self) -> None:
        if self.saving.layout.display:  # the second click of two
            return
        tries, bundle, shown = self.tries, self._draft, self.tries.shown
        which = f"try {shown.number} of {len(tries.done)}" if shown and shown.bundle == bundle else "not tried"
        fields = ", ".join(name for name, _, _ in tries.baseline.diff(bundle).changes)
        notes = f"From {tries.name} in the Playground ({which}). Changed: {fields}."
        stem, tried = self.file.value.strip(), tries.candidates
        self.saved = save_next(bundle, self._folder or "", stem=stem, notes=notes, tried=tried, golden=tries.golden)
        self._hide_save()
        self._say(f"{self.saved.name} written to {self.saved.parent}.", Chip("saved", "good"))

    def _hide_save(self) -> None:
        self.saving.layout.display = "none"

    def _repr_html_(self) -> Html:
        """The same content where no widget lives."""
        rows = [{"field": key, "value": value} for key, value in _fields(self.tries.bundle).items()]
        about = "This is a form where widgets live, as in JupyterLab. Here is what it would show."
        return html_of(html_table(rows, caption=about), self.check, self.tries)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle = dict(self.form._repr_mimebundle_())
        return {**bundle, "text/html": self._repr_html_(), "text/plain": f"Playground({self.tries!r})"}

    def _ipython_display_(self) -> None:
        publish_display_data(self._repr_mimebundle_())
        self._show_report()


def _fields(bundle: Bundle) -> Mapping[str, Any]:
    prompt, sampling = bundle.prompt, bundle.sampling
    fields: dict[str, Any] = {
        "system": prompt.system,
        "template": prompt.template,
        "model": str(bundle.model),
        "temperature": sampling.temperature,
        "max_tokens": sampling.tokens_at_most,
        "reasoning_effort": sampling.reasoning_effort,
        "examples": [example.model_dump(mode="json") for example in prompt.examples],
        "response_format": sampling.model_dump(mode="json")["response_format"],
    }
    return fields | ({"k": bundle.retrieval.k} if bundle.retrieval is not None else {})


def _text(key: str, value: Any) -> Any:
    """A value as its field has it: a text, but for numbers in fields of numbers."""
    if value is None or value == []:
        return ""
    if isinstance(value, (list, dict)):
        return to_yaml(value)
    return value if key == "k" else str(value)


def _read(key: str, text: Any) -> Any:
    """What a field says; ValueError where it says nothing that a bundle may have."""
    if key in ("temperature", "max_tokens"):
        return _number(text, key)
    if key in ("examples", "response_format"):
        try:
            value = parse_yaml(text, path=key)[0]
        except FileRuleError as error:
            raise ValueError(str(error)) from None
        return [] if value is None and key == "examples" else value
    return text.strip() or None if key == "reasoning_effort" else text.strip() if key == "model" else text


def _number(text: str, name: str) -> float | None:
    try:
        return (int if name == "max_tokens" else float)(text) if text.strip() else None
    except ValueError:
        raise ValueError(f"{name} == {text!r}, must be a number, or empty to send none") from None


def _outcome(tries: Tries) -> tuple[str, Chip]:
    results = tries.done[-1].results
    if results.failed:
        lost = results.n_answers(status="error")
        return f"{lost} of {results.n_answers()} calls gave no answer, see below.", Chip("failed", "bad")
    if not results.complete:
        return "Stopped. Every answer that arrived is kept; Run goes on from there.", Chip("stopped", "unsure")
    return tries.done[-1].outcome, Chip("done", "good")
