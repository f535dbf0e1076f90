"""The runbooks: each has its parts, every alert has its page, and every command on them runs, on a real store."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.watch.policy import DRIFTS
from llmlab.watch.policy import PAGES as DRIFT_PAGES
from tests.cli.calling import llmlab
from tests.watch.test_rules import traffic

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "experiments" / "runbooks"
PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.stem != "post-mortem")
SECTIONS = ["Detection signal", "First action", "Escalation", "Rollback"]
FINDINGS = {"watch": {0, 1, 3}}  # what a command may say besides 0


def commands(path):
    return [shlex.split(line[2:]) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("$ ")]


@pytest.fixture
def service(project, help_desk):
    """A project in which version 2 of the help desk replaced version 1, and its traces lie in `traces/`."""
    shutil.copytree(ROOT / "notebooks", project / "notebooks")
    for number in (1, 2):
        assert llmlab("register", f"experiments/pandas_help/bundles/v{number}.yaml").exit_code == 0
        promote = ("promote", f"pandas_help/{number}", "--experiment", "experiments/pandas_help", "--force")
        assert llmlab(*promote, "--reason", "for a test").exit_code == 0
    (project / "traces").mkdir()
    frame = traffic(n=150, inputs='{"question": "How do I drop rows?"}').to_frame()
    frame.drop(columns=["guards", "retrieved"]).to_parquet(project / "traces" / "day.parquet")
    return project


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_says_signal_action_escalation_and_rollback(path):
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.M) == SECTIONS
    assert "$ llmlab rollback" in text.partition("## Rollback")[2]
    assert "post-mortem.md" in text


def test_every_alert_has_its_page_and_every_page_its_alert():
    named = {rule.page for rule in ll.watch.WatchPolicy().watched} | {DRIFT_PAGES[column] for column in DRIFTS}
    assert named == {path.name for path in PAGES}


def test_the_template_of_a_post_mortem_asks_what_a_case_needs():
    text = (RUNBOOKS / "post-mortem.md").read_text(encoding="utf-8")
    for asked in ("What changed", "Which signal found it", "Time to detect", "Remedy", "The golden case"):
        assert f"| {asked} |" in text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_on_a_page_runs(service, path):
    """Word for word, but for notebooks, which run below."""
    run = [command for command in commands(path) if command[1] != "run"]
    assert run
    for program, *arguments in run:
        assert program == "llmlab"
        done = llmlab(*arguments)
        assert done.exit_code in FINDINGS.get(arguments[0], {0}), f"{arguments}: {done.output}"
    assert ll.registry.load("pandas_help@production").bundle.version == "1.0.0"  # every page ends with a rollback


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in PAGES if "llmlab run" in path.read_text()], ids=lambda path: path.stem
)
def test_every_notebook_on_a_page_runs(service, path):
    for _, *arguments in (command for command in commands(path) if command[1] == "run"):
        done = llmlab(*arguments)
        assert done.exit_code == 0, f"{arguments}: {done.output}"
