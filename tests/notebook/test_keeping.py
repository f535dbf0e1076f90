"""Executed notebooks stay small, and whole or absent."""

import copy
import json

import nbformat
import pytest
from bs4 import BeautifulSoup

from llmlab.notebook.keeping import SCHEME, cut_outputs, keep_html, register_keeper


def notebook(*outputs):
    return {"cells": [{"cell_type": "markdown", "source": ""}, {"cell_type": "code", "outputs": list(outputs)}]}


def stream(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def shown(**data):
    return {"output_type": "display_data", "metadata": {}, "data": {k.replace("_", "/"): v for k, v in data.items()}}


def test_a_notebook_that_fits_is_not_touched():
    small = notebook(stream("a" * 1_000), shown(text_plain="x", image_png="abc"))
    assert cut_outputs(copy.deepcopy(small)) == small


def test_the_largest_output_is_cut_and_the_cut_is_said():
    cut = cut_outputs(notebook(stream("small"), stream(["a" * 3_000_000, "b" * 3_000_000])))
    first, second = cut["cells"][1]["outputs"]
    assert first == stream("small")
    assert second["text"][0].endswith("[cut: 6,000,000 characters in all]\n")
    assert len(json.dumps(cut)) < 10_000


def test_a_picture_that_is_too_large_becomes_a_note():
    cut = cut_outputs(notebook(shown(image_png="a" * 6_000_000)))
    assert cut["cells"][1]["outputs"][0]["data"] == {"text/plain": "[cut: 6,000,000 characters in all]"}


def test_an_endless_row_of_outputs_is_cut():
    outputs = cut_outputs(notebook(*[stream("x")] * 100_000))["cells"][1]["outputs"]
    assert len(outputs) == 501
    assert outputs[-1]["text"] == "[99,500 more outputs were cut]\n"


@pytest.mark.parametrize("size", [10_000, 400_000, 3_000_000])
def test_many_outputs_of_any_size_end_below_five_megabytes(size):
    assert len(json.dumps(cut_outputs(notebook(*[stream("y" * size)] * 40)))) < 5_000_000


def test_of_writes_within_a_second_the_first_and_the_last_are_kept(tmp_path):
    from papermill.iorw import papermill_io

    register_keeper()
    running, ended = (
        {"start_time": "2026-01-01", "end_time": None},
        {"start_time": "2026-01-01", "end_time": "2026-01-02"},
    )
    for text, about in (("one", running), ("two", running), ("three", ended), ("four", ended)):
        content = {**notebook(stream(text)), "metadata": {"papermill": about}}
        papermill_io.write(json.dumps(content), f"{SCHEME}{tmp_path}/a.ipynb")
        assert ("one" if text == "two" else text) in (tmp_path / "a.ipynb").read_text()


def test_of_the_progress_of_a_run_the_html_has_the_last_line(tmp_path):
    path = tmp_path / "a.ipynb"
    cell = nbformat.v4.new_code_cell(
        "", outputs=[nbformat.v4.new_output("stream", text="run: 1 of 2 calls, 0:20 left\r")]
    )
    cell.outputs.append(nbformat.v4.new_output("stream", text="run: 2 of 2 calls\n"))
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    html = keep_html(path).read_text()
    assert "run: 2 of 2 calls" in html
    assert "0:20 left" not in html


def test_papermill_writes_through_scrubbing(tmp_path, monkeypatch):
    from papermill.iorw import papermill_io

    monkeypatch.setenv("SOME_API_KEY", "canary-4711")
    register_keeper()
    register_keeper()
    assert sum(scheme == SCHEME for scheme, _ in papermill_io._handlers) == 1
    papermill_io.write(json.dumps(notebook(stream("it is canary-4711"))), f"{SCHEME}{tmp_path}/a.ipynb")
    assert "it is [SOME_API_KEY removed]" in (tmp_path / "a.ipynb").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["a.ipynb"]


def test_a_figure_keeps_its_alt_text_in_the_html_and_what_is_no_picture_gets_no_way_out_of_it(tmp_path):
    path, figure = tmp_path / "run.ipynb", shown(image_png='aGVs"><script>\nbG8=', text_plain="B is better")
    figure["metadata"] = {"image/png": {"alt": 'B is <better> "by" 3'}}
    cell = nbformat.v4.new_code_cell("figure", outputs=[nbformat.from_dict(figure)])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    image = BeautifulSoup(keep_html(path).read_text(), "html.parser").img
    assert image is not None
    assert image.attrs == {"alt": 'B is <better> "by" 3', "src": "data:image/png;base64,aGVsscriptbG8="}


@pytest.mark.parametrize("about", [None, "text", {"alt": None}])
def test_odd_metadata_of_a_figure_is_no_error(tmp_path, about):
    path, figure = tmp_path / "run.ipynb", shown(image_png="aGk=")
    figure["metadata"] = {"image/png": about}
    cell = nbformat.v4.new_code_cell("figure", outputs=[nbformat.from_dict(figure)])
    path.write_text(json.dumps(nbformat.v4.new_notebook(cells=[cell])))
    assert "aGk=" in keep_html(path).read_text()
