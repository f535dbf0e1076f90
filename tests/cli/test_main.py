"""The group of commands: quick to start, one line for a mistake, the same exit codes everywhere."""

import subprocess
import sys

import pytest

from llmlab.cli import COMMANDS, main
from tests.cli.calling import llmlab


def test_help_lists_the_commands_that_exist():
    shown = llmlab("--help").output
    for name in ("run", "new", "ui", "check-model"):
        assert f"\n  {name} " in shown


def test_help_loads_neither_mlflow_nor_pandas_nor_papermill():
    heavy = "{'mlflow', 'pandas', 'numpy', 'papermill', 'matplotlib', 'aiohttp', 'llmlab.notebook'}"
    script = f"""
import sys
from click.testing import CliRunner
from llmlab.cli import main
assert CliRunner().invoke(main, ["--help"]).exit_code == 0
print(*sorted({heavy} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_command_that_exists_can_be_loaded():
    context = main.make_context("llmlab", ["--debug", "run"])
    for name in main.list_commands(context):
        assert main.get_command(context, name).name == name
    assert set(main.list_commands(context)) <= set(COMMANDS)


@pytest.mark.parametrize(
    ("provider", "model_id", "code", "word"),
    [("openai", "gpt-4o-2024-08-06", 0, "pinned"), ("openai", "gpt-4o", 1, "floating"), ("nobody", "x", 1, "floating")],
)
def test_check_model_says_the_verdict_and_why(provider, model_id, code, word):
    done = llmlab("check-model", provider, model_id)
    assert done.exit_code == code
    assert f"{provider}/{model_id} is {word}: " in done.output


def test_a_mistake_is_one_line_on_stderr_without_a_traceback(project):
    done = llmlab("run", "no\x1b[31mwhere.ipynb")
    assert done.exit_code == 2
    assert done.stderr.startswith("llmlab: ")
    assert done.stderr.count("\n") == 1
    assert "\\x1b[31m" in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback(project):
    done = llmlab("--debug", "run", "nowhere.ipynb")
    assert type(done.exception).__name__ == "FileRuleError"


@pytest.mark.parametrize("arguments", [["new", "mine"], ["run"], ["frobnicate"]])
def test_a_missing_argument_or_an_unknown_command_is_exit_code_two(arguments):
    assert llmlab(*arguments).exit_code == 2


@pytest.mark.parametrize(("typed", "meant"), [("runn", "run"), ("audits", "audit"), ("gate_init", "gate-init")])
def test_a_misspelt_command_is_answered_with_the_one_that_is_meant(typed, meant):
    """As misspelt keys of a file are."""
    called = llmlab(typed)
    assert called.exit_code == 2
    assert f"Did you mean {meant!r}?" in called.output


def test_a_command_that_breaks_exits_with_2_and_shows_where(monkeypatch):
    """A job reads 1 as FAIL, a verdict on the candidate."""
    monkeypatch.setitem(COMMANDS, "check-model", ("llmlab.cli.batch:nothing_of_this_name", ""))
    done = llmlab("check-model", "a")
    assert done.exit_code == 2
    assert "AttributeError" in done.output


def test_a_folder_that_was_removed_meanwhile_is_told(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = llmlab("history", "qa")
    assert done.exit_code == 2
    assert "the current folder was removed" in done.output
