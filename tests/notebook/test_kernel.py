"""How a verdict gets out of a kernel."""

from enum import Enum
from types import SimpleNamespace

import pytest

from llmlab.base.errors import GateError
from llmlab.notebook.kernel import verdict_word


class Verdict(Enum):
    INCONCLUSIVE = "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (GateError("x", decision=SimpleNamespace(verdict="FAIL")), "FAIL"),
        (GateError("FAIL", decision=SimpleNamespace(verdict=Verdict.INCONCLUSIVE)), "INCONCLUSIVE"),
        (GateError("the gate says INVALID: no passport"), "INVALID"),
        (GateError("FAIL: 3 of 4"), "FAIL"),
        (GateError("something is not right"), "INVALID"),
    ],
)
def test_the_decision_speaks_before_the_message(error, word):
    assert verdict_word(error) == word
