"""The verdict in one vocabulary: its word, the colour of its chip, its exit code, and what `require` asks of it."""

from __future__ import annotations

from enum import StrEnum

from llmlab.base.cells import Chip
from llmlab.base.errors import GateError


class Verdict(StrEnum):
    """What was decided. It equals its text, which is what files and tags hold.

    >>> Verdict("FAIL").exit_code, Verdict.FAIL == "FAIL", str(Verdict.FAIL.chip)
    (1, True, 'FAIL')
    """

    PASS = "PASS"  # noqa: S105  # no password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"  # not enough evidence
    INVALID = "INVALID"  # no verdict can rest on these results
    BROKEN = "BROKEN"  # a notebook that ended for a reason other than its gate
    NOT_JUDGED = "NOT JUDGED"  # a condition that wants a baseline where there is none

    @property
    def chip(self) -> Chip:
        """The word in its colour."""
        return Chip(self.value, _CHIPS.get(self, "unsure"))

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive, 2 where nothing was decided."""
        return _EXIT_CODES.get(self, 2)

    def __repr__(self) -> str:
        return repr(self.value)


_CHIPS = {Verdict.PASS: "good", Verdict.FAIL: "bad", Verdict.INVALID: "bad", Verdict.BROKEN: "bad"}
_EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 3}


def required(verdict: Verdict, how: str, *, sentence: str, decision: object) -> None:
    """Nothing with `how` "none", or where the verdict is PASS; with "pass" a GateError that carries the decision."""
    if how not in ("none", "pass"):
        raise ValueError(f"require == {how!r}, must be 'none' or 'pass'")
    if how == "pass" and verdict is not Verdict.PASS:
        raise GateError(f"{verdict}: {sentence}", decision=decision)
