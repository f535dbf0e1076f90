"""The description of a registered version, as safe Markdown: what a person in MLflow's pages needs to decide."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmlab.base.display import markdown, markdown_block, markdown_code
from llmlab.base.private import scrub
from llmlab.bundle.bundle import Bundle

__all__ = ["card"]

LONGEST_CARD_CHARS = 5_000  # MLflow's column for it; PostgreSQL refuses more
LONGEST_PROMPT_CHARS = 1_200


def card(
    bundle: Bundle,
    *,
    registered: str,
    verdict: str = "",
    summary: str = "",
    conditions: Sequence[Mapping[str, object]] = (),
) -> str:
    """The Markdown of a version: verdict and conditions first, then what it is made of, who registered it and when.

    Args:
        registered: who, when, from which commit.
        verdict, summary, conditions: of the newest receipt; "" where there is none.
    """
    parts = [
        f"**{markdown(bundle.name)} {markdown(bundle.version)}** · digest {markdown_code(bundle.digest)}",
        f"Gate: **{markdown(verdict)}**. {markdown(summary, None)}" if verdict else "Gate: **no receipt yet**.",
        _table(conditions),
        "**Model** " + markdown_code(str(bundle.model)) + f": {markdown(bundle.model.pinned.reason, None)}",
        f"**Sampling** {markdown_code(json.dumps(dict(bundle.sampling.sent), ensure_ascii=False))}",
        f"**Retrieval** {markdown_code(_retrieval(bundle))}",
        markdown(registered, None),
    ]
    head = "\n\n".join(part for part in parts if part)
    room = min(LONGEST_PROMPT_CHARS, LONGEST_CARD_CHARS - len(head) - 300)
    return scrub(f"{head}\n\n{_prompt(bundle, max(room, 0))}")[:LONGEST_CARD_CHARS]


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        columns,
        ["---"] * len(columns),
        *([markdown(row.get(column, ""), None) for column in columns] for row in rows),
    ]
    return "\n".join(f"| {'&nbsp; | '.join(line)} |" for line in lines).replace("---&nbsp;", "---")


def _prompt(bundle: Bundle, room: int) -> str:
    texts = [("System", bundle.prompt.system), ("Template", bundle.prompt.template)]
    blocks = []
    for title, text in texts:
        if not text:
            continue
        if len(text) > room // 2:
            text = f"{text[: room // 2]}… ({len(text):,} characters; the whole is in bundle.json)"
        blocks.append(f"**{title}**\n\n{markdown_block(text)}")
    return "\n\n".join(blocks)


def _retrieval(bundle: Bundle) -> str:
    if bundle.retrieval is None:
        return "none"
    kept: Any = bundle.retrieval.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return json.dumps(kept, ensure_ascii=False)
