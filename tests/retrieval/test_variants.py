"""Retrieval measures of a run's variants and of indexes for every k: worked values, pairs, and what is left out."""

from dataclasses import replace

import pytest

from llmlab.base.errors import DataError
from llmlab.bundle.bundle import Bundle, CorpusRef, RetrievalConfig
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.results import Results
from llmlab.retrieval.metrics import evaluate
from llmlab.retrieval.variants import by_k, of_results

CASES = [
    Case(id="q1", inputs={"question": "alpha beta"}, relevant={"a": 2, "b": 1}),
    Case(id="q2", inputs={"question": "gamma"}, relevant={"c": 1}),
    Case(id="q3", inputs={"question": "delta"}, relevant={}),
]


def run(fetched, *, cases=CASES):
    """Results whose variants fetched {variant: {case: [ids per repeat]}}."""
    answers = [
        Generation(variant=variant, case_id=case_id, repeat=i, text="t", retrieved=tuple(ids))
        for variant, of_case in fetched.items()
        for case_id, repeats in of_case.items()
        for i, ids in enumerate(repeats)
    ]
    bundles = {name: Bundle.from_prompt(name, model="offline/extractive-1") for name in fetched}
    return Results.from_generations(answers, golden=GoldenSet(tuple(cases)), bundles=bundles)


def test_measures_are_those_of_evaluate_and_cases_without_judgements_are_left_out():
    """FAULTS 45 and 48: no judgement is undefined and counted, an empty result scores 0."""
    found = of_results(run({"v1": {"q1": [["x", "a"]], "q2": [[]], "q3": [["a"]]}}), ["P@5", "R@5", "RR", "nDCG@5"])
    oracle = evaluate({c.id: c.relevant for c in CASES}, {"q1": ["x", "a"], "q2": []}, measures=found.measures)
    for measure in found.measures:
        assert found.estimate("v1", measure).value == oracle.mean(measure)
    assert found.n_without_relevant == 1
    assert found.estimate("v1", "P@5").value == pytest.approx(0.1)


def test_repeats_are_averaged_and_never_counted_as_cases():
    found = of_results(run({"v1": {"q1": [["a"], ["x"]], "q2": [["c"], ["c"]]}}), ["RR"])
    assert found.table("RR").values[:, 0].tolist() == [0.5, 1.0]
    assert found.estimate("v1", "RR").n == 2


def test_variants_are_compared_in_pairs_by_cluster():
    """20 clusters of two cases that succeed and fail together: half the evidence of 40 cases."""
    cases = [
        Case(id=f"q{i}", inputs={"question": "?"}, relevant={"a": 1}, cluster=f"c{i // 2}", tags=("t",))
        for i in range(40)
    ]
    fetched = {
        "v1": {case.id: [["x"]] for case in cases},
        "v2": {case.id: [["a"] if i // 2 % 2 else ["x"]] for i, case in enumerate(cases)},
    }
    measured = of_results(run(fetched, cases=cases), ["RR", "R@1"])
    row = measured.compare("v1").row("RR")
    assert (row.difference.value, row.n_clusters, row.reading) == (0.5, 20, "better")
    assert row.p_adjusted == pytest.approx(2 * row.difference.p_value)
    assert measured.compare("v1", by="tags", measures=["RR"]).row("RR", category="t").difference.value == 0.5
    assert measured.compare("v1", measures=["RR"], margin=0.1).row("RR").verdict == "PASS"


def test_a_row_that_failed_before_it_retrieved_is_unknown_and_one_that_retrieved_counts():
    results = run({"v1": {"q1": [["a"]], "q2": [["c"]]}})
    failed = results.frame.assign(status="error")
    assert of_results(replace(results, frame=failed), ["RR"]).n_unknown == 0
    gone = failed.assign(retrieved=[("a",), ()])
    found = of_results(replace(results, frame=gone), ["RR"])
    assert found.n_unknown == 1
    assert (found.estimate("v1", "RR").value, found.estimate("v1", "RR").n) == (1.0, 1)
    assert "1 answer without a record" in found._sentence()


def test_the_worst_cases_name_what_should_have_been_fetched():
    worst = of_results(run({"v1": {"q1": [["x", "b"]], "q2": [["c"]]}}), ["R@5"]).worst(1, variant="v1", measure="R@5")
    assert worst.case_ids == ("q1",)
    assert worst.rows[0]["relevant, not fetched"] == "a"
    assert worst.rows[0]["fetched"] == "x, b"


def test_unjudged_documents_are_told():
    found = of_results(run({"v1": {"q1": [["x", "a"]], "q2": [["c"]]}}), ["P@2"])
    assert found._sentence().endswith("Nobody judged 33% of v1's documents (P@2); they count as not relevant.")


@pytest.fixture
def folder(tmp_path):
    """A corpus of four documents, one of which comes in several chunks."""
    texts = {"a": "alpha one. " * 30, "b": "alpha beta", "c": "gamma words", "d": "delta words"}
    rows = [f'{{"id": "{name}", "text": "{text}"}}\n' for name, text in texts.items()]
    (tmp_path / "d.jsonl").write_text("".join(rows))
    return tmp_path


@pytest.mark.parametrize("extra", [{}, {"chunking": {"size_words": 10, "overlap_words": 0}}])
def test_by_k_is_what_a_run_with_that_k_would_score(folder, extra):
    """Also where one document comes back in several chunks."""
    golden = GoldenSet(tuple(CASES[:2]))
    config = RetrievalConfig.model_validate({"corpus": CorpusRef(jsonl="d.jsonl"), "k": 2, **extra})
    swept = by_k({"v1": config}, golden, k=4, base=folder, measures=("P", "R", "nDCG"))
    for k in (1, 2, 4):
        single = by_k({"v1": config.model_copy(update={"k": k})}, golden, k=k, base=folder, measures=("P", "R", "nDCG"))
        for name in ("P", "R", "nDCG"):
            assert swept.estimate("v1", f"{name}@{k}").value == single.estimate("v1", f"{name}@{k}").value
    recall = [swept.estimate("v1", f"R@{k}").value for k in range(1, 5)]
    assert recall == sorted(recall)
    assert swept.k_used == {"v1": 2}


def test_impossible_requests_are_refused(folder):
    """FAULTS 47: k <= 0 is refused; a k beyond the depth is not, and P@k divides by k."""
    golden = GoldenSet(tuple(CASES[:2]))
    config = RetrievalConfig(corpus=CorpusRef(jsonl="d.jsonl"))
    with pytest.raises(ValueError, match="k == 0"):
        by_k({"v1": config}, golden, k=0, base=folder)
    with pytest.raises(ValueError, match="retrieves nothing"):
        by_k({"v1": Bundle.from_prompt("x", model="offline/extractive-1")}, golden)
    with pytest.raises(DataError, match="names a relevant document"):
        of_results(run({"v1": {"q3": [["a"]]}}, cases=CASES[2:]))
    with pytest.raises(ValueError, match="was not measured"):
        of_results(run({"v1": {"q1": [["a"]]}})).estimate("v1", "AP")
    assert by_k({"v1": config}, golden, k=50, base=folder).estimate("v1", "P@50").value == pytest.approx(3 / 100)


def test_a_relevant_document_that_is_nowhere_is_refused_with_the_one_that_is_meant(tmp_path):
    """Nothing could ever fetch it: the conclusion would turn round in silence."""
    (tmp_path / "refunds.md").write_text("# Refunds\n\nRefunds take ten days.")
    (tmp_path / "returns.md").write_text("# Returns\n\nReturns are free.")
    config = RetrievalConfig.model_validate({"corpus": {"folder": "."}, "k": 1})
    cases = [
        Case(id=f"q{i}", inputs={"question": "Refunds?"}, relevant={name: 1})
        for i, name in enumerate(("refunds.md", "refund.md"))
    ]
    with pytest.raises(DataError, match=r"'q1' names 'refund\.md' .* did you mean 'refunds\.md'\?"):
        by_k({"v": config}, GoldenSet(tuple(cases)), base=tmp_path)
