"""The description of a registered version, as safe Markdown: what a person in MLflow's pages needs to decide."""

from __future__ import annotations

import json

from llmlab.base.numbers import Interval
from llmlab.base.private import scrub
from llmlab.base.verdict import Verdict
from llmlab.bundle.bundle import Bundle
from llmlab.display.markdown import markdown, markdown_block, markdown_code
from llmlab.gate.decision import Receipt

__all__ = ["card"]

LONGEST_CARD_CHARS = 5_000  # MLflow's column for it; PostgreSQL refuses more
LONGEST_PROMPT_CHARS = 1_200


def card(bundle: Bundle, receipt: Receipt | None, *, registered: str, checked: bool = False) -> str:
    """The Markdown of a version: verdict and conditions first, then what it is made of, who registered it and when.

    Args:
        receipt: the newest one, None where there is none.
        registered: who, when, from which commit.
        checked: whether the receipt was held against what its run logged, and holds.
    """
    retrieval = "none"
    if bundle.retrieval is not None:
        fields = bundle.retrieval.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        fields |= {"retriever": bundle.retrieval.retriever, "k": bundle.retrieval.k}  # said even where they are usual
        retrieval = json.dumps(fields, ensure_ascii=False)
    parts = [
        f"**{markdown(bundle.name)} {markdown(bundle.version)}** · digest {markdown_code(bundle.digest)}",
        *(["Gate: **no receipt yet**."] if receipt is None else [_judged(receipt, checked), _conditions(receipt)]),
        "**Model** " + markdown_code(str(bundle.model)) + f": {markdown(bundle.model.pinned.reason, None)}",
        f"**Sampling** {markdown_code(json.dumps(dict(bundle.sampling.sent), ensure_ascii=False))}",
        f"**Retrieval** {markdown_code(retrieval)}",
        markdown(registered, None),
    ]
    head = "\n\n".join(part for part in parts if part)
    room = min(LONGEST_PROMPT_CHARS, LONGEST_CARD_CHARS - len(head) - 300)
    return scrub(f"{head}\n\n{_prompt(bundle, max(room, 0))}")[:LONGEST_CARD_CHARS]


def _judged(receipt: Receipt, checked: bool) -> str:
    by = f" by {receipt.author}" if receipt.author else ""
    judged = f"{receipt.sentence} Judged {receipt.created_at[:16]}{by}, receipt {receipt.digest[:8]}."
    is_open = receipt.verdict == Verdict.PASS and not checked
    doubt = " by its receipt, which `llmlab promote` has yet to check" if is_open else ""
    return f"Gate: **{markdown(receipt.verdict)}**{doubt}. {markdown(judged, None)}"


def _conditions(receipt: Receipt) -> str:
    """A table of what was asked, what was found, and what follows; categories only where they do not pass."""
    rows = [
        (
            f"{c.kind}: {c.metric}{f' in {c.category}' if c.category else ''}",
            c.verdict,
            Interval(c.value, c.low, c.high, unit="%" if c.relative else ""),
            c.reading,
        )
        for c in receipt.conditions
        if c.kind != "category" or c.verdict != Verdict.PASS
    ]
    if not rows:
        return ""
    header = ["| condition&nbsp; | verdict&nbsp; | value&nbsp; | means |", "| --- | --- | --- | --- |"]
    return "\n".join([*header, *(f"| {'&nbsp; | '.join(markdown(cell, None) for cell in row)} |" for row in rows)])


def _prompt(bundle: Bundle, room: int) -> str:
    blocks = []
    for title, text in (("System", bundle.prompt.system), ("Template", bundle.prompt.template)):
        cut = f"{text[: room // 2]}… ({len(text):,} characters; the whole is in bundle.json)"
        blocks += [f"**{title}**\n\n{markdown_block(cut if len(text) > room // 2 else text)}"] if text else []
    return "\n\n".join(blocks)
