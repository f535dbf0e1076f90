"""The workflow templates: what a pull request can reach of its own gate, run as the runner's shell would run it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEMPLATES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXPERIMENT = "experiments/mine"


def steps(name: str, job: str) -> list[dict[str, Any]]:
    workflow = yaml.safe_load((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = workflow["jobs"][job]["steps"]
    return found


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """A checkout of the base branch with the pull request's, unchanged, under `proposed/`."""
    for top in ("", "proposed/"):
        bundles = tmp_path / top / EXPERIMENT / "bundles"
        bundles.mkdir(parents=True)
        (bundles / "v2.yaml").write_text("name: v2\n")
        for name in ("gate.yaml", "golden.jsonl", "scorers.py", "../endpoints.yaml", "../models.yaml"):
            (bundles.parent / name).write_text("as it was\n")
    return tmp_path


def judged(folder: Path) -> tuple[int, dict[str, str], str]:
    """Exit code, what the later steps are given, and what is said beside the verdict."""
    (step,) = [step for step in steps("llmlab-gate.yml", "gate") if step.get("name", "").startswith("What is judged")]
    given = {"CANDIDATE": f"{EXPERIMENT}/bundles/v2.yaml", "PULL_REQUEST": "7", "RUNNER_TEMP": "."}
    given |= {"GITHUB_ENV": "env.txt", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=folder, env=given, check=False)
    later = dict(line.split("=", 1) for line in (folder / "env.txt").read_text().splitlines())
    return done.returncode, later, (folder / "beside.md").read_text()


def test_only_the_candidate_and_the_cases_come_from_the_pull_request(runner):
    code, later, beside = judged(runner)
    assert code == 0
    assert later == {
        "EXPERIMENT": EXPERIMENT,
        "CANDIDATE": f"proposed/{EXPERIMENT}/bundles/v2.yaml",
        "ADDED": f"proposed/{EXPERIMENT}/golden.jsonl",
    }
    assert beside == ""


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("gate.yaml", "changes the gate"),
        ("scorers.py", "1 other"),
        ("../endpoints.yaml", "1 other"),
        ("new.py", "1 other"),
    ],
)
def test_what_a_pull_request_changes_beside_its_candidate_is_told(runner, changed, named):
    (runner / "proposed" / EXPERIMENT / changed).write_text("as it likes\n")
    code, later, beside = judged(runner)
    assert code == 0
    assert later["EXPERIMENT"] == EXPERIMENT
    assert named in beside
    assert "base branch's" in beside


def test_a_link_in_the_pull_request_stops_the_gate(runner):
    (runner / "proposed" / EXPERIMENT / "bundles" / "v2.yaml").unlink()
    (runner / "proposed" / EXPERIMENT / "bundles" / "v2.yaml").symlink_to("/etc/passwd")
    assert judged(runner)[0] == 2


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_what_runs_is_pinned_and_no_text_of_a_pull_request_is_run(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + "0" * 40)), step
            assert "github.event" not in step.get("run", "")
            assert "inputs." not in step.get("run", "")


def test_promotion_is_a_protected_job_on_the_default_branch_alone():
    workflow = yaml.safe_load((ROOT / ".github/workflows/llmlab-gate.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["promote"]
    assert job["environment"] == "production"
    assert "default_branch" in job["if"]
    assert "pull_request" not in job["if"]
    assert not any("promote true" in step.get("run", "") for step in workflow["jobs"]["gate"]["steps"])


def test_what_installs_the_lock_and_builds_the_package_is_pinned_by_hash():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name in ("uv", "hatchling", "editables"):
        assert re.search(rf"^{name}==\S+ \\\n    --hash=sha256:", lock, re.M), name
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("$(READY):")[2].partition("\ndemo")[0]
    for line in recipe.splitlines():
        if "pip install" in line:
            assert "--require-hashes" in line or "--no-deps --no-build-isolation" in line, line


def test_asking_again_keeps_no_answers_and_passes_what_is_not_shown_to_differ(tmp_path):
    """A cached call store would hide what it looks for; exit code 1 fails the job, 3 does not."""
    name = "llmlab-again.yml"
    workflow = yaml.safe_load((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))
    assert workflow[True]["schedule"]  # YAML reads the key `on` as true
    found = steps(name, "again")
    assert not any("actions/cache" in step.get("uses", "") for step in found)
    (step,) = [step for step in found if "fresh true" in step.get("run", "")]
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program = tmp_path / ".venv" / "bin" / "llmlab"
    for said, code in ((0, 0), (1, 1), (2, 2), (3, 0)):
        program.write_text(f"#!/bin/sh\ntouch again.md\nexit {said}\n")
        program.chmod(0o755)
        given = {"GITHUB_STEP_SUMMARY": "summary.md", "EXPERIMENT": EXPERIMENT, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=given, check=False)
        assert done.returncode == code
