"""An experiment of one's own from a CSV file, or a clear word why not."""

import json

import pytest

import llmlab as ll
from llmlab.base.errors import LlmlabError
from llmlab.bundle.bundle import load_bundles
from llmlab.golden.cases import GoldenSet
from tests.cli.calling import llmlab

CSV = "Question,Expected Answer,category,note\nWhat is 1+1?,2,math,x\nCapital of France?,Paris,geography,\n"


@pytest.fixture
def call(project):
    """`llmlab new` in a project that has a questions.csv."""
    (project / "q.csv").write_text(CSV)

    def new(name="mine", *extra, csv="q.csv", url="http://localhost:11434/v1", model="llama3.1:8b"):
        address = [] if url is None else ["--base-url", url]
        return llmlab("new", name, "--csv", csv, *address, "--model", model, *extra)

    return new


def test_a_model_on_this_machine_needs_no_address_and_no_key(call, project):
    """Where nobody has an endpoint yet; it is priced at nothing and pinned by its file."""
    said = call(url=None, model="local/smollm2-135m-instruct")
    assert said.exit_code == 0, said.output
    assert not (project / "experiments" / "mine" / "endpoints.yaml").exists()
    asked = ll.Experiment.load("experiments/mine").dry_run()
    assert asked.pinned == (True, True)
    assert asked.total_cost_usd_at_most == 0


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
    gate = (folder / "gate.yaml").read_text()
    assert "baseline: production" in gate
    assert "baseline_file: bundles/v1.yaml" in gate
    assert "llmlab run experiments/mine" in done.output
    assert [path.name for path in (project / "experiments").iterdir()] == ["mine"]


def test_what_was_understood_of_the_columns_is_said(call):
    shown = call().output
    assert "question = Question, expected = Expected Answer, tags = category" in shown
    assert "Not used: note." in shown
    assert "not pinned" in shown


def test_the_next_command_is_called_as_this_one_was(call, monkeypatch):
    """Who started it from an environment that is not on the PATH has no other `llmlab`."""
    monkeypatch.setattr("sys.argv", [".venv/bin/llmlab"])
    assert "  .venv/bin/llmlab run experiments/mine" in call().output


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
        (b"a,b\n1,2\n", "no column looks like the question (there are: a, b); name it with --question"),
        (b"", "is empty"),
        (b"question,answer\n", "has no cases"),
        (b"question,question\n1,2\n", "names a column twice"),
        (b"question,id\na,1\nb,1\n", "duplicate id"),
        (b"question,answer\n,2\n", "column 'question' is empty"),
        ("question\nüber\n".encode("latin-1"), "is not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(csv, said, call, project):
    if csv is not None:
        (project / "bad.csv").write_bytes(csv)
    done = call(csv="bad.csv")
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (project / "experiments" / "mine").exists()


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
    exp = ll.Experiment.load(project / "experiments/mine")
    assert (exp.metric, [one.name for one in exp.scorers]) == ("not_refused", ["not_refused"])
    assert "no gain that there can be shows" in done.output


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


TEAMS = ("Abrechnung", "Technik", "Versand")


def tickets(n=40, **columns):
    """A spreadsheet's CSV: semicolons, German headings, and these further columns of texts by row."""
    lines = [";".join(["Nr", "Betreff", "Nachricht", *columns])]
    for i in range(n):
        cells = [f"T-{i}", f"{TEAMS[i % 3]}: Problem {i}", f"Meine Rechnung {i}, bitte prüfen."]
        lines.append(";".join([*cells, *(f'"{make(i)}"' for make in columns.values())]))
    return "\n".join(lines) + "\n"


def quoted(value):
    """JSON in a cell of CSV."""
    return json.dumps(value, ensure_ascii=False).replace('"', '""')


def test_json_that_is_expected_is_extracted_from_several_inputs(call, project):
    """Two inputs, an id, a topic that is a tag; scorers of JSON; one prompt names the fields with their types."""
    wanted = {"Erwartet": lambda i: quoted({"team": TEAMS[i % 3], "dringend": i % 2 == 0}), "Thema": lambda i: "a; b"}
    (project / "tickets.csv").write_text(tickets(**wanted))
    done = call(csv="tickets.csv")
    assert done.exit_code == 0, done.stderr
    exp = ll.Experiment.load(project / "experiments/mine")
    case = exp.golden.cases[1]
    assert dict(case.inputs) == {"betreff": "Technik: Problem 1", "nachricht": "Meine Rechnung 1, bitte prüfen."}
    assert (case.id, case.expected) == ("T-1", {"team": "Technik", "dringend": False})
    assert (case.tags, case.cluster) == (("a", "b"), None)
    assert [one.name for one in exp.scorers] == ["json_fields", "json_equal", "not_refused"]
    assert (exp.metric, exp.temperatures, exp.baseline) == ("json_fields", (), "v1")
    assert "team (text), dringend (true or false)" in exp.bundles["v2"].prompt.system
    assert exp.bundles["v1"].prompt.placeholders == {"betreff", "nachricht"}
    assert "Thema is a tag" in done.output
    assert exp.dry_run().calls == (40, 40)


@pytest.mark.parametrize("column", ["Klasse", "label", "sentiment"])
def test_few_short_values_are_classes(call, project, column):
    (project / "classes.csv").write_text(tickets(**{column: lambda i: TEAMS[i % 3]}))
    done = call(csv="classes.csv")
    exp = ll.Experiment.load(project / "experiments/mine")
    assert (exp.metric, exp.golden.cases[0].expected) == ("label", ("Abrechnung",))
    assert "Expected are classes (label): Abrechnung, Technik, Versand." in done.output
    assert all("Abrechnung, Technik, Versand" in bundle.prompt.system for bundle in exp.bundles.values())


@pytest.mark.parametrize(
    ("make", "extra", "metric"),
    [
        (lambda i: str(i), (), "numbers_equal"),
        (lambda i: f"fact {i}", (), "mentions_expected"),
        (lambda i: TEAMS[i % 3], ("--expected-is", "facts"), "mentions_expected"),
        (lambda i: str(i), ("--expected-is", "json"), "json_fields"),
    ],
)
def test_what_is_expected_decides_the_scorer_and_may_be_said(call, project, make, extra, metric):
    (project / "own.csv").write_text(tickets(Antwort=make))
    assert call("mine", *extra, csv="own.csv").exit_code == 0
    assert ll.Experiment.load(project / "experiments/mine").metric == metric


def test_a_broken_cell_of_json_is_refused_with_its_line(call, project):
    (project / "broken.csv").write_text(tickets(Erwartet=lambda i: "{team" if i == 7 else quoted({"team": "a"})))
    refused = call(csv="broken.csv").stderr
    assert "is not JSON" in refused
    assert "broken.csv:9:" in refused
    assert not (project / "experiments").exists()


def test_foreign_lines_of_json_are_read_with_columns_named(call, project):
    rows = [{"uid": f"u{i}", "text": f"t{i}", "gold": {"a": None, "b": i}, "more": [1]} for i in range(20)]
    (project / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = call("mine", "--input", "text", "--id", "uid", "--expected", "gold", csv="rows.jsonl")
    assert done.exit_code == 0, done.stderr
    case = ll.Experiment.load(project / "experiments/mine").golden.cases[3]
    assert (case.id, dict(case.inputs), case.expected) == ("u3", {"question": "t3"}, {"a": None, "b": 3})
    assert "Not used: more." in done.output
    (project / "rows.jsonl").write_text('{"text": "a"}\n\n{"text": ""}\n')
    assert "rows.jsonl:3:" in call("other", "--input", "text", csv="rows.jsonl").stderr


def test_a_topic_is_the_cluster_when_asked_and_few_clusters_are_told(call, project):
    (project / "own.csv").write_text(tickets(Antwort=lambda i: f"f{i}", Thema=lambda i: f"thema {i % 5}"))
    done = call("mine", "--cluster", "Thema", csv="own.csv")
    assert "Only 5 clusters of Thema: below about 15" in done.output
    golden = ll.Experiment.load(project / "experiments/mine").golden
    assert {(case.cluster, case.tags) for case in golden} == {(f"thema {i}", ()) for i in range(5)}
    assert "Only" not in call("many", csv="own.csv").output


@pytest.mark.parametrize(("n", "rule"), [(40, "no_shown_harm"), (500, "non_inferior")])
def test_the_gate_asks_for_no_margin_above_ten_points(call, project, n, rule):
    (project / "own.csv").write_text(tickets(n, Antwort=lambda i: f"f{i}"))
    call(csv="own.csv")
    guards = {guard.metric: guard for guard in ll.Experiment.load(project / "experiments/mine").gate.guards}
    assert guards["not_refused"].rule == rule
    assert 0 < guards["not_refused"].margin <= 0.1


@pytest.mark.parametrize(
    ("model", "url", "temperature", "limit"),
    [
        ("openai/gpt-4o-2024-08-06", None, 0.0, 400),
        ("openai/o3-2025-04-16", None, None, 4_000),
        ("anthropic/claude-opus-4-7", None, None, 4_000),
        ("qwen3:8b", "http://localhost:11434/v1", 0.0, 4_000),
    ],
)
def test_a_model_is_sent_what_it_takes(call, project, model, url, temperature, limit):
    """And the dry run, which makes the checks of a run, has nothing to refuse."""
    done = call(model=model, url=url)
    assert done.exit_code == 0, done.stderr
    exp = ll.Experiment.load(project / "experiments/mine")
    sampling = exp.bundles["v1"].sampling
    assert (sampling.temperature, sampling.max_tokens) == (temperature, limit)
    exp.dry_run()
    with pytest.raises(LlmlabError, match="temperature"):
        exp.dry_run({"hot": exp.bundles["v1"].with_(model="openai/o3-2025-04-16", temperature=0.5)})


@pytest.mark.parametrize(
    ("url", "extra", "key"),
    [
        ("http://localhost:8000/v1", (), None),
        ("https://api.openai.com/v1", (), "OPENAI_API_KEY"),
        ("https://llm.firma.example/v1", (), "LLM_API_KEY"),
        ("https://llm.firma.example/v1", ("--key-env", "FIRMA_KEY"), "FIRMA_KEY"),
        ("https://mine.openai.azure.com/openai/v1", (), "AZURE_OPENAI_API_KEY"),
    ],
)
def test_the_address_is_written_with_a_key_that_may_go_there(call, project, url, extra, key):
    """A well-known key goes to its provider alone, or loading the folder would refuse it."""
    done = call("mine", *extra, url=url, model="some-model")
    exp = ll.Experiment.load(project / "experiments/mine")
    endpoint = exp.endpoints.endpoint_for(exp.bundles["v1"].model)
    assert (endpoint.base_url, endpoint.key_env) == (url, key)
    assert (f"read from {key}" if key else "No key is sent") in done.output


def test_without_an_address_the_provider_must_be_known(call, project):
    assert "write provider/id" in call(url=None, model="gpt-4o").stderr
    assert "no address is known for the provider 'acme'" in call(url=None, model="acme/gpt").stderr
    assert call(url=None, model="openai/gpt-4o-2024-08-06").exit_code == 0
    assert not (project / "experiments/mine/endpoints.yaml").exists()
