"""A judged metric decides only with the judge's own valid passport."""

from datetime import UTC, datetime

import pytest

import llmlab as ll
from llmlab.gate import GatePolicy
from llmlab.gate.passport import Limit
from tests.judge.judged import MODEL, judged, label

NOW = datetime(2026, 11, 21, tzinfo=UTC)
POLICY = """
baseline: production
goal: {metric: correctness, rule: superior, min_effect: 0.1}
"""


@pytest.fixture
def arms(tmp_path):
    judge = ll.judge.Judge.pointwise("correctness", model=MODEL)
    texts = {"v1": [f"{i % 3 + 1} one {i}" for i in range(60)], "v2": [f"{i % 3 + 3} two {i}" for i in range(60)]}
    labels = ll.judge.Labels(
        tuple(label(f"q{i}", text, int(text[0])) for name in texts for i, text in enumerate(texts[name]))
    )
    path = tmp_path / "gate.yaml"
    path.write_text(POLICY)
    return judge, judged(texts, judge, tmp_path), labels, GatePolicy.load(path)


def test_without_a_passport_the_gate_is_invalid(arms):
    _, results, _, policy = arms
    decision = policy.decide(results, baseline="v1", candidate="v2", now=NOW)
    assert decision.word == "INVALID"
    assert "passport" in str(decision)


def test_the_judges_own_passport_is_accepted_and_anothers_is_not(arms):
    """Bound to the digest of the judge's bundle."""
    judge, results, labels, policy = arms
    limits = {"kappa": Limit(at_least=0.5)}
    passport = ll.judge.passport(ll.judge.calibrate(labels, results), now=NOW, limits=limits)
    given = policy.decide(results, baseline="v1", candidate="v2", now=NOW, passports=[passport])
    assert "passport" not in str(given)
    stranger = passport.model_copy(update={"judge_digest": "f" * 64})
    refused = policy.decide(results, baseline="v1", candidate="v2", now=NOW, passports=[stranger])
    assert refused.word == "INVALID"
    assert ll.judge.verdict(passport, judge, now=NOW).word == "PASS"
