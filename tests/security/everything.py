"""Every value that llmlab can show, with a hostile text wherever a text can stand.

Values are built from their own type hints, so a new class is in here the day it is written.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import importlib
import json
import pkgutil
import sys
import tempfile
import types
import typing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing
import pandas as pd
import pydantic

import llmlab
from llmlab.bundle.bundle import Bundle
from llmlab.display.shown import Shown
from llmlab.gate import GatePolicy, Receipt
from llmlab.gate.passport import JudgePassport
from llmlab.golden.cases import Case, GoldenSet
from llmlab.guards import Frontier, LabelledText, guard, measure
from llmlab.results.diagnostics import Classes
from llmlab.results.elsewhere import Scores
from llmlab.results.results import Results
from llmlab.scorers import Score, scorer
from llmlab.search.corpus import Corpus, Document
from llmlab.watch.policy import WatchPolicy
from llmlab.watch.report import Watch

__all__ = ["answers_with", "classes", "everything", "modules"]

DIGEST = "0" * 64
DATE = "2026-01-01T00:00:00+00:00"


@functools.cache
def modules() -> list[types.ModuleType]:
    """Every module of the package."""
    names = [found.name for found in pkgutil.walk_packages(llmlab.__path__, "llmlab.")]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


def classes() -> list[type]:
    """Every class that shows itself: subclasses of `Shown`, and whatever else has an HTML form."""
    modules()
    found: dict[type, None] = {}

    def add(cls: type) -> None:
        for sub in cls.__subclasses__():
            if sub.__module__.startswith("llmlab.") and getattr(sys.modules[sub.__module__], sub.__name__, None) is sub:
                found[sub] = None  # a class with slots was made twice
            add(sub)

    add(Shown)
    others = (value for module in modules() for value in vars(module).values() if isinstance(value, type))
    for cls in others:
        if cls.__module__.startswith("llmlab.") and "_repr_html_" in vars(cls) and cls is not Shown:
            found[cls] = None
    return sorted(found, key=lambda cls: (cls.__module__, cls.__qualname__))


def everything(text: str) -> dict[str, Any]:
    """One value of each class by its name, full of `text`."""
    results = answers_with(text)
    special: dict[str, Any] = {
        "Results": results,
        "Summary": results.summary(),
        "CaseView": dataclasses.replace(results.show(text), requests={text: text}),
        "GoldenSet": results.golden,
        "Bundle": _bundle(text),
        "Receipt": _model(Receipt, text),
        "GatePolicy": GatePolicy.model_validate({"baseline": "none", "floors": [{"metric": "right", "at_least": 0.1}]}),
        "JudgePassport": _model(JudgePassport, text),
        "Flips": results.flips(text, f"{text}3"),
        "Worst": results.worst(3),
        "Comparison": results.compare(text),
        "Scores": Scores(table=results.table("right")),
        "Calibration": _calibration(text),
        **_retrieval(text),
        "Corpus": Corpus(documents=(Document(id=text, text=text, title=text),), name=text),
        "Index": _index(text),
        "Traces": _traces(text),
        "WatchPolicy": WatchPolicy(),
        "Watch": Watch(policy=WatchPolicy(), name=text),
        "Classes": dataclasses.replace(_built(Classes, text), counts={text: np.array([[2, 1]])}),
        **_guards(results, text),
        **_tries(results, text),
        **_widgets(results, text),
        "Picture": None,  # a picture; its alt text is shown by the notebook
    }
    made = {cls.__name__ if cls.__name__ not in ("Verdict",) else cls.__module__: cls for cls in classes()}
    return {
        name: special[name] if name in special else _built(cls, text)
        for name, cls in made.items()
        if special.get(name, cls) is not None
    }


def _guards(results: Results, text: str) -> dict[str, Any]:
    @scorer(name="fires")
    def fires(_case: Case, generation: Any) -> Score:
        return Score(value=float("bad" not in generation.text), explanation=text)

    table = results.table("right")
    labelled = [LabelledText(text=f"{text} {word}", bad=word == "bad", group=text) for word in ("bad", "good")]
    return {
        "GuardMeasures": measure(labelled, [guard(fires)]),
        "Frontier": Frontier(
            cheap=text,
            strong=f"{text}3",
            check=text,
            quality=table,
            cost=table,
            shares=dict.fromkeys(table.variants, 0.5),
        ),
    }


def answers_with(text: str) -> Results:
    """Results with the text as variant, case id, question, tag, answer, document, metric's reason and note."""

    @scorer(name="right")
    def right(_case: Case, generation: Any) -> Score:
        return Score(value=float(generation.variant == text), explanation=text)

    inputs = {"question": text, text or "x": text}
    cases = [Case(id=i, inputs=inputs, expected=(text,), relevant={text: 1}, tags=(text,)) for i in (text, f"{text}2")]
    rows = [{"variant": v, "case_id": case.id, "text": text} for v in (text, f"{text}3") for case in cases]
    results = Results.from_frame(pd.DataFrame(rows), golden=GoldenSet(tuple(cases), name=text), scorers=[right])
    frame = results.frame.assign(served_model=text, error=text, retrieved=[(text,)] * len(rows))
    return dataclasses.replace(results, frame=frame, notes=(text,), provenance={"endpoints": {text: text}})


def _bundle(text: str) -> Bundle:
    literal = "{% raw %}" + text + "{% endraw %}{{ question }}"
    bundle = Bundle.from_prompt(
        literal, model="offline/extractive-1", name="v", system="{% raw %}" + text + "{% endraw %}"
    )
    return bundle.model_copy(update={"metadata": {"author": text, "notes": text}})  # its name cannot be hostile


def _index(text: str) -> Any:
    from llmlab.bundle.bundle import RetrievalConfig
    from llmlab.search.index import build_index

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "c.jsonl").write_text(json.dumps({"id": text, "text": text, "title": text}), encoding="utf-8")
        return build_index(RetrievalConfig.model_validate({"corpus": {"jsonl": "c.jsonl"}}), base=folder)


def _tries(results: Results, text: str) -> dict[str, Any]:
    from llmlab.engine.tries import SideBySide, Tries, Try

    assert results.golden is not None
    frame = results.frame.assign(variant=results.frame["variant"].replace(f"{text}3", "try 1"))
    tried = dataclasses.replace(results, frame=frame, bundles={text: _bundle(text), "try 1": _bundle(text)})
    rows = [{str(name): cell for name, cell in row.items()} for row in frame.to_dict("records")]
    one = Try(number=1, bundle=_bundle(text), results=tried, baseline=text, changes=(text,))
    pair = SideBySide(
        case=results.golden.cases[0], names=(text, text), rows=(rows[0], rows[1]), metrics=("right",), became="better"
    )
    kept = Tries(baseline=_bundle(text), name=text, golden=results.golden, done=(one,), at=1)
    return {"SideBySide": pair, "Try": one, "Tries": kept}


def _widgets(results: Results, text: str) -> dict[str, Any]:
    from llmlab.clients.fake import FakeClient
    from llmlab.retrieval.attribution import attribute
    from llmlab.widgets import Explorer, Labeller, Playground

    assert results.golden is not None
    plain = Bundle.from_prompt("{{ question }}", model="offline/extractive-1", name="v")
    with tempfile.TemporaryDirectory() as folder:
        labeller = Labeller(results, None, "correctness", Path(folder) / "labels.jsonl", labeller=text)
        labeller._repr_html_()
    return {
        "Explorer": Explorer(results, attribute(results)),
        "Labeller": labeller,
        "Playground": Playground(plain, results.golden, FakeClient({}), results=results, name=text),
    }


def _traces(text: str) -> Any:
    from llmlab.production.traces import Traces

    fields = ("request_id", "unit_id", "session_id", "service", "arm", "bundle", "text", "error", "served_model")
    frame = pd.DataFrame([{"time": DATE, **dict.fromkeys(fields, text)}])
    found = Traces.from_frame(frame, mapping={name: name for name in ("time", *fields)})
    problems = dataclasses.replace(found.problems, rows=({"problem": text, "count": 1, "first": text},))
    return dataclasses.replace(found, problems=problems, source=text)


def _calibration(text: str) -> Any:
    from llmlab.judge import calibrate_verdicts

    n = 12
    frame = pd.DataFrame({"label": [1, 2] * (n // 2), "order1": [1, 2] * (n // 2), "order2": [1, 2] * (n // 2)})
    found = calibrate_verdicts(frame.assign(tags=text), by=("tags",))
    return dataclasses.replace(found, judge=text, notes=(text,))


def _retrieval(text: str) -> dict[str, Any]:
    from llmlab.retrieval.attribution import attribute
    from llmlab.retrieval.metrics import evaluate
    from llmlab.retrieval.variants import of_results

    qrels = {text: {text: 1}, f"{text}2": {text: 1}}
    results = answers_with(text)
    found = attribute(results)
    return {
        "RetrievalMetrics": evaluate(qrels, {query: [text, "other"] for query in qrels}),
        "RunMetrics": of_results(results, ["RR"]),
        "Attribution": found,
        "Transition": found.transition(text, f"{text}3"),
    }


def _model(cls: type[pydantic.BaseModel], text: str) -> Any:
    hints = _hints(cls)
    return cls.model_construct(**{name: _value(hints[name], text, name) for name in cls.model_fields})


def _built(cls: type, text: str) -> Any:
    if issubclass(cls, pydantic.BaseModel):
        return _model(cls, text)
    hints = _hints(cls)
    made = object.__new__(cls)  # what it shows is looked at here, not what it accepts
    for field in dataclasses.fields(cls):
        object.__setattr__(made, field.name, _value(hints[field.name], text, field.name))
    return made


def _hints(cls: type) -> dict[str, Any]:
    """Type hints, names that a module imports for type checkers alone found in the modules they come from."""
    own = vars(sys.modules[cls.__module__])
    elsewhere = {name: value for module in modules() for name, value in vars(module).items() if isinstance(value, type)}
    return typing.get_type_hints(cls, None, {n: v for n, v in {**elsewhere, **_NAMES}.items() if n not in own})


def _value(kind: Any, text: str, name: str) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _value(next(part for part in parts if part is not type(None)), text, name)
    if origin is typing.Annotated:
        return _value(parts[0], text, name)
    if origin is typing.Literal:
        return parts[0]
    if origin is tuple:
        return tuple(_value(part, text, name) for part in parts if part is not Ellipsis)
    if origin in (list, collections.abc.Sequence):
        return [_value(parts[0], text, name)]
    if origin in (frozenset, set):
        return frozenset([_value(parts[0], text, name)])
    if origin in (dict, collections.abc.Mapping):
        return {_value(parts[0], text, name): _value(parts[1], text, name)}
    if origin is np.ndarray:
        return np.array([0.25, 0.5, 0.75])
    return _plain_value(kind, text, name)


def _plain_value(kind: Any, text: str, name: str) -> Any:
    if kind is str or kind is Any or kind is object:
        known = {"kind": "promote", "word": "PASS", "verdict": "PASS", "explanations": ""}
        return DATE if name.endswith("_at") or name == "when" else known.get(name, text)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if isinstance(kind, type) and issubclass(kind, tuple):  # a NamedTuple
        return kind(*(_value(part, text, field) for field, part in _hints(kind).items()))
    if isinstance(kind, type) and issubclass(kind, Path):
        return Path(text.replace("\0", "") or "x")
    numbers = {bool: True, int: 3, float: 0.5, Decimal: Decimal("0.5")}
    simple = {**numbers, date: date(2026, 1, 1), datetime: datetime(2026, 1, 1, tzinfo=UTC)}
    if kind in simple:
        return simple[kind]
    if kind is Results:
        return answers_with(text)
    if kind is Bundle:
        return _bundle(text)
    if kind is Case:
        return Case(id=text, inputs={text: text}, expected=(text,), tags=(text,))
    if dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)):
        return _built(kind, text)
    return text


_NAMES: dict[str, Any] = {
    "pd": pd,
    "np": np,
    "NDArray": np.typing.NDArray,
    "ClassVar": typing.ClassVar,
    "Sequence": collections.abc.Sequence,
}
