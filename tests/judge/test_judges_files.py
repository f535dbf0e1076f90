"""A judge is a file as any bundle is: read strictly, written back with the same digest."""

import pytest

from llmlab.base.errors import FileRuleError
from llmlab.judge import Judge

SHORT = """\
name: grader
version: "1.2.0"
kind: pointwise
rubric: correctness
model: {provider: openai, id: gpt-4o-2024-08-06}
sampling: {temperature: 0.0, max_tokens: 300}
"""
OWN = """\
kind: pairwise
rubric:
  name: polite
  question: Which answer is more polite?
  anchors: {"2": polite, "1": neither, "0": rude}
model: {provider: offline, id: overlap-judge-1}
"""


def written(tmp_path, text, name="judge.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_what_a_file_leaves_out_is_the_standard_judges(tmp_path):
    """The prompt and the name; sampling that is given is the file's."""
    judge = Judge.load(written(tmp_path, SHORT))
    standard = Judge.pointwise("correctness", model="openai/gpt-4o-2024-08-06")
    assert judge.bundle.prompt == standard.bundle.prompt
    assert (judge.bundle.name, judge.bundle.sampling.max_tokens) == ("grader", 300)
    plain = Judge.load(written(tmp_path, "rubric: correctness\nmodel: {provider: openai, id: gpt-4o-2024-08-06}\n"))
    assert plain.digest == standard.digest


def test_a_rubric_of_ones_own_is_read_worst_level_first(tmp_path):
    judge = Judge.load(written(tmp_path, OWN))
    assert (judge.kind, judge.rubric.scale, judge.metric) == ("pairwise", (0, 1, 2), "polite_preferred")
    assert judge.parse('{"winner": "A"}').value == "A"


@pytest.mark.parametrize("text", [SHORT, OWN])
def test_saving_and_loading_keep_the_digest(tmp_path, text):
    judge = Judge.load(written(tmp_path, text))
    again = Judge.load(judge.save(tmp_path / "again.yaml"))
    assert (again.digest, again.rubric, again.kind) == (judge.digest, judge.rubric, judge.kind)
    assert again.bundle == judge.bundle


def test_the_digest_does_not_depend_on_the_order_of_keys(tmp_path):
    """Nor on quoting or on what is outside of the behaviour."""
    turned = "\n".join(reversed(SHORT.splitlines())) + "\nmetadata: {author: me}\n"
    assert Judge.load(written(tmp_path, turned)).digest == Judge.load(written(tmp_path, SHORT, "a.yaml")).digest


@pytest.mark.parametrize(
    ("change", "rule", "line"),
    [
        (("rubric: correctness", "rubric: niceness"), "no ready rubric 'niceness'", 4),
        (("kind: pointwise", "kind: listwise"), "kind", 3),
        (("version:", "retrieval: {k: 3}\nversion:"), "unknown key 'retrieval'", 2),
        (("max_tokens: 300", "max_token: 300"), "unknown key 'sampling.max_token'", 6),
        (("max_tokens: 300", "max_tokens: many"), "sampling.max_tokens", 6),
        (("rubric: correctness\n", ""), "the key 'rubric' is missing", None),
        (("sampling:", "prompt: {template: '{{ answer }}'}\nsampling:"), "does not hold the rubric", None),
        (("name: grader", "name: grader\nname: other"), "duplicate key", 2),
    ],
)
def test_anything_else_is_refused_with_its_line(tmp_path, change, rule, line):
    path = written(tmp_path, SHORT.replace(*change))
    with pytest.raises(FileRuleError, match=rule) as refused:
        Judge.load(path)
    if line is not None:
        assert f":{line}" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (('"2": polite', '"3": polite'), "one apart"),
        (('"2": polite', "best: polite"), "anchors"),
        (("name: polite", "name: 'so polite!'"), "must be letters"),
        (("question: Which answer is more polite?", "question: '{{ answer }}'"), "placeholder"),
        (("kind: pairwise", "kind: pairwise\nneeds: [reference]"), "unknown key 'needs'"),
    ],
)
def test_a_rubric_that_is_none_is_refused(tmp_path, change, rule):
    with pytest.raises(FileRuleError, match=rule):
        Judge.load(written(tmp_path, OWN.replace(*change)))


def test_a_changed_judge_needs_a_new_version_to_overwrite_its_file(tmp_path):
    path = Judge.load(written(tmp_path, SHORT)).save(tmp_path / "kept.yaml")
    other = Judge.load(written(tmp_path, SHORT.replace("0.0", "0.5"), "other.yaml"))
    with pytest.raises(FileRuleError, match="new version"):
        other.save(path)
    newer = Judge.load(written(tmp_path, SHORT.replace("0.0", "0.5").replace("1.2.0", "1.3.0"), "newer.yaml"))
    assert Judge.load(newer.save(path)).digest == newer.digest
