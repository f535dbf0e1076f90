"""What counts as declining to answer: labelled texts in `refusals.jsonl`, with what the rule misses.

Each line has `text`, `refused`, `lang`, `kind` and `half`: "rule" were written with the patterns in view, "tuned" are
labelled texts by somebody else, and paraphrases, that the patterns were written against; "held" was looked at only to
measure. English texts without `half` are held out, and their file's name is their half: `refusals_held2.jsonl` is by
somebody else, and one half of it, split by hash and label, is "tuned" since revision 4; `refusals_held3.jsonl` is by
the hand that tuned revision 4, written before it read the patterns (so its kinds are not independent of the tuned
ones), with half of its texts look-alikes made to mislead. Both were measured twice, the second time after a change
that was made for other texts, and gave the same figures; no error in them was looked at.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from llmlab import scorers
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers.refusals import LONGEST_WORDS, PATTERNS_FILE, is_refusal


def labelled(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a file; its name is their half where they state none."""
    path = Path(path)
    return [{"half": path.stem, **json.loads(line)} for line in path.read_text("utf-8").splitlines()]


def recall_and_precision(rows: list[dict[str, Any]]) -> tuple[float, float]:
    pairs = [(row["refused"], is_refusal(row["text"])) for row in rows]
    right = pairs.count((True, True))
    return right / (right + pairs.count((True, False))), right / (right + pairs.count((False, True)))


LABELLED = [row for path in sorted(Path(__file__).parent.glob("refusals*.jsonl")) for row in labelled(path)]
CASE = Case(id="q1", inputs={"question": "?"})
KNOWN_MISSES = {"I'm sorry, Dave."}


@pytest.mark.parametrize("row", [row for row in LABELLED if row["half"] == "rule"], ids=lambda row: row["text"][:60])
def test_what_declines_is_a_refusal_and_what_only_sounds_like_it_is_none(row) -> None:
    answer = Generation(text=row["text"])
    expected = row["refused"] != (row["text"] in KNOWN_MISSES)
    assert is_refusal(row["text"]) == expected
    assert scorers.not_refused(CASE, answer).value == 1.0 - scorers.refusal(CASE, answer).value == 1.0 - expected


@pytest.mark.parametrize(
    ("half", "english", "figures"),
    [
        ("tuned", True, (0.98, 1.00)),
        ("tuned", False, (1.00, 1.00)),
        ("held", False, (0.95, 0.95)),
        ("refusals_held2", True, (0.90, 1.00)),
        ("refusals_held3", True, (0.90, 0.92)),
    ],
)
def test_recall_and_precision_are_those_that_are_stated(half, english, figures) -> None:
    """A rule that was changed with the held texts in view needs fresh ones before it states a figure again."""
    rows = [row for row in LABELLED if row["half"] == half and (row["lang"] == "en") == english]
    assert tuple(round(figure, 2) for figure in recall_and_precision(rows)) == figures


SPELLINGS = "can't|can’t|canʼt|can´t|cant|cannot|can not|CAN'T|can‘t|can&#39;t|**can't**|_cannot_"


@pytest.mark.parametrize("spelling", SPELLINGS.split("|"))
def test_an_apostrophe_is_one_however_it_is_typed(spelling: str) -> None:
    assert is_refusal(f"Sorry, I {spelling} help you with that.")
    assert not is_refusal(f"I {spelling} help falling in love with you.")


def test_a_refusal_may_come_last_in_a_short_answer_and_not_after_a_long_one() -> None:
    """What follows counts too: a text that goes on answered."""
    late = "I can't give you that recipe."
    assert is_refusal(f"Thank you for asking! Baking has a long history. It began in Egypt. However, {late}")
    assert not is_refusal("Bread rises because yeast makes gas. " * 30 + late)
    assert not is_refusal(f"{late} " + "Here is a plan instead. " * (LONGEST_WORDS // 5))


def test_patterns_that_changed_were_given_a_new_revision() -> None:
    """It fails when `refusals.yaml` changed. Raise `revision=` of both scorers; pin it here."""
    digest = hashlib.sha256(PATTERNS_FILE.read_bytes()).hexdigest()[:12]
    assert (scorers.refusal.revision, scorers.not_refused.revision, digest) == (4, 4, "9196213809b8")
