"""`llmlab gate` and `llmlab gate-init`: exit codes, reports that cannot be broken out of, a first policy."""

import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.gate import GatePolicy, Receipt
from llmlab.golden.cases import Case, GoldenSet
from llmlab.notebook import run_notebook
from tests.cli.calling import llmlab
from tests.gate.gating import gateable, noisy
from tests.made_results import HOSTILE, capitals, experiment_folder, with_numbers
from tests.notebook.notebooks import code, text, write

RULES = "baseline: bundles/v1.yaml\ngoal: {{metric: right, rule: superior, min_effect: {effect}}}\n"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with results, the current one."""
    monkeypatch.chdir(tmp_path)
    with_numbers(noisy(0.1), cost_usd=[0.01, 0.012] * 200).to_parquet("r.parquet")
    return tmp_path


def run(*arguments, effect=0.02, rules=None):
    """The command's result with this policy."""
    Path("gate.yaml").write_text(rules or RULES.format(effect=effect), encoding="utf-8")
    return llmlab("gate", "r.parquet", "--policy", "gate.yaml", *arguments)


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(("effect", "code_", "word"), [(0.02, 0, "PASS"), (0.3, 1, "FAIL"), (0.105, 3, "INCONCLUSIVE")])
def test_the_verdict_is_the_exit_code(effect, code_, word):
    done = run("--candidate", "v2", "--baseline", "v1", effect=effect)
    assert done.exit_code == code_, done.output
    assert done.stdout.startswith(word)


def test_invalid_results_exit_with_2(desk):
    replace(noisy(0.1), complete=False).to_parquet(desk / "r.parquet")
    done = run("--candidate", "v2")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (2, "INVALID")


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    "arguments", [["--candidate", "v9"], ["--candidate", "v1"], [], ["--candidate", "v2", "--junit", "none/j.xml"]]
)
def test_a_mistake_in_the_call_exits_with_2(arguments):
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_receipt_junit_and_json_are_written(desk):
    done = run("--candidate", "v2", "--receipt", "receipt.json", "--junit", "j.xml", "--json")
    kept = Receipt.load(desk / "receipt.json")
    assert kept == Receipt.from_json(done.stdout)
    assert kept.policy_digest == GatePolicy.load(desk / "gate.yaml").digest
    suite = ET.parse(desk / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "0")
    run("--candidate", "v2", "--junit", "j.xml", effect=0.3)
    assert ET.parse(desk / "j.xml").getroot().find("testcase/failure").get("type") == "FAIL"


def test_the_text_of_a_pull_request_shows_verdict_bill_and_flips_and_no_markup_of_the_answers(desk):
    """The sentence, the table, five cases that changed sides, the monthly bill; all texts escaped."""
    results = gateable({"v1": [1.0] * 8 + [0.0] * 32, "v2": [0.0] * 8 + [1.0] * 32})
    results = with_numbers(results, cost_usd=[0.01, 0.012] * 40)
    frame = results.frame.assign(text=HOSTILE + " @everyone | x\n# heading")
    replace(results, frame=frame).to_parquet(desk / "r.parquet")
    done = run("--candidate", "v2", "--markdown", "m.md", "--requests-per-day", "1000")
    shown = (desk / "m.md").read_text()
    assert shown.startswith(f"## Gate: {done.stdout.splitlines()[0]}\n")
    assert sum("→" in line for line in shown.splitlines()) == 5
    assert "20% more per answer" in shown
    assert "$60.00 more a month at 1,000 requests a day" in shown
    assert "<script>" not in shown
    assert "\n# heading" not in shown
    assert "@everyone" not in shown


@pytest.mark.parametrize("policy", ["redact", "refuse"])
def test_the_text_of_a_pull_request_shows_pseudonyms_unless_the_project_only_flags(desk, policy):
    results = with_numbers(gateable({"v1": [1.0] * 8 + [0.0] * 32, "v2": [0.0] * 8 + [1.0] * 32}), cost_usd=[0.01] * 80)
    replace(results, frame=results.frame.assign(text="ask jo@firma.de")).to_parquet(desk / "r.parquet")
    (desk / "pyproject.toml").write_text(f'[tool.llmlab]\npii = "{policy}"\n')
    run("--candidate", "v2", "--markdown", "m.md")
    assert "firma" not in (desk / "m.md").read_text()
    assert "email address" in (desk / "m.md").read_text()


@pytest.mark.usefixtures("project")
def test_the_ledger_of_a_project_is_counted_unless_somebody_says_no():
    """Without an option: counted and logged where there is a store; a receipt tells of `--no-ledger`."""
    said = []
    for seed, arguments in enumerate([[], ["--no-ledger"], ["--ledger"]]):
        noisy(0.1, n=40 + seed, seed=seed).to_parquet("r.parquet")
        document = json.loads(run("--candidate", "v2", "--json", *arguments).stdout)
        said.append((document["ledger"], document["look"], document["asked_confidence"]))
    assert said == [("counted", 1, 0.95), ("--no-ledger", 1, 0.95), ("counted", 2, pytest.approx(0.9875))]


def test_without_a_store_the_decision_says_that_nothing_was_counted(desk, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (desk / "pyproject.toml").touch()
    done = run("--candidate", "v2", "--receipt", "receipt.json")
    assert "Earlier looks were not counted: no ledger here." in done.stdout
    assert Receipt.load(desk / "receipt.json").ledger == "no ledger here"
    assert not (desk / "mlruns").exists()


def test_gate_init_writes_margins_that_these_cases_can_settle(desk):
    done = llmlab("gate-init", "r.parquet", "--output", "new.yaml")
    assert done.exit_code == 0, done.output
    assert GatePolicy.load(desk / "new.yaml").goal.metric == "right"
    assert "shows with 80% power" in (desk / "new.yaml").read_text()
    again = llmlab("gate-init", "r.parquet", "--output", "new.yaml")
    assert (again.exit_code, "exists" in again.stderr) == (2, True)


def test_gate_init_reads_an_experiments_cases(tmp_path):
    golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": "?"}) for i in range(100)))
    golden.save(tmp_path / "golden.jsonl")
    done = llmlab("gate-init", tmp_path, "--goal", "right")
    assert done.exit_code == 0, done.output
    assert "a true gain of 13 points" in (tmp_path / "gate.yaml").read_text()  # 2.8 x .45 / 10
    assert GatePolicy.load(tmp_path / "gate.yaml").goal.metric == "right"


def test_gate_init_guards_refusals_where_the_experiment_scores_them(tmp_path):
    golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": "?"}, expected=("a",)) for i in range(100)))
    golden.save(tmp_path / "golden.jsonl")
    (tmp_path / "experiment.yaml").write_text("scorers: [label, not_refused]\n")
    assert llmlab("gate-init", tmp_path).exit_code == 0
    guards = {guard.metric for guard in GatePolicy.load(tmp_path / "gate.yaml").guards}
    assert guards == {"not_refused", "output_tokens"}


@pytest.mark.parametrize(
    ("expected", "settings", "goal"),
    [
        (("a",), "", "mentions_expected"),
        ({"a": 1}, "", "json_equal"),
        ((), "", "not_refused"),
        ({"a": 1}, "scorers: [{fenced: {json_fields: [a]}}]", "json_fields"),
    ],
)
def test_gate_init_takes_the_scorer_that_the_experiment_has(tmp_path, expected, settings, goal):
    """Without running the folder's own code."""
    cases = tuple(Case(id=f"q{i}", inputs={"question": "?"}, expected=expected) for i in range(20))
    GoldenSet(cases).save(tmp_path / "golden.jsonl")
    (tmp_path / "experiment.yaml").write_text(settings or "repeats: 1")
    (tmp_path / "scorers.py").write_text("raise SystemExit(9)")
    done = llmlab("gate-init", tmp_path)
    assert done.exit_code == 0, done.output
    assert GatePolicy.load(tmp_path / "gate.yaml").goal.metric == goal


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A folder whose own client keeps a file for each call, and whose model floats."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    v1 = ll.Bundle.from_prompt("{{ question }}", model="acme/big-1", name="capitals", system="v1")
    folder = experiment_folder(tmp_path / "capitals", {"v1": v1, "v2": v1.with_(system="v2")}, capitals(1))
    (folder / "clients.py").write_text(
        "import llmlab as ll\nfrom pathlib import Path\nclass Acme:\n    fingerprint = 'acme'\n"
        "    async def complete(self, request):\n        Path('called').touch()\n"
        "        return ll.Generation(text='a')\n"
        "acme = Acme()\n"
    )
    return folder


def test_what_a_gate_would_never_release_is_refused_before_a_call(asked):
    """A folder without rules, and a candidate whose model floats."""
    for gate, said in [
        ("", "gate-init"),
        ("baseline: none\nfloors: [{metric: not_refused, at_least: 0.5}]", "not pinned"),
    ]:
        if gate:
            (asked / "gate.yaml").write_text(gate)
        Path("r.json").write_text('{"verdict": "PASS"}')
        done = llmlab("gate", asked, "--candidate", "v2", "--receipt", "r.json", "--junit", "j.xml")
        assert (done.exit_code, said in done.stderr) == (2, True), done.output
        assert not Path("r.json").exists()  # of an earlier decision
        assert ET.parse("j.xml").getroot().attrib["errors"] == "1"
    assert not Path("called").exists()


def test_what_calibrating_lacks_is_told_before_a_call(asked):
    """A judge, and what people said."""
    assert "has no judge" in llmlab("calibrate", asked).stderr
    (asked / "judges").mkdir()
    ll.judge.Judge.pointwise("relevance", model="acme/big-1").save(asked / "judges" / "j.yaml")
    assert "label some answers first" in llmlab("calibrate", asked).stderr
    assert not Path("called").exists()


@pytest.mark.slow
def test_a_gate_that_fails_under_papermill_sets_the_exit_code_and_keeps_the_notebook(project):
    """FAULTS 71, with a real decision."""
    noisy(0.1).to_parquet(project / "r.parquet")
    (project / "gate.yaml").write_text(RULES.format(effect=0.3))
    cell = (
        "import llmlab as ll\n"
        "results = ll.Results.from_parquet('r.parquet')\n"
        "decision = ll.GatePolicy.load('gate.yaml').decide(results, baseline='v1', candidate='v2')\n"
        "decision.require_pass()"
    )
    done = run_notebook(write(project / "05.ipynb", text("# May it go?"), code(cell), code("never = 1")))
    assert (done.verdict, done.exit_code) == ("FAIL", 1)
    assert done.executed.exists()
    assert done.message.startswith("FAIL: v2 against v1 breaks 1 condition")


@pytest.mark.parametrize(
    "arguments", [("--receipt", "."), ("--junit", "."), ("--labels", "nope.jsonl")], ids=["receipt", "junit", "labels"]
)
def test_a_mistake_that_is_known_beforehand_costs_no_call(project, arguments):
    shutil.copytree(Path(__file__).parents[2] / "experiments" / "pandas_help", "exp")
    told = llmlab("gate", "exp", "--candidate", "v2", *arguments)
    assert told.exit_code == 2
    assert Path(arguments[1]).resolve().name in told.output
    assert not Path("mlruns", "calls.sqlite").exists()


@pytest.mark.parametrize("command", ["gate", "calibrate"])
def test_a_folder_that_is_not_there_is_named(project, command):
    told = llmlab(command, "nope")
    assert told.exit_code == 2
    assert "nope" in told.output
    assert "--" not in told.output
