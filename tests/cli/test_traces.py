"""`llmlab traces`: a person is forgotten."""

import llmlab as ll
from tests.cli.calling import llmlab


def test_a_person_is_forgotten_on_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    with ll.Recorder("traces").request(unit="anna"):
        pass
    told = llmlab("traces", "forget", "traces", "--unit", "anna")
    assert (told.exit_code, told.output) == (0, "deleted: 1 line\n")
    assert "nothing is there" in llmlab("traces", "forget", "traces", "--unit", "anna").output
