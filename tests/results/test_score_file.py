"""Anybody's scores as a table: the words that are numbers, and the baseline that is told once."""

import pytest

from llmlab.results.score_file import read_scores


@pytest.mark.parametrize(("yes", "no"), [("pass", "FAIL"), ("Passed", "failed"), ("yes", "No"), ("TRUE", "false")])
def test_words_of_truth_are_one_and_zero(tmp_path, yes, no):
    path = tmp_path / "scores.csv"
    path.write_text(f"id,old,new\na,{yes},{no}\nb,{no},{yes}\nc,{no},{yes}\nd,,{yes}\n", encoding="utf-8")
    table = read_scores(path, id="id", baseline="old", candidates=["new"]).table
    assert (table.metric.low, table.metric.high) == (0, 1)
    assert table.values[:, table.column("new")].tolist() == [0, 1, 1, 1]
    assert table.values[:3, table.column("old")].tolist() == [1, 0, 0]


def test_the_baseline_is_told_once_and_another_may_be_named(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("id,old,new\na,0,1\nb,0.5,1\nc,0.25,0\n", encoding="utf-8")
    scores = read_scores(path, id="id", baseline="old", candidates=["new"])
    assert scores.compare().records() == scores.compare("old").records()
    assert scores.compare("new").baseline == "new"
