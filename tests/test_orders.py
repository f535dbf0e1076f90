"""The second experiment: messages written by hand, and a prompt that a real small model reads."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.local.setup import LocalModel
from tests.local.conftest import model as model  # the fixture

ROOT = Path(__file__).parents[1]


@pytest.fixture
def orders() -> ll.Experiment:
    return ll.Experiment.load(ROOT / "experiments" / "orders")


def test_every_message_holds_its_order_and_the_day_and_year_of_its_date(orders: ll.Experiment) -> None:
    assert len(orders.golden) == 120
    for case in orders.golden:
        message, expected = case.inputs["message"], case.expected
        day = date.fromisoformat(expected["date"])
        assert expected["order"] in message
        assert str(day.year) in message
        assert re.search(rf"(?<!\d)0?{day.day}(?!\d|\d)|{expected['date']}", message), message


def test_half_of_the_topics_were_kept_back_and_no_topic_is_on_both_sides(orders: ll.Experiment) -> None:
    sides = {side: {case.cluster for case in orders.golden if side in case.tags} for side in ("seen", "kept back")}
    assert (len(sides["seen"]), len(sides["kept back"])) == (12, 12)
    assert not sides["seen"] & sides["kept back"]


def test_the_prompts_differ_in_their_examples_alone_and_show_no_case(orders: ll.Experiment) -> None:
    bundles = orders.bundles
    assert [len(bundles[name].prompt.examples) for name in ("bare", "three", "six")] == [0, 3, 6]
    assert len({bundle.prompt.system for bundle in bundles.values()}) == 1
    shown = {str(example.inputs["message"]) for example in bundles["six"].prompt.examples}
    assert not shown & {str(case.inputs["message"]) for case in orders.golden}


@pytest.mark.slow
@pytest.mark.local
def test_the_model_answers_with_the_fields_of_the_schema(
    orders: ll.Experiment, model: LocalModel, tmp_path: Path
) -> None:
    results = orders.run(
        {"six": orders.bundles["six"]}, orders.golden.only(first=3), store=tmp_path / "calls.sqlite", progress=False
    )
    assert set(results.frame["status"]) == {"ok"}
    assert results.frame["text"].str.contains('"order"').all()
    assert results.frame["text"].str.contains('"date"').all()
