"""One vocabulary for what was decided: words, colours, exit codes, and what is required."""

import json

import pytest

from llmlab.base.errors import GateError
from llmlab.base.verdict import Verdict
from llmlab.display.shown import Conclusion


@pytest.mark.parametrize(
    ("word", "code", "colour"),
    [
        ("PASS", 0, "good"),
        ("FAIL", 1, "bad"),
        ("INCONCLUSIVE", 3, "unsure"),
        ("INVALID", 2, "bad"),
        ("BROKEN", 2, "bad"),
        ("NOT JUDGED", 2, "unsure"),
    ],
)
def test_a_verdict_equals_its_text_and_knows_its_exit_code_and_colour(word, code, colour):
    verdict = Verdict(word)
    assert (verdict, verdict.exit_code, verdict.chip.kind, type(verdict.chip.word)) == (word, code, colour, str)
    assert json.loads(json.dumps(verdict)) == word == f"{verdict}"


def test_every_verdict_is_known_and_nothing_else():
    assert len(Verdict) == 6
    with pytest.raises(ValueError, match="pass"):
        Verdict("pass")


@pytest.mark.parametrize("word", Verdict)
def test_only_a_pass_satisfies_a_requirement(word):
    conclusion = Conclusion(word=word, sentence="so it is")
    assert conclusion.require("none") is conclusion
    if word is Verdict.PASS:
        assert conclusion.require("pass") is conclusion
    else:
        with pytest.raises(GateError, match=f"{word}: so it is") as caught:
            conclusion.require("pass")
        assert caught.value.decision is conclusion


def test_a_requirement_is_none_or_pass():
    with pytest.raises(ValueError, match="maybe"):
        Conclusion(word=Verdict.PASS, sentence="").require("maybe")
