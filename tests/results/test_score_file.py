"""Anybody's scores as a table: the words that are numbers, and the baseline that is told once."""

import warnings

import pytest

from llmlab.base.errors import FileRuleError
from llmlab.results.elsewhere import read_scores


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


@pytest.mark.parametrize("low", ["-1e308", "1e308"])
def test_scores_too_large_to_be_added_are_refused_without_a_warning(tmp_path, low):
    path = tmp_path / "scores.csv"
    path.write_text(f"id,old,new\na,1e308,{low}\nb,{low},1e308\nc,1e308,1e308\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FileRuleError) as refused:
            read_scores(path, id="id", baseline="old", candidates=["new"])
    assert refused.value.path == path
    path.write_text("id,old,new\na,1e300,-1e300\nb,1,2\nc,1,2\n", encoding="utf-8")
    assert read_scores(path, id="id", baseline="old", candidates=["new"]).compare().records()
