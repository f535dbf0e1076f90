"""The README's code runs, its commands exist, and its pictures and links are there."""

import asyncio
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.production.made import traffic

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_every_python_block_runs_in_order(tmp_path, monkeypatch):
    """A reader may paste the blocks one after another."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    assert len(BLOCKS) >= 4
    shutil.copytree("experiments/pandas_help", "experiments/support")
    for block in BLOCKS:
        if "Traces.load" in block:
            _serve_a_fortnight(names)
        exec(compile(block, "README.md", "exec"), names)
    assert names["results"].state == "complete"
    assert names["decision"].word == "INCONCLUSIVE"  # as the README says


def _serve_a_fortnight(names):
    """One answer by the block above, and users to whom both arms are as good."""
    asyncio.run(names["answer"]("user-1", "How do I drop rows with missing values?"))
    rollout = names["exp"].rollout
    frame = traffic(seed=1, days=14, rollout=rollout.name)
    digests = {"baseline": rollout.baseline.digest, "candidate": rollout.candidate.digest}
    frame = frame.assign(bundle=frame["arm"].map(digests), completion_tokens=50.0 + np.arange(len(frame)) % 7)
    frame.to_json("traces/fortnight.jsonl", orient="records", lines=True, date_format="iso")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z-]+)", README))))
def test_every_make_target_that_is_named_exists(target):
    """`make X` in the README is a target of the Makefile with an explanation."""
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?:bin/|`)llmlab ([a-z-]+)", README))))
def test_every_command_that_is_named_exists(command):
    """`llmlab X` in the README answers --help."""
    from llmlab.cli import main

    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_every_relative_link_leads_somewhere(link):
    """Pictures and files that the README points at are in the repository."""
    assert (ROOT / link).exists()
