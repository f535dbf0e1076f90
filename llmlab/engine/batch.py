"""Overnight at half the price: the calls of a run as files for a provider's batch API, and its answers in the store.

`write_batches` makes the plan of the same `run` and writes the calls that are not stored; each is named by its call
key. `send_batches` uploads them, `read_batches` fetches what is done, in any order, into the call store. The normal run
replays them then: no second way through the code, and a batch that fails half-way has lost nothing. Sources:
https://platform.openai.com/docs/guides/batch, https://learn.microsoft.com/azure/foundry/openai/how-to/batch and
https://platform.claude.com/docs/en/docs/build-with-claude/batch-processing
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from llmlab.base.background import run_in_background
from llmlab.base.cells import Chip
from llmlab.base.documents import Strict, broken_rule, json_lines, read_bytes, write_whole
from llmlab.base.errors import CallError, DataError, FileRuleError, LlmlabError, RequestRefusedError
from llmlab.base.numbers import counted
from llmlab.base.private import Secrets, excerpt, scrub, secrets_now
from llmlab.bundle.bundle import Bundle, ModelRef
from llmlab.clients.access import AccessSettings, KeyHeader
from llmlab.clients.anthropic import AnthropicClient
from llmlab.clients.base import Generation, Request, Usage, estimated_bytes
from llmlab.clients.call_store import CallStore
from llmlab.clients.http import HttpClient
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.wire import mapping_of, read_json, refused_generation
from llmlab.display.shown import Shown
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.cost import estimated_tokens, total_usd
from llmlab.engine.plan import Call, make_plan
from llmlab.golden.cases import GoldenSet

WIRES: dict[str, Literal["chat", "messages"]] = {"": "chat", "messages": "messages"}  # by the name of a wire format
_PRICE_FACTOR = Decimal("0.5")  # of both providers
MOST_CALLS, MOST_BYTES = 50_000, 200_000_000  # OpenAI's limits; Anthropic's are higher
_POLL_EVERY_S, LOOK_AGAIN_S = 30.0, 2.0
LONGEST_REASON_CHARS = 80
_STRANGE_SHOWN = 3
LIST, _REQUESTS, LOCK = "batches.json", "requests.jsonl", ".batches.lock"
LOCK_TIMEOUT_S = 60.0
_NOT_YET = frozenset({"pending", "running", "notrunning"})  # of a file at Azure, from which no batch can begin
DONE = frozenset({"completed", "ended", "expired", "cancelled", "canceled", "failed"})


class BatchFile(Strict):
    """One file of calls: all to one model at one address.

    Attributes:
        file, calls, model: its name, how many calls it has, and to whom they go (`provider/id`).
        wire: "chat" for chat completions, "messages" for Anthropic's.
        base_url, key_env, key_header: where it is sent, and the NAME of the variable with the key.
        api_version, headers: as of `Access`; headers name the variables with their values.
        usd_at_most: what the calls cost one by one, at most; None = not known.
        id, state: the provider's; "sending" before it is known, "" before it is sent.
        stored, failed: answers that came, and calls that got none, by reason.
    """

    file: Annotated[str, pydantic.Field(pattern=r"^\d+\.jsonl$")]  # in the folder: whoever edits the list leads nowhere
    calls: Annotated[int, pydantic.Field(ge=1)]
    model: str
    wire: Literal["chat", "messages"]
    base_url: str
    key_env: str | None
    key_header: KeyHeader
    usd_at_most: Annotated[Decimal | None, pydantic.Field(strict=False)] = None
    id: str = ""
    state: str = ""
    stored: pydantic.NonNegativeInt = 0
    failed: Mapping[str, pydantic.NonNegativeInt] = {}
    api_version: str | None = None
    headers: Mapping[str, str] = {}

    @property
    def read(self) -> bool:
        """Whether what the provider says of every call is known."""
        return self.stored + sum(self.failed.values()) >= self.calls

    def client(self) -> HttpClient:
        """Who asks the provider; prices are those of its public list."""
        kind: type[AnthropicClient | OpenAIClient] = {"messages": AnthropicClient, "chat": OpenAIClient}[self.wire]
        more: AccessSettings = {"api_version": self.api_version, "headers": self.headers, "key_header": self.key_header}
        return kind(self.base_url, api_key_env=self.key_env, **more)


class Line(NamedTuple):
    """A call as the provider reads it in a file, and what it costs one by one."""

    content: bytes
    usd_at_most: Decimal | None


class Fetched(NamedTuple):
    """What a provider says of a batch: its state, its lines where it is done, what is no line, and why it failed."""

    state: str
    lines: Sequence[Mapping[str, Any]]
    torn: Sequence[str]
    why: str


class _Listed(Strict):
    batches: Annotated[tuple[BatchFile, ...], pydantic.Field(strict=False)]
    already: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class Batches(Shown):
    """The files of a folder, and how far each is."""

    folder: Path
    files: tuple[BatchFile, ...]
    already: int = 0

    @property
    def done(self) -> bool:
        """Whether every file was answered and read."""
        return all(file.read for file in self.files)

    def save(self) -> Batches:
        """The same, kept in its folder."""
        listed = _Listed(batches=self.files, already=self.already)
        write_whole(self.folder / LIST, listed.model_dump_json(indent=1) + "\n")
        return self

    @classmethod
    def load(cls, folder: str | Path) -> Batches:
        """What `write_batches` wrote and the others kept up to date; FileRuleError where there is nothing."""
        path = Path(folder) / LIST
        try:
            listed = _Listed.model_validate_json(read_bytes(path))
            return cls(folder=Path(folder), files=listed.batches, already=listed.already)
        except pydantic.ValidationError as error:
            raise FileRuleError(f"is no list of batches ({broken_rule(error)})", path=path) from None

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "file": file.file,
                "model": file.model,
                "calls": file.calls,
                "one by one, at most (USD)": file.usd_at_most,
                "as a batch (USD)": None if file.usd_at_most is None else file.usd_at_most * _PRICE_FACTOR,
                "state": Chip(file.state or "written", "good" if file.stored == file.calls else "unsure"),
                "answers stored": file.stored,
                "no answer": "; ".join(f"{n} x {why}" for why, n in file.failed.items()),
            }
            for file in self.files
        ]

    def _sentence(self) -> str:
        calls, stored = sum(file.calls for file in self.files), sum(file.stored for file in self.files)
        failed = sum(sum(file.failed.values()) for file in self.files)
        if not calls:
            return f"Nothing to send: all {counted(self.already, 'call')} are stored already."
        total = total_usd(file.usd_at_most for file in self.files)
        price = "" if total is None else f", at most about ${total * _PRICE_FACTOR:,.2f} instead of ${total:,.2f}"
        sent = f"{counted(calls, 'call')} in {counted(len(self.files), 'file')}{price}"
        if self.done:
            end = "the same run replays them" if not failed else "the same run replays them and asks the rest again"
            return f"{sent}: {stored:,} answered and stored, {failed:,} without an answer; {end}."
        return f"{sent}: {stored:,} answered so far."


def write_batches(
    variants: Mapping[str, Bundle] | Bundle, golden: GoldenSet, *, folder: str | Path, repeats: int = 1, **options: Any
) -> Batches:
    """The calls of `run` that are not stored, in files of at most 50,000 calls and 200 MB, one model each.

    Args:
        folder: is made; it must not hold batches yet.
        options: client, endpoints, store and base, as of `run`.

    Raises:
        DataError: the folder has batches, or a model is reached by a client that speaks neither protocol, or by one of
            chat completions with an `api_version`.
    """
    folder = Path(folder)
    if (folder / LIST).exists():
        raise DataError(f"{folder} has batches already: read them, or give another folder")
    setup = CallSetup(**options)
    plan = make_plan(variants, golden, setup, repeats=repeats)
    able = {name: of for name, of in plan.clients.items() if isinstance(of, HttpClient) and of.wire.name in WIRES}
    if others := [name for name in plan.clients if name not in able]:
        raise DataError(f"{others[0]}: {plan.clients[others[0]].fingerprint} has no batch API that is known here")
    for name, client in able.items():
        if client.wire.name == "" and (version := client.accesses[0].api_version) is not None:
            raise DataError(
                f"{name}: {client.fingerprint} is asked with api_version {version}, which no batch here can be; use "
                "run, or an address without a version, such as https://NAME.openai.azure.com/openai/v1"
            )
    folder.mkdir(parents=True, exist_ok=True)
    waiting: dict[tuple[str, str], tuple[HttpClient, list[Line]]] = {}  # by model and who answers
    already, requests = 0, []
    with setup.calls() as calls:
        for call, request in _once(plan.batches()):
            if call.key in calls.get_many([call.key]):
                already += 1
                continue
            client = able[call.variant]
            _, lines = waiting.setdefault((str(request.model), client.fingerprint), (client, []))
            lines.append(_line(call, request, client))
            requests.append(json.dumps({"key": call.key, "request": request.to_json()}) + "\n")
    write_whole(folder / _REQUESTS, "".join(requests))
    files: list[BatchFile] = []
    for (model, _), (client, lines) in waiting.items():
        for file_lines in _cut(lines):
            name = f"{len(files) + 1:03}.jsonl"
            (folder / name).write_bytes(b"".join(line.content for line in file_lines))
            files.append(_file(name, file_lines, model=model, client=client))
    return Batches(folder=folder, files=tuple(files), already=already).save()


def send_batches(folder: str | Path, *, again: bool = False) -> Batches:
    """Upload every file that was not sent yet, and start its batch; costs money.

    Raises:
        DataError: a file was being sent when the process ended, so that it may run already: look at the provider's
            page, and send it with `again` where it is not there.
    """
    with _alone(Path(folder)):
        return _send(Batches.load(folder), again=again)


def _send(batches: Batches, *, again: bool) -> Batches:
    for place, file in enumerate(batches.files):
        if file.id:
            continue
        if file.state == "sending" and not again:
            raise DataError(
                f"{file.file} was being sent when the process ended: look at the provider's list of batches, and send "
                "it with --again where it is not there"
            )
        batches = _with(batches, place, file.model_copy(update={"state": "sending"})).save()
        try:
            started = run_in_background(partial(_sent, batches.folder, file))
        except RequestRefusedError:  # nothing has begun: it may be sent again
            _with(batches, place, file).save()
            raise
        batches = _with(batches, place, file.model_copy(update=started)).save()
    return batches


def read_batches(folder: str | Path, *, store: str | Path | CallStore | None = None, wait: bool = False) -> Batches:
    """Put the answers that are there into the call store, and say which calls have none.

    Args:
        store: as of `run`.
        wait: ask again every half minute until all are done.

    Raises:
        CallError, DataError: the provider has no answer for one of the files, or a strange one; what the others'
            answers are is stored before.
    """
    path = Path(folder) / _REQUESTS
    requests = dict(_request(row, path=path, line=line) for line, row in json_lines(path))
    with CallSetup(store=store).calls() as calls:
        while True:
            with _alone(Path(folder)):
                batches = _read(Batches.load(folder), requests, calls)
            if not wait or all(file.read or not file.id for file in batches.files):
                return batches
            run_in_background(partial(asyncio.sleep, _POLL_EVERY_S))


def _read(batches: Batches, requests: Mapping[str, str], calls: CallStore) -> Batches:
    """Every file as the provider has it now; a file that cannot be read keeps none of the others from being read."""
    failures: list[LlmlabError] = []
    for place, file in enumerate(batches.files):
        if not file.id or file.read:
            continue
        try:
            fetched = run_in_background(partial(_fetched, file))
            updated = file.model_copy(update={"state": fetched.state})
            is_done = fetched.state in DONE
            batches = _with(batches, place, _kept(updated, fetched, requests, calls) if is_done else updated).save()
        except (CallError, DataError) as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return batches


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside, no other process sends or reads the folder's files: a batch that two start is paid twice."""
    import filelock

    Batches.load(folder)  # else the lock would make the folder
    try:
        with filelock.FileLock(folder / LOCK, timeout=LOCK_TIMEOUT_S):
            yield
    except filelock.Timeout:
        raise DataError(
            f"another process is sending or reading the batches of {folder}: wait until it is done"
        ) from None


def _request(row: Mapping[str, Any], *, path: Path, line: int) -> tuple[str, str]:
    """Key and request of a line; FileRuleError where it is none of `write_batches`."""
    try:
        Request.from_json(row["request"])
        return str(row["key"]), row["request"]
    except (KeyError, TypeError, ValueError):
        raise FileRuleError("is no call of a batch", path=path, line=line) from None


def _once(batches: Iterator[list[Call]]) -> Iterator[tuple[Call, Request]]:
    """Every different call with its request; DataError where a prompt cannot be filled."""
    seen: set[str] = set()
    for call in (call for batch in batches for call in batch):
        if call.request is None:
            raise DataError(call.problem)
        if call.key not in seen:
            seen.add(call.key)
            yield call, call.request


def _cut(lines: list[Line]) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    size = 0
    for line in lines:
        if chunk and (len(chunk) >= MOST_CALLS or size + len(line.content) > MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += len(line.content)
    if chunk:
        yield chunk


def _file(name: str, lines: list[Line], *, model: str, client: HttpClient) -> BatchFile:
    access, wire = client.accesses[0], client.wire
    return BatchFile(
        file=name,
        calls=len(lines),
        model=model,
        wire=WIRES[wire.name],
        base_url=access.base_url,
        key_env=access.key_env,
        key_header=access.key_header or wire.key_header(access),
        usd_at_most=total_usd(line.usd_at_most for line in lines),
        api_version=access.api_version,
        headers=dict(access.headers),
    )


def _line(call: Call, request: Request, client: HttpClient) -> Line:
    if len(request.in_turns()) > 1:
        raise ValueError(
            f"case {call.case.id!r} has user turns that wait for answers, which no batch can hold; use run"
        )
    access = client.accesses[0]
    whole = client.wire.body(request, name=access.deployment or request.model.id, stream=False)
    body = {name: value for name, value in whole.items() if name not in access.drop}
    if client.wire.name == "messages":
        line: dict[str, Any] = {"custom_id": call.key, "params": body}
    else:
        line = {"custom_id": call.key, "method": "POST", "url": "/v1/chat/completions", "body": body}
    usd, most = None, request.sampling.tokens_at_most
    if most is not None:
        size = sum(estimated_tokens(estimated_bytes(message)) for message in request.messages)
        usd = client.price_usd(request.model, Usage(input_tokens=size, output_tokens=most))
    return Line(json.dumps(line).encode("ascii") + b"\n", usd)


async def _sent(folder: Path, file: BatchFile) -> dict[str, str]:
    """Id and state of the batch that was started."""
    content = (folder / file.file).read_bytes()
    async with aclosing(file.client()) as client:
        if file.wire == "messages":
            body = b'{"requests":[' + b",".join(content.splitlines()) + b"]}"
            reply = read_json(await client.fetch("POST", "/v1/messages/batches", data=body))
            return {"id": _id(reply, file), "state": str(reply.get("processing_status", "in_progress"))}
        form, sort = _upload_form(file.file, content)
        uploaded = read_json(await client.fetch("POST", "/files", data=form, content_type=sort))
        if not uploaded.get("id"):
            raise RequestRefusedError(f"{file.file} was uploaded, but the answer names no id: {_said(uploaded)}")
        while str(uploaded.get("status")).lower() in _NOT_YET:
            await asyncio.sleep(LOOK_AGAIN_S)
            uploaded = {**uploaded, **read_json(await client.fetch("GET", f"/files/{uploaded['id']}"))}
        about = {"input_file_id": uploaded["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        reply = read_json(await client.fetch("POST", "/batches", data=json.dumps(about).encode("ascii")))
        return {"id": _id(reply, file), "state": str(reply.get("status", "validating")).lower()}


def _id(reply: Mapping[str, Any], file: BatchFile) -> str:
    """The id of a batch that was started; DataError where the provider names none, so that it may run or not."""
    if not (batch_id := reply.get("id")):
        raise DataError(
            f"{file.file} was sent, but the provider's answer names no batch: {_said(reply)}; look at its list of "
            "batches, and send it with --again where it is not there"
        )
    return str(batch_id)


def _said(reply: Mapping[str, Any]) -> str:
    return excerpt(scrub(json.dumps(reply)))


def _upload_form(name: str, content: bytes) -> tuple[bytes, str]:
    """OpenAI's form for a file of a batch, and its content type."""
    limit = "llmlab-batch-lines"
    header = f'--{limit}\r\nContent-Disposition: form-data; name="{{}}"{{}}\r\n\r\n'
    file_header = header.format("file", f'; filename="{name}"\r\nContent-Type: application/jsonl').encode("ascii")
    form = header.format("purpose", "").encode("ascii") + b"batch\r\n" + file_header + content
    return form + f"\r\n--{limit}--\r\n".encode("ascii"), f"multipart/form-data; boundary={limit}"


async def _fetched(file: BatchFile) -> Fetched:
    async with aclosing(file.client()) as client:
        if file.wire == "messages":
            place = f"/v1/messages/batches/{file.id}"
            reply = read_json(await client.fetch("GET", place))
            state = str(reply.get("processing_status"))
            places = [f"{place}/results"] if state in DONE else []
        else:
            reply = read_json(await client.fetch("GET", f"/batches/{file.id}"))
            state = str(reply.get("status")).lower()  # Azure's begin with a capital
            names = [reply.get("output_file_id"), reply.get("error_file_id")] if state in DONE else []
            places = [f"/files/{name}/content" for name in names if name]
        bodies = [await client.fetch("GET", place) for place in places]
    lines, torn = [], []
    for line in (line for body in bodies for line in body.splitlines() if line.strip()):
        try:
            lines.append(read_json(line))
        except CallError as error:
            torn.append(error)
    if torn and not lines:  # no file of answers: nothing is lost, and it may be asked for again
        raise torn[0]
    return Fetched(state, lines, [str(error) for error in torn], _why(reply))


def _why(reply: Mapping[str, Any]) -> str:
    """The provider's words on a batch that failed as a whole, "" where it has none."""
    data = mapping_of(reply.get("errors")).get("data")
    errors = [mapping_of(error) for error in data] if isinstance(data, list) else []
    words = [str(error.get("message") or error.get("code") or "") for error in errors]
    return "; ".join(filter(None, dict.fromkeys(words)))


def _kept(file: BatchFile, fetched: Fetched, requests: Mapping[str, str], calls: CallStore) -> BatchFile:
    """The file with how many of its calls were answered; their answers are in the store."""
    client, secrets = file.client(), secrets_now()
    answers: dict[str, Generation] = {}
    without: dict[str, str] = {}
    strange = [f"unreadable: {_reason(problem, secrets)}" for problem in fetched.torn]
    for line in fetched.lines:
        key = str(line.get("custom_id"))
        if key not in requests:
            strange.append(f"not of this run: {_reason(key, secrets)}")
            continue
        answer = _answer(line, client, Request.from_json(requests[key]).model)
        if isinstance(answer, str):
            without[key] = _reason(answer, secrets)
        else:
            answers[key] = answer.scrubbed(secrets)
    about = f"the provider's answer to {file.file} has {counted(len(strange), 'strange line')}"
    if strange and not answers and not without:
        raise DataError(f"{about} and no other ({strange[0]})")

    async def store() -> None:
        await asyncio.gather(*(calls.put(key, Request.from_json(requests[key]), answers[key]) for key in answers))

    run_in_background(store)
    if strange:
        more = f"; and {len(strange) - _STRANGE_SHOWN:,} more" if len(strange) > _STRANGE_SHOWN else ""
        examples = "; ".join(strange[:_STRANGE_SHOWN])
        warnings.warn(f"{about}, left out ({examples}{more}); the others are stored", RuntimeWarning, stacklevel=3)
    failed = Counter(why for key, why in without.items() if key not in answers)
    if (silent := file.calls - len(answers) - sum(failed.values())) > 0:
        why = f"batch {file.state}: {fetched.why}" if fetched.why else "not in the provider's answer"
        failed[_reason(why, secrets)] += silent
    return file.model_copy(update={"stored": len(answers), "failed": {why: n for why, n in failed.items() if n}})


def _answer(line: Mapping[str, Any], client: HttpClient, model: ModelRef) -> Generation | str:
    """The answer in a line, at half the price; or why there is none, in the provider's words as they came."""
    code: Any
    if "result" in line:  # Anthropic's
        result = mapping_of(line["result"])
        if result.get("type") != "succeeded":
            error = mapping_of(mapping_of(result.get("error")).get("error"))
            return f"{result.get('type')}{': ' if error else ''}{error.get('message', '')}"
        code, body = 200, mapping_of(result.get("message"))
    else:
        response = mapping_of(line.get("response"))
        code, body = response.get("status_code"), mapping_of(response.get("body"))
        if not response:
            error = mapping_of(line.get("error"))
            return str(error.get("code") or error.get("message") or "no response")
    status = int(code) if str(code).isdecimal() else 0
    if status != 200:
        refused = refused_generation(status, json.dumps(body))
        return refused or f"status {code}: {mapping_of(body.get('error')).get('message', '')}"
    try:
        answer = client.wire.read_answer(body)
    except LlmlabError as error:
        return str(error)
    usd = client.price_usd(model, answer["usage"])
    return Generation(**answer, cost_usd=None if usd is None else usd * _PRICE_FACTOR)


def _reason(text: str, secrets: Secrets) -> str:
    """Why there is no answer, as it may be kept: without any secret, and cut only then."""
    return excerpt(scrub(text, secrets=secrets), limit=LONGEST_REASON_CHARS)


def _with(batches: Batches, place: int, file: BatchFile) -> Batches:
    return replace(batches, files=(*batches.files[:place], file, *batches.files[place + 1 :]))
