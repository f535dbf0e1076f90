"""An experiment is a folder that carries all it needs; what it does not carry is left to what is usual."""

import pytest

import llmlab as ll
from llmlab.base.errors import FileRuleError
from llmlab.base.yamlfile import to_yaml
from tests.made_results import capitals, experiment_folder
from tests.notebook.notebooks import ran

OWN = """
import llmlab as ll

print("scorers.py runs")

@ll.scorer
def is_brief(case, generation):
    return len(generation.text.split()) <= 60
"""


@pytest.fixture
def folder(project):
    """A folder with two prompts, six cases and nothing else."""
    plain = ll.Bundle.from_prompt(
        "{{ question }}", model="openai/gpt-4o-2024-08-06", name="capitals", system="Answer.", temperature=0.0
    )
    bundles = {"json": plain.with_(system="Answer as JSON."), "plain": plain}
    return experiment_folder(project / "experiments" / "capitals", bundles, capitals(6))


def test_a_folder_of_prompts_and_cases_is_enough(folder):
    """No experiment.yaml, gate or endpoints: first prompt against the next, by what fits the cases."""
    exp = ll.Experiment.load("experiments/capitals")
    assert (exp.name, exp.baseline, exp.candidate, exp.metric) == ("capitals", "json", "plain", "mentions_expected")
    assert [one.name for one in exp.scorers] == ["mentions_expected", "not_refused"]
    assert list(exp.variants) == ["json", "plain"]
    assert len(exp.golden) == len(exp.explored) == 6
    client = ll.FakeClient({f"q{i}": f"city {i}" for i in range(3)})
    assert exp.run(client=client).summary()


def test_one_model_and_one_metric_may_be_said_as_texts(folder):
    """As found: "'o' names no provider", and "no scorer makes the metric 'n'"."""
    exp = ll.Experiment.load(folder, models="mistral/mistral-small-2506")
    assert {str(bundle.model) for bundle in exp.variants.values()} == {"mistral/mistral-small-2506"}
    results = exp.run(client=ll.FakeClient("city 1"), metrics="not_refused")
    assert results.compare(exp.reference, metrics="not_refused").rows


def test_the_gate_alone_names_baseline_and_deciding_metric(folder):
    """An alias that nothing carries yet stands for the file that the gate names beside it."""
    (folder / "gate.yaml").write_text(
        "baseline: production\nbaseline_file: bundles/plain.yaml\ngoal: {metric: not_refused, rule: superior}\n"
    )
    exp = ll.Experiment.load(folder)
    assert (exp.baseline, exp.candidate, exp.metric) == ("plain", "json", "not_refused")


def test_what_is_asked_stands_above_the_folder(folder):
    """Parameters of a notebook; empty ones are as the folder says."""
    (folder / "experiment.yaml").write_text("repeats: 3\ntemperatures: [0.0, 1.0]\n")
    said = ll.Experiment.load(folder, baseline="", metric="", repeats=0, temperatures=None, first=0, models=[])
    assert (said.repeats, said.temperatures, said.reference) == (3, (0.0, 1.0), "json@temperature=0.0")
    asked = ll.Experiment.load(folder, baseline="plain", metric="not_refused", repeats=1, temperatures=[], first=2)
    assert (asked.repeats, asked.temperatures, asked.reference) == (1, (), "plain")
    assert (asked.metric, len(asked.explored)) == ("not_refused", 2)


@pytest.mark.parametrize(
    ("models", "short"),
    [
        (["mistral/mistral-small-2506", "mistral/mistral-medium-2508"], ["small", "medium"]),
        (["mistral/large-2.1", "mistral/large-3"], ["large-2.1", "large-3"]),
    ],
)
def test_several_models_have_short_names(folder, models, short):
    """A prompt and what tells its model from the others, which is never a number alone."""
    exp = ll.Experiment.load(folder, models=models, baseline="plain")
    assert list(exp.bundles) == [f"{prompt} · {name}" for prompt in ("json", "plain") for name in short]
    assert (exp.baseline, exp.reference) == (f"plain · {short[0]}",) * 2


def test_a_prompt_put_on_a_model_that_takes_no_temperature_is_asked_without_and_says_so(folder):
    """Of the models that the bundles name nothing is changed."""
    with pytest.warns(RuntimeWarning, match="without temperature"):
        bundles = ll.Experiment.load(folder, models=["openai/o3-2025-04-16", "openai/gpt-4.1-2025-04-14"]).bundles
    temperatures = {name: bundle.sampling.temperature for name, bundle in bundles.items()}
    assert temperatures == {"json · o3": None, "json · gpt-4.1": 0.0, "plain · o3": None, "plain · gpt-4.1": 0.0}


@pytest.mark.parametrize(("wire", "left"), [("messages", (0.5, None, 20)), ("chat_completions", (0.5, None, None))])
def test_only_what_another_model_refuses_is_left_out(folder, wire, left):
    """Anthropic takes a temperature or a top_p, not both, and a top_k over its own API alone."""
    (path,) = (folder / "bundles").glob("plain*")
    path.write_text(ll.Bundle.load(path).with_(temperature=0.5, top_p=0.9, top_k=20).to_yaml())
    entry = f"{{base_url: http://127.0.0.1:9/v1, wire_format: {wire}}}"
    (folder / "endpoints.yaml").write_text(f"endpoints: {{anthropic: {entry}}}\n")
    with pytest.warns(RuntimeWarning, match="is asked there without top_"):
        sampling = ll.Experiment.load(folder, models=["anthropic/claude-haiku-4-5-20251001"]).bundle("plain").sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == left


def test_a_baseline_file_that_is_not_there_is_refused(folder):
    """It does not become the first bundle."""
    (folder / "gate.yaml").write_text("baseline: bundles/plian.yaml\ngoal: {metric: not_refused, rule: superior}\n")
    with pytest.raises(FileRuleError, match="plian"):
        _ = ll.Experiment.load(folder).baseline


def test_loading_runs_no_code_and_scorers_run_once_when_first_used(folder, capsys):
    """A folder from a colleague is YAML until its scorers are needed."""
    (folder / "scorers.py").write_text(OWN)
    exp = ll.Experiment.load(folder)
    assert exp.bundles
    assert exp.golden
    assert exp.variants
    assert "runs" not in capsys.readouterr().out
    assert [one.name for one in exp.scorers][-1] == "is_brief"
    assert ll.Experiment.load(folder).scorers[-1].digest == exp.scorers[-1].digest
    assert capsys.readouterr().out.count("runs") == 1


def test_a_changed_scorer_is_another_one(folder):
    """Its code is part of what was measured, whatever its comments say; what runs is the file as it is now."""
    digests, values, answer = [], [], ll.Generation(text="word " * 55)
    for text in (OWN, OWN.replace("@ll", "# the same\n@ll"), OWN.replace("60", "50")):
        (folder / "scorers.py").write_text(text)
        scorer = ll.Experiment.load(folder).scorers[-1]
        digests.append(scorer.digest)
        values.append(scorer(ll.Case(id="q", inputs={"x": "y"}), answer).value)
    assert digests[0] == digests[1] != digests[2]
    assert values == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "said"), [("1 / 0", "ZeroDivisionError"), ("x = 1", "no scorer"), ("import sys; sys.exit()", "SystemExit")]
)
def test_a_scorers_file_that_makes_none_is_refused(folder, text, said):
    """Where, and why."""
    (folder / "scorers.py").write_text(text)
    with pytest.raises(FileRuleError, match=said) as refused:
        _ = ll.Experiment.load(folder).scorers
    assert refused.value.path.name == "scorers.py"


def test_shipped_scorers_are_named_with_their_arguments(folder):
    """As a name, with named arguments, or with one."""
    (folder / "experiment.yaml").write_text(
        "scorers: [exact, {length_between: {low_words: 1, high_words: 9}}, {regex: dropna}, {json_fields: [a, b]},"
        " {fenced: json_equal}, {fenced: {json_fields: {tolerance: 0.1, name: near}}}]\n"
    )
    exp = ll.Experiment.load(folder)
    names = ["exact", "length_between", "regex", "json_fields", "json_equal", "near"]
    assert [one.name for one in exp.scorers] == names
    assert exp.scorers[4].digest != ll.scorers.json_equal.digest
    assert exp.metric == "exact"


WRONG_SCORERS = ("exat", "{length_between: {low: 1}}", "{exact: 1}", "fenced")


@pytest.mark.parametrize("line", [*(f"scorers: [{scorer}]" for scorer in WRONG_SCORERS), "repeats: 0"])
def test_an_experiment_file_that_breaks_a_rule_says_so(folder, line):
    """Before the first call."""
    (folder / "experiment.yaml").write_text(line)
    with pytest.raises(FileRuleError) as refused:
        ll.Experiment.load(folder).dry_run()
    assert refused.value.path.name == "experiment.yaml"


def test_a_misspelt_metric_or_baseline_costs_nothing(folder):
    """Both are refused before the first call."""
    client = ll.FakeClient({})
    with pytest.raises(ValueError, match="mentions_expectd"):
        ll.Experiment.load(folder, metric="mentions_expectd").run(client=client)
    with pytest.raises(FileRuleError, match="jsn"):
        _ = ll.Experiment.load(folder, baseline="jsn").baseline
    assert not client.requests


def test_a_folder_without_cases_says_how_to_make_one(project):
    """And so does a gate that is not there."""
    with pytest.raises(FileRuleError, match="llmlab new"):
        ll.Experiment.load(project)


def test_a_part_that_a_folder_lacks_is_told_with_what_it_holds(folder):
    exp = ll.Experiment.load(folder)
    with pytest.raises(FileRuleError, match=r"candidate, enrol, goal.*pandas_help/rollout\.yaml") as refused:
        _ = exp.rollout
    assert refused.value.path == exp.path / "rollout.yaml"
    with pytest.raises(FileRuleError, match="pandas_help/judges"):
        exp.judge()


def test_paths_start_at_the_file_that_names_them(folder):
    """A bundle's corpus beside its folder, that of experiment.yaml below its own; neither leaves the experiment."""
    (folder / "docs").mkdir()
    (folder / "docs" / "refunds.md").write_text("# Refunds\n\nRefunds take ten days.")
    bundle = ll.load_bundles(folder / "bundles")["plain"]
    for name, path in {"plain": "../docs", "json": "../../docs"}.items():
        (folder / "bundles" / f"{name}.yaml").unlink()
        retrieval = {"corpus": {"folder": path}, "k": 1}
        template = "{{ question }} {{ passages }}"
        bundle.with_(retrieval=retrieval, template=template).save(folder / "bundles" / f"{name}.yaml")
    exp = ll.Experiment.load(folder, baseline="plain")
    assert exp.dry_run(exp.bundles["plain"])
    assert [document.id for document in exp.corpus] == ["refunds.md"]
    with pytest.raises(ValueError, match="leaves"):
        exp.dry_run(exp.bundles["json"])
    (folder / "experiment.yaml").write_text("corpus: {folder: docs}\nscorers: [not_refused, grounded]\n")
    again = ll.Experiment.load(folder)
    assert again.corpus.digest == exp.corpus.digest
    assert [one.name for one in again.scorers] == ["not_refused", "grounded"]


def test_the_demo_is_such_a_folder(help_desk):
    """Prompts, temperatures, repeats, gate, judge and labels."""
    exp = ll.Experiment.load(help_desk)
    assert (exp.baseline, exp.candidate, exp.metric, exp.repeats) == ("v1", "v2", "mentions_expected", 2)
    assert len(exp.variants) == 6
    assert set(exp.labels) == {"pairwise", "pointwise"}
    assert exp.judges["correctness"].metric == "correctness"


JUDGED = {
    "baseline": "production",
    "baseline_file": "bundles/json.yaml",
    "goal": {"metric": "relevance", "rule": "superior"},
}


@pytest.fixture
def graded(folder):
    """The folder with a gate whose goal is a judge's grade, and without a scorer that makes it."""
    judge = ll.judge.Judge.pointwise("relevance", model="anthropic/claude-sonnet-4-5-20250929")
    (folder / "judges").mkdir()
    judge.save(folder / "judges" / "careful.yaml")
    (folder / "gate.yaml").write_text(to_yaml(JUDGED))
    return folder


def test_where_a_judge_makes_the_metric_that_decides_it_is_asked_after_the_run(graded):
    """A run is never refused for it, a dry run says that more will be asked, and `judged` asks."""
    exp = ll.Experiment.load(graded)
    assert "claude-sonnet-4-5-20250929 for relevance" in str(exp.dry_run(client=ll.FakeClient("")))
    answers = exp.run(client=ll.FakeClient("It is a city."), progress=False)
    judged = exp.judged(answers, client=ll.FakeClient('{"score": 4}'), progress=False)
    assert judged.scores(exp.metric).tolist() == [4.0] * 12
    assert exp.judged(answers.only(cases=["q0"]), client=ll.FakeClient('{"score": 4}'), progress=False)


def test_a_scorer_that_makes_the_metric_comes_before_a_judge_and_a_wrong_name_is_told_both(graded):
    (graded / "scorers.py").write_text(OWN.replace("is_brief", "relevance"))
    exp = ll.Experiment.load(graded)
    answers = exp.run(client=ll.FakeClient("yes"), progress=False)
    assert exp.judged(answers) is answers
    with pytest.raises(ValueError, match=r"'careful'.*mentions_expected.*judges: relevance"):
        exp.run(metrics=["careful"])


def test_a_pairwise_judge_is_asked_which_of_two_it_prefers(folder):
    judge = ll.judge.Judge.pairwise("relevance", model="anthropic/claude-sonnet-4-5-20250929")
    exp = ll.Experiment.load(folder)
    answers = exp.run(client=ll.FakeClient("It is a city."), progress=False)
    told = {"client": ll.FakeClient('{"better": 1}'), "progress": False}
    assert "relevance_preferred" in exp.judged(answers, judge, **told).metrics
    with pytest.raises(ValueError, match="compares two variants, not json"):
        exp.judged(answers.only(variants=["json"]), judge, **told)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", ["01_compare_variants", "02_ab_significance", "07_watch_and_grow"])
def test_every_notebook_reads_a_folder_whose_gate_is_about_a_judges_grade(help_desk, notebook):
    """The embedded one, with its own judge as the goal."""
    gate = help_desk / "gate.yaml"
    goal = "goal: {metric: mentions_expected"
    gate.write_text(gate.read_text().replace(goal, "goal: {metric: correctness"))
    given = {"07_watch_and_grow": {}, "02_ab_significance": {"first": "30", "local": ""}}.get(notebook, {"first": "30"})
    done = ran(notebook, **given)
    assert done.exit_code == 0, done.message
    assert any("correctness" in table for table in done.tables)


def test_a_judge_is_asked_only_for_what_nothing_else_makes_and_is_read_only_then(graded):
    """A scorer given by hand comes before it, and a broken file stops nothing that needs no judge."""
    by_hand = ll.scorer(lambda case, generation: 1.0, name="relevance")
    exp = ll.Experiment.load(graded)
    told = exp.dry_run(client=ll.FakeClient(""), scorers=[by_hand], metrics=["relevance"])
    assert "judge" not in str(told)
    answers = exp.run(client=ll.FakeClient("yes"), scorers=[by_hand], metrics=["relevance"], progress=False)
    assert exp.judged(answers) is answers
    lazily = exp.run(client=ll.FakeClient("yes"), scorers=(one for one in [by_hand]), progress=False)
    assert list(lazily.metrics) == ["relevance"]
    (graded / "judges" / "careful.yaml").write_text("name: [")
    assert ll.Experiment.load(graded).run(client=ll.FakeClient("yes"), scorers=[by_hand], progress=False).complete
