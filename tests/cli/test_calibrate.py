"""`llmlab calibrate`: any tool's verdicts, in the JSON that others read."""

import json
from functools import partial

import pandas as pd
import pytest

from llmlab.simulate import judged_verdicts
from tests.cli.calling import llmlab
from tests.real_data import real

KEYS = {
    "group", "n", "accuracy_order1", "accuracy_order2", "accuracy_both", "consistency", "first_position",
    "second_position", "position_p", "kappa", "kappa_ci", "length_slope", "length_slope_se", "sensitivity",
    "specificity",
}  # fmt: skip


called = partial(llmlab, "calibrate")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "verdicts.csv"
    path.write_text("label,one,two,doc,method\n1,1,1,a,x\n2,2,tie,a,y\n1,2,1,b,x\n2,,2,b,y\n1,1,1,c,x\n2,2,1,c,y\n")
    return path


PAIRWISE = ("--label", "label", "--order1", "one", "--order2", "two")


def test_pairwise_verdicts_come_as_json_with_every_key(table):
    """One group without --by; a tie or a missing verdict is not right and stays in n."""
    found = called(table, *PAIRWISE, "--json")
    assert found.exit_code == 0
    (group,) = json.loads(found.output)["groups"]
    assert set(group) >= KEYS
    assert group["group"] == {}
    assert (group["n"], group["missing"]) == (6, 1)
    assert group["accuracy_both"] == pytest.approx(2 / 6)
    assert group["length_slope"] is None


def test_by_splits_and_cluster_is_taken(table):
    found = called(table, *PAIRWISE, "--by", "method", "--cluster", "doc", "--json")
    groups = json.loads(found.output)["groups"]
    assert [group["group"] for group in groups] == [{"method": "x"}, {"method": "y"}]
    assert [group["n"] for group in groups] == [3, 3]


def test_pointwise_scores(tmp_path):
    path = tmp_path / "scores.tsv"
    path.write_text("h\tj\n1\t1\n2\t3\n3\t3\n3\t\n")
    (group,) = json.loads(called(path, "--human", "h", "--judge", "j", "--json").output)["groups"]
    assert (group["n"], group["missing"], group["agreement"]) == (4, 1, pytest.approx(2 / 3))


@pytest.mark.parametrize("form", ["pairwise", "pointwise"])
def test_rows_without_a_human_label_are_counted_in_the_text_too(tmp_path, form):
    path, asked = tmp_path / "some.csv", PAIRWISE if form == "pairwise" else ("--human", "label", "--judge", "one")
    path.write_text("label,one,two\n" + "1,1,1\n2,2,2\n1,2,1\n" * 4 + ",1,1\n" * 7)
    lines = [line.split() for line in called(path, *asked).output.splitlines()]
    (head,) = (line for line in lines if "unlabelled" in line)
    assert head[-1] == "unlabelled"
    assert lines[lines.index(head) + 2][-1] == "7"  # below the rule


def test_without_json_there_is_a_table(table):
    found = called(table, *PAIRWISE)
    assert "right in both orders" in found.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--label", "label"), "--order1 and --order2"),
        ((*PAIRWISE, "--length1", "doc"), "both of --length1"),
        ((*PAIRWISE, "--human", "label", "--judge", "one"), "--human and --judge for scores"),
        (("--label", "label", "--order1", "one", "--order2", "three"), "no column 'three'"),
        (("--label", "doc", "--order1", "one", "--order2", "two"), "must be 1, 2, tie or empty"),
    ],
)
def test_mistakes_exit_2_with_what_to_do(table, arguments, said):
    found = called(table, *arguments)
    assert found.exit_code == called("none.csv", *PAIRWISE).exit_code == 2
    assert said in found.output


def test_the_real_verdicts_of_six_judges():
    """LLMBar: METHODS' figures out of the command. ChatGPT follows place and length; missing verdicts stay in n."""
    columns = "--label label --order1 winner_order1 --order2 winner_order2 --length1 words_1 --length2 words_2"
    found = called(real("llmbar_verdicts.csv"), *columns.split(), "--by", "judge", "--by", "method", "--json")
    groups = {tuple(g["group"].values()): g for g in json.loads(found.output)["groups"]}
    assert (len(groups), {group["n"] for group in groups.values()}) == (20, {419})
    unread = pd.read_csv(real("llmbar_verdicts.csv"))[["winner_order1", "winner_order2"]].isna().any(axis=1).sum()
    assert sum(group["missing"] for group in groups.values()) == unread
    names = ("accuracy_order1", "accuracy_order2", "accuracy_both", "consistency", "first_position", "second_position")
    for judge, figures in (
        ("ChatGPT", [0.4057, 0.3938, 0.2291, 0.6587, 133, 10]),
        ("GPT-4", [0.8282, 0.8616, 0.8091, 0.9284, 20, 10]),
    ):
        assert [round(groups[judge, "Vanilla"][name], 4) for name in names] == figures
    assert groups["GPT-4", "Vanilla"]["position_p"] == pytest.approx(0.0987, abs=5e-5)
    slope = [groups["ChatGPT", "Vanilla"][name] for name in ("length_slope", "length_slope_se")]
    assert slope == pytest.approx([1.371, 0.207], abs=2e-3)


def test_self_preference_comes_with_authors(tmp_path):
    """A judge that likes its own answers: its name, or a column that holds it."""
    path = tmp_path / "v.csv"
    table = judged_verdicts(300, seed=1, own=1.2)
    table.to_csv(path, index=False)
    columns = "--label label --order1 order1 --order2 order2 --author1 author_1 --author2 author_2"
    found = [
        json.loads(called(path, *columns.split(), "--judge-author", name, "--json").output)["groups"][0]
        for name in ("judge", str(table["judge"][0]))
    ]
    assert found[0]["own_slope"] == found[1]["own_slope"] == pytest.approx(1.2, abs=0.5)
    assert found[0]["own_slope_p"] < 0.01
    assert "its own answers" in called(path, *columns.split(), "--judge-author", "judge").output
    half = called(path, *columns.split())
    assert (half.exit_code, "--judge-author together" in half.output) == (2, True)
