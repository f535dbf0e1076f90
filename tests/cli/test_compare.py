"""`llmlab compare` judges anybody's table, says what it left out, and refuses what it cannot read."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.cli.calling import llmlab
from tests.real_data import GPT, SONNET, real

LIVEBENCH = ("--baseline", GPT, "--candidate", SONNET, "--id", "question_id")
# Student's sleep data (R's `sleep`), extra hours of sleep under two drugs for the same ten patients
SLEEP = pd.DataFrame(
    {
        "patient": [f"p{i}" for i in range(10)],
        "one": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
        "two": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
        "ward": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"],
    }
)
WIDE = ("--baseline", "one", "--candidate", "two", "--id", "patient")
TIDY = ("--baseline", "one", "--id", "patient", "--variant-column", "drug", "--score-column", "extra")


def run(*arguments, code=0):
    """What the command prints; standard error where it is refused."""
    result = llmlab("compare", *arguments)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def rows(*arguments):
    return json.loads(run(*arguments, "--json"))["comparisons"]


def saved(tmp_path, table, name="scores.csv"):
    path = tmp_path / name
    table.to_parquet(path) if name.endswith(".parquet") else table.to_csv(path, index=False)
    return path


def tidy(table=SLEEP):
    return table.melt(id_vars=["patient", "ward"], value_vars=["one", "two"], var_name="drug", value_name="extra")


def test_the_sleep_data_give_the_textbooks_t_test(tmp_path):
    """Student 1908: difference 1.58, SE 0.388959, p 0.0028329, 95% CI [0.700114, 2.459886]."""
    (row,) = rows(saved(tmp_path, SLEEP), *WIDE)
    assert row["difference"] == pytest.approx(1.58)
    assert row["se"] == pytest.approx(0.388959, abs=1e-6)
    assert row["p_value"] == pytest.approx(0.0028329, abs=1e-7)
    assert row["ci"] == pytest.approx([0.700114, 2.459886], abs=1e-6)
    assert (row["df"], row["n_pairs"], row["n_clusters"], row["verdict"], row["category"]) == (9, 10, 10, None, None)


def test_json_has_exactly_the_promised_keys(tmp_path):
    (row,) = rows(saved(tmp_path, SLEEP), *WIDE)
    assert list(row) == [
        *("metric", "baseline", "candidate", "category", "difference", "se", "df", "ci", "p_value", "p_adjusted"),
        *("n_pairs", "n_clusters", "method", "verdict", "ci_at_worst", "p_at_worst"),
    ]


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_wide_and_tidy_csv_and_parquet_give_the_same_numbers(tmp_path, name):
    """The form of the table is not part of the answer; rows may come in any order."""
    wide = rows(saved(tmp_path, SLEEP, name), *WIDE, "--cluster", "ward")
    shuffled = tidy().sample(frac=1, random_state=3)
    long = rows(saved(tmp_path, shuffled, "tidy_" + name), *TIDY, "--cluster", "ward")
    assert long[0]["difference"] == pytest.approx(wide[0]["difference"])
    assert long[0]["se"] == pytest.approx(wide[0]["se"])
    assert (long[0]["n_clusters"], wide[0]["n_clusters"]) == (5, 5)


def test_repeats_are_averaged_and_never_counted_as_cases(tmp_path):
    """Copying every row three times as repeats changes nothing; without their column they are refused."""
    copies = pd.concat([tidy().assign(go=i) for i in range(3)])
    path = saved(tmp_path, copies)
    once, thrice = rows(saved(tmp_path, tidy(), "once.csv"), *TIDY), rows(path, *TIDY, "--repeat-column", "go")
    assert thrice[0]["n_pairs"] == 10
    assert thrice[0]["p_value"] == pytest.approx(once[0]["p_value"])
    assert "--repeat-column" in run(path, *TIDY, code=2)


def test_several_candidates_are_one_family(tmp_path):
    """Holm over the candidates: the smaller of two p values is doubled."""
    table = SLEEP.assign(three=SLEEP["two"] + [0.1, -0.2] * 5)
    found = rows(saved(tmp_path, table), *WIDE, "--candidate", "three")
    smaller = min(found, key=lambda row: row["p_value"])
    assert smaller["p_adjusted"] == pytest.approx(2 * smaller["p_value"])
    assert "the family is 2 rows" in run(saved(tmp_path, table), *WIDE, "--candidate", "three")


def test_empty_scores_are_counted_and_left_out(tmp_path):
    """An empty cell, NaN, NA and null are unscored, said per arm; never a zero."""
    table = SLEEP.astype({"two": object})
    table.loc[[1, 2, 3, 4], "two"] = [None, "NaN", "NA", " null "]
    path = saved(tmp_path, table)
    said = json.loads(run(path, *WIDE, "--json"))
    assert said["comparisons"][0]["n_pairs"] == 6
    assert "4 of 10 of two" in said["notes"][0]
    assert "lose different cases" in run(path, *WIDE)


def test_true_and_false_are_one_and_zero(tmp_path):
    words = pd.DataFrame({"patient": list("abcdef"), "one": ["False"] * 6, "two": ["true"] * 3 + ["FALSE"] * 3})
    assert rows(saved(tmp_path, words), *WIDE)[0]["difference"] == 0.5
    real = words.assign(one=False, two=[True] * 3 + [False] * 3)
    assert rows(saved(tmp_path, real, "real.parquet"), *WIDE)[0]["difference"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(two=[*t["two"][:4].astype(str), "x<y", *t["two"][5:]]), "row 5: column 'two' holds 'x<y'"),
        (lambda t: t.assign(two=[*t["two"][:2], float("inf"), *t["two"][3:]]), "row 3: column 'two' holds 'inf'"),
        (lambda t: pd.concat([t, t.iloc[[3]]]), "rows 4 and 11 are both 'p3'"),
        (lambda t: t.assign(patient=["", *t["patient"][1:]]), "row 1: column 'patient' is empty"),
        (lambda t: t.drop(columns="two"), "no column 'two'"),
        (lambda t: t.iloc[:0], "has no rows"),
        (lambda t: t.assign(one=None, two=None), "no row has a score"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_row(tmp_path, change, message):
    said = run(saved(tmp_path, change(SLEEP)), *WIDE, code=2)
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"patient,one,two\na,1,2\nb,1,2,3\n", "t.csv:3: is not a whole CSV"),
        (b"patient,one,two\na,1,2,3\nb,1,2,3\n", "t.csv:2: is not a whole CSV"),
        (b"patient,one,two,two\na,1,2,3\n", "2 columns called 'two'"),
        (b"patient,one,two\n\xff\xfe,1,2\n", "t.csv:2: is not UTF-8"),
        (b"", "is empty: its first line must name the columns"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_whole_table_is_refused_with_its_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    assert message in run(tmp_path / "t.csv", *WIDE, code=2)


def test_a_case_in_two_clusters_is_refused(tmp_path):
    table = tidy()
    table.loc[15, "ward"] = "z"
    assert "row 16: 'p5' has 'ward' 'z', and 'c'" in run(saved(tmp_path, table), *TIDY, "--cluster", "ward", code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--baseline", "one", "--id", "patient"),
        ("--baseline", "one", "--candidate", "two", "--id", "patient", "--variant-column", "drug"),
        ("--baseline", "one", "--candidate", "one", "--id", "patient"),
        (*WIDE, "--margin", "0"),
        (*WIDE, "--repeat-column", "go"),
        (*WIDE, "--cluster", "two"),
    ],
)
def test_calls_that_mean_nothing_are_refused(tmp_path, arguments):
    assert "Traceback" not in run(saved(tmp_path, SLEEP), *arguments, code=2)


def test_a_margin_gives_a_verdict_and_too_few_clusters_give_none(tmp_path):
    """Non-inferior by cases; by two wards nothing is settled, however clear the mean."""
    path = saved(tmp_path, SLEEP.assign(half=["x"] * 5 + ["y"] * 5))
    assert rows(path, *WIDE, "--margin", "0.5")[0]["verdict"] == "PASS"
    assert rows(path, *WIDE, "--margin", "0.5", "--cluster", "half")[0]["verdict"] == "INCONCLUSIVE"
    assert rows(path, *WIDE, "--margin", "0.5", "--lower-is-better")[0]["verdict"] == "FAIL"


def test_a_single_pair_is_stated_and_never_a_number(tmp_path):
    (row,) = rows(saved(tmp_path, SLEEP.head(1)), *WIDE, "--margin", "0.1")
    assert (row["difference"], row["ci"], row["n_pairs"], row["verdict"]) == (None, None, 1, "INCONCLUSIVE")
    assert "too few cases" in run(saved(tmp_path, SLEEP.head(1)), *WIDE)


def test_livebench_by_task_and_by_category_as_published_in_the_methods():
    """The cluster changes the decision: unclustered p .0248, by 18 tasks p .14172."""
    table = real("livebench_items.csv")
    (plain,), (task,) = rows(table, *LIVEBENCH), rows(table, *LIVEBENCH, "--cluster", "task")
    assert [plain["difference"], plain["se"]] == pytest.approx([0.030564, 0.013597], abs=1e-6)
    assert [plain["p_value"], task["df"]] == pytest.approx([0.0248, 13.5088], abs=1e-4)
    assert [task["se"], *task["ci"]] == pytest.approx([0.0195841, -0.011583, 0.072711], abs=1e-6)
    assert task["p_value"] == pytest.approx(0.14172, abs=1e-5)
    assert (task["n_pairs"], task["n_clusters"]) == (1136, 18)


def test_livebench_categories_within_a_margin_of_two_points():
    """One-sided p at m .02, unclustered: three of six categories are below .05; by 2 to 4 tasks none is settled."""
    asked = (real("livebench_items.csv"), *LIVEBENCH, "--by", "category", "--margin", "0.02")
    verdicts = {row["category"]: row["verdict"] for row in rows(*asked)}
    assert {name for name, word in verdicts.items() if word == "PASS"} == {None, "coding", "data_analysis", "math"}
    assert set(verdicts.values()) == {"PASS", "INCONCLUSIVE"}
    clustered = [row for row in rows(*asked, "--cluster", "task") if row["category"] is not None]
    assert {row["verdict"] for row in clustered} == {"INCONCLUSIVE"}
    assert len(clustered) == 6


def test_scores_outside_0_to_1_are_not_said_in_points(tmp_path):
    said = run(saved(tmp_path, SLEEP), *WIDE)
    assert "points" not in said
    assert "1.6 higher than one" in said
    below_one = SLEEP.assign(one=np.linspace(0, 0.5, 10), two=np.linspace(0.3, 0.7, 10))
    path = saved(tmp_path, below_one)
    assert "two is 0.250 higher than one" in run(path, *WIDE)
    assert "points); with 10 cases" in run(path, *WIDE, "--low", 0, "--high", 1)
    dollars = run(path, *WIDE, "--unit", "USD", "--lower-is-better")
    assert "two is 0.250 USD higher than one" in dollars
    assert "beyond the bounds" in run(path, *WIDE, "--low", 0, "--high", 0.6, code=2)
    passed = SLEEP.assign(one=[0] * 9 + [1], two=[1] * 10)
    assert "two is 90 points higher than one" in run(saved(tmp_path, passed), *WIDE)


@pytest.mark.parametrize("form", ["wide", "tidy"])
def test_weighted_cases_give_the_weighted_mean_and_say_so(tmp_path, form):
    """sum(w d) / sum(w) by hand, in either form of the table; the sentence says what the weights leave."""
    w = [1, 2, 1, 4, 1, 1, 3, 1, 0.5, 1]
    table = SLEEP.assign(w=w)
    if form == "tidy":
        table = table.melt(id_vars=["patient", "w"], value_vars=["one", "two"], var_name="drug", value_name="extra")
    asked = (saved(tmp_path, table), *(WIDE if form == "wide" else TIDY), "--weight", "w")
    (row,) = rows(*asked)
    assert row["difference"] == pytest.approx(np.average(SLEEP["two"] - SLEEP["one"], weights=w))
    assert "cases weighted by what they stand for" in run(*asked)


def test_equal_weights_change_nothing(tmp_path):
    path = saved(tmp_path, SLEEP.assign(w=3))
    assert rows(path, *WIDE, "--weight", "w") == rows(path, *WIDE)


@pytest.mark.parametrize("wrong", [0, -1, "", "much"])
def test_a_weight_that_is_no_number_above_0_is_refused_with_its_row(tmp_path, wrong):
    """An empty one too: nobody guesses what a case stands for."""
    path = saved(tmp_path, SLEEP.assign(w=[1, 2, wrong, 1, 1, 1, 1, 1, 1, 1]))
    told = run(path, *WIDE, "--weight", "w", code=2)
    assert "row 3: column 'w' holds" in told
    assert "must be a number" in told


def test_a_weight_that_varies_within_a_case_is_refused(tmp_path):
    table = tidy().assign(w=range(1, 21))
    told = run(saved(tmp_path, table), *TIDY, "--weight", "w", code=2)
    assert "row 11: 'p0' weighs 11, and 1 in a row before: give a case one weight" in told
