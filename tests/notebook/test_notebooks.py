"""The notebooks work: on the embedded default, twice, on a newcomer's own data, and on a broken endpoint."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import llmlab as ll
from llmlab.cli import main
from llmlab.notebook import run_notebook
from llmlab.notebook.parameters import read_parameters

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]
COMPARE = ROOT / "notebooks" / "01_compare_variants.ipynb"


@pytest.fixture
def help_desk(project):
    """A project that holds the embedded default."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    return project


def metrics_of(project):
    """Mean mentions_expected of every logged variant, by name."""
    from llmlab.tracking.store import open_store

    client = open_store(project).client
    experiment = client.get_experiment_by_name("pandas_help")
    runs = client.search_runs([experiment.experiment_id])
    return {run.info.run_id: run.data.metrics["mean/mentions_expected"] for run in runs}


def test_run_all_twice_gives_the_same_numbers_and_pays_for_nothing(help_desk):
    """The second run logs no second set of runs, stores no further call, and ends with the same verdict."""
    from llmlab.clients.call_store import CallStore

    first = run_notebook(COMPARE, {"first": "30", "repeats": "1"})
    logged = metrics_of(help_desk)
    with CallStore(help_desk / "mlruns" / "calls.sqlite") as store:
        calls = len(store)
    second = run_notebook(COMPARE, {"first": "30", "repeats": "1"})
    with CallStore(help_desk / "mlruns" / "calls.sqlite") as store:
        assert len(store) == calls == 30 * 3 * 2
    assert metrics_of(help_desk) == logged
    assert len(logged) == 6
    assert first.exit_code == second.exit_code == 0
    assert first.verdict == second.verdict
    assert Path(first.executed).stat().st_size < 5_000_000


def test_shards_are_jobs_and_a_last_job_shows_them_joined(help_desk):
    """What an array of jobs does; the last one asks nothing."""
    out = str(help_desk / "results" / "run=1")
    shared = {"first": "24", "repeats": "1", "out": out}
    for number in (1, 2):
        assert run_notebook(COMPARE, {**shared, "shard": f"{number}/2"}).exit_code == 0
    assert run_notebook(COMPARE, shared).exit_code == 0
    joined = CliRunner().invoke(main, ["join", out])
    assert joined.exit_code == 0, joined.output
    assert ll.Results.load(out).n_answers() == 24 * 3 * 2
    shutil.rmtree(help_desk / "results" / "run=1" / "shard=01")
    refused = CliRunner().invoke(main, ["join", out])
    assert refused.exit_code == 2
    assert "1/2" in refused.output


def test_a_newcomer_runs_it_on_their_own_questions_with_three_edits_at_most(project, loopback):
    """`llmlab new`, then edits in the parameters cell alone, against a real endpoint that nobody prepared for it."""
    (project / "questions.csv").write_text(
        "question,expected,topic\n" + "".join(f"What is fact {i}?,fact {i},t{i % 4}\n" for i in range(12))
    )
    made = CliRunner().invoke(
        main, ["new", "mine", "--csv", "questions.csv", "--base-url", loopback.base_url, "--model", "some-model"]
    )
    assert made.exit_code == 0, made.output
    notebook = json.loads(COMPARE.read_text(encoding="utf-8"))
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
    mine = project / "mine.ipynb"
    mine.write_text(json.dumps(notebook), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "canary-key-for-the-test")
        done = run_notebook(mine)
    assert done.exit_code == 0, done
    mine = ll.Experiment.load("experiments/mine")
    assert loopback.stats()["requests"] == len(mine.explored) * len(mine.variants) * mine.repeats
    kept = Path(done.executed).read_bytes() + Path(done.html).read_bytes()
    assert b"canary-key-for-the-test" not in kept


def test_an_endpoint_that_always_fails_ends_with_2_and_keeps_the_notebook(help_desk, loopback):
    """No mean of nothing: the run says FAILED, and the executed notebook shows where."""
    loopback.set(faults={"500": 1.0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "none")
        done = run_notebook(COMPARE, {"first": "2", "repeats": "1", "base_url": loopback.base_url, "models": "vllm/m"})
    assert done.exit_code == 2
    assert Path(done.executed).exists()


def test_requiring_a_pass_that_is_not_there_sets_the_exit_code(help_desk):
    """With `require` = pass, too little evidence is 3 and not 0."""
    done = run_notebook(COMPARE, {"first": "6", "repeats": "1", "require": "pass"})
    assert done.exit_code == 3
    assert done.verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_has_parameters_that_can_be_read(path):
    """Names, plain types and help of each parameter, without running anything."""
    assert read_parameters(json.loads(path.read_text(encoding="utf-8")), path=path)
