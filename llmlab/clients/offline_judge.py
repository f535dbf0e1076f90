"""`offline/overlap-judge-1`: a rule-based judge that stands in for a model, so that calibration can be tried for free.

It counts how many words of the reference an answer holds, plus a little for every further word: so it favours long
answers, and the first of two that it holds to be equal. These are real faults, for calibration to find. It reads the
prompts that `judge.prompts` makes, and it follows no order in them.
"""

from __future__ import annotations

import json
import re
import time
from decimal import Decimal

from llmlab.base.errors import RequestRefusedError
from llmlab.base.words import words
from llmlab.bundle.bundle import ModelRef
from llmlab.clients.base import Generation, Request, Usage

__all__ = ["OfflineJudge"]

MODEL_ID = "overlap-judge-1"
CHARS_PER_TOKEN = 4
LENGTH_UNIT_WORDS = 60  # so many words are worth as much as LENGTH_WORTH of the reference
LENGTH_WORTH = 0.4
INDIFFERENT_BELOW = 0.08  # a smaller difference of two answers counts as none, and the first wins
_BLOCK = re.compile(
    r"^\[(Question|Reference|Passages|Answer|Answer A|Answer B) ([0-9a-f]{16})\]\n(.*?)\n\[end of \w+(?: \w)? \2\]$",
    re.MULTILINE | re.DOTALL,
)
_LEVEL = re.compile(r"^(-?[0-9]+): ", re.MULTILINE)
_TAKEN = frozenset({"temperature", "max_tokens"})


class OfflineJudge:
    """Judges for `offline/overlap-judge-1`, without network or key, at no cost. A pure function of the request."""

    fingerprint = f"offline/{MODEL_ID}"

    async def complete(self, request: Request) -> Generation:
        """The verdict as JSON. RequestRefusedError for another model or a prompt that holds nothing to judge."""
        started_s = time.perf_counter()
        if str(request.model) != self.fingerprint:
            raise RequestRefusedError(f"the offline judge serves {self.fingerprint}, not {request.model}")
        if unknown := sorted(set(request.sampling.sent) - _TAKEN):
            raise RequestRefusedError(f"{self.fingerprint} cannot take {unknown[0]}; leave it out of the bundle")
        system = " ".join(str(m["content"]) for m in request.messages if m["role"] == "system")
        prompt = str(request.messages[-1]["content"])
        text = _judged(system, prompt)
        asked = sum(len(str(message["content"])) for message in request.messages)
        usage = Usage(
            input_tokens=-(-asked // CHARS_PER_TOKEN),
            output_tokens=-(-len(text) // CHARS_PER_TOKEN),
            cached_input_tokens=0,
        )
        latency_s = time.perf_counter() - started_s
        return Generation(text=text, usage=usage, latency_s=latency_s, cost_usd=Decimal(0), served_model=MODEL_ID)

    def price_usd(self, model: ModelRef, usage: Usage) -> Decimal | None:
        """Zero, for this client's model; None (unknown) for any other."""
        return Decimal(0) if str(model) == self.fingerprint else None


def _judged(system: str, prompt: str) -> str:
    shown: dict[str, str] = {}
    for title, _, text in _BLOCK.findall(prompt):
        shown.setdefault(title, text)
    reference = shown.get("Reference") or shown.get("Passages") or shown.get("Question", "")
    if "Answer" in shown:
        levels = [int(level) for level in _LEVEL.findall(system)]
        if levels:
            return _graded(shown["Answer"], reference, levels)
    if "Answer A" in shown and "Answer B" in shown:
        one, other = (_merit(shown[name], reference) for name in ("Answer A", "Answer B"))
        winner = "B" if other - one > INDIFFERENT_BELOW else "A"
        return json.dumps({"reason": f"Overlap with length: {one:.2f} against {other:.2f}.", "winner": winner})
    raise RequestRefusedError(f"offline/{MODEL_ID} found no answer in the prompt; use the prompts of llmlab.judge")


def _graded(answer: str, reference: str, levels: list[int]) -> str:
    merit = min(1.0, _merit(answer, reference))
    level = levels[min(len(levels) - 1, int(merit * len(levels)))]
    return json.dumps({"reason": f"Overlap with length: {merit:.2f}.", "score": level})


def _merit(answer: str, reference: str) -> float:
    """The share of the reference's words in the answer, and what its length adds."""
    wanted, said = set(words(reference)), words(answer)
    share = len(wanted & set(said)) / len(wanted) if wanted else 0.0
    return (1 - LENGTH_WORTH) * share + LENGTH_WORTH * min(2.0, len(said) / LENGTH_UNIT_WORDS)
