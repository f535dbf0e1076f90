"""`llmlab traces`: a person is forgotten."""

from click.testing import CliRunner

import llmlab as ll
from llmlab.cli import main


def test_a_person_is_forgotten_on_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    with ll.Recorder("traces").request(unit="anna"):
        pass
    told = CliRunner().invoke(main, ["traces", "forget", "traces", "--unit", "anna"])
    assert (told.exit_code, told.output) == (0, "deleted: 1 line\n")
    again = CliRunner().invoke(main, ["traces", "forget", "traces", "--unit", "anna"])
    assert "nothing is there" in again.output
