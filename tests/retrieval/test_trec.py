"""TREC files: what is read, in which order ties stand, and which line is named when a rule is broken."""

import gzip

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import FileRuleError
from llmlab.retrieval.metrics import evaluate
from llmlab.retrieval.trec import read_qrels, read_run

BEIR = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td1\t2\n"
RUN = "q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 1e-1 tag\nq2 Q0 d1 1 -3 tag\n"


@pytest.fixture
def written(tmp_path):
    def write(text, name="file.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_tag_of_several_words_is_passed_over(written):
    frame = read_run(written(RUN.replace(" ", "\t").replace("\n", " of mine\n")))
    assert frame["doc_id"].tolist() == ["d1", "d2", "d1"]
    np.testing.assert_allclose(frame["score"], [2.5, 0.1, -3.0], rtol=1e-7)


def test_ids_that_look_like_numbers_blanks_or_quotes_stay_text(written):
    frame = read_qrels(written('007 0 NA 1\n007 0 "x 2\n007 0 1e3 0\n'))
    assert frame["query_id"].tolist() == ["007"] * 3
    assert frame["doc_id"].tolist() == ["NA", '"x', "1e3"]
    assert frame["relevance"].tolist() == [1, 2, 0]


BROKEN = {
    read_run: [
        ("q Q0 d 1 1.0\n", 1, "5 fields, must be 6"),
        (RUN + "\nq3 Q0 d  1.0 tag\n", 5, "5 fields"),
        (RUN + "q3 Q0 d 1 nan tag\n", 4, "'nan' is not a finite number"),
        (RUN + "q3 Q0 d 1 inf tag\n", 4, "not a finite number"),
        (RUN + "q3 Q0 d 1 1e999 tag\n", 4, "not a finite number"),
        (RUN + "q3 Q0 d 1 high tag\n", 4, "'high' is not a finite number"),
        (RUN + "q3 Q0 d 1 1_0 tag\n", 4, "not a finite number"),
        (RUN.encode() + b"q3 Q0 d\xff 1 1 tag\n", 4, "not UTF-8 text"),
        (RUN + "q3\tQ0\td 7\t1\t1.0\ttag\n", 4, "'d 7' holds a blank, where trec_eval cuts a line"),
        ("my query\tQ0\td\t1\t1.0\ttag\n", 1, "'my query' holds a blank"),
    ],
    read_qrels: [
        ("q 0 d\n", 1, "3 fields, must be 4: query_id iteration doc_id relevance"),
        ("q 0 d 1\nq 0 e 1.5\n", 2, "'1.5' is not a whole number"),
        ("q 0 d 1\nq 0 e yes\n", 2, "not a whole number"),
        ("q 0 d 1\n\nq 0 e 1\nq 0 d 2\n", 4, "document 'd' is judged again for query 'q'"),
        ("q\t0\td 7\t1\n", 1, "'d 7' holds a blank"),
        (BEIR + "q3\td 7\t1\n", 5, "'d 7' holds a blank"),
        (BEIR + "q3\td\t1\tx\n", 5, "4 fields, must be 3"),
        (BEIR + "q3\td\tyes\n", 5, "not a whole number"),
        (BEIR + "q1\td1\t0\n", 5, "document 'd1' is judged again"),
        ("q1 d1 1\n", 1, "3 fields, must be 4"),
    ],
}


@pytest.mark.parametrize(
    ("read", "text", "line", "rule"), [(read, *case) for read, cases in BROKEN.items() for case in cases]
)
def test_a_broken_line_is_named_with_its_file(written, read, text, line, rule):
    path = written(text)
    with pytest.raises(FileRuleError, match=rule) as caught:
        read(path)
    assert (caught.value.path, caught.value.line) == (path, line)
    assert f"{path}:{line}: " in str(caught.value)


@pytest.mark.parametrize(
    "text", [BEIR, BEIR.replace("\t", " "), BEIR.replace("\n", "\r\n"), gzip.compress(BEIR.encode(), mtime=0)]
)
def test_beirs_three_columns_are_judgements(written, text):
    frame = read_qrels(written(text))
    assert frame.to_dict("list") == {
        "query_id": ["q1", "q1", "q2"],
        "doc_id": ["d1", "d2", "d1"],
        "relevance": [1, 0, 2],
    }


def test_what_unpacks_without_end_is_refused(written, monkeypatch):
    monkeypatch.setattr("llmlab.retrieval.trec.LARGEST_UNPACKED_BYTES", 1_000)
    with pytest.raises(FileRuleError, match="unpacks to more than 1,000 bytes"):
        read_run(written(gzip.compress(RUN.encode() * 100, mtime=0)))


def test_a_judgement_given_twice_is_kept_once(written):
    assert read_qrels(written("q 0 d 1\nq 0 e 0\nq 0 d 1\n"))["doc_id"].tolist() == ["d", "e"]


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(FileRuleError, match="cannot be read"):
            read_run(path)


def test_an_empty_file_is_an_empty_table(written):
    frame = read_run(written(""))
    assert list(frame.columns) == ["query_id", "doc_id", "score"]
    assert len(frame) == 0
    assert evaluate({"q": {"d": 1}}, frame, measures=["RR"]).mean("RR") == 0.0


def test_ties_stand_by_descending_document_id_and_the_rank_is_ignored(written):
    path = written("q Q0 a 1 1.0 t\nq Q0 top 9 5 t\nq Q0 c 2 1.0 t\nq Q0 b 3 1.0 t\np Q0 a 1 1.0 t\n")
    for place, doc_id in enumerate(("top", "c", "b", "a"), start=1):
        assert evaluate({"q": {doc_id: 1}}, path, measures=["RR"]).mean("RR") == 1 / place


def test_scores_that_differ_beyond_single_precision_are_ties_as_in_trec_eval(written):
    path = written("q Q0 a 1 0.950339000001 t\nq Q0 b 2 0.950339000000 t\n")
    with path.open() as file:
        oracle = pytrec_eval.RelevanceEvaluator({"q": {"a": 1}}, {"recip_rank"}).evaluate(pytrec_eval.parse_run(file))
    assert evaluate({"q": {"a": 1}}, path, measures=["RR"]).mean("RR") == oracle["q"]["recip_rank"] == 0.5


def test_a_document_listed_twice_counts_at_its_better_score(written):
    path = written("q Q0 a 1 1.0 t\nq Q0 b 2 2.0 t\nq Q0 a 3 3.0 t\n")
    found = evaluate({"q": {"a": 1}}, path, measures=["RR", "P@2"])
    assert (found.mean("RR"), found.mean("P@2"), found.n_repeated_documents) == (1.0, 0.5, 1)


DOCS = st.text(st.sampled_from("aZ9é漢😀-"), min_size=1, max_size=4)
RUNS = st.dictionaries(
    st.sampled_from(["q1", "q2"]),
    st.dictionaries(DOCS, st.sampled_from([0.1, 0.2, 1e-8, -5.0]), min_size=1),
    min_size=1,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(RUNS, st.data())
def test_files_are_judged_as_pytrec_eval_judges_them(tmp_path_factory, run, data):
    """Ids of many scripts, ties everywhere, lines in any order: by the bytes of the ids, as strcmp does."""
    docs = sorted({doc for found in run.values() for doc in found})
    qrels = {query: {doc: data.draw(st.integers(0, 2)) for doc in docs} for query in run}
    lines = [f"{query} Q0 {doc} 0 {score!r} t" for query, found in run.items() for doc, score in found.items()]
    folder = tmp_path_factory.mktemp("trec")
    (folder / "run").write_text("\n".join(data.draw(st.permutations(lines))), encoding="utf-8")
    judged = [f"{query} 0 {doc} {rel}" for query, found in qrels.items() for doc, rel in found.items()]
    (folder / "qrels").write_text("\n".join(judged), encoding="utf-8")
    found = evaluate(folder / "qrels", folder / "run", measures=["nDCG", "RR", "AP"])
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg", "recip_rank", "map"}).evaluate(run)
    expected = [[theirs[query][name] for name in ("ndcg", "recip_rank", "map")] for query in found.query_ids]
    np.testing.assert_allclose(found.values, np.reshape(expected, found.values.shape), atol=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(RUNS, st.data())
def test_means_over_a_file_of_judgements_are_ir_measures_and_trec_evals(tmp_path_factory, run, data):
    """Topics with judgements but no relevant document count 0, and so do topics that the run does not name."""
    docs = sorted({doc for found in run.values() for doc in found})
    topics = [*run, "nothing is relevant", "the run names it not"]
    grades = {topic: data.draw(st.integers(0, 2)) for topic in topics} | {"nothing is relevant": 0}
    qrels = {
        topic.replace(" ", "-"): {doc: min(grade, i) for i, doc in enumerate(docs)} for topic, grade in grades.items()
    }
    path = tmp_path_factory.mktemp("trec") / "qrels"
    judged = [f"{query} 0 {doc} {rel}" for query, of in qrels.items() for doc, rel in of.items()]
    path.write_text("\n".join(judged), encoding="utf-8")
    ordered = {
        query: dict(sorted(found.items(), key=lambda one: one[0].encode(), reverse=True))
        for query, found in run.items()
    }
    found = evaluate(path, ordered, measures=["nDCG", "AP"])
    oracle = ir_measures.calc_aggregate([ir_measures.nDCG, ir_measures.AP], qrels, run)
    means = [found.mean("nDCG"), found.mean("AP")]
    assert means == pytest.approx([oracle[ir_measures.nDCG], oracle[ir_measures.AP]], abs=1e-9)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg"}).evaluate(run)
    total = sum(values["ndcg"] for values in theirs.values())
    assert found.mean("nDCG") == pytest.approx(total / len(qrels), abs=1e-9)
    n = sum(max(of.values()) > 0 for of in qrels.values())
    assert (found.n_queries, found.n_other) == (len(qrels), n)
    if n:
        assert found.other_mean("nDCG") == pytest.approx(total / n, abs=1e-9)
        assert found.other_mean("nDCG") == pytest.approx(evaluate(qrels, ordered, measures=["nDCG"]).mean("nDCG"))
