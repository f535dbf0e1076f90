"""What one comparison leaves open, with METHODS' known answers on LiveBench's scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import llmlab as ll
from llmlab.notebook import run_notebook
from llmlab.results.diagnostics import cases_needed, harm_by_category, repeats_or_cases, three_readings
from llmlab.results.elsewhere import read_scores
from llmlab.results.scores import two_digits
from llmlab.simulate import false_positives
from tests.made_results import made
from tests.real_data import GPT, SONNET, real

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def livebench():
    columns = {"id": "question_id", "cluster": "task", "category": "category"}
    return read_scores(real("livebench_items.csv"), **columns, baseline=GPT, candidates=[SONNET]).table


def test_clusters_change_the_decision_on_livebench(livebench):
    """Unpaired SE .019115; iid SE .013597, p .0248; CR2 SE .0195841, df 13.5088, p .14172."""
    found = three_readings(livebench, GPT, SONNET)
    assert [row["standard error"] for row in found.rows] == ["0.01912", "0.0136", "0.01958"]
    assert (found.rows[1]["p"], found.rows[2]["p"], found.rows[2]["df"]) == ("0.02478", "0.1417", "13.51")
    assert "change the decision" in found.sentence


def test_harm_in_livebenchs_categories_is_open(livebench):
    """Unclustered coding p .00136, data_analysis .0161, math .0205; clustered coding .085, math .22."""
    rows = {row["category"]: row for row in harm_by_category(livebench, GPT, SONNET, margin=0.02).rows}
    assert float(rows["coding"]["p (cases independent)"]) == pytest.approx(0.00136, abs=1e-5)
    assert float(rows["data_analysis"]["p (cases independent)"]) == pytest.approx(0.0161, abs=1e-4)
    assert float(rows["coding"]["p (clustered)"]) == pytest.approx(0.085, abs=1e-3)
    assert float(rows["math"]["p (clustered)"]) == pytest.approx(0.22, abs=2e-3)
    assert {row["verdict"] for row in rows.values()} == {"too few clusters"}


def test_harm_is_not_ruled_out_where_what_is_unscored_may_hold_it():
    """Four of eighty lost in one category: 3 points at worst, and the margin is 5."""
    base = [0.5, 0.6, 0.7, 0.6] * 40
    tags = [["whole"] if i < 80 else ["holes"] for i in range(160)]
    moved = [x + 0.01 * (-1) ** i for i, x in enumerate(base)]
    table = made({"a": base, "b": [*moved[:156], *[None] * 4]}, tags=tags).table("right")
    found = harm_by_category(table, "a", "b", margin=0.05)
    assert [row["verdict"] for row in found.rows] == ["harm ruled out", "open; 4 unscored answers at their worst"]
    assert "in 1 of 2 categories" in found.sentence


def test_cases_needed_are_millers_formula():
    """sd 1/3, difference .03: 969 cases (Miller 2024), z^2 / 2 more for t, and 1/c4^2 for an sd that is estimated."""
    a, b = [0.5] * 200, [0.5 + x for x in (1 / 3, -1 / 3)] * 100
    (row,) = cases_needed(made({"a": a, "b": b}).table("right"), "a", "b", differences=[0.03]).rows
    assert row["cases needed"] == pytest.approx(971 * 200 / 199 * (1 + 1 / 398), abs=3)


def test_nothing_can_be_planned_from_cases_that_do_not_vary():
    table = made({"a": [0.5] * 20, "b": [0.5] * 20}).table("right")
    assert "Nothing varies" in cases_needed(table, "a", "b", differences=[0.03]).sentence


def test_repeats_are_weighed_against_cases_where_there_are_repeats():
    noisy = made({"a": [1.0, 0.0, 1.0] * 20, "b": [1.0, 1.0, 0.0] * 20}, repeats=3)
    once = made({"a": [1.0, 0.0], "b": [0.0, 0.0]})
    for results, said in ((noisy, "repeats"), (once, "repeats=2"), (None, "nobody can tell")):
        assert said in repeats_or_cases(results, "right", baseline="a", candidate="b").sentence


def test_only_the_clustered_test_keeps_its_promise():
    """Nominal 5%: about 5% for CR2, more than 10% for every test that ignores documents."""
    found = false_positives(trials=300, seed=1)
    clustered = found.rates.pop("paired t, clusters (CR2)")
    assert clustered < 0.09
    assert min(found.rates.values()) > 0.10


def test_factors_are_read_off_the_bundles_and_one_prompt_under_two_names_is_one_level():
    base = ll.Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", name="qa")
    other = ll.Bundle.from_prompt("Briefly: {{ question }}", model="openai/gpt-4o-2024-08-06", name="qa")
    bundles = ll.grid({"a": base, "b": other}, temperature=[0.0, 1.0]) | {"again@x": base.with_(temperature=0.5)}
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(0.6 if name[0] == "b" else 0.4, 0.05, 40).clip(0, 1).tolist() for name in bundles}
    results = replace(made(scores), bundles=bundles)
    found = results.effects("prompt + temperature")
    assert [effect.name for effect in found.effects] == ["prompt=b", "temperature=1.0", "temperature=0.5"]
    assert found["prompt=b"].reading == "prompt b scores higher than prompt a"
    with pytest.raises(ValueError, match="there are: prompt, temperature"):
        results.effects("model")


@pytest.mark.slow
def test_notebook_02_gives_the_known_figures(project):
    """METHODS: d .030564, CR2 CI [-.011583, .072711], unclustered p .0248."""
    settings = {
        **{"scores": str(real("livebench_items.csv").resolve()), "id_column": "question_id", "cluster_column": "task"},
        **{"category_column": "category", "baseline": GPT, "candidate": SONNET, "margin": 0.02},
    }
    done = run_notebook(ROOT / "notebooks" / "02_ab_significance.ipynb", settings, root=project)
    assert (done.exit_code, done.verdict) == (0, "INCONCLUSIVE"), done.message  # nothing was required
    shown = "\n".join(done.tables)
    for figure in ("0.03056", "0.01958", "13.51", "0.1417", "-0.01158 to 0.07271", "0.02478", "INCONCLUSIVE"):
        assert figure in shown


@pytest.mark.parametrize("clusters", [None, [f"c{i // 3}" for i in range(90)]])
def test_whoever_asks_what_these_cases_show_is_told_the_same(clusters):
    """Of the comparison, the plan of cases and that of repeats: pass/fail scores, of which more differ at a truth."""
    rng = np.random.default_rng(2)
    a, b = (rng.random(90) < 0.62).astype(float), (rng.random(90) < 0.84).astype(float)
    scores = {"a": np.repeat(a, 2).tolist(), "b": np.repeat(b, 2).tolist()}
    results = made(scores, repeats=2, **({} if clusters is None else {"clusters": clusters}))
    told = two_digits(results.compare(baseline="a", metrics=["right"]).rows[0].detectable * 100)
    assert f"{told} points" in cases_needed(results.table("right"), "a", "b", differences=[0.1]).sentence
    found = repeats_or_cases(results, "right", baseline="a", candidate="b")
    assert found.rows[0]["shows (points)"] == told
    assert f"a true difference of {told} points" in found.sentence
