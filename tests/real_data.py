"""The tables that lie beside a checkout, in `../shared/data`: a test that reads one that is not there is skipped."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parents[1] / "../shared/data"
SONNET, GPT = "claude-3-5-sonnet-20240620", "gpt-4o-2024-08-06"  # LiveBench's columns


def real(name: str) -> Path:
    """Where the file lies."""
    if not (FOLDER / name).exists():
        pytest.skip(f"{name} is not in ../shared/data")
    return FOLDER / name


def llmbar(judge: str) -> pd.DataFrame:
    """The verdicts of a judge on LLMBar's 419 pairs (Zeng et al. 2024), Vanilla prompts."""
    verdicts = pd.read_csv(real("llmbar_verdicts.csv"))
    return verdicts[(verdicts.judge == judge) & (verdicts.method == "Vanilla")]


def livebench() -> pd.DataFrame:
    """LiveBench's 1,136 questions with the scores of both models, task and category."""
    return pd.read_csv(real("livebench_items.csv"))
