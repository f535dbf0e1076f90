"""Figures of retrieval draw whatever names they are given, and say in words what they show."""

import pytest

from llmlab import plots
from llmlab.bundle.bundle import CorpusRef, RetrievalConfig
from llmlab.golden.cases import Case, GoldenSet
from llmlab.retrieval.attribution import CELLS, attribute
from llmlab.retrieval.variants import by_k, of_results
from tests.made_results import HOSTILE
from tests.plots.test_comparisons import size, texts
from tests.retrieval.made import made

R, G, F, L = CELLS


@pytest.fixture
def measured(tmp_path):
    """Two configurations of one small corpus, at k from 1 to 4."""
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
    rows = [f'{{"id": "{word}", "text": "{word} {words[i - 1]}"}}\n' for i, word in enumerate(words)]
    (tmp_path / "d.jsonl").write_text("".join(rows))
    golden = GoldenSet(tuple(Case(id=w, inputs={"question": w}, relevant={w: 1, words[0]: 1}) for w in words))
    config = RetrievalConfig(corpus=CorpusRef(jsonl="d.jsonl"), k=2)
    return by_k({HOSTILE: config, "v2": config.model_copy(update={"k": 3})}, golden, k=4, base=tmp_path)


def test_curves_have_a_panel_per_measure_and_the_alt_text_has_the_numbers(measured):
    figure = plots.by_k(measured)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["precision", "recall"]
    assert size(figure.png())[0] == 840
    assert "R@1" in figure.alt
    assert f"{measured.estimate('v2', 'R@3')}" in figure.alt
    assert any("at its k of 2 (v2 " in " ".join(text.split()) for text in texts(figure)), texts(figure)


@pytest.mark.parametrize("names", [["v1"], ["v1", "v2"], [HOSTILE, "$\\frac{", "日本語", "n" * 90, "a\nb"]])
def test_losses_draw_any_names_and_count_the_cases(names):
    """No name is a formula, a control character or too long; warnings are errors here."""
    figure = plots.losses(attribute(made({name: [R, R, G, F, F, L, R, F] for name in names})))
    assert figure.png().startswith(b"\x89PNG")
    assert texts(figure).count("3") >= len(names)
    assert not any("\x1b" in text or "\x00" in text for text in [*texts(figure), figure.alt])
    assert "3 retrieval failures and 1 generation failure" in figure.alt


@pytest.mark.parametrize("end", [" of all that were tried@temperature=0.0", ""])
def test_six_long_names_that_begin_and_end_alike_are_told_apart(end):
    names = [f"claims-assistant-2026 · openai/gpt-4o-mini with a {word} prompt{end}" for word in "abcdef"]
    figure = plots.losses(attribute(made({name: [R, G, F, L] for name in names})))
    figure.png()
    (legend,) = figure.legends
    assert len({text.get_text() for text in legend.get_texts()}) == 6
    assert legend.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("cells", "title"),
    [
        ({"v1": [R, F, F, G]}, "v1 loses 2 cases to retrieval and 1 to generation"),
        ({"v1": [F, F, G], "v2": [F, F, R]}, "Every variant loses more cases to retrieval than to generation"),
        ({"v1": [G, G, R], "v2": [G, F, G]}, "Every variant loses more cases to generation than to retrieval"),
        ({"v1": [G, G, R], "v2": [F, F, G]}, "Neither retrieval nor generation loses most with every variant"),
    ],
)
def test_the_title_states_the_finding(cells, title):
    assert title in [text.replace("\n", " ") for text in texts(plots.losses(attribute(made(cells))))]


def test_what_cannot_be_drawn_is_refused():
    results = made({f"v{i}": [R, F] for i in range(8)})
    with pytest.raises(ValueError, match="8 variants"):
        plots.losses(attribute(results))
    with pytest.raises(ValueError, match="several k"):
        plots.by_k(of_results(made({"v1": [R, F]}), ["P@5"]))
