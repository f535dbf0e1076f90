"""What a server's prompt cache changes at temperature 0, measured on a model of this machine. For notebook 02."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmlab.base.project import located
from llmlab.bundle.bundle import Bundle
from llmlab.clients.endpoints import client_for
from llmlab.clients.local import LocalClient
from llmlab.display.shown import Rows
from llmlab.experiment.folder import Experiment
from llmlab.results.results import Results
from llmlab.stats.estimate import mean_estimate


def prompt_cache(folder: str | Path, *, first: int = 24, slots: int = 4, repeats: int = 3) -> Rows:
    """The candidate of an experiment at temperature 0, asked without a cache, with it, and by a server of more slots.

    Args:
        folder: an experiment whose candidate asks a model of this machine; else the answer says what is missing.
        first: only the first so many cases.
        repeats: how often the server of several slots is asked.
    """
    if not (located(folder) / "golden.jsonl").is_file():
        return Rows(rows=(), sentence=f"{folder} is not here; name an experiment on a model of this machine.")
    exp = Experiment.load(folder, first=first)
    bundle = exp.bundle().with_(temperature=0.0)
    client = client_for(bundle.model, exp.endpoints)
    if not isinstance(client, LocalClient):
        elsewhere = f"{bundle.model} does not run on this machine, so its cache is not ours to turn off."
        return Rows(rows=(), sentence=elsewhere)
    if lacking := exp.lacking(bundle):
        return Rows(rows=(), sentence=lacking)
    runs = _runs(exp, bundle, client, slots=slots, repeats=repeats)
    texts = [dict(run.answers("case_id", "shown")) for run in runs.values()]
    alone, several = texts[0], texts[2:]
    tables = [run.table(exp.metric) for run in runs.values()]
    means = [mean_estimate(table.values[:, 0], **table.design()) for table in tables]
    others = [sum(answers[case] != alone[case] for case in alone) for answers in texts]
    differ = sum(len({answers[case] for answers in several}) > 1 for case in alone)
    rows = zip(runs, others, means, strict=True)
    values = [mean.value for mean in means if mean.value is not None]
    return Rows(
        rows=tuple(
            {"asked": way, "texts unlike those without": n, exp.metric: mean.interval()} for way, n, mean in rows
        ),
        sentence=f"One prompt, {len(alone)} cases, temperature 0: with the cache {others[1]} answers have another text "
        f"than without, and with {slots} slots {differ} differ between repeats. The mean lies between "
        f"{min(values):.2f} and {max(values):.2f}. An interval that takes one repeat for the truth tells what other "
        "cases would change, and nothing of this.",
    )


def _runs(exp: Experiment, bundle: Bundle, client: LocalClient, *, slots: int, repeats: int) -> dict[str, Results]:
    """The answers of each way of asking, one repeat each."""
    without = bundle.with_(extra={**bundle.sampling.extra, "cache_prompt": False})
    several = LocalClient(replace(client.model, slots=slots))
    ways: dict[str, tuple[Bundle, LocalClient, int]] = {
        "without cache": (without, client, 1),
        "1 slot": (bundle, client, 1),
        f"{slots} slots": (bundle, several, repeats),
    }
    runs = {}
    for way, (variant, by, times) in ways.items():
        judged = exp.judged(exp.run({way: variant}, client=by, repeats=times).require_complete())
        repeat_of = [repeat for (repeat,) in judged.answers("repeat")]
        for repeat in range(times):
            name = way if times == 1 else f"{way}, repeat {repeat + 1}"
            runs[name] = judged.rows_where([number == repeat for number in repeat_of])
    return runs
