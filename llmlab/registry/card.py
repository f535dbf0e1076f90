"""The description of a registered version, as safe Markdown: what a person in MLflow's pages needs to decide."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmlab.bundle import Bundle
from llmlab.display import plain
from llmlab.redaction import scrub

__all__ = ["card", "code", "markdown"]

LONGEST_CARD_CHARS = 5_000  # MLflow's column for it; PostgreSQL refuses more
LONGEST_PROMPT_CHARS = 1_200
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~-])")


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
        f"**{markdown(bundle.name)} {markdown(bundle.version)}** · digest {code(bundle.digest)}",
        f"Gate: **{markdown(verdict)}**. {markdown(summary)}" if verdict else "Gate: **no receipt yet**.",
        _table(conditions),
        "**Model** " + code(str(bundle.model)) + f": {markdown(bundle.model.pinned.reason)}",
        f"**Sampling** {code(json.dumps(dict(bundle.sampling.sent), ensure_ascii=False))}",
        f"**Retrieval** {code(_retrieval(bundle))}",
        markdown(registered),
    ]
    head = "\n\n".join(part for part in parts if part)
    room = min(LONGEST_PROMPT_CHARS, LONGEST_CARD_CHARS - len(head) - 300)
    return scrub(f"{head}\n\n{_prompt(bundle, max(room, 0))}")[:LONGEST_CARD_CHARS]


def markdown(value: object) -> str:
    r"""Text that is neither Markdown nor HTML any more, on one line, in the dialect of MLflow's pages.

    >>> markdown("*<b>* [x](y)")
    '\\*&lt;b&gt;\\* \\[x\\]\\(y\\)'
    """
    text = " ".join(plain(value, None).split())
    return _SPECIAL.sub(r"\\\1", html.escape(text, quote=False))


def code(text: str) -> str:
    """Text as it is, in a code span that it cannot leave.

    >>> code("a`b")
    '`` a`b ``'
    """
    shown = " ".join(plain(text, None).split())
    ticks = "`" * (_longest_run(shown) + 1)
    return f"{ticks}{shown}{ticks}" if len(ticks) == 1 else f"{ticks} {shown} {ticks}"


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([markdown(row.get(column, "")) for column in columns] for row in rows)]
    return "\n".join(f"| {'&nbsp; | '.join(line)} |" for line in lines).replace("---&nbsp;", "---")


def _prompt(bundle: Bundle, room: int) -> str:
    texts = [("System", bundle.prompt.system), ("Template", bundle.prompt.template)]
    blocks = []
    for title, text in texts:
        if not text:
            continue
        lines = [plain(line, None) for line in text.splitlines()]
        shown = "\n".join(lines)
        if len(shown) > room // 2:
            shown = f"{shown[: room // 2]}… ({len(text):,} characters; the whole is in bundle.json)"
        fence = "`" * max(3, _longest_run(shown) + 1)
        blocks.append(f"**{title}**\n\n{fence}\n{shown}\n{fence}")
    return "\n\n".join(blocks)


def _retrieval(bundle: Bundle) -> str:
    if bundle.retrieval is None:
        return "none"
    kept: Any = bundle.retrieval.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return json.dumps(kept, ensure_ascii=False)


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
