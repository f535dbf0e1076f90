"""A passport is bound to a judge, keeps its limits or says which it breaks, and ends."""

import json
from datetime import UTC, datetime

import pydantic
import pytest

from llmlab.base.errors import FileRuleError
from llmlab.gate.passport import JudgePassport, Limit, Measured

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def passport(**changes):
    return JudgePassport(
        **{
            "judge_digest": "a" * 64,
            "labels_digest": "b" * 64,
            "metrics": {"kappa": Measured(value=0.7, low=0.55, high=0.8, n=200), "flip_rate": Measured(value=0.05)},
            "limits": {"kappa": Limit(at_least=0.6), "flip_rate": Limit(at_most=0.1)},
            "created_at": "2026-01-01T00:00:00+00:00",
            "expires_at": "2026-12-31T00:00:00Z",
            **changes,
        }
    )


def test_it_holds_for_its_judge_while_it_lasts():
    assert passport().valid(NOW, "a" * 64)
    for now, judge in ((NOW, "c" * 64), (NOW.replace(year=2027), "a" * 64), (NOW.replace(year=2025), "a" * 64)):
        assert len(passport().valid(now, judge).failures) == 1


def test_every_broken_limit_is_explained_and_an_undefined_figure_breaks_its_own():
    limits = {"kappa": Limit(at_least=0.6, by="interval"), "flip_rate": Limit(at_most=0.01), "length": Limit(at_most=1)}
    assert passport(limits=limits).valid(NOW, "a" * 64).failures == (
        "the worse end of the interval of kappa is 0.55, must be at least 0.6",
        "flip_rate is 0.05, must be at most 0.01",
        "length was not measured",
    )
    undefined = passport(metrics={"kappa": Measured(value=None, note="one class only")})
    assert undefined.valid(NOW, "a" * 64).failures[0] == "kappa is undefined (one class only)"
    assert "good from 2026-01-01" in str(passport())
    assert "it does not hold, kappa is undefined (one class only)" in str(undefined)


def test_it_comes_back_equal_and_is_strict(tmp_path):
    assert JudgePassport.load(passport().save(tmp_path / "p.json")) == passport()
    with pytest.raises(FileRuleError, match=r"passport\.json"):
        JudgePassport.from_json(json.dumps({**json.loads(passport().to_json()), "expires_at": "soon"}))


def test_a_limit_has_one_bound():
    with pytest.raises(pydantic.ValidationError, match="exactly one"):
        Limit(at_least=0.1, at_most=0.2)
