"""`llmlab gate RESULTS.parquet`: decide whether a candidate may be released, with the exit code of the verdict."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from llmlab.gate import GatePolicy, Ledger
    from llmlab.results.results import Results

__all__ = ["gate"]

_FILE = click.Path(path_type=Path)


@click.command("gate")
@click.argument("results_path", metavar="RESULTS.parquet", type=_FILE)
@click.option("--policy", "policy_path", type=_FILE, required=True, help="The rules: gate.yaml.")
@click.option("--candidate", required=True, help="Variant that wants to be released.")
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
    policy_path: Path,
    candidate: str,
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
    """May CANDIDATE replace the baseline, by the rules of the policy?

    Exit code: 0 pass, 1 fail, 3 inconclusive, 2 invalid or a mistake in the call.
    """
    from llmlab.gate import GatePolicy
    from llmlab.gate.looks import COUNTED
    from llmlab.gate.passport import JudgePassport
    from llmlab.gate.report import to_junit, to_markdown
    from llmlab.results.results import Results

    for report in (junit, markdown, receipt):  # said before the work, not after
        if report is not None and not report.absolute().parent.is_dir():
            raise ValueError(f"the folder of {report} does not exist")
    policy = GatePolicy.load(policy_path)
    results = _labelled(policy, Results.from_parquet(results_path), policy_path.parent, labels)
    known = _known(policy, results, candidate, ledger)
    decision = policy.decide(
        results,
        candidate=candidate,
        baseline=_baseline(policy, results, baseline),
        anchor=anchor,
        looks=known,
        passports=[JudgePassport.load(path) for path in passports],
        baseline_results=None if baseline_results is None else Results.from_parquet(baseline_results),
    )
    document = decision.receipt()
    texts = {junit: to_junit(decision), receipt: document.to_json()}
    texts[markdown] = to_markdown(decision, results, requests_per_day=requests_per_day)
    for path, text in texts.items():
        if path is not None:
            path.write_text(text, encoding="utf-8")
    if ledger or (ledger is None and known.state == COUNTED):
        from llmlab import tracking

        tracking.log(results, decision)
    click.echo(document.to_json() if as_json else f"{decision.word}\n{decision}")
    raise SystemExit(decision.exit_code)


def _labelled(policy: GatePolicy, results: Results, folder: Path, labels: tuple[Path, ...]) -> Results:
    """With the labels named on the command line; by default with those that the policy names, beside it."""
    if not labels:
        return policy.labelled(results, folder)
    from llmlab.judge import Labels, with_labels

    for path in labels:
        results = with_labels(results, Labels.load(path))
    return results


def _baseline(policy: GatePolicy, results: Results, given: str | None) -> str | None:
    """The variant named on the command line, or like the policy's file; None for floors only."""
    if given is not None:
        return None if given == "none" else given
    for place in (policy.baseline, policy.baseline_file):
        stem = PurePosixPath(place or "").stem
        if stem in results.variants:
            return stem
    if policy.baseline == "none":
        return None
    raise click.UsageError(f"name the --baseline: {policy.baseline!r} is no variant of {', '.join(results.variants)}")


def _known(policy: GatePolicy, results: Results, candidate: str, asked: bool | None) -> Ledger:
    """The ledger that is counted; an empty one, with the reason, where there is none or nobody wants it."""
    from llmlab import registry
    from llmlab.gate.looks import NOT_ASKED, Ledger
    from llmlab.tracking.store import open_store

    if asked is False or candidate not in results.bundles:
        return Ledger(state=NOT_ASKED)
    if asked:
        open_store()  # made where there is none
    return registry.ledger(policy, results.bundles[candidate])
