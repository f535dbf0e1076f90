"""A bundle while it is being written: what is wrong with its prompt, and its place among the versions in a folder.

Used by the Playground, which has no logic of its own. A saved draft says in its metadata what it was chosen among
(`tried`), so that a gate can ask the price of choosing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlab.base.cells import Chip
from llmlab.base.project import located
from llmlab.bundle.bundle import TRIED, Bundle, load_bundles
from llmlab.bundle.template import placeholders
from llmlab.display.html import Html, html_note
from llmlab.display.page import html_of
from llmlab.display.shown import Shown
from llmlab.golden.cases import GoldenSet
from llmlab.golden.checks import PASSAGES, refuse_secrets, unfilled

_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PromptCheck(Shown):
    """Whether every case fills the prompt. `errors` keep it from being run, `warnings` do not."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.errors

    def _sentence(self) -> str:
        return "\n".join([*self.errors, *self.warnings]) or "Every case fills the prompt."

    def _lines(self) -> list[tuple[str, Chip]]:
        errors = [(text, Chip("error", "bad")) for text in self.errors]
        return [*errors, *((text, Chip("note", "unsure")) for text in self.warnings)]

    def _rows(self) -> list[dict[str, object]]:
        return [{"prompt": chip, "why": text} for text, chip in self._lines()]

    def _repr_html_(self) -> Html:
        lines = self._lines() or [(self._sentence(), Chip("ready", "good"))]
        return html_of(*(html_note(text, chip=chip) for text, chip in lines))


def check_prompt(bundle: Bundle, golden: GoldenSet) -> PromptCheck:
    """What a bundle's prompt lacks: names that no case has, and inputs that the model would not see.

    >>> from llmlab import Case
    >>> bundle = Bundle.from_prompt("{{ questoin }}", model="offline/extractive-1")
    >>> check_prompt(bundle, GoldenSet((Case(id="q1", inputs={"question": "Why?"}),))).errors[0]
    "the template needs 'questoin', which is not among the inputs (question); did you mean {{ question }}?"
    """
    shared = set.intersection(*(set(case.inputs) for case in golden))
    offered = shared | ({PASSAGES} if bundle.retrieval is not None else set())
    used = bundle.prompt.placeholders
    if gaps := unfilled(bundle, golden):
        meant = [near[0] for name in sorted(used - offered) if (near := difflib.get_close_matches(name, offered, 1))]
        hint = f"; did you mean {', '.join(f'{{{{ {name} }}}}' for name in meant)}?" if meant else ""
        more = f" ({len(gaps):,} of {len(golden):,} cases)" if 1 < len(gaps) < len(golden) else ""
        return PromptCheck(errors=(f"{gaps[0][1]}{hint}{more}",))
    queried = placeholders(bundle.retrieval.query) if bundle.retrieval is not None else frozenset[str]()
    unseen = sorted(name for name in offered - used - queried) or sorted(offered - used if not used & offered else ())
    return PromptCheck(
        warnings=tuple(f"{{{{ {name} }}}} is not in the prompt: the model will not see it." for name in unseen)
    )


def next_version(folder: str | Path) -> tuple[Path, str]:
    """The next free file of a folder of bundles, and the version to go with it: `v4.yaml` after `v3.yaml`.

    The version counts as the files do ("4.0.0" beside 3.0.0 in v3.yaml), else the highest one's middle number goes up.
    """
    folder = located(folder)
    bundles = load_bundles(folder) if folder.is_dir() and any(folder.glob("*.y*ml")) else {}
    numbered = [(int(match["number"]), match["prefix"], stem) for stem in bundles if (match := _NUMBERED.match(stem))]
    number, prefix, last = max(numbered, default=(len(bundles), "v", ""))
    versions = [_numbers(bundle.version) for bundle in bundles.values()]
    highest = max((version for version in versions if version), default=None)
    if highest is None or (last and (_numbers(bundles[last].version) or (0,))[0] == number):
        version = f"{number + 1}.0.0"
    else:
        version = f"{highest[0]}.{highest[1] + 1}.0"
    return folder / f"{prefix}{number + 1}.yaml", version


def save_next(
    bundle: Bundle,
    folder: str | Path,
    *,
    stem: str = "",
    notes: str = "",
    tried: Iterable[str] = (),
    golden: GoldenSet | None = None,
) -> Path:
    """The bundle as the next free version in the folder; no file is ever overwritten.

    Args:
        bundle: what is saved; its metadata go along, but for the notes.
        stem: the file's name without `.yaml`; by default the next one.
        notes: what a reader should know of this version.
        tried: digests of the candidates that it was chosen among on `golden`, earlier ones are kept.

    Raises:
        ValueError: the folder holds this very behaviour, or a file of this name, already, or the name is none.
        DataError: a key stands in the bundle.
    """
    if stem and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", stem):
        raise ValueError(f"file == {stem!r}, must be of letters, digits, _, - and .")
    refuse_secrets({bundle.name: bundle}, None)
    folder = located(folder)
    folder.mkdir(parents=True, exist_ok=True)
    saved = load_bundles(folder) if any(folder.glob("*.y*ml")) else {}
    if same := [stem for stem, saved_bundle in saved.items() if saved_bundle.digest == bundle.digest]:
        raise ValueError(f"{same[0]} is this bundle already: nothing it does was changed")
    metadata = {key: value for key, value in bundle.metadata.items() if key != "notes"}
    metadata |= {"notes": notes} if notes else {}
    if golden is not None:
        metadata[TRIED] = _counted(bundle.metadata.get(TRIED), golden, {*tried, bundle.digest})
    while True:
        path, version = next_version(folder)
        path = folder / f"{stem}.yaml" if stem else path
        text = bundle.with_(version=version, metadata=metadata).to_yaml()
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            if stem:
                raise ValueError(f"{path.name} is there already, and stays; give another name") from None
            continue  # somebody else saved at the same moment
        return path


def _counted(before: Any, golden: GoldenSet, digests: set[str]) -> dict[str, list[str]]:
    """What was tried before on each golden set, and these digests on this one and its parent."""
    tried = {str(key): list(value) for key, value in before.items()} if isinstance(before, Mapping) else {}
    for digest in filter(None, (golden.digest, golden.parent)):
        tried[digest] = sorted({*tried.get(digest, ()), *digests})
    return tried


def _numbers(version: str) -> tuple[int, int, int] | None:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
