"""Figures that draw whatever they are given, and say in words what they show."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from llmlab import plots
from tests.made_results import HOSTILE, made, with_numbers


def arms(names, n=40, spread=0.1):
    """Results with one arm per name, some better and some worse, and tokens."""
    rng = np.random.default_rng(7)
    base = rng.random(n) * 0.6 + 0.2
    scores = {names[0]: base.tolist()}
    for i, name in enumerate(names[1:]):
        scores[name] = np.clip(base + rng.normal(0, 0.1, n) + spread * np.sin(i * 1.3), 0, 1).tolist()
    results = made(scores, tags=[["a", "b"] if i % 2 else ["c"] for i in range(n)])
    return with_numbers(results, output_tokens=rng.normal(60, 5, len(results.frame)).tolist())


def size(png):
    """Width and height of a PNG in pixels."""
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def texts(figure):
    """Every text that a figure shows."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.parametrize(
    "names",
    [
        ["v1", "v2"],
        ["v1", *[f"v{i}@temperature={t}" for i in range(2, 8) for t in (0.0, 0.7)]],
        ["baseline" * 12, "candidate" * 12, "candidate" * 11 + "2"],
        ["v1", HOSTILE, "$\\frac{", "日本語", "a\nb"],
    ],
    ids=["two", "many", "long", "hostile"],
)
def test_forest_and_trade_off_draw_any_names(names):
    """No name is a formula, a control character or too long; warnings are errors here."""
    results = arms(names)
    for figure in (plots.forest(results.compare(names[0])), plots.quality_against(results)):
        png = figure.png()
        assert png.startswith(b"\x89PNG")
        assert size(png)[0] == 840
        assert not any("\x1b" in text or "\x00" in text for text in texts(figure))
        assert "\x1b" not in figure.alt


@pytest.mark.parametrize(("size", "power"), [(1e10, "in 1e8"), (3e-7, "in 1e-8"), (50.0, "")])
def test_what_ticks_are_multiplied_with_stands_in_the_label(size, power):
    """As found: matplotlib wrote it into the corner of the axes, over the end of a long label."""
    results = arms(["v1", "v2"])
    numbers = np.random.default_rng(1).normal(1, 0.2, len(results.frame)) * size
    compared = with_numbers(results, cost_usd=numbers.tolist()).compare("v1", metrics=["cost_usd"])
    figure = plots.forest(compared)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert axes.xaxis.get_offset_text().get_text() == ""
    assert power in axes.get_xlabel()
    assert ("1e" in axes.get_xlabel()) is bool(power)


def test_names_are_literal_text():
    """`$x_1$` is a name, not mathematics."""
    figure = plots.forest(arms(["v1", "$x_1$"]).compare("v1"))
    assert "$x_1$" in texts(figure)
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())


def test_every_label_lies_inside_the_picture():
    """At the house width, with names as long as grids make them."""
    names = [f"prompt_with_citations_and_a_name_{i}@temperature=0.7,max_tokens={i}00" for i in range(5)]
    for figure in (plots.forest(arms(names).compare(names[0])), plots.quality_against(arms(names))):
        FigureCanvasAgg(figure).draw()
        width, height = figure.bbox.width, figure.bbox.height
        for text in figure.findobj(Text):
            if text.get_visible() and any(letter.isalpha() for letter in text.get_text()):
                box = text.get_window_extent()
                assert box.x0 >= -2, text
                assert box.x1 <= width + 2, text
                assert box.y1 <= height + 2, text


def test_the_title_states_the_finding():
    """Names where they are few, numbers where they are many."""
    clear = made({"v1": [0.1, 0.2] * 20, "v2": [0.8, 0.9] * 20, "v3": [0.8, 0.7] * 20, "v4": [0.9, 0.7] * 20})
    tie = plots.forest(made({"v1": [0.5] * 9, "v2": [0.5] * 9}).compare("v1"))
    for figure, title in [
        (plots.forest(clear.compare("v1", candidates=["v2"])), "v2 is better than v1 on right"),
        (plots.forest(clear.compare("v1")), "3 variants are better than v1 on right"),
        (plots.forest(clear.compare("v2", candidates=["v1"])), "v1 is worse than v2 on right"),
        (tie, "Not enough evidence that anything differs from v1"),
    ]:
        assert title in texts(figure)
    assert "all 9 cases tie" in tie.alt


def test_the_margin_is_drawn_and_verdicts_are_words():
    """The band comes with the comparison."""
    results = made({"v1": [0.1, 0.2] * 20, "v2": [0.8, 0.9] * 20})
    assert {" margin", "PASS"} <= set(texts(plots.forest(results.compare("v1", margin=0.05))))
    assert " margin" not in texts(plots.forest(results.compare("v1")))


def test_metrics_in_different_units_get_their_own_panels():
    """Points and tokens share no axis."""
    compared = arms(["v1", "v2"]).compare("v1", metrics=["right", "output_tokens"])
    assert len(plots.forest(compared).axes) == 2
    assert len(plots.forest(arms(["v1", "v2"]).compare("v1", by="tags")).axes) == 1


def test_rows_that_are_not_drawn_are_counted():
    """A picture drops nothing in silence."""
    results = made({"v1": [0.1, 0.9, 0.5], "v2": [0.2, 0.3, 0.4], "v3": [None, None, 0.5]})
    drawn = texts(plots.forest(results.compare("v1"), most_rows=1))
    assert any("1 with too few cases" in text for text in drawn)
    assert not any("further rows" in text for text in drawn)
    many = arms([f"v{i}" for i in range(6)])
    assert any("3 further rows" in text for text in texts(plots.forest(many.compare("v0"), most_rows=2)))


def test_nothing_to_draw_is_said():
    """Instead of empty axes; a comparison's figure says it itself, so that a first try on few cases goes on."""
    for scores, why in (({"v1": [0.5], "v2": [0.6]}, "two cases"), ({"v1": [0.5, 0.6]}, "no candidate")):
        figure = plots.forest(made(scores).compare("v1"))
        assert f"No difference from v1 can be drawn: {why}" in figure.alt
        assert not figure.axes
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.quality_against(made({"v1": [0.5, 0.6]}))


def test_variants_without_a_value_are_named_in_the_alt_text():
    """Unknown is not zero."""
    results = with_numbers(made({"v1": [0.5, 0.6], "v2": [0.5, 0.7]}), output_tokens=[1, None, 2, None])
    figure = plots.quality_against(results)
    assert "Without a value: v2" in figure.alt


def test_a_picture_shows_itself_with_its_alt_text():
    """In a notebook: one PNG, and its words for who cannot see it."""
    figure = plots.forest(arms(["v1", "v2"]).compare("v1"))
    shown, about = figure._repr_mimebundle_()
    assert shown["text/plain"] == figure.alt == about["image/png"]["alt"]
    assert shown["image/png"]
    target = io.BytesIO()
    figure.savefig(target, format="png")
    assert target.getvalue().startswith(b"\x89PNG")


def test_nobody_is_called_best_or_cheapest_where_all_are_alike():
    right = {"v1": [0.5, 0.6, 0.1], "v2": [0.7, 0.9, 0.8]}
    alike = plots.quality_against(made(right).with_columns(output_tokens=[9.0] * 6)).get_suptitle()
    apart = plots.quality_against(made(right).with_columns(output_tokens=[9.0, 5.0] * 3)).get_suptitle()
    assert "v2" in alike
    assert "v1" not in alike
    assert "lowest" not in alike
    assert "v2" in apart
    assert "lowest" in apart
