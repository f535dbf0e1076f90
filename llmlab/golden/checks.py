"""What can be known before the first call: cases that do not fill the prompt, or that the prompt gives away; keys.

`plan` calls `check_cases` for every variant, and `refuse_secrets` for every run, that of an app too.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from llmlab.base.errors import DataError, PromptError
from llmlab.base.private import API_KEY, find_pii, secrets_now
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.chat import is_chat, is_parts
from llmlab.bundle.template import Inserted, fill, pieces, placeholders
from llmlab.golden.cases import Case, GoldenSet

PASSAGES = "passages"  # what retrieval fills in
_HINTS = {
    PASSAGES: "; passages need a `retrieval:` in the bundle, and an example has its own among its inputs",
    "history": "; a question that begins a conversation is written as `messages` too, and has an empty history",
}
GROUPS_SHOWN = 3
_LEAKS_SHOWN = 20

_SINGLE_BRACES = re.compile(r"(?<!\{)\{ *(\w+) *\}(?!\})")


def check_cases(bundle: Bundle, golden: GoldenSet, *, variant: str) -> None:
    """Nothing, when every case fills the bundle's templates and none is one of its few-shot examples.

    Raises:
        PromptError: names the variant, the golden set, the first case and how many others.
    """
    if missing := unfilled(bundle, golden):
        case_id, why = missing[0]
        case_ids = tuple(dict.fromkeys(case_id for case_id, _ in missing))
        case = f"case {case_id!r} of the golden set {golden.name!r}" if case_id else f"(golden set {golden.name!r})"
        more = f" (and {len(case_ids) - 1:,} more)" if len(case_ids) > 1 else ""
        raise PromptError(f"variant {variant!r}: {why}, with {case}{more}", variant=variant, case_ids=case_ids)
    if leaking := leaks(bundle, golden):
        examples = [f"example {number} is {how} case {case_id!r}" for number, case_id, how in leaking]
        more = f" and {len(examples) - _LEAKS_SHOWN:,} more" if len(examples) > _LEAKS_SHOWN else ""
        raise PromptError(
            f"variant {variant!r} shows the model answers of the golden set {golden.name!r}: "
            f"{', '.join(examples[:_LEAKS_SHOWN])}{more}; take them out of the examples or out of the golden set",
            variant=variant,
            case_ids=tuple(dict.fromkeys(case_id for _, case_id, _ in leaking)),
        )


def refuse_secrets(bundles: Mapping[str, Bundle], golden: GoldenSet | None, *more: Any) -> None:
    """Nothing, when no secret of the environment stands in a bundle, a case or anything else that is given.

    A key inside a bundle or a case cannot be cut out without changing its digest.

    Raises:
        DataError: names the place and the variable, or says that a bundle holds something that looks like a key.
    """
    secrets, places = secrets_now(), [(f"bundle {name!r}", b.model_dump_json()) for name, b in bundles.items()]
    for place, text in places:
        if API_KEY in find_pii(text):
            raise DataError(f"{place} contains what looks like an API key, which is never sent or written; take it out")
    places += [("the run's record", json.dumps(part, default=str)) for part in more]
    if secrets and golden is not None:
        places.append(("the golden set", json.dumps([case.to_row() for case in golden], ensure_ascii=False)))
    for place, text in places:
        if name := next((name for spelling, name in secrets if spelling in text), ""):
            raise DataError(f"{place} contains the value of {name}, which is never written; take it out and run again")


def unfilled(bundle: Bundle, golden: GoldenSet) -> tuple[tuple[str, str], ...]:
    """(case id, what its inputs do not fill) for every case that cannot be asked; case id "" for an example.

    >>> bundle = Bundle.from_prompt("{{ question }} {{ context }}", model="offline/extractive-1")
    >>> unfilled(bundle, GoldenSet((Case(id="q1", inputs={"question": "?"}),)))
    (('q1', "the template needs 'context', which is not among the inputs (question)"),)
    """
    prompt, retrieval = bundle.prompt, bundle.retrieval
    extra = {PASSAGES: ""} if retrieval is not None else {}
    gaps_of = []
    for number, example in enumerate(prompt.examples, start=1):
        if why := _gap(prompt.template, example.inputs, f"the template with example {number}", try_it=True):
            gaps_of.append(("", why))
    for i, case in enumerate(golden):
        filled = {**extra, **case.inputs}
        parts = [("the system text", prompt.system, filled), ("the template", prompt.template, filled)]
        if retrieval is not None:
            parts.append(("the retrieval query", retrieval.query, dict(case.inputs)))
        gaps = (_gap(text, values, name, try_it=i == 0) for name, text, values in parts)
        if why := next(filter(None, gaps), ""):
            gaps_of.append((case.id, why))
    return tuple(gaps_of)


def leaks(bundle: Bundle, golden: GoldenSet) -> tuple[tuple[int, str, str], ...]:
    """(number of the example, case id, "the same as" or "nearly the same as") for every example that is a case.

    Compared are the inputs that the templates use; "nearly" leaves case, spacing and punctuation out.

    >>> prompt = {"template": "{{ question }}", "examples": [{"inputs": {"question": "What is NA ?"}, "output": "gap"}]}
    >>> bundle = Bundle.from_prompt("{{ question }}", model="offline/extractive-1", prompt=prompt)
    >>> leaks(bundle, GoldenSet((Case(id="q1", inputs={"question": "what is NA?"}),)))
    ((1, 'q1', 'nearly the same as'),)
    """
    if not bundle.prompt.examples:
        return ()
    used = _used(bundle)
    cases: dict[str, list[Case]] = {}
    for case in golden:
        cases.setdefault(signature(case.inputs, used), []).append(case)
    return tuple(
        (number, case.id, "the same as" if _same(example.inputs, case.inputs, used) else "nearly the same as")
        for number, example in enumerate(bundle.prompt.examples, start=1)
        for case in cases.get(signature(example.inputs, used), ())
    )


def same_requests(bundles: Iterable[Bundle], golden: GoldenSet) -> str:
    """A sentence on cases that fill a prompt alike, so that one answer is that of all of them; "" where none do.

    >>> cases = tuple(Case(id=name, inputs={"question": "?", "user": name}) for name in ("q1", "q2", "q3"))
    >>> bundle = Bundle.from_prompt("{{ question }}", model="offline/extractive-1")
    >>> same_requests([bundle], GoldenSet(cases)).partition(":")[0]
    '3 cases send the same request as another (q1 = q2 = q3)'
    """
    groups: dict[tuple[str, ...], None] = {}
    for used in {frozenset(_used(bundle)): None for bundle in bundles}:
        alike: dict[tuple[str, ...], list[str]] = {}
        names = sorted(used)
        for case in golden:
            alike.setdefault(tuple(_text(case.inputs.get(name)) for name in names), []).append(case.id)
        groups |= {tuple(ids): None for ids in alike.values() if len(ids) > 1}
    if not groups:
        return ""
    examples = [" = ".join(ids[:GROUPS_SHOWN]) + " ..." * (len(ids) > GROUPS_SHOWN) for ids in groups]
    more = f"; {len(examples) - GROUPS_SHOWN:,} more groups" if len(examples) > GROUPS_SHOWN else ""
    alike_ids = {case_id for ids in groups for case_id in ids}
    return (
        f"{len(alike_ids):,} cases send the same request as another ({'; '.join(examples[:GROUPS_SHOWN])}{more}): "
        "they get one answer, so each such group counts as one cluster."
    )


def unasked(bundles: Mapping[str, Bundle], golden: GoldenSet) -> str:
    """A sentence on prompts that leave the case out, or name an input in single braces; "" where none does.

    >>> golden = GoldenSet((Case(id="q1", inputs={"question": "?"}),))
    >>> unasked({"v1": Bundle.from_prompt("Q: {question}", model="offline/extractive-1")}, golden)
    "variant 'v1' sends {question} as it stands; write {{ question }} for the case's own"
    """
    inputs = {name for case in golden for name in case.inputs}
    flaws = []
    for variant, bundle in bundles.items():
        used = _used(bundle)
        single = {*_SINGLE_BRACES.findall(bundle.prompt.system), *_SINGLE_BRACES.findall(bundle.prompt.template)}
        if meant := sorted((single & inputs) - used):
            name = meant[0]
            flaws.append(
                f"variant {variant!r} sends {{{name}}} as it stands; write {{{{ {name} }}}} for the case's own"
            )
        elif inputs and not used & inputs:
            has = ", ".join(sorted(inputs))
            flaws.append(f"variant {variant!r} shows the model nothing of the cases (they have: {has})")
    return "; ".join(flaws)


def sent_as_json(bundles: Mapping[str, Bundle], golden: GoldenSet) -> str:
    """A sentence on values of the first case that are no text and are sent as JSON; "" where there are none.

    >>> golden = GoldenSet((Case(id="q1", inputs={"docs": ["a", "b"]}),))
    >>> sent_as_json({"v1": Bundle.from_prompt("{{ docs }}", model="offline/extractive-1")}, golden)
    'variant \\'v1\\' sends ["a", "b"], as JSON; {% for %} or | join(", ") makes it a text'
    """
    values = {PASSAGES: "", **golden.cases[0].inputs}
    for variant, bundle in bundles.items():
        texts = (bundle.prompt.system, bundle.prompt.template)
        for piece in itertools.chain.from_iterable(pieces(text, values) for text in texts):
            value = piece.value if isinstance(piece, Inserted) else None
            if value and not any(is_json(part) for is_json in (is_chat, is_parts) for part in (value, [value])):
                return f'variant {variant!r} sends {piece[:60]}, as JSON; {{% for %}} or | join(", ") makes it a text'
    return ""


def _used(bundle: Bundle) -> frozenset[str]:
    """The inputs that a bundle's templates use."""
    query = bundle.retrieval.query if bundle.retrieval is not None else ""
    return frozenset(bundle.prompt.placeholders | placeholders(query)) - {PASSAGES}


def _gap(text: str, values: Mapping[str, Any], name: str, *, try_it: bool) -> str:
    missing = sorted(placeholders(text) - set(values))
    if not (missing or try_it):
        return ""
    try:
        fill(text, values)  # a placeholder may be optional ({% if x is defined %}), so filling decides
    except ValueError as error:
        if not missing:
            return f"{name}: {error}"
        has = ", ".join(sorted(set(values) - {PASSAGES})) or "none"
        hint = _HINTS.get(missing[0], "") if len(missing) == 1 else ""
        return f"{name} needs {', '.join(map(repr, missing))}, which is not among the inputs ({has}){hint}"
    return ""


def signature(inputs: Mapping[str, Any], used: Iterable[str] | None = None) -> str:
    """What a case asks, but for case, spacing and punctuation: of two with one signature, one is nearly the other.

    `used` are the inputs that count, by default all.

    >>> signature({"question": "What is NA ?"}) == signature({"question": "what is  na"})
    True
    """
    names = sorted(inputs if used is None else set(inputs).intersection(used))
    return json.dumps([[name, _normal(inputs[name])] for name in names])


def _same(left: Mapping[str, Any], right: Mapping[str, Any], used: Iterable[str]) -> bool:
    return all(_text(left.get(name)) == _text(right.get(name)) for name in used)


def _normal(value: Any) -> str:
    folded = unicodedata.normalize("NFKC", _text(value)).casefold()
    words = "".join(char if char.isalnum() else " " for char in folded).split()
    return " ".join(words) or folded.strip()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
