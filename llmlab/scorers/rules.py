"""Scorers that hold an answer against a rule: JSON, a schema, a pattern, a tool to call, a length."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llmlab.clients.base import Generation
from llmlab.golden.cases import Case
from llmlab.scorers.answers import count_words
from llmlab.scorers.base import Score, Scorer, scorer


@scorer(revision=1)
def valid_json(case: Case, generation: Generation) -> Score:
    """1 when the whole answer is one JSON value, without anything around it."""
    try:
        parsed_json(generation.text)
    except ValueError as error:
        return Score(value=0.0, explanation=f"not JSON: {error}")
    return Score(value=1.0)


def regex(pattern: str, *, name: str = "regex") -> Scorer:
    """1 when the pattern is found in the answer. The pattern is yours: nested repeats like `(a+)+` may take forever.

    >>> calls_dropna = regex(r"\\.dropna\\(", name="calls_dropna")
    >>> calls_dropna(Case(id="q1", inputs={"question": "?"}), Generation(text="df.dropna()")).value
    1.0
    """
    compiled = re.compile(pattern)

    @scorer(name=name, revision=1)
    def found(case: Case, generation: Generation) -> bool:
        return compiled.search(generation.text) is not None

    return found


def json_schema(schema: Mapping[str, Any], *, name: str = "json_schema") -> Scorer:
    """1 when the answer is JSON that the schema allows; a `$ref` to another place is never fetched."""
    import jsonschema
    import referencing
    import referencing.exceptions

    source = json.dumps(schema, sort_keys=True)  # the function closes over it, so it is part of the digest
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(json.loads(source))
    except jsonschema.SchemaError as error:
        raise ValueError(f"the schema of {name!r} is no JSON schema: {error.message}") from None
    validator = kind(json.loads(source), registry=referencing.Registry())

    @scorer(name=name, revision=1)
    def allowed(case: Case, generation: Generation) -> Score:
        """1 when the answer is JSON that the schema allows."""
        try:
            error = next(iter(validator.iter_errors(parsed_json(generation.text))), None)
        except ValueError as broken:
            return Score(value=0.0, explanation=f"not JSON: {broken}")
        except referencing.exceptions.Unresolvable as unresolved:
            return Score(value=None, explanation=f"{unresolved.ref} is not in the schema {source[:200]}")
        return Score(value=error is None, explanation="" if error is None else f"{error.json_path}: {error.message}")

    return allowed


def calls_tool(tool: str, arguments: Mapping[str, Any] | None = None, *, name: str = "calls_tool") -> Scorer:
    """1 when the answer calls this tool, and where arguments are given with these (others may be there too)."""
    wanted = dict(arguments or {})

    @scorer(name=name, revision=1)
    def called(case: Case, generation: Generation) -> Score:
        calls = [call for call in generation.tool_calls if call.get("name") == tool]
        given = [call["arguments"] for call in calls if isinstance(call.get("arguments"), Mapping)]
        if calls and not wanted:
            return Score(value=1.0)
        right = any(all(key in had and had[key] == value for key, value in wanted.items()) for had in given)
        names = ", ".join(str(call.get("name")) for call in generation.tool_calls) or "no tool"
        return Score(value=right, explanation="" if right else f"called {names}; arguments {given}"[:500])

    return called


def length_between(low_words: int, high_words: int, *, name: str = "length_between") -> Scorer:
    """1 when the answer has from `low_words` to `high_words` words, both included."""
    if not 0 <= low_words <= high_words:
        raise ValueError(f"low_words == {low_words}, high_words == {high_words}: must be 0 <= low_words <= high_words")

    @scorer(name=name, revision=1)
    def fits(case: Case, generation: Generation) -> Score:
        words = count_words(generation.text)
        return Score(value=low_words <= words <= high_words, explanation=f"{words:,} words")

    return fits


def parsed_json(text: str) -> Any:
    """The JSON value that a whole text is; ValueError says why it is none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON value")
