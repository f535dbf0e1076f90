"""A receipt holds every digest and number, comes back equal, and is confirmed by deciding again."""

import json
from dataclasses import replace

import pytest

from llmlab.base.errors import FileRuleError
from llmlab.gate import Receipt
from llmlab.gate.decision import ci_facts
from llmlab.results.results import Results
from tests.gate.gating import decided, no_shown_harm, noisy, policy, superior

RULES = policy(goal=superior(), guards=[no_shown_harm()], floors=[{"metric": "right", "at_least": 0.3}])


@pytest.fixture(scope="module")
def results():
    return replace(noisy(0.1), index_digests={"v2": "i" * 64}, provenance={"endpoints": {"v2": "http://here/v1"}})


@pytest.fixture(scope="module")
def receipt(results):
    return decided(RULES, results).receipt()


def test_it_names_everything_that_was_judged(results, receipt):
    assert receipt.verdict == "PASS"
    assert receipt.bundle_digest == results.bundles["v2"].digest
    assert receipt.baseline_digest == results.bundles["v1"].digest
    assert receipt.golden_digest == results.golden_digest
    assert receipt.policy_digest == RULES.digest
    assert receipt.results_digest == results.digest
    assert (receipt.index_digest, receipt.endpoint) == ("i" * 64, "http://here/v1")
    assert [c.kind for c in receipt.conditions] == ["goal", "guard", "floor"]
    assert {"python", "numpy", "scipy"} < set(receipt.versions)


def test_it_comes_back_equal_and_is_strict(receipt, tmp_path):
    path = receipt.save(tmp_path / "receipt.json")
    assert Receipt.load(path) == receipt
    assert Receipt.load(path).digest == receipt.digest
    for change in ({"verdict": "FAIL"}, {"more": 1}, {"n_cases": "200"}):  # the rest: `base/test_documents`
        with pytest.raises(FileRuleError, match=r"receipt\.json"):
            Receipt.from_json(json.dumps({**json.loads(receipt.to_json()), **change}))


def test_deciding_again_from_the_logged_file_confirms_it(results, receipt, tmp_path):
    again = Results.from_parquet(results.to_parquet(tmp_path / "r.parquet"))
    assert receipt.differences(decided(RULES, again, now=receipt.decided_at())) == ()


def test_deciding_again_finds_a_number_that_was_changed(results, receipt):
    forged = receipt.model_copy(update={"conditions": (receipt.conditions[0].model_copy(update={"low": 0.5}),)})
    assert forged.differences(decided(RULES, results)) == ("conditions",)
    other = replace(results, frame=results.frame.assign(right=0.5))
    assert set(receipt.differences(decided(RULES, other))) == {"verdict", "results_digest", "conditions"}


def test_ci_facts_are_read_from_the_systems_own_variables():
    github = {"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "17", "GITHUB_TOKEN": "secret"}
    assert ci_facts(github) == {"system": "GITHUB_ACTIONS", "GITHUB_RUN_ID": "17"}
    assert ci_facts({"CI": "true"}) == {"system": "CI"}
    assert ci_facts({}) == {}


def test_the_digest_of_results_ignores_the_order_of_rows_and_nothing_else(results):
    shuffled = replace(results, frame=results.frame.sample(frac=1, random_state=1))
    changed = results.frame.copy()
    changed.loc[0, "right"] += 0.001
    assert shuffled.digest == results.digest
    assert replace(results, frame=changed).digest != results.digest
