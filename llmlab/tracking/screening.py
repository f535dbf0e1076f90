"""What may be logged of a run: keys are refused, personal data is flagged, redacted or refused, as one policy says.

`tracking.log` screens results before anything is written; kept notebooks are screened when the project's policy is
to redact. The policy is `pii` under [tool.llmlab] in pyproject.toml, or an argument.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from llmlab.base.errors import DataError
from llmlab.base.private import API_KEY, Found, find_pii, project_key, pseudonymised, told
from llmlab.base.project import pii_policy
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.checks import refuse_secrets
from llmlab.results.results import Results

_JSON_COLUMNS = ("explanations", "tool_calls", "steps")
_TEXT_COLUMNS = ("case_id", "text", "thought", "error")


def screened(results: Results, *, pii: str | None, root: Path) -> Results:
    """The results as they may be logged; under "redact" a copy with pseudonyms that keeps the digest of the original.

    Args:
        pii: "flag" (say what is there and log it), "redact" or "refuse"; None for the project's policy.

    Raises:
        DataError: a key stands in a bundle, a case or an answer (only "redact" cuts out what looks like one), or
            the policy is "refuse" and there is personal data. It names cases and kinds, never the data itself.
    """
    refuse_secrets(results.bundles, results.golden, results.provenance, results.notes)
    policy = pii or pii_policy(root)
    if policy not in ("flag", "redact", "refuse"):
        raise ValueError(f"pii == {policy!r}, must be 'flag', 'redact' or 'refuse'")
    prompts = [name for name, bundle in results.bundles.items() if find_pii(bundle.prompt.model_dump_json())]
    if prompts and policy == "refuse":
        raise DataError(f"personal data in the prompt of {prompts[0]}: nothing was logged; take it out of the bundle")
    if prompts:
        logged = f"Personal data is logged with the prompt of {', '.join(prompts)}, which its digest says word by word"
        warnings.warn(f"{logged}: take it out of the bundle, if it is not meant", RuntimeWarning, stacklevel=3)
    personal = _personal(results)
    if not personal:
        return results
    if policy == "redact":
        return _redacted(results, redactor(root))
    keys = tuple(case for case in personal if API_KEY in case.kinds)
    if keys or policy == "refuse":
        found = f"{'what looks like API keys' if keys else 'personal data'} in cases {told(keys or personal)}"
        advice = 'take it out, or log with pii="redact", which keeps pseudonyms in its place'
        raise DataError(f"{found}: nothing was logged; {advice}")
    announced = dict(results.golden.personal if results.golden is not None else ())
    if all(set(case.kinds) <= set(announced.get(case.case_id, ())) for case in personal):
        return results  # the cases' own was told before they were sent
    rule = 'pii="redact" keeps pseudonyms in its place, pii = "redact" under [tool.llmlab] makes that the rule'
    warnings.warn(f"Personal data is logged with cases {told(personal)}; {rule}", RuntimeWarning, stacklevel=3)
    return results


def redactor(root: Path) -> Callable[[Any], Any]:
    """What replaces personal data in a text or JSON value by this project's pseudonyms."""
    folder = root / "mlruns"
    folder.mkdir(parents=True, exist_ok=True)
    return partial(pseudonymised, key=project_key(folder))


def redacted_cases(golden: GoldenSet, redact: Callable[[Any], Any]) -> GoldenSet:
    """The golden set as "redact" logs it: to compare what was logged with what there is today."""
    return replace(golden, cases=tuple(Case.from_row(redact(case.to_row())) for case in golden))


def _personal(results: Results) -> tuple[Found, ...]:
    """What cases and answers hold, by case."""
    kinds: dict[str, dict[str, None]] = {}
    for case_id, of_case in results.golden.personal if results.golden is not None else ():
        kinds[case_id] = dict.fromkeys(of_case)
    columns = [name for name in (*_TEXT_COLUMNS, *_JSON_COLUMNS, "retrieved") if name in results.columns]
    for texts in results.answers(*columns):
        if of_answer := find_pii("\n".join(map(str, texts))):
            case_id = pseudonymised(str(texts[columns.index("case_id")]), key=None)
            kinds.setdefault(case_id, {}).update(dict.fromkeys(of_answer))
    return tuple(Found(case_id, tuple(of_case)) for case_id, of_case in kinds.items())


def _redacted(results: Results, redact: Callable[[Any], Any]) -> Results:
    texts = [name for name in _TEXT_COLUMNS if name in results.columns]
    changed: dict[str, Any] = {name: [redact(str(text)) for (text,) in results.answers(name)] for name in texts}
    for name in (name for name in _JSON_COLUMNS if name in results.columns):
        changed[name] = [json.dumps(redact(json.loads(text))) if text else text for (text,) in results.answers(name)]
    changed["retrieved"] = [redact(ids) for (ids,) in results.answers("retrieved")]
    shown = None if results.golden is None else redacted_cases(results.golden, redact)
    contents = dict(zip([case.id for case in shown or ()], results.contents.values(), strict=True))
    return replace(
        results.with_columns(**changed),
        golden=shown,
        notes=tuple(redact(note) for note in results.notes),
        provenance=replace(results.provenance, redacted_from=results.digest, contents=contents),
    )
