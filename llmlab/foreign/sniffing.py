"""Whose file this is, told by what is in it: `llmlab import` asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from llmlab.base.errors import FileRuleError
from llmlab.foreign.datasets import document

__all__ = ["Kind", "kind_of"]

Kind: TypeAlias = Literal["beir", "inspect", "langfuse", "langsmith", "promptfoo", "promptfoo results", "table"]


def kind_of(path: str | Path) -> Kind:
    """What wrote the file (or BEIR's folder); "table" for rows that need a mapping of columns; FileRuleError else."""
    path = Path(path)
    if path.is_dir():
        if (path / "queries.jsonl").exists() and (path / "qrels").is_dir():
            return "beir"
        raise FileRuleError("is a folder, but not one of BEIR (queries.jsonl and qrels/)", path=path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".parquet", ".pq"):
        return "table"
    if suffix == ".eval":
        return "inspect"
    content = document(path)
    if isinstance(content, Mapping):
        results = content.get("results")
        if isinstance(results, Mapping) and isinstance(results.get("results"), list):
            return "promptfoo results"
        if "eval" in content and "samples" in content:
            return "inspect"
        if ("prompts" in content and "providers" in content) or "tests" in content:
            return "promptfoo"
        content = next((content[name] for name in ("examples", "data", "items") if name in content), None)
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, Mapping):
        keys = {key.replace("_", "").lower() for key in first}
        if {"input", "expectedoutput"} <= keys:
            return "langfuse"
        return "langsmith" if {"inputs", "outputs"} <= keys else "table"
    raise FileRuleError(
        "is of none of the known tools (promptfoo, LangSmith, Langfuse, Inspect, BEIR) and no table of rows", path=path
    )
