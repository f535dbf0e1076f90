"""`Experiment.load`: one folder as one value, read where it is first asked for.

Loading reads YAML and nothing else. `scorers.py` runs when scorers are first used; keys are read at each call.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self, TypeAlias, TypedDict, Unpack

import pydantic
from pydantic import Field

from llmlab.base.documents import Strict
from llmlab.base.errors import FileRuleError, RequestRefusedError
from llmlab.base.project import located
from llmlab.base.yamlfile import OfFolder, read_model
from llmlab.bundle.bundle import BESIDE, Bundle, CorpusRef, load_bundles
from llmlab.bundle.grids import grid
from llmlab.bundle.prompt import Frozen
from llmlab.clients.base import Client, Request
from llmlab.clients.endpoints import client_for
from llmlab.clients.wire import wire_sampling
from llmlab.display.shown import Shown
from llmlab.engine.cost import DryRun, dry_run
from llmlab.engine.runs import run
from llmlab.experiment.addresses import Addresses
from llmlab.experiment.own_code import own_scorers
from llmlab.gate.decide import GatePolicy
from llmlab.golden.cases import GoldenSet
from llmlab.golden.labels import Labels
from llmlab.judge.grading import prefer, score
from llmlab.judge.judges import Judge
from llmlab.production.rollout import Rollout
from llmlab.registry.release import named_baseline
from llmlab.results.results import Results
from llmlab.results.scores import RESOURCE_METRICS
from llmlab.scorers.base import Scorer, as_scorers
from llmlab.scorers.shipped import shipped_scorer
from llmlab.search.corpus import Corpus
from llmlab.search.embedding import Embedder
from llmlab.tracking.runs import last_logged
from llmlab.tracking.store import store_exists
from llmlab.watch.report import Watch

Variants: TypeAlias = Mapping[str, Bundle] | Bundle | None  # None = those of the folder

_PARTS = (
    *("golden.jsonl", "bundles/*.yaml", "gate.yaml", "experiment.yaml", "endpoints.yaml", "clients.py"),
    *("scorers.py", "judges/*.yaml", "labels_*.jsonl", "rollout.yaml", "watch.yaml"),
)


class Settings(Strict):
    """What an `experiment.yaml` says besides bundles, cases and gate. It may be left out.

    scorers: [label, {json_fields: [team, total]}, {fenced: json_equal}]  # shipped ones; your own are in scorers.py
    repeats: 2
    temperatures: [0.0, 0.7]          # or: as the bundles say
    corpus: {folder: docs}            # what scorers of passages read; by default that of the baseline's retrieval

    Attributes:
        scorers: a shipped scorer's name, or a mapping of it to its arguments; None = those that fit the cases.
        repeats: answers per variant and case.
        temperatures: each prompt is tried at each; none = as the bundles say.
        corpus: what scorers of passages read.
    """

    scorers: Annotated[tuple[str | Frozen, ...] | None, Field(strict=False)] = None
    repeats: Annotated[int, Field(ge=1)] = 1
    temperatures: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(strict=False)] = ()
    corpus: CorpusRef | None = None

    @pydantic.field_validator("temperatures", mode="before")
    @classmethod
    def _or_as_the_bundles_say(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "as the bundles say":
            raise ValueError(f"{value!r}, must be a list such as [0.0, 0.7], or: as the bundles say")
        return () if isinstance(value, str) else value

    @pydantic.field_validator("scorers")
    @classmethod
    def _one_each(cls, value: Any) -> Any:
        for scorer in value or ():
            if isinstance(scorer, Mapping) and len(scorer) != 1:
                raise ValueError(f"{dict(scorer)!r}, must be one scorer's name with its arguments")
        return value


class _Labels(OfFolder[Labels]):
    def __missing__(self, kind: str) -> Labels:
        raise FileRuleError(
            "is not there: label some answers first (notebooks/03c_label_answers.ipynb)",
            path=Path(self.folder) / f"labels_{kind}.jsonl",
        )


class Asked(TypedDict, total=False):
    """What a notebook or command says instead of the folder; what is empty is as the folder says."""

    base_url: str
    models: Sequence[str]
    first: int
    baseline: str
    candidate: str
    metric: str
    repeats: int
    temperatures: Sequence[float] | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Experiment(Shown):
    """A folder with `bundles/*.yaml` and `golden.jsonl`, and with what else it carries.

    `gate.yaml` names the baseline and the metric that decides; `endpoints.yaml` says where models are reached,
    `scorers.py` has scorers of your own, `judges/*.yaml` judges, `labels*.jsonl` what people said, and
    `experiment.yaml` the rest (`Settings`). Without one of them its part is left to what is usual.

    Attributes:
        path: the folder.
        settings: its `experiment.yaml`, or the defaults.
        asked: what was said instead of the folder when it was loaded.
    """

    path: Path
    settings: Settings
    asked: Mapping[str, Any]

    @classmethod
    def load(cls, path: str | Path, **asked: Unpack[Asked]) -> Self:
        """The experiment in a folder.

        Args:
            base_url: an address where all its models are asked; "" = as endpoints files say.
            models: models (`provider/id`) to try every prompt on instead of those of the bundles.
            first: only the first so many cases; 0 = all.
            baseline, candidate, metric, repeats, temperatures: instead of what the folder says; "", 0 and None = that.

        Raises:
            FileRuleError: it is no such folder, or its `experiment.yaml` breaks a rule (with line).
        """
        folder = located(path)
        if not (folder / "golden.jsonl").is_file():
            raise FileRuleError(
                "is no experiment: it has no golden.jsonl; `llmlab new NAME --csv questions.csv` makes one", path=path
            )
        if isinstance(models := asked.get("models", ()), str) and models:
            asked["models"] = [models]
        rules = folder / "experiment.yaml"
        settings = read_model(Settings, rules) if rules.is_file() else Settings()
        return cls(path=folder, settings=settings, asked={k: v for k, v in asked.items() if v not in ("", 0, None)})

    @property
    def name(self) -> str:
        """What it is called: its folder."""
        return self.path.resolve().name

    @cached_property
    def bundles(self) -> Mapping[str, Bundle]:
        """Every prompt by its file's name; on each of several `models` as "prompt · model"."""
        models = list(self.asked.get("models", ()))
        bundles: Mapping[str, Bundle] = load_bundles(self.base)
        if len(models) > 1:
            bundles = grid(bundles, model=models)
        elif models:
            bundles = {name: bundle.with_(model=models[0]) for name, bundle in bundles.items()}
        if models:
            rules_for = self.endpoints.rules_for
            bundles = {name: _without_refused(of, rules=rules_for(of.model)) for name, of in bundles.items()}
        return OfFolder(self.base, bundles)

    @cached_property
    def variants(self) -> Mapping[str, Bundle]:
        """Every bundle at each temperature, as `grid` names them; without temperatures the bundles."""
        return grid(self.bundles, temperature=list(self.temperatures)) if self.temperatures else self.bundles

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures that each prompt is tried at; none = as the bundles say."""
        return tuple(self.asked.get("temperatures", self.settings.temperatures) or ())

    @property
    def repeats(self) -> int:
        """Answers per variant and case."""
        return int(self.asked.get("repeats", self.settings.repeats))

    @property
    def warmest(self) -> Mapping[str, Bundle]:
        """The bundles at the highest of its temperatures, where answers differ; as they are where it has none."""
        if not self.temperatures:
            return self.bundles
        return {name: bundle.with_(temperature=max(self.temperatures)) for name, bundle in self.bundles.items()}

    def bundle(self, which: str = "") -> Bundle:
        """A bundle of the folder by its name, or that of a file anywhere (*.yaml); "" = the candidate.

        Raises:
            ValueError: several `models` were asked for, and one bundle has one.
        """
        models = self.asked.get("models", ())
        if len(models) > 1:
            raise ValueError(f"models == {list(models)}, must be one: a release has one candidate")
        if not which.endswith((".yaml", ".yml")):
            return self.bundles[self._bundle_called(which) if which else self.candidate]
        loaded = Bundle.load(which)
        return loaded.with_(model=models[0]) if models else loaded

    @cached_property
    def baseline(self) -> str:
        """The bundle to beat: as asked, else the file that the gate names, else the first.

        An alias of the registry (`production`) is no file, and without a `baseline_file` the first bundle stands in.

        Raises:
            FileRuleError: the gate names a file (*.yaml) that the folder has not.
        """
        if wanted := self.asked.get("baseline"):
            return self._bundle_called(wanted)
        places = (self.gate.baseline, self.gate.baseline_file) if self.has_gate else ()
        for place in map(PurePosixPath, filter(None, places)):
            if place.suffix in (".yaml", ".yml") or self._called(place.stem):
                return self._bundle_called(place.stem)
        return next(iter(self.bundles))

    @cached_property
    def candidate(self) -> str:
        """The bundle that wants to replace it: as asked, else the first other one."""
        if wanted := self.asked.get("candidate"):
            return self._bundle_called(wanted)
        return next((name for name in self.bundles if name != self.baseline), self.baseline)

    @property
    def reference(self) -> str:
        """The variant to beat: the baseline, at the first temperature where there are several."""
        return next(name for name in self.variants if name == self.baseline or name.startswith(f"{self.baseline}@"))

    @cached_property
    def metric(self) -> str:
        """The metric that decides: as asked, else what the gate is about, else the first scorer's."""
        if wanted := self.asked.get("metric"):
            return str(wanted)
        if not self.has_gate:
            return self.scorers[0].name
        return self.gate.goal.metric if self.gate.goal is not None else self.gate.metrics[0]

    @cached_property
    def golden(self) -> GoldenSet:
        """The cases, or the first so many where that was asked."""
        return self._first(self._cases)

    @cached_property
    def explored(self) -> GoldenSet:
        """The cases that everybody may read: all but the gate's holdout."""
        return self._first(self.gate.explored(self._cases) if self.has_gate else self._cases)

    @cached_property
    def held_out(self) -> GoldenSet:
        """The cases that the gate reads: its holdout, or all where it keeps none."""
        return self._first(self.gate.held_out(self._cases))

    @cached_property
    def scorers(self) -> tuple[Scorer, ...]:
        """Those of `experiment.yaml`, or those that fit the cases and the gate, then those of `scorers.py`, which runs.

        Raises:
            FileRuleError: `scorers.py` does not run, or a line of `experiment.yaml` does not fit its scorer.
        """
        own = own_scorers(self.path / "scorers.py") if (self.path / "scorers.py").is_file() else ()
        listed = self.settings.scorers
        specs = self._usual({scorer.name for scorer in own}) if listed is None else listed
        try:
            shipped = [shipped_scorer(spec, corpus=lambda: self.corpus) for spec in specs]
        except ValueError as error:
            raise FileRuleError(f"scorers: {error}", path=self.path / "experiment.yaml") from None
        return (*shipped, *own)

    @cached_property
    def corpus(self) -> Corpus:
        """The documents: of `experiment.yaml`, else those that the baseline's retrieval reads."""
        if self.settings.corpus is not None:
            return Corpus.load(self.settings.corpus, base=self.path)
        retrieval = self.bundles[self.baseline].retrieval
        if retrieval is None:
            raise FileRuleError("names no corpus, and neither does the baseline", path=self.path / "experiment.yaml")
        return Corpus.load(retrieval.corpus, base=self.base)

    @property
    def base(self) -> Path:
        """The folder that paths in bundles start from."""
        return self.path / "bundles"

    @property
    def has_gate(self) -> bool:
        """Whether there is a `gate.yaml`."""
        return (self.path / "gate.yaml").is_file()

    @cached_property
    def gate(self) -> GatePolicy:
        """The rules of a release; FileRuleError where there is no `gate.yaml`, or it breaks a rule."""
        remedy = f"`llmlab gate-init {self.path}` writes one that these cases can settle"
        return GatePolicy.load(self._required("gate.yaml", remedy))

    @cached_property
    def rollout(self) -> Rollout:
        """Who gets the candidate in production, and what it must show there: `rollout.yaml`."""
        remedy = (
            "it says who gets the candidate and what it must show: name, baseline, candidate, enrol, goal, guards, "
            "planned_units (as in experiments/pandas_help/rollout.yaml)"
        )
        return Rollout.load(self._required("rollout.yaml", remedy))

    @cached_property
    def watch(self) -> Watch:
        """What must not happen in production: `watch.yaml`."""
        remedy = (
            "it says what must not happen, and `{}` in it is the field's usual rules with their runbooks "
            "(as in experiments/pandas_help/watch.yaml)"
        )
        watch = Watch.load(self._required("watch.yaml", remedy))
        if "question_embedding" not in watch.policy.drift:
            return watch
        retrieval = self.bundles[self.baseline].retrieval
        if retrieval is None or (model := retrieval.embedding) is None:
            return watch
        return replace(watch, embed=Embedder(model, client=client_for(model, self.endpoints)))

    @cached_property
    def judges(self) -> Mapping[str, Judge]:
        """The judges of `judges/*.yaml`, by their file's name."""
        folder = self.path / "judges"
        return OfFolder(folder, {path.stem: Judge.load(path) for path in sorted(folder.glob("*.yaml"))})

    def judge(self, which: str = "", *, model: str = "") -> Judge:
        """A judge of the folder by its name, or that of a file anywhere (*.yaml), on another model where that is given.

        "" = the first of the folder; FileRuleError where it has none.
        """
        if which.endswith((".yaml", ".yml")):
            judge = Judge.load(which)
        elif which or self.judges:
            judge = self.judges[which] if which else next(iter(self.judges.values()))
        else:
            rule = "has no judge (*.yaml): a rubric and a model to ask (as in experiments/pandas_help/judges)"
            raise FileRuleError(rule, path=self.path / "judges")
        return judge.with_(model=model) if model else judge

    @property
    def judges_of_gate(self) -> list[Judge]:
        """The judges whose metric the gate reads."""
        return self.judges_of(self.gate.metrics)

    def judges_of(self, metrics: Collection[str]) -> list[Judge]:
        """The judges that make these metrics; where a scorer makes one, no judge is asked for it."""
        judges = [judge for judge in self.judges.values() if judge.metric in metrics]
        scorer_names = {scorer.name for scorer in self.scorers} if judges else set()
        return [judge for judge in judges if judge.metric not in scorer_names]

    def judged(self, results: Results, *judges: Judge, **options: Any) -> Results:
        """The results with each judge's grades, or of two variants its preferences, asked as the folder says.

        Without a judge those of the metric that decides are asked; where the results have it from a scorer, they are as
        they were. `options` as of `ll.judge.score`.

        Raises:
            ValueError: a pairwise judge, and not two variants.
        """
        call_options = {"base": self.base, "endpoints": self.endpoints, **options}
        scored = [] if judges else [name for name, metric in results.metrics.items() if not metric.judge]
        for judge in judges or self.judges_of({self.metric}.difference(scored)):
            if judge.kind == "pointwise":
                results = score(results, judge, **call_options)
                continue
            if len(results.variants) != 2:
                these = ", ".join(results.variants)
                remedy = "take two (`results.only(variants=...)`), or name another metric"
                raise ValueError(f"{judge.metric} compares two variants, not {these}; {remedy}")
            results = prefer(results, *results.variants, judge, **call_options)
        return results

    @cached_property
    def labels(self) -> Mapping[str, Labels]:
        """What people said: `labels_pointwise.jsonl` as "pointwise" and so on."""
        files = sorted(self.path.glob("labels_*.jsonl"))
        return _Labels(self.path, {path.stem.removeprefix("labels_"): Labels.load(path) for path in files})

    @cached_property
    def endpoints(self) -> Addresses:
        """Where its models are reached."""
        return Addresses.of(self.path, base_url=self.asked.get("base_url", ""))

    @property
    def client(self) -> Client:
        """The client that reaches the baseline's model; FileRuleError where its key may not go there."""
        return client_for(self.bundles[self.baseline].model, self.endpoints)

    def lacking(self, bundle: Bundle | str) -> str:
        """What this machine lacks to run a bundle, or that of a file in the folder, with the command; "" = nothing."""
        if isinstance(bundle, str):
            if not (self.path / bundle).is_file():
                return f"{bundle} is not in {self.path.name}." if bundle else "No bundle was named."
            bundle = Bundle.load(self.path / bundle)
        models = (bundle.model, bundle.retrieval.embedding if bundle.retrieval else None)
        clients = [client_for(model, self.endpoints) for model in models if model is not None]
        return next(filter(None, (str(getattr(client, "absent", "")) for client in clients)), "")

    def run(self, variants: Variants = None, golden: GoldenSet | None = None, **options: Any) -> Results:
        """What `ll.run` gives: all variants on the explored cases, with the scorers, repeats and means of the folder.

        A misspelt metric costs nothing: it is refused before the first call. `options` are those of `ll.run`.
        """
        arguments, _ = self._with_usual(variants, golden, options)
        return run(**arguments)

    @property
    def served(self) -> Bundle:
        """What production serves by the gate's rules; the baseline where nobody promoted anything, or has a gate."""
        usual = self.bundles[self.baseline]
        return (named_baseline(self.gate, usual.name, self.path) if self.has_gate else None) or usual

    def asked_again(self, **options: Any) -> Results:
        """What production serves, asked anew, and its last logged run before it: has the model changed under its name?

        No stored answer is replayed for the new one. Where no run was logged, the stored answers stand for it.
        `options` are those of `ll.run`.
        """
        bundle, golden = self.served, self.explored
        before = last_logged(bundle, golden) if store_exists() else None
        if before is None:
            before = self.run({f"{bundle.version} as stored": bundle}, golden, **options)
        variant = f"{bundle.version} asked {datetime.now(UTC).isoformat(' ', 'milliseconds').removesuffix('+00:00')}"
        return self.run({variant: bundle}, golden, **{**options, "fresh": True}).joined(before)

    def dry_run(
        self,
        variants: Variants = None,
        golden: GoldenSet | None = None,
        *,
        judges: Sequence[Judge] | None = None,
        **options: Any,
    ) -> DryRun:
        """What `run` would send and cost, after the same checks, without a call; `options` as of `ll.dry_run`.

        What `judges` are asked afterwards is said and not counted; by default those of metrics that no scorer makes.
        """
        arguments, grading = self._with_usual(variants, golden, options)
        planned, planned_judges = dry_run(**arguments), grading if judges is None else judges
        graders = " and ".join(f"{judge.bundle.model} for {judge.metric}" for judge in planned_judges)
        note = f"Then the answers go to a judge ({graders}), which is not counted here."
        return replace(planned, notes=(*planned.notes, note)) if planned_judges else planned

    def _with_usual(
        self, variants: Variants, golden: GoldenSet | None, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[Judge]]:
        """What `run` is given, and the judges that make, after it, the metrics that no scorer makes."""
        usual = {"metrics": ()} if "scorers" in options else {"scorers": self.scorers, "metrics": [self.metric]}
        arguments: dict[str, Any] = usual | {
            "variants": self.variants if variants is None else variants,
            "golden": self.explored if golden is None else golden,
            "base": self.base,
            "endpoints": self.endpoints,
            "repeats": self.repeats,
            **options,
        }
        scorers = as_scorers(arguments["scorers"])
        if isinstance(metrics := arguments["metrics"], str):
            arguments["metrics"] = [metrics]
        measured = {*RESOURCE_METRICS, *(scorer.name for scorer in scorers)}
        unmeasured = [name for name in arguments["metrics"] if name not in measured]
        judges = [*self.judges.values()] if unmeasured else []
        graded = [judge.metric for judge in judges]
        if judges and (unknown := [name for name in unmeasured if name not in graded]):
            raise ValueError(
                f"nothing makes the metric {unknown[0]!r} (scorers and calls: {', '.join(sorted(measured))}; judges: "
                f"{', '.join(graded)}); nothing was asked"
            )
        made = [name for name in arguments["metrics"] if name in measured or name not in graded]
        return {**arguments, "scorers": scorers, "metrics": made}, [j for j in judges if j.metric in unmeasured]

    def _required(self, file: str, remedy: str) -> Path:
        """The path of a file of the folder; FileRuleError with what to do where it is not there."""
        path = self.path / file
        if not path.is_file():
            raise FileRuleError(f"is not there; {remedy}", path=path)
        return path

    @cached_property
    def _cases(self) -> GoldenSet:
        return GoldenSet.load(self.path / "golden.jsonl")

    def _first(self, golden: GoldenSet) -> GoldenSet:
        return golden.only(first=self.asked.get("first"))

    def _called(self, name: str) -> list[str]:
        return [bundle for bundle in self.bundles if bundle == name or bundle.startswith(f"{name}{BESIDE}")]

    def _bundle_called(self, name: str) -> str:
        """The bundle of this name, on the first of several models; FileRuleError, which says which there are, else."""
        names = self._called(name)
        return names[0] if names else OfFolder(self.base, {name: name for name in self.bundles})[name]

    def _usual(self, own: Collection[str]) -> list[str]:
        """Shipped scorers that fit: of facts and sources where cases and bundles have them, and what the gate reads."""
        fitting = {
            "mentions_expected": any(case.facts for case in self.explored),
            "json_equal": any(case.names_expected and not case.facts for case in self.explored),
            "cites_source": any(bundle.retrieval is not None for bundle in self.bundles.values()),
            "not_refused": True,
        }
        other = {*own, *RESOURCE_METRICS, *(judge.metric for judge in self.judges.values())}
        read = [name for name in (self.gate.metrics if self.has_gate else ()) if name not in other]
        return list(dict.fromkeys([name for name, fits in fitting.items() if fits] + read))

    def _rows(self) -> list[dict[str, object]]:
        """What lies in the folder, as far as it is known without reading any of it."""
        stems = {pattern: ", ".join(sorted(path.stem for path in self.path.glob(pattern))) for pattern in _PARTS}
        facts = {pattern: names if "*" in pattern else "yes" for pattern, names in stems.items() if names}
        parameters = [f"{name} = {value}" for name, value in self.asked.items() if value or name == "temperatures"]
        facts = {"experiment": str(self.path), **facts, "asked": ", ".join(parameters)}
        return [{"part": pattern, "there": text} for pattern, text in facts.items() if text]


def _without_refused(bundle: Bundle, *, rules: str) -> Bundle:
    """A bundle that was put on another model, without the fewest of temperature and the like that it refuses.

    What is refused with all of them gone stays: the client names it, and the variant, before the first call.
    """
    refused = _refused(bundle, rules=rules)
    settings = [name for name in ("top_k", "top_p", "temperature") if getattr(bundle.sampling, name) is not None]
    for gone in (chosen for n in range(1, len(settings) + 1) for chosen in combinations(settings, n) if refused):
        without = bundle.with_(**dict.fromkeys(gone))
        if not _refused(without, rules=rules):
            sentence = f"{refused}: {bundle.name} {bundle.version} is asked there without {', '.join(gone)}"
            warnings.warn(sentence, RuntimeWarning, stacklevel=4)
            return without
    if refused:
        warnings.warn(f"{refused} ({bundle.name} {bundle.version})", RuntimeWarning, stacklevel=4)
    return bundle


def _refused(bundle: Bundle, *, rules: str) -> str:
    """Why the bundle's model does not take its sampling; "" where it does."""
    try:
        wire_sampling(Request(model=bundle.model, messages=(), sampling=bundle.sampling), rules=rules)
    except RequestRefusedError as error:
        return str(error)
    return ""
