"""The code of the README and of its pages runs, their commands exist, and their pictures and links are there."""

import asyncio
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.production.made import traffic

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "experiments/README.md", "notebooks/README.md", "notebooks/production.md")
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
ALL = "\n".join(TEXTS.values())


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_of_a_page_runs_in_order(page, tmp_path, monkeypatch):
    """A reader may paste a page's blocks one after another, whatever other pages were read."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    shutil.copytree("experiments/pandas_help", "experiments/support")
    blocks = re.findall(r"```python\n(.*?)```", TEXTS[page], flags=re.DOTALL)
    assert blocks
    for block in blocks:
        if "Traces.load" in block:
            _serve_a_fortnight(names)
        exec(compile(block, page, "exec"), names)
    if "results" in names:
        assert names["results"].state == "complete"
    if "decision" in names:
        assert names["decision"].word == "INCONCLUSIVE"  # as the page says


def _serve_a_fortnight(names):
    """One answer by the block above, and users to whom both arms are as good."""
    asyncio.run(names["answer"]("user-1", "How do I drop rows with missing values?"))
    rollout = names["exp"].rollout
    frame = traffic(seed=1, days=14, rollout=rollout.name)
    digests = {"baseline": rollout.baseline.digest, "candidate": rollout.candidate.digest}
    frame = frame.assign(bundle=frame["arm"].map(digests), completion_tokens=50.0 + np.arange(len(frame)) % 7)
    frame.to_json("traces/fortnight.jsonl", orient="records", lines=True, date_format="iso")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z-]+)", ALL))))
def test_every_make_target_that_is_named_exists(target):
    """`make X` on a page is a target of the Makefile with an explanation."""
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?:bin/|`)llmlab ([a-z-]+)", ALL))))
def test_every_command_that_is_named_exists(command):
    """`llmlab X` on a page answers --help."""
    from llmlab.cli import main

    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page):
    """Pictures and files that a page points at are in the repository."""
    links = set(re.findall(r"\]\((?!http)([^)#]+)", TEXTS[page]))
    assert links
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
