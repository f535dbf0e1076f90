"""Results keep every answer, say what state they are in, and come back equal from a file."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from llmlab import scorers
from llmlab.base.errors import DataError, FileRuleError, RunFailedError
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.results import Results
from tests.made_results import HOSTILE, made, reads, with_numbers

GOLDEN = GoldenSet(
    (
        Case(
            id="q1", inputs={"question": "rows with gaps?"}, expected=("dropna",), relevant={"a": 2}, tags=("missing",)
        ),
        Case(id="q2", inputs={"question": "unique rows?"}, expected=("drop_duplicates",), cluster="dup", weight=2.0),
    ),
    name="two",
    parent="0" * 64,
)
BUNDLES = {
    "v1": Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", temperature=0.0),
    "v2": Bundle.from_prompt("Answer: {{ question }}", model="openai/gpt-4o-2024-08-06", temperature=0.7),
}


def answers(**changes):
    """Four answers, out of order."""
    cells = [("v2", "q2"), ("v1", "q1"), ("v2", "q1"), ("v1", "q2")]
    return [Generation(variant=v, case_id=c, text=f"use dropna, says {v}", **changes) for v, c in cells]


def results(**facts):
    found = Results.from_generations(answers(), golden=GOLDEN, bundles=BUNDLES, **facts)
    return found.scored_by([scorers.mentions_expected, scorers.not_empty])


def long_enough(_case, generation):
    """A scorer of one's own, a plain function."""
    return len(generation.text) > 2


def test_rows_are_sorted_by_case_then_repeat_then_variant():
    """Whatever order the answers arrived in, the same run gives the same frame."""
    cells = results().answers("case_id", "variant")
    assert list(cells) == [("q1", "v1"), ("q1", "v2"), ("q2", "v1"), ("q2", "v2")]


def test_scorers_add_a_column_each_with_what_it_means():
    found = results()
    assert found.frame["mentions_expected"].tolist() == [1, 1, 0, 0]
    assert list(found.metrics) == ["mentions_expected", "not_empty"]
    assert found.metric("cost_usd").higher_is_better is False
    with pytest.raises(ValueError, match="mentions_expected, not_empty, cost_usd"):
        found.metric("nothing")


def test_scoring_again_keeps_the_other_scorers_and_every_column():
    """`status` as a metric would overwrite the run."""
    again = results().scored_by([long_enough])
    assert list(again.metrics) == [*results().metrics, "long_enough"]
    assert again.frame["long_enough"].tolist() == [1] * 4
    assert "mentions_expected" in json.loads(again.frame["explanations"].iloc[2])
    with pytest.raises(ValueError, match="'status'"):
        again.scored_by([reads("status")])


def test_without_cases_nothing_is_scored_and_without_a_bundle_nothing_read():
    with pytest.raises(DataError, match="no golden set"):
        replace(results(), golden=None).scored_by([scorers.not_empty])
    with pytest.raises(DataError, match="'v9'"):
        results().with_columns(variant="v9").table("not_empty")


@pytest.mark.parametrize(("n_errors", "state"), [(0, "complete"), (20, "complete"), (21, "FAILED")])
def test_above_the_allowed_share_of_errors_a_run_is_failed(n_errors, state):
    """20% by default."""
    golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"q": i}) for i in range(100)))
    failed = {"status": "error", "error": "HTTP 500"}
    rows = [Generation(variant="v1", case_id=f"q{i}", text="x", **(failed if i < n_errors else {})) for i in range(100)]
    found = Results.from_generations(rows, golden=golden, bundles={"v1": BUNDLES["v1"]}).scored_by([scorers.not_empty])
    assert found.state == state
    assert found.frame["not_empty"].isna().sum() == n_errors
    if state == "FAILED":
        with pytest.raises(RunFailedError, match="21 x HTTP 500"):
            found.require_complete()
        assert "FAILED" in str(found)
        assert "1.000" not in str(found)


def test_a_scorer_that_raises_is_told_with_what_it_raised_wherever_its_metric_is_read():
    """As found: a comparison said that 4 answers were unscored, and not that `case.expected in text` is a TypeError."""

    def right(case, generation):
        return case.expected in generation.text if case.id < "q2" else 1.0

    cases = [Case(id=f"q{i}", inputs={"q": i}, expected="yes") for i in range(8)]
    rows = [Generation(variant=name, case_id=case.id, text="yes") for name in BUNDLES for case in cases]
    found = Results.from_generations(rows, golden=GoldenSet(tuple(cases)), bundles=BUNDLES, scorers=[right])
    for said in (str(found.compare("v1")), str(found.summary())):
        assert said.count(f"right: its scorer raised for {2 * len(BUNDLES)} of {len(rows)} answers: TypeError: ") == 1


def test_cases_that_name_nothing_expected_are_told_apart_from_lost_answers():
    """Both are unscored; only the second kind says something of an arm."""
    cases = [Case(id=f"q{i}", inputs={"q": i}, expected=("yes",) if i < 6 else ()) for i in range(8)]
    lost = {"status": "error", "error": "no reply"}
    rows = [
        Generation(variant=name, case_id=case.id, text="yes", **(lost if (name, case.id) == ("v2", "q0") else {}))
        for name in BUNDLES
        for case in cases
    ]
    found = Results.from_generations(
        rows, golden=GoldenSet(tuple(cases)), bundles=BUNDLES, scorers=[scorers.mentions_expected, scorers.not_empty]
    )
    said = str(found.compare("v1"))
    assert "mentions_expected: 2 of 8 cases name nothing expected; their answers count as unscored" in said
    assert said.count("nothing expected") == 1


def test_a_failed_run_compares_nothing_and_a_partial_one_says_so():
    with pytest.raises(RunFailedError, match="100% of 4 rows"):
        results().with_columns(status="error").compare("v1")
    partial = results(complete=False)
    assert partial.state == "partial"
    assert "Partial results" in str(partial.compare("v1"))
    assert "run the same cell again" in str(partial.summary())
    with pytest.raises(RunFailedError, match="partial") as caught:
        partial.require_complete()
    assert caught.value.results is partial
    assert results().require_complete().state == "complete"


def test_a_run_without_rows_is_failed_shows_itself_and_survives_its_file(tmp_path):
    """Stopped before the first answer."""
    empty = Results.from_generations([], golden=GOLDEN, bundles=BUNDLES, complete=False)
    assert empty.scored_by([scorers.not_empty]).state == "FAILED"
    assert "FAILED" in empty._repr_html_()
    after = Results.from_parquet(empty.to_parquet(tmp_path / "r.parquet"))
    pd.testing.assert_frame_equal(after.frame, empty.frame, check_dtype=False)


def test_a_parquet_file_gives_the_same_results_back(tmp_path):
    """Rows, cases, bundles with their digests, facts and notes."""
    provenance = {"commit": "f00", "endpoints": {"v1": "x"}}
    before = results(index_digests={"v1": "abc"}, provenance=provenance, notes=("careful",))
    after = Results.from_parquet(before.to_parquet(tmp_path / "r.parquet"))
    pd.testing.assert_frame_equal(after.frame, before.frame)
    assert {name: b.digest for name, b in after.bundles.items()} == {name: b.digest for name, b in BUNDLES.items()}
    assert after.golden == GOLDEN
    assert after.golden_digest == GOLDEN.digest == after.golden.digest
    for name in ("metrics", "index_digests", "complete", "provenance", "notes", "created_at", "failed_share_allowed"):
        assert getattr(after, name) == getattr(before, name)
    assert after.compare("v1").records() == before.compare("v1").records()
    assert list(after.generations()) == list(before.generations())


def test_hostile_texts_survive_parquet(tmp_path):
    """Lone surrogates, NULs, terminal escapes, in answers, ids, tags, variants and retrieved ids."""
    case = Case(id=HOSTILE, inputs={"q": "\ud800"}, tags=(HOSTILE,), cluster=HOSTILE)
    rows = [
        Generation(variant=HOSTILE, case_id=HOSTILE, text="a\x00\udcff", retrieved=("\ud800",), error="\ud801"),
        Generation(variant="v1", case_id=HOSTILE, text=HOSTILE),
    ]
    bundles = {HOSTILE: BUNDLES["v1"], "v1": BUNDLES["v2"]}
    before = Results.from_generations(rows, golden=GoldenSet((case,)), bundles=bundles).scored_by([scorers.not_empty])
    after = Results.from_parquet(before.to_parquet(tmp_path / "r.parquet"))
    pd.testing.assert_frame_equal(after.frame, before.frame)
    assert after.golden_digest == before.golden_digest


def test_other_peoples_parquet_and_changed_files_are_refused(tmp_path):
    import pyarrow.parquet as pq

    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(FileRuleError, match="llmlab compare"):
        Results.from_parquet(tmp_path / "foreign.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    for name in ("torn.parquet", "none.parquet"):
        with pytest.raises(FileRuleError, match=name):
            Results.from_parquet(tmp_path / name)
    path = results().to_parquet(tmp_path / "r.parquet")
    table = pq.read_table(path)
    for change, message in [
        (lambda about: about["bundles"]["v1"]["sampling"].update(temperature=1.0), "digest"),
        (lambda about: about["cases"][0].update(expected=["other"]), "digest"),
        (lambda about: about.pop("notes"), "damaged"),
    ]:
        about = json.loads(table.schema.metadata[b"llmlab"])
        change(about)
        pq.write_table(table.replace_schema_metadata({b"llmlab": json.dumps(about).encode()}), path)
        with pytest.raises(FileRuleError, match=message):
            Results.from_parquet(path)
    pq.write_table(table.replace_schema_metadata({b"llmlab": b"not json"}), path)
    with pytest.raises(FileRuleError, match="not written by"):
        Results.from_parquet(path)


def test_answers_made_elsewhere_are_scored_by_the_same_scorers():
    """One row per answer; cases without an answer are counted."""
    rows = {"model": ["a b", "a_b"], "id": ["q1", "q1"], "answer": ["dropna", "no idea"], "other": [1, 2]}
    named = {"variant": "model", "case_id": "id", "text": "answer"}
    found = Results.from_frame(pd.DataFrame(rows), golden=GOLDEN, scorers=[scorers.mentions_expected], **named)
    assert found.variants == ("a b", "a_b")
    assert found.bundles["a b"].digest != found.bundles["a_b"].digest
    assert found.frame["mentions_expected"].tolist() == [1, 0]
    assert "1 of 2 golden cases have no answer" in str(found.summary())
    assert not found.bundles["a b"].model.pinned


def test_best_names_the_highest_mean_in_the_metrics_direction():
    assert made({"a": [0, 0, 1], "b": [1, 0, 1]}).best("right") == "b"
    assert made({"a": [0, 0, 1], "b": [1, 0, 1]}, higher_is_better=False).best("right") == "a"
    with pytest.raises(DataError, match="no variant has a score"):
        made({"a": [None, None]}).best("right")


def test_a_lost_latency_lies_between_what_was_waited_and_the_timeout(tmp_path):
    """Three lost of a hundred: claimed where they took 3 s at most, not where 60. An older file has no bounds."""
    rng = np.random.default_rng(4)
    slow = rng.normal(2, 0.2, 100)
    quick = [None if i < 3 else s for i, s in enumerate(slow - 0.3)]
    results = with_numbers(
        made({"a": [1.0] * 100, "b": [1.0] * 100}), latency_s=[v for ab in zip(slow, quick, strict=True) for v in ab]
    )
    lost = results.frame["latency_s"].isna()

    def compared(low, high):
        told = lost.map({True: json.dumps([["latency_s", low, high], ["output_tokens", 0, 9]]), False: ""})
        bounded = replace(results, frame=results.frame.assign(bounds=told))
        read = Results.from_parquet(bounded.to_parquet(tmp_path / "r.parquet"))
        assert next(g.bounds for g in read.generations() if g.bounds)[0] == ("latency_s", low, high)
        return read.compare("a", metrics=["latency_s"]).row("latency_s")

    near, far, shown = compared(1, 3), compared(0, 60), compared(60, 60)
    assert (near.reading, near.assumed, near.tipping) == ("better", False, None)
    assert (far.reading, far.highest.value > 1.4) == ("not enough evidence", True)
    assert 2 < far.tipping.value < 60
    assert "it holds unless the 3 lost answers of b took over" in far.sentence
    assert shown.lowest.value == pytest.approx(shown.highest.value)
    assert (shown.reading, shown.tipping) == ("not enough evidence", None)
    assert compared(0, 0.1).highest.value > -0.3, "an answer of 2 s shows that .1 s was no bound"
    older = replace(results, frame=results.frame.drop(columns="bounds"))
    assert older.digest == results.digest
    assert older.compare("a", metrics=["latency_s"]).row("latency_s").assumed
    assert next(older.generations()).bounds == ()


def test_results_show_themselves_as_their_summary():
    found = results()
    assert found._repr_html_() == found.summary()._repr_html_()
    assert repr(found) == "Results(2 variants x 2 cases, 4 rows, complete)"
    assert str(found).startswith("variant")


def test_the_frame_of_a_comparison_is_numbers():
    frame = made({"a": [0, 0, 1, 1], "b": [1, 0, 1, 1]}).compare("a").to_frame()
    assert frame["difference"].tolist() == [0.25]
    assert frame[["low", "high", "se", "p_value"]].dtypes.map(lambda kind: kind == np.float64).all()


def test_an_export_has_what_was_asked_and_expected_and_a_page_runs_nothing(tmp_path):
    results = made({"v1": [1, 0], HOSTILE: [None, 1]}, tags=[["a", "b"], []])
    rows = pd.read_csv(results.to_csv(tmp_path / "r.csv"), keep_default_na=False)
    first = rows[rows["case_id"] == "q000"].iloc[0]
    assert (len(rows), (rows["right"] == "").sum()) == (4, 1)
    assert (first["input.question"], first["expected"], first["tags"]) == ("question 0?", "yes", "a; b")
    page = results.to_html(tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "question 1?" in page
    assert "<title>Summary</title>" in results.summary().to_html(tmp_path / "s.html").read_text(encoding="utf-8")
