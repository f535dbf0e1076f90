"""`llmlab retrieval`: what it prints, and that bad input is one line and exit code 2."""

import gzip
import json
from functools import partial
from pathlib import Path

import pytest

from tests.cli.calling import llmlab
from tests.real_data import real

QRELS = "q1 0 a 1\nq2 0 b 1\nq2 0 c 1\nq3 0 d 1\nq4 0 e 0\n"
RUN = "q1 Q0 a 1 2 r\nq1 Q0 x 2 1 r\nq2 Q0 y 1 2 r\nq2 Q0 b 2 1 r\n"
WORSE = "q1 Q0 x 1 2 r\nq1 Q0 a 2 1 r\n"


@pytest.fixture
def files(tmp_path):
    for name, text in {"qrels": QRELS, "run": RUN, "worse": WORSE, "groups": "q1 A\nq2 A\nq3 B\nq4 B\n"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return {path.stem: str(path) for path in tmp_path.iterdir()}


called = partial(llmlab, "retrieval")


def test_json_holds_value_interval_and_number_of_queries_of_each_metric(files):
    result = called(files["qrels"], files["run"], "-m", "RR", "-m", "P@2", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["metrics"]["RR"]["value"] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert found["metrics"]["RR"]["n_queries"] == 4
    assert found["metrics"]["RR"]["with_relevant"] == {"value": pytest.approx(0.5), "n_queries": 3}
    low, high = found["metrics"]["P@2"]["ci"]
    assert low < found["metrics"]["P@2"]["value"] < high
    counts = "used missing empty without_relevant unjudged repeated_documents repeated_judgements"
    assert found["queries"] == dict(zip(counts.split(), (4, 1, 0, 1, 0, 0, 0), strict=True))
    assert "comparisons" not in found
    assert "per_query" not in found


def test_a_baseline_adds_a_comparison_for_each_metric(files):
    result = called(files["qrels"], files["run"], "-m", "RR", "-m", "R@2", "--baseline", files["worse"], "--json")
    first, second = json.loads(result.stdout)["comparisons"]
    keys = "metric baseline candidate category difference se df ci p_value p_adjusted n_pairs n_clusters method verdict"
    assert set(first) >= set(keys.split())
    assert (first["metric"], second["metric"]) == ("RR", "R@2")
    assert (first["candidate"], first["baseline"], first["category"], first["verdict"]) == ("run", "worse", None, None)
    assert first["difference"] == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)
    assert first["p_adjusted"] >= first["p_value"]
    assert first["n_pairs"] == first["n_clusters"] == 4


def test_clusters_are_read_from_lines_of_query_and_group(files, tmp_path):
    header = tmp_path / "groups.csv"
    header.write_text("query_id,article\nq1,A\nq2,A\nq3,B\nq4,B\n")
    for path in (files["groups"], str(header)):
        options = ["-m", "RR", "--cluster", path, "--baseline", files["worse"], "--json"]
        found = json.loads(called(files["qrels"], files["run"], *options).stdout)
        assert found["comparisons"][0]["n_clusters"] == 2


def test_values_per_query_come_as_json_and_as_tab_separated_lines(files):
    arguments = [files["qrels"], files["run"], "-m", "RR", "--per-query"]
    assert json.loads(called(*arguments, "--json").stdout)["per_query"] == {
        name: {"RR": value} for name, value in (("q1", 1.0), ("q2", 0.5), ("q3", 0.0), ("q4", 0.0))
    }
    text = called(*arguments).stdout
    assert text.startswith("query_id\tRR\nq1\t1.000000\nq2\t0.500000\nq3\t0.000000\nq4\t0.000000\n")


def test_the_table_says_what_was_left_out(files):
    text = called(files["qrels"], files["run"], "--baseline", files["worse"]).stdout
    assert "nDCG@10" in text
    assert "4 queries; 1 missing from the run, score 0; 1 without a relevant document, score 0" in text
    assert "Baseline worse" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-m", "P@0"], "k == 0 in P@0, must be >= 1"),
        (["-m", "MAP"], "measure 'MAP' is unknown"),
        (["--baseline", "none.txt"], "none.txt: cannot be read"),
        (["--cluster", "none.txt"], "none.txt: cannot be read"),
        (["--level", "1.5"], "level == 1.5"),
    ],
)
def test_bad_options_give_one_line_and_exit_code_2(files, options, says):
    result = called(files["qrels"], files["run"], *options)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not result.stdout


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("run", "q1 Q0 a 1 high r\n", "run.txt:1: score 'high' is not a finite number"),
        ("qrels", "q1 0 a\n", "qrels.txt:1: 3 fields, must be 4"),
        ("qrels", "q1 0 a 0\n", "no query has a relevant document"),
        ("groups", "q1 A\nq2 A\n", "2 of 4 queries have no cluster, such as 'q3'"),
        ("groups", "q1 A\nq1 B\n", "groups.txt:2: query 'q1' has a second group"),
        ("groups", "q1\n", "groups.txt:1: 1 field, must be 2"),
    ],
)
def test_a_broken_file_gives_one_line_and_exit_code_2(files, name, text, says):
    Path(files[name]).write_text(text)
    result = called(files["qrels"], files["run"], "--cluster", files["groups"])
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_is_not_compared_with_itself(files):
    assert called(files["qrels"], files["run"], "--baseline", files["run"]).exit_code == 2


def test_xquad_by_article_gives_the_known_figures(tmp_path):
    """METHODS: difference .133373 with SE .0082072, CR2 by article .0121848."""
    queries = map(json.loads, real("xquad_en_queries.jsonl").read_text(encoding="utf-8").splitlines())
    groups = tmp_path / "articles.tsv"
    groups.write_text("".join(f"{query['query_id']}\t{query['article']}\n" for query in queries))
    qrels, run, base = (str(real(f"xquad_en_{name}.txt")) for name in ("qrels_binary", "run_bm25", "run_overlap"))
    asked = (qrels, run, "-m", "RR", "--baseline", base, "--json")
    alone, found = (json.loads(called(*asked, *more).stdout) for more in ((), ("--cluster", str(groups))))
    measured, row = found["metrics"]["RR"], found["comparisons"][0]
    assert alone["comparisons"][0]["se"] == pytest.approx(0.0082072, abs=5e-7)
    assert [measured["value"], row["difference"], row["se"]] == pytest.approx([0.950339, 0.133373, 0.0121848], abs=5e-7)
    assert measured["n_queries"] == 1190


ODD = "q1 Q0 a 1 2.5 r\nq1 Q0 b 2 1.5 r\nq2 Q0 b 1 3 r\nq3 Q0 x 1 1 r\n"


@pytest.mark.parametrize(
    "text",
    [
        ODD.replace(" ", "\t"),
        ODD.replace("Q0 a 1", "Q0\ta 1"),
        ODD.replace("\n", "\r\n"),
        ODD.rstrip(),
        "\ufeff" + ODD,
        ODD.replace("2.5", "2.5e+0").replace("1.5", "15E-1"),
        ODD.replace("2.5", "+2.5"),
        ODD.replace(" r\n", " r \n"),
        "\n" + ODD.replace("\n", "\n\n"),
        ODD.replace("q1 ", "  q1   "),
        ODD.replace(" 1.5 r", " 1.5 r x y"),
        ODD.replace(" r\n", " r and more\n"),
        gzip.compress(ODD.encode(), mtime=0),
    ],
)
def test_the_same_run_gives_the_same_figures_however_it_is_written(files, text):
    """Tabs, CRLF, no last line end, a byte order mark, 15E-1, blanks at line ends, empty lines, more words, gzip."""
    Path(files["run"]).write_text(ODD)
    plain = called(files["qrels"], files["run"], "--json", "--per-query").stdout
    Path(files["run"]).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert called(files["qrels"], files["run"], "--json", "--per-query").stdout == plain


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(ODD.encode(), mtime=0)[:-9], "run.txt: is not a whole gzip file"),
        (b"\x1f\x8bnot gzip", "run.txt: is not a whole gzip file"),
        (b"\x1f\x8b", "run.txt: is not a whole gzip file"),
        (ODD.replace(" 1.5 r", " 1.5").encode(), "run.txt:2: 5 fields, must be 6"),
        (ODD.replace("1.5", "NaN").encode(), "run.txt:2: score 'NaN' is not a finite number"),
        (b"q1 0 a 1\n", "run.txt:1: 4 fields, must be 6: query_id Q0 doc_id rank score tag, apart by spaces or tabs"),
        (b"q1 0 a 1\n", "(are these judgements? The judgements come first, then the run)"),
        (ODD.encode("utf-16"), "run.txt:1: not UTF-8 text"),
    ],
)
def test_a_file_that_is_something_else_is_named_with_its_line(files, content, says):
    Path(files["run"]).write_bytes(content)
    result = called(files["qrels"], files["run"])
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize(("asked", "ours"), [("MAP", "AP"), ("mrr", "RR"), ("ndcg@10", "nDCG"), ("Recall@5", "R")])
def test_measures_are_known_by_the_names_that_other_tools_give_them(files, asked, ours):
    assert f"meant {ours}?" in called(files["qrels"], files["run"], "-m", asked).stderr


def test_intervals_of_measures_stay_between_0_and_1(files):
    found = json.loads(called(files["qrels"], files["run"], "--json").stdout)["metrics"]
    assert all(0 <= low <= measure["value"] <= high <= 1 for measure in found.values() for low, high in [measure["ci"]])
