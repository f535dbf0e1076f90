"""gate.yaml is read strictly: what it means is said, what it cannot mean is refused with its line."""

import pytest

from llmlab.base.errors import FileRuleError
from llmlab.base.yamlfile import to_yaml
from llmlab.gate import GatePolicy
from tests.gate.gating import policy, superior

WHOLE = """\
baseline: production
baseline_file: bundles/v1.yaml
goal: {metric: right, rule: superior, min_effect: 0.02}
guards:
  - {metric: not_refused, rule: non_inferior, margin: 0.02}
  - {metric: cost_usd, rule: no_shown_harm, margin: 10%}
floors: [{metric: right, at_least: 0.60}]
categories: {by: tags, rule: no_shown_harm, margin: 0.05}
anchor: {bundle: bundles/v1.yaml, margin: 0.05}
confidence: 0.95
unscored_at_most: 0.05
minimum_cases: 50
aggregation: majority
timeouts: missing
judge: {passport: required}
receipt_max_age: 14 days
max_baseline_age: 36 hours
index: {stale_at_most: 0.02, max_age: 2 weeks}
promotion: {clean_commit: true, ci: true, approver_not_author: true, after_alias: staging}
"""


def written(tmp_path, text):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    return path


def test_every_key_of_the_design_is_read_and_written_back(tmp_path):
    rules = GatePolicy.load(written(tmp_path, WHOLE))
    assert rules.metrics == ("right", "not_refused", "cost_usd")
    assert rules.promotion.after_alias == "staging"
    assert GatePolicy.load(written(tmp_path, rules.to_yaml())) == rules


def test_the_digest_is_of_the_rules_and_not_of_their_spelling(tmp_path):
    rules = GatePolicy.load(written(tmp_path, WHOLE))
    turned = "\n".join(reversed([line for line in WHOLE.splitlines() if not line.startswith(("guards", "  "))]))
    guards = to_yaml({"guards": rules.model_dump(mode="json")["guards"]}).replace("min_effect: 0.0", "min_effect: 0")
    assert GatePolicy.load(written(tmp_path, f"{turned}\n{guards}")).digest == rules.digest
    assert rules.model_copy(update={"confidence": 0.9}).digest != rules.digest
    assert policy(goal=superior(0.02)).digest != policy(goal=superior(0.03)).digest


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("goal: {metric: right, rule: better}", "rule"),
        ("goal: {metric: right, rule: superior, margin: 0.1}", "no margin"),
        ("goal: {metric: right, rule: non_inferior}", "needs a margin"),
        ("goal: {metric: right, rule: non_inferior, margin: 0}", "above 0"),
        ("goal: {metric: right, rule: non_inferior, margin: ten}", "such as 10%"),
        ("floors: [{metric: right, at_least: 0.5, at_most: 0.6}]", "exactly one"),
        ("floors: [{metric: right, at_least: 0.5}]\nconfidence: 95", "confidence"),
        ("floors: [{metric: right, at_least: 0.5}]\nreceipt_max_age: soon", "length of time"),
        ("floors: [{metric: right, at_least: 0.5}]\nconfidance: 0.9", "unknown key 'confidance'"),
        ("confidence: 0.9", "asks for nothing"),
        ("floors: [{metric: right, at_least: 0.5}]\ncategories: {margin: 0.1}", "need a metric"),
    ],
)
def test_what_a_policy_cannot_mean_is_refused(line, said, tmp_path):
    with pytest.raises(FileRuleError, match=r"gate\.yaml:\d") as caught:
        GatePolicy.load(written(tmp_path, f"baseline: production\n{line}\n"))
    assert said in str(caught.value)


def test_without_a_baseline_floors_are_needed(tmp_path):
    with pytest.raises(FileRuleError, match="only floors can be judged"):
        GatePolicy.load(written(tmp_path, "baseline: none\ngoal: {metric: right, rule: superior}\n"))


def test_shares_are_written_in_percent_or_not():
    percent = {"confidence": "95%", "unscored_at_most": "2.5%", "index": {"stale_at_most": "10%"}}
    plain = {"confidence": 0.95, "unscored_at_most": 0.025, "index": {"stale_at_most": 0.1}}
    assert policy(goal=superior(), **percent).digest == policy(goal=superior(), **plain).digest
