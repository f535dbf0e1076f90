"""Variants made of bundles and the values to try: `grid`, and which axes differ between variants."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmlab.bundle.bundle import BESIDE, Bundle, Sampling
from llmlab.bundle.prompt import Prompt


def grid(variants: Mapping[str, Bundle] | Bundle, **axes: Sequence[Any]) -> dict[str, Bundle]:
    """Every combination of the axes applied to every bundle, named after what was set; models by what tells them apart.

    >>> base = Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", name="qa")
    >>> list(grid({"v1": base}, temperature=[0.0, 0.7]))
    ['v1@temperature=0.0', 'v1@temperature=0.7']
    >>> list(grid({"v1": base}, model=["mistral/mistral-small-2506", "mistral/mistral-medium-2508"]))
    ['v1 · small', 'v1 · medium']
    """
    bundles = {variants.name: variants} if isinstance(variants, Bundle) else variants
    for axis, values in axes.items():
        if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
            raise ValueError(f"{axis} == {values!r}, must be a non-empty list of values to try")
    short = _short_names([str(model) for model in axes.get("model", ())])
    combined: dict[str, Bundle] = {}
    for (name, bundle), point in itertools.product(bundles.items(), itertools.product(*axes.values())):
        settings = dict(zip(axes, point, strict=True))
        label = ",".join(f"{axis}={_shown(value)}" for axis, value in settings.items() if axis != "model")
        model = f"{BESIDE}{short[str(settings['model'])]}" if "model" in settings else ""
        variant = f"{name}{model}@{label}" if label else f"{name}{model}"
        if variant in combined:
            raise ValueError(f"{variant!r} occurs twice: an axis repeats a value")
        combined[variant] = bundle.with_(**settings) if settings else bundle
    return combined


def axes(variants: Mapping[str, Bundle]) -> dict[str, tuple[Any, ...]]:
    """What differs between variants, one value each: `prompt`, `model` and sampling parameters, as `grid` sets them.

    One prompt under several names is called by the first of them.

    >>> base = Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", name="qa")
    >>> axes(grid({"v1": base}, temperature=[0.0, 0.7]))
    {'temperature': (0.0, 0.7)}
    """
    prompts: dict[Prompt, str] = {}
    for name, bundle in variants.items():
        prompts.setdefault(bundle.prompt, name.partition("@")[0].partition(BESIDE)[0])
    bundles = variants.values()
    columns: dict[str, tuple[Any, ...]] = {
        "prompt": tuple(prompts[bundle.prompt] for bundle in bundles),
        "model": tuple(str(bundle.model) for bundle in bundles),
        **{name: tuple(getattr(bundle.sampling, name) for bundle in bundles) for name in Sampling.model_fields},
    }
    return {name: column for name, column in columns.items() if any(value != column[0] for value in column)}


def _shown(value: Any) -> Any:
    """A value of an axis in a name: of a thinking budget its tokens, else as it is."""
    return value["budget_tokens"] if isinstance(value, Mapping) and "budget_tokens" in value else value


def _short_names(models: Sequence[str]) -> dict[str, str]:
    """Each model's name without the provider, the date, and the words that all of them begin or end with.

    A number alone is no name: gpt-4.1 and gpt-5 stay as they are.
    """
    ids = [model.partition("/")[2] for model in models]
    bare = [re.sub(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$", "", model_id) for model_id in ids]
    names = next(candidates for candidates in (bare, ids, models) if len(set(candidates)) == len(set(models)))
    words = [re.findall(r"[^-_:/ ]+[-_:/ ]*", name) for name in names]
    for end, others in ((0, slice(1, None)), (-1, slice(None, -1))):
        while len(models) > 1 and min(map(len, words)) > 1 and len({word[end].rstrip("-_:/ ") for word in words}) == 1:
            shorter = [word[others] for word in words]
            if any(not re.search("[A-Za-z]", "".join(word)) for word in shorter):
                break
            words = shorter
    return {model: "".join(word).rstrip("-_:/ ") for model, word in zip(models, words, strict=True)}
