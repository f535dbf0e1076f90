"""The notebooks work: on the embedded default, twice, on a newcomer's own data, and on a broken endpoint."""

import json
import shutil

import pytest

import llmlab as ll
from llmlab.notebook import run_notebook
from llmlab.notebook.parameters import read_parameters
from llmlab.tracking.store import open_store
from tests.cli.calling import llmlab
from tests.notebook.notebooks import ROOT, n_stored, ran

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
COMPARE = "01_compare_variants"


def metrics_of(project):
    """Mean mentions_expected of every logged variant, by name."""
    client = open_store(project).client
    experiment = client.get_experiment_by_name("pandas_help")
    runs = client.search_runs([experiment.experiment_id])
    return {run.info.run_id: run.data.metrics["mean/mentions_expected"] for run in runs}


@pytest.mark.usefixtures("help_desk")
def test_run_all_twice_gives_the_same_numbers_and_pays_for_nothing(project):
    """The second run logs no second set of runs, stores no further call, and ends with the same verdict."""
    first = ran(COMPARE, first="30", repeats="1")
    logged, paid = metrics_of(project), n_stored(project)
    second = ran(COMPARE, first="30", repeats="1")
    assert n_stored(project) == paid == 30 * 3 * 2
    assert metrics_of(project) == logged
    assert len(logged) == 6
    assert first.exit_code == second.exit_code == 0
    assert first.verdict == second.verdict
    assert first.executed.stat().st_size < 5_000_000


@pytest.mark.usefixtures("help_desk")
def test_shards_are_jobs_and_a_last_job_shows_them_joined(project):
    """What an array of jobs does; the last one asks nothing."""
    out = project / "results" / "run=1"
    shared = {"first": "24", "repeats": "1", "out": str(out)}
    for shard in ({"shard": "1/2"}, {"shard": "2/2"}, {}):
        assert ran(COMPARE, **shared, **shard).exit_code == 0
    joined = llmlab("join", out)
    assert joined.exit_code == 0, joined.output
    assert ll.Results.load(out).n_answers() == 24 * 3 * 2
    shutil.rmtree(out / "shard=01")
    refused = llmlab("join", out)
    assert (refused.exit_code, "1/2" in refused.output) == (2, True)


def test_a_newcomer_runs_it_on_their_own_questions_with_three_edits_at_most(project, loopback, monkeypatch):
    """`llmlab new`, then edits in the parameters cell alone, against a real endpoint that nobody prepared for it."""
    (project / "questions.csv").write_text(
        "question,expected,topic\n" + "".join(f"What is fact {i}?,fact {i},t{i % 4}\n" for i in range(12))
    )
    made = llmlab("new", "mine", "--csv", "questions.csv", "--base-url", loopback.base_url, "--model", "some-model")
    assert made.exit_code == 0, made.output
    notebook = json.loads((ROOT / "notebooks" / f"{COMPARE}.ipynb").read_text(encoding="utf-8"))
    cell = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    edits = {
        '"experiments/pandas_help"': '"experiments/mine"',
        'base_url: str = ""': f'base_url: str = "{loopback.base_url}"',
    }
    source = "".join(cell["source"])
    for before, after in edits.items():
        assert source.count(before) == 1
        source = source.replace(before, after)
    cell["source"] = source
    assert len(edits) <= 3
    path = project / "mine.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key-for-the-test")
    done = run_notebook(path)
    assert done.exit_code == 0, done
    mine = ll.Experiment.load("experiments/mine")
    assert loopback.stats()["requests"] == len(mine.explored) * len(mine.variants) * mine.repeats
    assert b"canary-key-for-the-test" not in done.executed.read_bytes() + done.html.read_bytes()


@pytest.mark.usefixtures("help_desk")
def test_an_endpoint_that_always_fails_ends_with_2_and_keeps_the_notebook(loopback, monkeypatch):
    """No mean of nothing: the run says FAILED, and the executed notebook shows where."""
    loopback.set(faults={"500": 1.0})
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    done = ran(COMPARE, first="2", repeats="1", base_url=loopback.base_url, models="vllm/m")
    assert done.exit_code == 2
    assert done.executed.exists()


@pytest.mark.usefixtures("help_desk")
def test_requiring_a_pass_that_is_not_there_sets_the_exit_code():
    """With `require` = pass, too little evidence is 3 and not 0."""
    done = ran(COMPARE, first="6", repeats="1", require="pass")
    assert (done.exit_code, done.verdict) == (3, "INCONCLUSIVE")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_has_parameters_that_can_be_read(path):
    """Names, plain types and help of each parameter, without running anything."""
    assert read_parameters(json.loads(path.read_text(encoding="utf-8")), path=path)
