"""The bundle: prompt + pinned model + sampling + retrieval + tools as one immutable value with one digest.

Everything else refers to it: a run measures it, a gate judges it, a receipt names it, the registry holds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from llmlab import bundle, display
from llmlab.base.documents import Strict, broken_rule, write_whole
from llmlab.base.errors import FileRuleError, FloatingModelError
from llmlab.base.lazy import lent
from llmlab.base.project import located
from llmlab.base.yamlfile import OfFolder, read_model, to_yaml
from llmlab.bundle.pinning import Pinning, judge_pin
from llmlab.bundle.prompt import IS_TEMPLATE, LARGEST_INTEGER, Frozen, Prompt, Text, from_files, frozen_json

BESIDE = " · "  # between a prompt and its model in a variant's name
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_][A-Za-z0-9_-]*)*$", max_length=120)]
Word = Annotated[str, Field(min_length=1, max_length=400)]
Count = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]


class _Value(Strict):
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A validated copy; pydantic's own would carry the cached digest of the original along."""
        values = {field: getattr(self, field) for field in type(self).model_fields}
        return type(self).model_validate({**values, **(update or {})})


class PinOverride(_Value):
    """Who vouches for a floating model id, and why."""

    who: Annotated[Word, Field(pattern=r"\w")]
    why: Annotated[Word, Field(pattern=r"\w")]


class ModelRef(_Value):
    """A model's identity: provider and id; for self-hosted weights a revision or digest and the quantisation.

    In a file `provider/id` will do.
    """

    provider: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    id: Word
    revision: Word | None = None
    quantisation: Word | None = None
    pin_override: PinOverride | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _or_in_one_text(cls, raw: Any) -> Any:
        return cls._parts(raw) if isinstance(raw, str) else raw

    @staticmethod
    def _parts(text: str) -> dict[str, str]:
        provider, slash, model_id = text.partition("/")
        if not slash:
            raise ValueError(f"{text!r} names no provider; write provider/id")
        return {"provider": provider, "id": model_id}

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """`provider/id` as a ModelRef; the id may itself contain slashes.

        >>> ModelRef.parse("openai/gpt-4o-2024-08-06").id
        'gpt-4o-2024-08-06'
        """
        return cls.model_validate(cls._parts(text))

    @property
    def pinned(self) -> Pinning:
        """Whether this id will keep naming the same weights, with the reason; an override is recorded in it."""
        verdict = judge_pin(self.provider, self.id, revision=self.revision)
        if verdict.pinned or self.pin_override is None:
            return verdict
        who, why = self.pin_override.who, self.pin_override.why
        reason = f"{verdict.reason}; {who} vouches for it: {why}"
        return Pinning(provider=self.provider, model_id=self.id, pinned=True, reason=reason, overridden_by=who)

    def require_pinned(self) -> None:
        """FloatingModelError where the model may change under its name: no release rests on such a one."""
        if not (pin := self.pinned):
            raise FloatingModelError(provider=self.provider, model_id=self.id, reason=pin.reason)

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What decides the answer: everything but the override."""
        identity: Mapping[str, str] = frozen_json(self.model_dump(exclude={"pin_override"}, exclude_none=True))
        return identity

    def __str__(self) -> str:
        return f"{self.provider}/{self.id}"


class Sampling(_Value):
    """Sampling parameters; None = not sent. `extra` is passed to the endpoint as it is.

    `max_completion_tokens` counts a reasoning model's thought too, as `max_tokens` does where a wire has only that;
    `thinking` is `{budget_tokens: 2000}`, or what else the provider takes.
    """

    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Count | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    reasoning_effort: Word | None = None
    thinking: Frozen | None = None
    stop: Annotated[tuple[Word, ...], Field(strict=False)] = ()
    seed: Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    response_format: Frozen | None = None
    extra: Frozen = Field(default_factory=lambda: Frozen())

    @pydantic.model_validator(mode="after")
    def _one_limit(self) -> Sampling:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens and max_completion_tokens bound the same; keep one")
        budget = 1 if self.thinking is None else self.thinking.get("budget_tokens", 1)
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
            raise ValueError(f"thinking.budget_tokens == {budget!r}, must be a number of tokens >= 1")
        return self

    @property
    def tokens_at_most(self) -> int | None:
        """The most tokens that an answer may have, its thought included; None = nothing bounds it."""
        return self.max_tokens or self.max_completion_tokens

    @cached_property
    def sent(self) -> Mapping[str, Any]:
        """The parameters that are set, seed left out (it goes out with the repeat added)."""
        values = {key: getattr(self, key) for key in type(self).model_fields if key != "seed"}
        sent: Mapping[str, Any] = frozen_json({key: v for key, v in values.items() if v not in (None, (), {})})
        return sent


class CorpusRef(_Value):
    """Where the documents come from: exactly one of an installed package, a JSONL file, a folder of Markdown."""

    package: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")] | None = None
    jsonl: Word | None = None
    folder: Word | None = None

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> CorpusRef:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("name exactly one of package, jsonl, folder")
        return self


class Chunking(_Value):
    """How documents are cut: words per chunk, words shared by neighbours, whether headings start a new chunk."""

    size_words: Annotated[int, Field(ge=10)]
    overlap_words: Annotated[int, Field(ge=0)] = 0
    by_heading: bool = False

    @pydantic.model_validator(mode="after")
    def _overlap_is_smaller(self) -> Chunking:
        if self.overlap_words >= self.size_words:
            raise ValueError(f"overlap_words == {self.overlap_words}, must be < size_words == {self.size_words}")
        return self


class RetrievalConfig(_Value):
    """Which documents go into the prompt: corpus, retriever and its options, how many, and how they are cut.

    `query` is a template over a case's inputs. `distinct_by` "group" keeps only the best document of each
    group (for a package: the functions of one name). `passage_chars` cuts what the prompt shows of each.
    """

    corpus: CorpusRef
    retriever: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] = "bm25"
    k: Annotated[int, Field(ge=1, le=1000)] = 5
    query: Annotated[Text, IS_TEMPLATE] = "{{ question }}"
    distinct_by: Literal["document", "group"] | None = None
    passage_chars: Annotated[int, Field(ge=50)] | None = None
    chunking: Chunking | None = None
    embedding: ModelRef | None = None
    options: Frozen = Field(default_factory=lambda: Frozen())


class Tool(_Value):
    """A function the model may call: its name, what it is for, and the JSON schema of its arguments.

    Read in OpenAI's format too, where it stands under `function`; `strict` holds the model to the schema.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Text = ""
    parameters: Frozen = Field(default_factory=lambda: Frozen({"type": "object", "properties": {}}))
    strict: bool | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _or_as_openai_writes_it(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("type") != "function":
            return raw
        return raw.get("function", {key: value for key, value in raw.items() if key != "type"})


TRIED = "tried"  # in a bundle's metadata: golden digest -> digests of the candidates that were tried on it


class Bundle(_Value):
    """One immutable, fully described way of answering, with a digest over everything that decides its behaviour."""

    name: Name
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]*$", max_length=60)]
    model: ModelRef
    prompt: Prompt
    sampling: Sampling = Field(default_factory=Sampling)
    retrieval: RetrievalConfig | None = None
    tools: Annotated[tuple[Tool, ...], Field(strict=False)] = ()
    metadata: Frozen = Field(default_factory=lambda: Frozen())

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """The bundle in a YAML file; FileRuleError with file, line and rule for anything that is not one."""
        return read_model(cls, path, completed=lambda data: from_files(data, path))

    @classmethod
    def from_prompt(cls, template: str, *, model: str | ModelRef, name: str = "prompt", **changes: Any) -> Bundle:
        """A bundle around one template.

        >>> Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", temperature=0.0).sampling.temperature
        0.0
        """
        ref = ModelRef.parse(model) if isinstance(model, str) else model
        plain = cls(name=name, version="0.1.0", model=ref, prompt=Prompt(template=template))
        return plain._changed(changes) if changes else plain

    def save(self, path: str | Path) -> Path:
        """Write the bundle as YAML; refuses to overwrite a file that holds another version's content."""
        path = Path(path)
        if path.exists() and (saved := Bundle.load(path)).digest != self.digest and saved.version == self.version:
            raise FileRuleError(
                f"holds version {saved.version} with other content; give the changed bundle a new version", path=path
            )
        return write_whole(path, self.to_yaml())

    def to_yaml(self) -> str:
        """The bundle as the YAML that `load` reads."""
        return to_yaml(self.model_dump(mode="json", exclude_none=True, exclude_defaults=True))

    @cached_property
    def behaviour(self) -> Mapping[str, Any]:
        """The fields that decide what it answers, absent ones left out: what the digest is computed over."""
        fields = self.model_dump(mode="json", exclude_none=True, exclude={"name", "version", "metadata"})
        fields["model"].pop("pin_override", None)
        behaviour: Mapping[str, Any] = frozen_json(_without_empty(fields))
        return behaviour

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the RFC 8785 canonical JSON of `behaviour`."""
        import rfc8785

        return hashlib.sha256(rfc8785.dumps(self.behaviour)).hexdigest()

    def request(self, **inputs: Any) -> Any:
        """The `Request` that a service sends for these inputs: passages searched, prompt filled, tools included.

        The index is built at the first one; corpus paths start from the working directory, as a service's do.

        Raises:
            PromptError: an input is missing, or the prompt or the query cannot be filled with what is given.
        """
        return lent("request_of")(self, inputs)

    def with_(self, **changes: Any) -> Bundle:
        """A changed copy. Keys are the names of fields at any level: `temperature=0.7, k=8, model="openai/..."`.

        The version gets the new digest's first 8 digits appended, so that it cannot be taken for the original.

        Raises:
            ValueError: an unknown field, or a value that it cannot have; says in one line which and why.

        >>> Bundle.from_prompt("{{ question }}", model="offline/extractive-1").with_(temperature=-1.0)
        Traceback (most recent call last):
        ...
        ValueError: sampling.temperature: must be >= 0
        """
        changed = self._changed(changes)
        if changed.digest == self.digest or "version" in changes:
            return changed
        base = self.version.partition("+")[0]
        return changed.model_copy(update={"version": f"{base}+{changed.digest[:8]}"})

    def diff(self, other: Bundle) -> bundle.BundleDiff:
        """What changes from this bundle to the other, field by field; in a notebook texts are compared word by word."""
        names = (f"{self.name} {self.version}", f"{other.name} {other.version}")
        if names[0] == names[1]:  # two bundles of one name and version are told apart by what they do
            names = (f"{names[0]} ({self.digest[:8]})", f"{names[1]} ({other.digest[:8]})")
        return bundle.difference.between(
            self.behaviour, other.behaviour, names=names, digests=(self.digest, other.digest)
        )

    def _changed(self, changes: Mapping[str, Any]) -> Bundle:
        data = self.model_dump()
        for key, value in changes.items():
            data = _with_field(data, key, value)
        try:
            return Bundle.model_validate(data)
        except pydantic.ValidationError as error:
            raise ValueError(broken_rule(error)) from None

    def __repr__(self) -> str:
        return f"Bundle({self.name} {self.version}, {self.model}, digest={self.digest[:8]})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        fields = bundle.difference.flat(self.behaviour)
        rows: list[dict[str, object]] = [{"field": key, "value": value} for key, value in fields.items()]
        caption = f"{self.name} {self.version}, digest {self.digest[:8]}. {self.model.pinned.reason}."
        return display.html.html_table(rows, caption=caption)


def load_bundles(folder: str | Path) -> dict[str, Bundle]:
    """Every `*.yaml` of a folder as {file stem: bundle}, in the order of their names."""
    place = located(folder)
    paths = sorted([*place.glob("*.yaml"), *place.glob("*.yml")])
    if not paths:
        raise FileRuleError("no bundle (*.yaml) in this folder", path=folder)
    bundles: dict[str, Bundle] = {}
    for path in paths:
        if path.stem in bundles:
            raise FileRuleError(f"there is another bundle {path.stem!r} in this folder (.yaml and .yml)", path=path)
        bundles[path.stem] = Bundle.load(path)
    return OfFolder(folder, bundles)


_OWNERS: dict[str, str] = {
    **dict.fromkeys(Sampling.model_fields, "sampling"),
    **dict.fromkeys(Prompt.model_fields, "prompt"),
    **dict.fromkeys(RetrievalConfig.model_fields, "retrieval"),
    **dict.fromkeys(("revision", "quantisation", "pin_override"), "model"),
}


def _with_field(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    if key == "model" and isinstance(value, str):
        value = ModelRef.parse(value)
    if isinstance(value, pydantic.BaseModel):
        value = value.model_dump()
    if key == "prompt" and isinstance(value, str):
        key = "template"  # of the prompt that is there
    if key in Bundle.model_fields:
        return {**data, key: value}
    owner = _OWNERS.get(key)
    if owner is None:
        fields = ", ".join(sorted({*Bundle.model_fields, *_OWNERS}))
        raise ValueError(f"{key!r} is no field of a bundle (known: {fields})")
    if data[owner] is None:
        raise ValueError(f"{key!r} belongs to {owner}, which this bundle does not have")
    replaced = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}.get(key)
    others = {name: item for name, item in data[owner].items() if name != replaced}
    return {**data, owner: {**others, key: value}}


# here empty values mean something to the endpoint
_FREE_FORM = frozenset({"extra", "options", "response_format", "thinking"})


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        cleaned = {key: item if key in _FREE_FORM else _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item not in ({}, [], "")}
    return value
