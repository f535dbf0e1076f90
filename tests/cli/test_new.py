"""An experiment of one's own from a CSV file, or a clear word why not."""

import pytest
from click.testing import CliRunner

from llmlab.bundle.bundle import load_bundles
from llmlab.cli import main
from llmlab.golden.cases import GoldenSet

CSV = "Question,Expected Answer,category,note\nWhat is 1+1?,2,math,x\nCapital of France?,Paris,geography,\n"


@pytest.fixture
def call(project):
    """`llmlab new` in a project that has a questions.csv."""
    (project / "q.csv").write_text(CSV)

    def new(name="mine", *extra, csv="q.csv", url="http://localhost:11434/v1", model="llama3.1:8b"):
        arguments = ["new", name, "--csv", csv, "--base-url", url, "--model", model, *extra]
        return CliRunner().invoke(main, arguments)

    return new


def test_everything_that_notebook_01_needs_is_written(call, project):
    done = call()
    assert done.exit_code == 0, done.output
    folder = project / "experiments" / "mine"
    golden = GoldenSet.load(folder / "golden.jsonl")
    assert [(c.id, dict(c.inputs), c.expected, c.tags) for c in golden] == [
        ("q1", {"question": "What is 1+1?"}, ("2",), ("math",)),
        ("q2", {"question": "Capital of France?"}, ("Paris",), ("geography",)),
    ]
    bundles = load_bundles(folder / "bundles")
    assert list(bundles) == ["v1", "v2"]
    assert bundles["v1"].digest != bundles["v2"].digest
    assert {str(bundle.model) for bundle in bundles.values()} == {"ollama/llama3.1:8b"}
    assert bundles["v1"].prompt.placeholders == {"question"}
    assert "baseline: bundles/v1.yaml" in (folder / "gate.yaml").read_text()
    assert "llmlab run notebooks/01_compare_variants.ipynb -p experiment experiments/mine" in done.output
    assert [path.name for path in (project / "experiments").iterdir()] == ["mine"]


def test_what_was_understood_of_the_columns_is_said(call):
    shown = call().output
    assert "question = Question, expected = Expected Answer, tags = category" in shown
    assert "Not used: note." in shown
    assert "not pinned" in shown


def test_the_next_command_is_called_as_this_one_was(call, monkeypatch):
    """Who started it from an environment that is not on the PATH has no other `llmlab`."""
    monkeypatch.setattr("sys.argv", [".venv/bin/llmlab"])
    assert "  .venv/bin/llmlab run notebooks/01" in call().output


def test_an_experiment_is_never_overwritten(call, project):
    call()
    before = (project / "experiments" / "mine" / "golden.jsonl").read_bytes()
    again = call()
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert (project / "experiments" / "mine" / "golden.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["../mine", "a/b", "a\\b", ".hidden", "..", "a b", "x" * 80, "ü", ""])
def test_a_name_that_is_a_path_is_refused(name, call, project):
    done = call(name)
    assert done.exit_code == 2
    assert "NAME ==" in done.stderr
    assert not (project / "experiments").exists()


@pytest.mark.parametrize(
    ("csv", "said"),
    [
        ("a,b\n1,2\n", "no column looks like the question (there are: a, b); name it with --question"),
        ("", "is empty"),
        ("question,answer\n", "has no cases"),
        ("question,question\n1,2\n", "names a column twice"),
        ("question,id\na,1\nb,1\n", "duplicate id"),
        ("question,answer\n,2\n", "column 'question' is empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(csv, said, call, project):
    (project / "bad.csv").write_text(csv)
    done = call(csv="bad.csv")
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (project / "experiments" / "mine").exists()


def test_a_missing_file_and_bad_utf8_are_refused(call, project):
    (project / "latin.csv").write_bytes("question\nüber\n".encode("latin-1"))
    assert "is not UTF-8" in call(csv="latin.csv").stderr
    assert "cannot be read" in call(csv="nowhere.csv").stderr


def test_columns_may_be_named(call, project):
    """And expected answers that are long are pointed out."""
    answer = "antwort " * 20 + "1"
    (project / "own.csv").write_text(f"was,wie\nfrage 1,{answer}\n")
    done = call("own", "--question", "was", "--expected", "wie", csv="own.csv")
    assert (done.exit_code, "cut them to the facts" in done.output) == (0, True), done.output
    assert GoldenSet.load(project / "experiments/own/golden.jsonl").cases[0].expected == (answer,)
    assert "no column 'nope'" in call("own2", "--question", "nope", csv="own.csv").stderr


def test_without_expected_answers_the_gate_asks_for_something_else(call, project):
    (project / "asked.csv").write_text("question\nwhy?\n")
    done = call(csv="asked.csv")
    assert "No column of expected answers" in done.output
    assert "goal: {metric: not_refused" in (project / "experiments/mine/gate.yaml").read_text()
    assert "-p metric not_refused" in done.output


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("url", url) for url in ("localhost:8000", "ftp://x/v1", "http://", "https://u:pass@h/v1", "http://h?key=1")],
        ("model", ""),
    ],
)
def test_an_address_without_a_host_or_with_a_key_and_an_empty_model_are_refused(option, value, call):
    done = call(**{option: value})
    assert done.exit_code == 2
    assert {"url": "--base-url", "model": "--model is empty"}[option] in done.stderr


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://mine.openai.azure.com/openai/v1", "azure"),
        ("http://gpu-7:8000/v1", "vllm"),
        ("https://api.groq.com/openai/v1", "groq"),
    ],
)
def test_the_provider_follows_from_the_address(url, provider, call, project):
    assert call(url=url, model="some-model").exit_code == 0
    bundles = load_bundles(project / "experiments/mine/bundles")
    assert bundles["v1"].model.provider == provider


def test_a_file_as_people_have_them_is_read(call, project):
    """Semicolons of a spreadsheet where the comma is the decimal sign, a BOM, spaces around names, empty last rows."""
    text = "\ufeffFrage ; Antwort;Thema\r\nWarum, bitte?;Darum;a\r\n;;\r\n \r\nWie viel?;1,5|1.5;b\r\n;;\r\n"
    (project / "mine.csv").write_bytes(text.encode())
    done = call(csv="mine.csv")
    assert done.exit_code == 0, done.stderr
    golden = GoldenSet.load(project / "experiments" / "mine" / "golden.jsonl")
    assert [(case.inputs["question"], case.expected) for case in golden] == [
        ("Warum, bitte?", ("Darum",)),
        ("Wie viel?", ("1,5|1.5",)),
    ]
