"""Sampling parameters as a provider and model take them: renamed where they must be, refused where they cannot be sent.

The rules are data (`sampling_rules.yaml`, with the page each was read from). Used by the wire formats before any call,
and by `llmlab check-model`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from llmlab.base.errors import RequestRefusedError
from llmlab.base.yamlfile import read_yaml
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.base import LARGEST_CACHE, Request

__all__ = ["sampling_rules", "wire_sampling"]

RULES_FILE = Path(__file__).with_name("sampling_rules.yaml")
RESERVED = frozenset({"model", "messages", "system", "stream", "stream_options", "tools", "n"})  # ours to set


def wire_sampling(request: Request, *, rules: str | None = None) -> dict[str, Any]:
    """The request's sampling parameters and seed under the names that its provider and model take; not to be changed.

    Args:
        rules: whose rules hold, by default those of the model's provider.

    Raises:
        RequestRefusedError: one of them cannot be sent there; nothing is ever left out in silence.

    >>> from llmlab.bundle.bundle import Sampling
    >>> o3 = ModelRef.parse("openai/o3-2025-04-16")
    >>> wire_sampling(Request(model=o3, messages=(), sampling=Sampling(max_tokens=200)))
    {'max_completion_tokens': 200}
    """
    name = rules or request.model.provider
    if request.seed is not None:
        return _sent(request.model, request.sampling, request.seed, name)
    place = (id(request.model), id(request.sampling), name)  # all calls of a bundle share both
    known = _KNOWN.get(place)
    if known is None:
        sent = _sent(request.model, request.sampling, None, name)
        if len(_KNOWN) >= LARGEST_CACHE:
            _KNOWN.clear()
        known = _KNOWN[place] = (request.model, request.sampling, sent)
    return known[2]


def sampling_rules(rules: str, model_id: str) -> tuple[tuple[str, ...], str]:
    """What a model does not take under these rules (a provider's, or "anthropic_messages"), one sentence each.

    Also the page this was read from, "" without rules.

    >>> sampling_rules("anthropic_messages", "claude-haiku-4-5-20251001")[0][-1]
    'not temperature and top_p together'
    """
    told: dict[str, str] = {}
    source = ""
    for level in _rules_for(rules, model_id):
        source = level.get("source", source)
        for name, rule in level.get("refuse", {}).items():
            but = f" but {', '.join(map(str, rule['only']))}" if "only" in rule else ""
            but = f" above {rule['at_most']}" if "at_most" in rule else but
            told[name] = f"no {name}{but}: {rule['why']}"
        if both := level.get("not_both"):
            told[" ".join(both)] = f"not {' and '.join(both)} together"
    return tuple(told.values()), source


def _sent(model: ModelRef, sampling: Sampling, seed: int | None, rules: str) -> dict[str, Any]:
    given = {key: value for key, value in sampling.sent.items() if key != "extra"}
    if seed is not None:
        given["seed"] = seed
    extra = sampling.extra
    if clash := sorted((given.keys() | RESERVED) & extra.keys()):
        raise RequestRefusedError(
            f"sampling.extra sets {', '.join(clash)}, which is set elsewhere; remove it there", attempts=0
        )
    given.update(extra)
    renamed: dict[str, str] = {}
    for level in _rules_for(rules, model.id):
        renamed.update(level.get("rename", {}))
        for name, rule in level.get("refuse", {}).items():
            if name in given and not _passes(given[name], rule, given):
                raise _refusal(model, f"{name} == {given[name]!r}", rule["why"])
        both = level.get("not_both", ())
        if both and all(name in given for name in both):
            raise _refusal(model, " and ".join(both), "it takes only one of them")
    return {renamed.get(name, name): _plain(value) for name, value in given.items()}


def _passes(value: Any, rule: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    unless = rule.get("unless", {})
    if unless and all(given.get(name) == wanted for name, wanted in unless.items()):
        return True
    return value in rule.get("only", ()) or ("at_most" in rule and value <= rule["at_most"])


def _refusal(model: ModelRef, what: str, why: str) -> RequestRefusedError:
    return RequestRefusedError(
        f"{model} cannot be sent {what}: {why}. Remove it from the bundle's sampling", attempts=0
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _rules_for(name: str, model_id: str) -> Iterator[dict[str, Any]]:
    rules = _all_rules()
    family = rules.get(name, {})
    family = rules[family["same_as"]] if "same_as" in family else family
    yield family
    for rule in rules[family["models_as"]]["models"] if "models_as" in family else family.get("models", ()):
        if re.fullmatch(rule["match"], model_id):
            yield rule
            return


@cache
def _all_rules() -> dict[str, dict[str, Any]]:
    rules: dict[str, dict[str, Any]]
    rules, _ = read_yaml(RULES_FILE)
    return rules


# the values are kept, so that their ids stay their own
_KNOWN: dict[tuple[int, int, str], tuple[ModelRef, Sampling, dict[str, Any]]] = {}
