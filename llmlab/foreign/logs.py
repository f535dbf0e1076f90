"""Other tools' logs as answers and scores: Inspect's evaluations and promptfoo's results, for `Results.from_...`."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlab.base.documents import read_bytes
from llmlab.base.errors import FileRuleError
from llmlab.foreign.datasets import Cases, document, listed, promptfoo_case, shaped_by

_LARGEST_LOG_BYTES = 4_000_000_000  # unpacked
LONGEST_LABEL_CHARS = 40
_ZSTANDARD = 93  # in a zip file
_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}  # Inspect's own marks: correct, incorrect, partly, no answer
_STATUS = {"content_filter": "refused", "max_tokens": "truncated", "model_length": "truncated"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The cases of a log, its answers as fields of a `Generation`, and each one's scores by name."""

    cases: Cases
    answers: tuple[Mapping[str, Any], ...]
    scores: tuple[Mapping[str, float], ...]
    left_out: tuple[str, ...] = ()


@shaped_by("Inspect")
def inspect_answers(path: str | Path) -> Answers:
    """The samples of an Inspect log (`.eval` or `.json`)."""
    header, samples = _inspect_log(Path(path))
    model = str(_at(header, "eval", "model") or "model")
    left_out, cases = Counter[str](), {}
    answers, scores = [], []
    for sample in samples:
        case_id = str(sample.get("id"))
        cases[case_id] = _inspect_case(sample, case_id)
        answers.append(_inspect_answer(sample, model, case_id))
        scores.append(dict(_numbers(sample.get("scores") or {}, left_out)))
        left_out.update(f"`{key}` of a sample" for key in ("metadata", "files", "sandbox", "setup") if sample.get(key))
        sample_input = sample.get("input")
        first = len(sample_input) if isinstance(sample_input, list) else 1
        left_out["messages between the first and the last of a sample"] += len(sample.get("messages") or ()) > first + 1
    if not answers:
        raise FileRuleError("holds no samples (was the log written with --no-log-samples?)", path=path)
    return Answers(
        cases=Cases(rows=tuple(cases.values())), answers=tuple(answers), scores=tuple(scores), left_out=listed(left_out)
    )


@shaped_by("promptfoo")
def promptfoo_answers(path: str | Path) -> Answers:
    """The outputs of a promptfoo results file (`promptfoo eval -o results.json`)."""
    content = document(path)
    results = _at(content, "results", "results")
    if not isinstance(results, list) or not results:
        raise FileRuleError("holds no results; write them with `promptfoo eval -o FILE.json`", path=path)
    left_out, rows, answers, scores = Counter[str](), dict[str, Any](), [], []
    left_out["`derivedMetrics` of the configuration"] += bool(_at(content, "config", "derivedMetrics"))
    names, times = _variants(results), Counter[tuple[str, str]]()
    for result in results:
        variant, case_id = names[result.get("promptIdx")], f"q{int(result.get('testIdx') or 0) + 1}"
        if case_id not in rows:
            rows[case_id] = promptfoo_case(case_id, _at(result, "testCase") or {"vars": result.get("vars")}, left_out)
        answers.append(
            {**_promptfoo_answer(result), "variant": variant, "case_id": case_id, "repeat": times[variant, case_id]}
        )
        times[variant, case_id] += 1
        grades = {"promptfoo_score": result.get("score"), "promptfoo_pass": result.get("success")}
        scores.append(dict(_numbers({**grades, **(result.get("namedScores") or {})}, left_out)))
        left_out["the reasons of a grade"] += bool(_at(result, "gradingResult", "componentResults"))
    return Answers(
        cases=Cases(rows=tuple(rows.values())), answers=tuple(answers), scores=tuple(scores), left_out=listed(left_out)
    )


def _inspect_log(path: Path) -> tuple[Mapping[str, Any], Iterator[Mapping[str, Any]]]:
    if path.suffix.lower() != ".eval":
        log = document(path)
        if not isinstance(log, Mapping) or "eval" not in log:
            raise FileRuleError("is no log of Inspect: it has no `eval`", path=path)
        return log, iter(log.get("samples") or ())
    raw = read_bytes(path)
    try:
        packed = zipfile.ZipFile(io.BytesIO(raw))
        parts = {part.filename: part for part in packed.infolist()}
        if sum(part.file_size for part in parts.values()) > _LARGEST_LOG_BYTES:
            raise FileRuleError(f"unpacks to more than {_LARGEST_LOG_BYTES:,} bytes", path=path)
        names = [name for name in parts if name.startswith("samples/")]
        header = json.loads(_unpacked(raw, packed, parts["header.json"]))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise FileRuleError(f"is no log of Inspect ({error})", path=path) from None
    return header, (json.loads(_unpacked(raw, packed, parts[name])) for name in names)


def _unpacked(raw: bytes, packed: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    """The content of a member; Inspect packs with Zstandard, which `zipfile` reads from Python 3.14 on."""
    if part.compress_type != _ZSTANDARD:
        return packed.read(part)
    import pyarrow

    name_length, extra_length = struct.unpack_from("<HH", raw, part.header_offset + 26)
    begins = part.header_offset + 30 + name_length + extra_length
    with pyarrow.input_stream(io.BytesIO(raw[begins : begins + part.compress_size]), compression="zstd") as stream:
        content: bytes = stream.read(part.file_size + 1)
    if len(content) != part.file_size:
        raise ValueError(f"{part.filename} has another length than the log says")
    return content


def _inspect_case(sample: Mapping[str, Any], case_id: str) -> dict[str, Any]:
    turns, target = sample.get("input"), sample.get("target")
    messages = [{"role": turn.get("role"), "content": _text(turn)} for turn in turns] if isinstance(turns, list) else []
    only = messages[0]["content"] if len(messages) == 1 else turns
    inputs = {"question": only} if isinstance(only, str) else {"messages": messages}
    if choices := sample.get("choices"):
        inputs["choices"] = choices
    ways = [target] if isinstance(target, str) else list(target or ())
    return {"id": case_id, "inputs": inputs, "expected": ["|".join(ways)] if any(ways) else []}


def _inspect_answer(sample: Mapping[str, Any], model: str, case_id: str) -> dict[str, Any]:
    output, usage = sample.get("output") or {}, _at(sample, "output", "usage") or {}
    choice: Mapping[str, Any] = next(iter(output.get("choices") or ()), {})
    text, error = _text(choice.get("message") or {}), str(_at(sample, "error", "message") or "")
    status = _STATUS.get(str(choice.get("stop_reason")), "ok" if text.strip() else "empty")
    cached = usage.get("input_tokens_cache_read")
    return {
        **{"variant": model, "case_id": case_id, "repeat": int(sample.get("epoch") or 1) - 1},
        **{"status": "error" if error else status, "text": text, "error": error},
        **{"input_tokens": usage.get("input_tokens"), "output_tokens": usage.get("output_tokens")},
        **{"cached_input_tokens": cached, "latency_s": output.get("time"), "served_model": output.get("model")},
    }


def _promptfoo_answer(result: Mapping[str, Any]) -> dict[str, Any]:
    response, used = result.get("response") or {}, _at(result, "response", "tokenUsage") or {}
    output, latency_ms, cost_usd = response.get("output"), result.get("latencyMs"), result.get("cost")
    text = output if isinstance(output, str) else "" if output is None else json.dumps(output, ensure_ascii=False)
    error = str(response.get("error") or ("" if "output" in response else result.get("error") or "no output"))
    status = "refused" if response.get("isRefusal") else "ok" if text.strip() else "empty"
    has_usage = bool(used.get("total"))  # an unknown number of tokens or dollars is written as 0
    return {
        **{"status": "error" if error else status, "text": text, "error": error, "cost_usd": cost_usd or None},
        **{"input_tokens": used.get("prompt") if has_usage else None, "cached": bool(response.get("cached"))},
        **{"output_tokens": used.get("completion") if has_usage else None},
        "latency_s": None if latency_ms is None else latency_ms / 1000,
    }


def _variants(results: Sequence[Mapping[str, Any]]) -> dict[Any, str]:
    """A name per place of prompt and provider: "PROVIDER, PROMPT", numbered where that is long or not unique."""
    names = {}
    for result in results:
        spec, label = result.get("provider") or {}, str(_at(result, "prompt", "label") or "")
        provider = spec if isinstance(spec, Mapping) else {"id": str(spec)}
        short = label if 0 < len(label) <= LONGEST_LABEL_CHARS else f"prompt {int(result.get('promptIdx') or 0) + 1}"
        names[result.get("promptIdx")] = f"{provider.get('label') or provider.get('id') or 'provider'}, {short}"
    twice = Counter(names.values())
    return {place: name if twice[name] == 1 else f"{name} ({place})" for place, name in names.items()}


def _numbers(scores: Mapping[str, Any], left_out: Counter[str]) -> Iterator[tuple[str, float]]:
    """Each score that is a number, a truth or one of Inspect's marks, named in letters, digits and _."""
    for name, score in scores.items():
        value = score.get("value") if isinstance(score, Mapping) and "value" in score else score
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        for part, number in parts:
            number = _GRADES.get(number, number) if isinstance(number, str) else number
            if isinstance(number, (int, float)) and math.isfinite(number):
                yield re.sub(r"\W+", "_", f"{name}_{part}" if part else name, flags=re.ASCII).strip("_"), float(number)
            elif number is not None:
                left_out[f"a score {name!r} that is no number"] += 1


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
