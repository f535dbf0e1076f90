"""`llmlab gate`: may a candidate be released; `llmlab gate-init`: a first gate for an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import click

from llmlab import registry, tracking
from llmlab.base.cells import plain
from llmlab.base.errors import FileRuleError
from llmlab.base.project import pii_policy, project_root
from llmlab.experiment.folder import Experiment
from llmlab.gate import GatePolicy
from llmlab.gate.looks import COUNTED, NOT_ASKED, Ledger
from llmlab.gate.passport import JudgePassport
from llmlab.gate.proposal import Proposal, propose, propose_for_cases
from llmlab.gate.report import to_junit, to_markdown
from llmlab.golden.cases import GoldenSet
from llmlab.golden.labels import Labels
from llmlab.notebook.outcome import check_reports, told_in
from llmlab.results.results import Results
from llmlab.tracking.screening import screened
from llmlab.tracking.store import open_store

_FILE = click.Path(path_type=Path)


@click.command("gate")
@click.argument("results_path", metavar="RESULTS.parquet|EXPERIMENT", type=_FILE)
@click.option("--policy", "policy_path", type=_FILE, help="The rules: gate.yaml; by default the experiment's.")
@click.option("--candidate", help="Variant that wants to be released; of an experiment a bundle, by name or file.")
@click.option("--baseline", help="Variant to beat; none = floors only. By default the file that the policy names.")
@click.option("--anchor", help="Variant that stands for the policy's anchor.")
@click.option("--baseline-results", type=_FILE, help="An earlier run that has the baseline's rows.")
@click.option("--passport", "passports", type=_FILE, multiple=True, help="A judge's passport; repeatable.")
@click.option("--labels", type=_FILE, multiple=True, help="People's labels (JSONL), for corrected metrics; repeatable.")
@click.option(
    "--ledger/--no-ledger",
    default=None,
    help="Count earlier looks in the tracking store, and log this one there. By default where the project has one.",
)
@click.option("--requests-per-day", type=click.IntRange(min=1), help="For the monthly bill.")
@click.option("--junit", type=_FILE, help="Write JUnit XML here.")
@click.option("--markdown", type=_FILE, help="Write the text for a pull request here.")
@click.option("--receipt", type=_FILE, help="Write the receipt here.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt instead of the table.")
def gate(
    results_path: Path,
    *,
    policy_path: Path | None,
    candidate: str | None,
    baseline: str | None,
    anchor: str | None,
    baseline_results: Path | None,
    passports: tuple[Path, ...],
    labels: tuple[Path, ...],
    ledger: bool | None,
    requests_per_day: int | None,
    junit: Path | None,
    markdown: Path | None,
    receipt: Path | None,
    as_json: bool,
) -> None:
    """May CANDIDATE replace the baseline, by the rules of the policy? An experiment is asked first.

    Exit code: 0 pass, 1 fail, 3 inconclusive, 2 invalid or a mistake in the call.
    """
    check_reports(junit, markdown, receipt)  # said before the work, not after
    with told_in(junit, markdown, receipt, name="gate"):
        if not results_path.exists():
            raise FileRuleError("is not there; name results (.parquet) or an experiment's folder", path=results_path)
        judged, labelling = [JudgePassport.load(path) for path in passports], [Labels.load(path) for path in labels]
        if results_path.is_dir():
            exp = Experiment.load(results_path)
            policy = GatePolicy.load(policy_path) if policy_path else exp.gate
            policy_path = policy_path or results_path / "gate.yaml"
            labelled = None if labels else policy_path.parent
            results = _asked(exp, policy, candidate or "", passports=judged, folder=labelled)
            candidate, baseline = "candidate", baseline or ("baseline" if "baseline" in results.variants else "none")
        elif policy_path is None or candidate is None:
            raise click.UsageError("name --policy and --candidate for results, or an experiment's folder")
        else:
            policy, results = GatePolicy.load(policy_path), Results.from_parquet(results_path)
        results = _labelled(policy, results, policy_path.parent, labelling)
        looks = _known(policy, results, candidate, ledger)
        decision = policy.decide(
            results,
            candidate=candidate,
            baseline=_baseline(policy, results, baseline),
            anchor=anchor,
            looks=looks,
            passports=judged,
            baseline_results=None if baseline_results is None else Results.from_parquet(baseline_results),
        )
    document = decision.receipt()
    texts = {junit: to_junit(decision), receipt: document.to_json()}
    if markdown is not None:
        texts[markdown] = to_markdown(decision, _as_published(results), requests_per_day=requests_per_day)
    for path, text in texts.items():
        if path is not None:
            path.write_text(text, encoding="utf-8")
    if ledger or (ledger is None and looks.state == COUNTED):
        tracking.log(results, decision)
    click.echo(document.to_json() if as_json else f"{decision.word}\n{decision}")
    raise SystemExit(decision.exit_code)


def _as_published(results: Results) -> Results:
    """The results as a pull request may show them: with pseudonyms, unless the project only flags personal data."""
    root = project_root()
    return results if pii_policy(root) == "flag" else screened(results, pii="redact", root=root)


@click.command("gate-init")
@click.argument("source", metavar="RESULTS.parquet|EXPERIMENT", type=click.Path(path_type=Path))
@click.option("--goal", help="Metric that a change is for; by default the first one.")
@click.option("--baseline", help="Variant to compare with; by default the first one.")
@click.option("--candidate", help="Variant whose noise is read; by default the last one.")
@click.option("--output", type=click.Path(path_type=Path), help="Write here; by default gate.yaml of the experiment.")
def gate_init(
    source: Path, *, goal: str | None, baseline: str | None, candidate: str | None, output: Path | None
) -> None:
    """Write a gate for an experiment, with what it can detect.

    From results the noise is measured; from an experiment's folder it is assumed to be that of pass/fail scores.
    """
    path = output or (source / "gate.yaml" if source.is_dir() else Path("gate.yaml"))
    if path.exists():
        raise ValueError(f"{path} exists; name another file with --output, and compare")
    proposal = _from_folder(source, goal) if source.is_dir() else _from_results(source, goal, baseline, candidate)
    path.write_text(proposal.to_yaml(), encoding="utf-8")
    for metric, remark in proposal.remarks:
        click.echo(plain(f"{metric}: {remark}", None))
    click.echo(f"Written to {plain(path, None)}: read it, and change what your users would not forgive.")


def _asked(
    exp: Experiment, policy: GatePolicy, candidate: str, *, passports: Sequence[JudgePassport], folder: Path | None
) -> Results:
    """Candidate and baseline on the cases that the gate reads, graded by the judges that it reads."""
    variants = registry.arms(policy, exp.bundle(candidate), experiment=exp.path)
    judging = exp.judges_of(policy.metrics)
    graded = {judge.metric: judge.bundle for judge in judging}
    scored = set(policy.metrics) - {judge.metric for judge in judging}
    golden = policy.held_out(exp.golden)
    policy.require_ready(variants["candidate"], graded, golden, passports=passports, folder=folder)
    results = exp.run(variants, golden, metrics=scored).require_complete()
    return exp.judged(results, *judging) if judging else results


def _labelled(policy: GatePolicy, results: Results, folder: Path, labels: Sequence[Labels]) -> Results:
    """With the labels named on the command line; by default with those that the policy names, beside it."""
    if not labels:
        return policy.labelled(results, folder)
    for label_set in labels:
        results = results.with_labels(label_set)
    return results


def _baseline(policy: GatePolicy, results: Results, option: str | None) -> str | None:
    """The variant named on the command line, or like the policy's file; None for floors only."""
    if option is not None:
        return None if option == "none" else option
    for place in (policy.baseline, policy.baseline_file):
        stem = PurePosixPath(place or "").stem
        if stem in results.variants:
            return stem
    if policy.baseline == "none":
        return None
    raise click.UsageError(f"name the --baseline: {policy.baseline!r} is no variant of {', '.join(results.variants)}")


def _known(policy: GatePolicy, results: Results, candidate: str, use_ledger: bool | None) -> Ledger:
    """The ledger that is counted; an empty one, with the reason, where there is none or nobody wants it."""
    if use_ledger is False or candidate not in results.bundles:
        return Ledger(state=NOT_ASKED)
    if use_ledger:
        open_store()  # made where there is none
    return registry.ledger(policy, results.bundles[candidate])


def _from_folder(folder: Path, goal: str | None) -> Proposal:
    golden = GoldenSet.load(folder / "golden.jsonl")
    files = sorted((folder / "bundles").glob("*.yaml"))
    baseline = f"bundles/{files[0].name}" if files else "bundles/v1.yaml"
    scorer_names = [_scorer_name(spec) for spec in Experiment.load(folder).settings.scorers or ()]
    metric = goal or next(iter(scorer_names), _fitting(golden))
    guards = [name for name in scorer_names if name == "not_refused" != metric]  # as `llmlab new` writes it
    return propose_for_cases(golden, metric=metric, guards=guards, baseline=baseline)


def _scorer_name(spec: Any) -> str:
    """What `experiment.yaml` calls a scorer, perhaps with its settings; no code of the folder is run."""
    while isinstance(spec, Mapping):
        name, settings = next(iter(spec.items()))
        spec = settings if name == "fenced" else name
    return str(spec)


def _fitting(golden: GoldenSet) -> str:
    """The scorer that fits the cases."""
    if not any(case.names_expected for case in golden):
        return "not_refused"
    return "mentions_expected" if any(case.facts for case in golden) else "json_equal"


def _from_results(source: Path, goal: str | None, baseline: str | None, candidate: str | None) -> Proposal:
    results = Results.from_parquet(source)
    first, last = baseline or results.variants[0], candidate or results.variants[-1]
    if first == last:
        raise ValueError(f"{first!r} cannot be compared with itself; name --baseline and --candidate")
    return propose(results, baseline=first, candidate=last, goal=goal)
