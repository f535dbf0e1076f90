"""Bundles as people write them: short forms are read, texts lie in files, and what is wrong is told in our words."""

import pytest

from llmlab.base.errors import FileRuleError
from llmlab.bundle import Bundle
from llmlab.judge import Judge

HEAD = 'name: qa\nversion: "1"\n'
SPELT = HEAD + "model: {provider: openai, id: gpt-4o-2024-08-06}\nprompt: {template: 'Q: {{ question }}'}\n"
SCHEMA = "{type: object, properties: {city: {type: string}}}"


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("short", "spelt"),
    [
        ("model: {provider: openai, id: gpt-4o-2024-08-06}", "model: openai/gpt-4o-2024-08-06"),
        ("prompt: {template: 'Q: {{ question }}'}", "prompt: 'Q: {{ question }}'"),
        ("prompt: {template: 'Q: {{ question }}'}", "prompt: {template_file: ../ask.txt}"),
    ],
)
def test_a_short_form_is_the_same_bundle(tmp_path, short, spelt):
    """To the digest; the text of a file is part of it."""
    written(tmp_path / "ask.txt", "Q: {{ question }}\n")
    long = Bundle.load(written(tmp_path / "bundles" / "a.yaml", SPELT))
    assert Bundle.load(written(tmp_path / "bundles" / "b.yaml", SPELT.replace(short, spelt))).digest == long.digest


@pytest.mark.parametrize(
    "tool",
    [
        f"{{type: function, function: {{name: find, description: Finds, parameters: {SCHEMA}}}}}",
        f"{{type: function, name: find, description: Finds, parameters: {SCHEMA}}}",
    ],
)
def test_tools_are_read_in_openais_formats(tmp_path, tool):
    """As its documentation shows them."""
    ours = f"{{name: find, description: Finds, parameters: {SCHEMA}}}"
    digests = [Bundle.load(written(tmp_path / "a.yaml", f"{SPELT}tools: [{one}]\n")).digest for one in (ours, tool)]
    assert len(set(digests)) == 1


def test_texts_of_a_prompt_lie_in_files_and_are_part_of_the_digest(tmp_path):
    """A changed text is another bundle, and a saved bundle holds the text itself."""
    path = written(tmp_path / "v1.yaml", SPELT.replace("{template", "{system_file: system.md, template"))
    digests = []
    for text in ("Be brief.\n", "Be brief.", "Be long."):
        written(tmp_path / "system.md", text)
        digests.append(Bundle.load(path).digest)
    assert digests[0] == digests[1] != digests[2]
    assert Bundle.load(Bundle.load(path).save(tmp_path / "saved.yaml")).prompt.system == "Be long."


@pytest.mark.parametrize("where", ["../../secret.txt", "/etc/hostname", "link.txt", "missing.txt"])
def test_a_prompts_file_stays_inside_the_experiment(tmp_path, where):
    """A folder from a colleague puts none of your files into a prompt."""
    written(tmp_path / "secret.txt", "mine")
    path = written(
        tmp_path / "exp" / "bundles" / "v1.yaml", SPELT.replace("{template", f"{{system_file: {where}, template")
    )
    (path.parent / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(FileRuleError):
        Bundle.load(path)


def test_a_judges_texts_lie_in_files_too(tmp_path):
    """From judges/ as from bundles/."""
    judge = Judge.pointwise("relevance", model="openai/gpt-4o-2024-08-06")
    written(tmp_path / "ask.txt", judge.bundle.prompt.template)
    written(tmp_path / "judges" / "system.txt", judge.bundle.prompt.system)
    text = "rubric: relevance\nmodel: openai/gpt-4o-2024-08-06\n"
    prompt = "prompt: {system_file: system.txt, template_file: ../ask.txt}\n"
    assert Judge.load(written(tmp_path / "judges" / "j.yaml", text + prompt)).digest == judge.digest


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("sampling: {temperature: '0.7'}", "sampling.temperature: must be a number; it is text"),
        ("sampling: {temperature: -1}", "sampling.temperature: must be >= 0"),
        ("sampling: {max_tokens: 1.5}", "sampling.max_tokens: must be a whole number; it is a number"),
        ("sampling: [0.7]", "sampling: must be a mapping of keys to values; it is a list"),
        ("tools: {name: find}", "tools: must be a list; it is a mapping"),
        ("tools: [{name: find, parameters: [a]}]", "must be a mapping"),
        ("tools: [{type: web_search}]", "the key 'tools.0.name' is missing"),
        ("retrieval: {corpus: {package: pandas}, distinct_by: word}", "must be 'document' or 'group'"),
        ("retrieval: {corpus: docs}", "retrieval.corpus: must be a mapping"),
        ("metadata: text", "must be a mapping"),
    ],
)
def test_what_is_wrong_is_told_in_our_words(tmp_path, line, rule):
    """The key, what it must be, and the line of the file."""
    with pytest.raises(FileRuleError) as told:
        Bundle.load(written(tmp_path / "v1.yaml", f"{SPELT}{line}\n"))
    assert rule in told.value.rule
    assert told.value.line == 5


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("model: {provider: openai, id: gpt-4o-2024-08-06}", "model: gpt-4o", "model: 'gpt-4o' names no provider"),
        ("model: {provider: openai, id: gpt-4o-2024-08-06}", "model: [a]", "model: must be a mapping"),
        ("prompt: {template: 'Q: {{ question }}'}", "prompt: 7", "prompt: must be a mapping"),
        ("{template:", "{template_file: a.txt, template:", "are both given"),
    ],
)
def test_a_short_form_that_says_too_little_is_refused(tmp_path, before, after, rule):
    """Never as pydantic says it."""
    with pytest.raises(FileRuleError) as told:
        Bundle.load(written(tmp_path / "v1.yaml", SPELT.replace(before, after)))
    assert rule in told.value.rule
    assert "nput" not in told.value.rule
