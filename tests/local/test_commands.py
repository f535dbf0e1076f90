"""`llmlab local`: what installing and serving say, and that other tools get an answer from what is served."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest

from llmlab.local.setup import LOCK, LocalModel
from tests.cli.calling import llmlab

pytestmark = pytest.mark.local
ROOT = Path(__file__).parents[2]


def test_the_size_is_told_before_anything_is_fetched_and_what_is_there_stays(model: LocalModel) -> None:
    done = llmlab("local", "setup")
    assert done.exit_code == 0, done.output
    size, ready = done.stdout.index("150 MB"), done.stdout.index("Ready")
    assert size < ready
    model.require_ready()


@pytest.mark.slow
@pytest.mark.parametrize("own_file", [False, True])
def test_what_is_served_answers_other_tools_and_ends_with_ctrl_c(model: LocalModel, own_file: bool) -> None:
    """The model that comes along, and a GGUF of the user's own (here the same file under another name)."""
    name = f"path:{model.path}" if own_file else model.name
    command = [sys.executable, "-m", "llmlab.cli", "local", "serve", "--model", name]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    try:
        told = dict(serving.stdout.readline().strip().split("=", 1) for _ in range(2))
        asked = urllib.request.Request(
            f"{told['OPENAI_BASE_URL']}/chat/completions",
            data=json.dumps({"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}).encode(),
            headers={"Authorization": f"Bearer {told['OPENAI_API_KEY']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked) as answer:
            assert json.load(answer)["choices"][0]["message"]["content"]
        serving.send_signal(signal.SIGINT)
        assert serving.wait(timeout=30) == 130
    finally:
        serving.kill()
        serving.communicate()


def test_the_extra_names_what_the_lock_installs() -> None:
    locked = set(re.findall(r"^[\w.-]+==[\w.]+", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extra["local"]) <= locked
