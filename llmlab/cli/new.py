"""`llmlab new NAME --csv questions.csv`: an experiment of one's own, ready for notebook 01."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click

from llmlab.base.display import plain
from llmlab.base.documents import read_text
from llmlab.base.errors import FileRuleError
from llmlab.base.numbers import counted
from llmlab.base.private import holds_secret
from llmlab.base.project import project_root
from llmlab.base.tables import separator_of
from llmlab.bundle.bundle import Bundle, ModelRef, Sampling
from llmlab.bundle.prompt import Prompt
from llmlab.golden.cases import GoldenSet

__all__ = ["new"]

_QUESTION = ("question", "questions", "query", "prompt", "input", "user_input", "instruction", "text", "frage")
_EXPECTED = (
    *("expected", "expected_answer", "answer", "answers", "ground_truth", "reference", "reference_answer"),
    *("gold", "target", "correct_answer", "output", "antwort"),
)
_OPTIONAL = {"id": ("id", "case_id", "qid"), "tags": ("tags", "tag", "category"), "cluster": ("cluster", "topic")}
_PROVIDERS = {  # part of the host's name -> provider, as the pinning rules know it
    "openai.azure.com": "azure",
    "api.openai.com": "openai",
    "anthropic.com": "anthropic",
    "generativelanguage.googleapis": "google",
    "aiplatform.googleapis": "vertex",
    "mistral.ai": "mistral",
    "cohere": "cohere",
    "bedrock": "bedrock",
    "groq.com": "groq",
    "together": "together",
    "fireworks": "fireworks",
    "openrouter": "openrouter",
    "deepinfra": "deepinfra",
    "cerebras": "cerebras",
    "x.ai": "xai",
    "deepseek": "deepseek",
    "huggingface": "huggingface",
    ":11434": "ollama",
}
LONG_ANSWER_CHARS = 80

_PLAIN = "Answer the question."
_BRIEF = "Answer the question in one or two sentences. Name the facts that matter. Say so when you do not know."
_GATE = """\
baseline: bundles/v1.yaml
goal: {{metric: {metric}, rule: superior, min_effect: 0.02}}
guards:
  - {{metric: not_refused, rule: non_inferior, margin: 0.02}}
  - {{metric: output_tokens, rule: no_shown_harm, margin: 20%}}
floors: [{{metric: {metric}, at_least: 0.5}}]  # the lower end of the interval must clear it
confidence: 0.95
unscored_at_most: 0.05
"""
_README = """\
# {name}

{cases} from `{csv}`, asked to `{model}`.

    llmlab run notebooks/01_compare_variants.ipynb -p experiment {folder} -p base_url {base_url}{metric}

or set the same names in that notebook's parameters cell. The key is read from the environment and never written here.

- `bundles/v1.yaml` and `bundles/v2.yaml` are two prompts to start from: change them, or add a third file.
- `golden.jsonl` holds the questions. `expected` lists the facts that a right answer mentions; short ones work best.
- `gate.yaml` says what a candidate must prove before it replaces `v1`.
- {pin}
"""


@click.command("new")
@click.argument("name")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), required=True, help="Questions, one per row.")
@click.option("--base-url", required=True, help="An OpenAI-compatible endpoint, such as http://localhost:11434/v1.")
@click.option("--model", "model_id", required=True, help="The model to ask there, by the id that the endpoint knows.")
@click.option("--provider", help="Whose model ids these are; guessed from the address by default.")
@click.option("--question", help="Column of the question; guessed by default.")
@click.option("--expected", help="Column of the expected facts (`a; b`, or `a|b` for one said two ways).")
def new(
    name: str,
    *,
    csv_path: Path,
    base_url: str,
    model_id: str,
    provider: str | None,
    question: str | None,
    expected: str | None,
) -> None:
    """Write experiments/NAME: two bundles, the golden set, a gate and what to run next."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,59}", name):
        raise ValueError(f"NAME == {name!r}, must be letters, digits, - and _ (it becomes a folder and a model's name)")
    folder = project_root() / "experiments" / name
    if folder.exists():
        raise ValueError(f"experiments/{name} exists already; choose another name, or delete it first")
    if not model_id.strip():
        raise ValueError("--model is empty, must be the id that the endpoint knows, such as llama3.1:8b")
    model = ModelRef(provider=provider or _provider_of(base_url), id=model_id)
    golden, notes = _golden_set(csv_path, name=name, question=question, expected=expected)
    has_expected = any(case.expected for case in golden)
    metric = "mentions_expected" if has_expected else "not_refused"
    pin = f"The model is {'pinned' if model.pinned else 'not pinned'}: {model.pinned.reason}."
    readme = _README.format(
        name=name,
        cases=counted(len(golden), "question"),
        csv=csv_path.name,
        model=model,
        folder=f"experiments/{name}",
        base_url=base_url,
        metric="" if has_expected else f" -p metric {metric}",
        pin=pin,
    )
    files = {"README.md": readme, "gate.yaml": _GATE.format(metric=metric)}
    _write(folder, files, bundles=_bundles(name, model), golden=golden)
    _say(
        [f"experiments/{name} has {counted(len(golden), 'question')} and two prompts.", *notes, pin, "", *_next(readme)]
    )


def _golden_set(
    path: Path, *, name: str, question: str | None, expected: str | None
) -> tuple[GoldenSet, Sequence[str]]:
    """The cases, each with the one input `question`, and what was understood of the file's columns."""
    columns = _columns(path)
    asked = question or _guess(_QUESTION, columns)
    if asked is None:
        raise FileRuleError(
            f"no column looks like the question (there are: {', '.join(columns)}); name it with --question", path=path
        )
    answer = expected or _guess(_EXPECTED, [column for column in columns if column != asked])
    rest = {key: _guess(names, columns) for key, names in _OPTIONAL.items()}
    loaded = GoldenSet.from_csv(path, inputs=[asked], expected=answer, **rest)
    cases = tuple(replace(case, inputs={"question": case.inputs[asked]}, source=path.name) for case in loaded)
    used = {"question": asked, "expected": answer, **rest}
    notes = ["Columns: " + ", ".join(f"{key} = {column}" for key, column in used.items() if column) + "."]
    if unused := [column for column in columns if column not in used.values()]:
        notes.append(f"Not used: {', '.join(unused)}.")
    if answer is None:
        notes.append("No column of expected answers: only refusals, length and cost can be compared (see --expected).")
    elif any(len(fact) > LONG_ANSWER_CHARS for case in cases for fact in case.expected):
        notes.append(
            "Some expected answers are whole sentences, which answers seldom repeat word by word: cut them to the "
            "facts that matter, separated by semicolons, or score with similar_to_expected."
        )
    return GoldenSet(cases, name=name), notes


def _columns(path: Path) -> list[str]:
    text = read_text(path)
    header = next(csv.reader(text.splitlines(), delimiter=separator_of(text)), [])
    if not header:
        raise FileRuleError("is empty", path=path)
    if len(set(header)) < len(header):
        raise FileRuleError("names a column twice", path=path, line=1)
    return header


def _guess(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """The first of the names that a column bears, however it is spelt."""
    bare = {re.sub(r"[\s_-]+", "_", column.strip().lower()): column for column in reversed(columns)}
    return next((bare[name] for name in names if name in bare), None)


def _provider_of(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--base-url == {base_url!r}, must be an address such as https://api.openai.com/v1")
    if parts.username or parts.password or parts.query or (secret := holds_secret(base_url)):
        where = f" (it holds the value of {secret})" if not (parts.username or parts.password or parts.query) else ""
        raise ValueError(f"--base-url must not carry a key{where}: keys stay in the environment")
    return next((name for part, name in _PROVIDERS.items() if part in parts.netloc.lower()), "vllm")


def _bundles(name: str, model: ModelRef) -> dict[str, Bundle]:
    prompts = {"v1": ("1.0.0", _PLAIN), "v2": ("2.0.0", _BRIEF)}
    return {
        stem: Bundle(
            name=name,
            version=version,
            model=model,
            prompt=Prompt(system=system, template="{{ question }}"),
            sampling=Sampling(temperature=0.0, max_tokens=400),
        )
        for stem, (version, system) in prompts.items()
    }


def _write(folder: Path, files: dict[str, str], *, bundles: dict[str, Bundle], golden: GoldenSet) -> None:
    """All of it or nothing: written beside, then renamed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        part = Path(aside) / "new"
        (part / "bundles").mkdir(parents=True)
        for stem, bundle in bundles.items():
            bundle.save(part / "bundles" / f"{stem}.yaml")
        golden.save(part / "golden.jsonl")
        for file, text in files.items():
            (part / file).write_text(text, encoding="utf-8")
        part.rename(folder)


def _next(readme: str) -> Sequence[str]:
    command = next(line.strip() for line in readme.splitlines() if line.startswith("    llmlab run"))
    started = sys.argv[0]
    elsewhere = Path(started).name == "llmlab" and shutil.which("llmlab") != started  # not on the PATH
    return ("Next:", f"  {shlex.quote(started)}{command.removeprefix('llmlab')}" if elsewhere else f"  {command}")


def _say(lines: Sequence[str]) -> None:
    click.echo("\n".join(plain(line, None) for line in lines))
