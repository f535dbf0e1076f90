"""Batches against a server that behaves as the two providers document: any order, partial failure, expiry."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import llmlab as ll
from llmlab.base.errors import DataError, FileRuleError, LlmlabError
from llmlab.clients.call_store import CallStore
from llmlab.engine import batch as batches

GOLDEN = ll.GoldenSet(
    tuple(ll.Case(id=f"q{i}", inputs={"question": f"question {i}?"}, expected=(f"{i}",)) for i in range(6))
)
MODELS = {"chat": "openai/gpt-4o-2024-08-06", "messages": "anthropic/claude-haiku-4-5-20251001"}
PRICES = {"chat": (2.5, 10), "messages": (1, 5)}  # dollars per million tokens, of their public lists


class Provider:
    """Both batch APIs on loopback. `fate` says of a request's number what becomes of it."""

    def __init__(self):
        self.fate, self.state, self.seen, self.files, self.lines = {}, "done", [], {}, []
        handler = type("Handler", (BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
        handler.do_GET = handler.do_POST = lambda request: self.answer(request)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.seen.append((request.command, request.path, dict(request.headers), body))
        reply = self.reply(request.command, request.path, body)
        raw = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(raw)))
        request.end_headers()
        request.wfile.write(raw)

    def reply(self, command, path, body):
        if path == "/v1/files":
            self.lines = [json.loads(line) for line in body.split(b"\r\n\r\n")[-1].splitlines() if line[:1] == b"{"]
            return {"id": "file-1"}
        if path == "/v1/batches" and command == "POST":
            assert json.loads(body)["input_file_id"] == "file-1"
            return {"id": "batch_1", "status": "validating"}
        if path == "/v1/batches/batch_1":
            over = {"output_file_id": "out", "error_file_id": "err"} if self.state == "done" else {}
            return {"id": "batch_1", "status": "completed" if self.state == "done" else self.state, **over}
        if path == "/v1/messages/batches":
            self.lines = json.loads(body)["requests"]
            return {"id": "msgbatch_1", "processing_status": "in_progress"}
        if path == "/v1/messages/batches/msgbatch_1":
            return {"id": "msgbatch_1", "processing_status": "ended" if self.state == "done" else self.state}
        wanted = {"/v1/files/err/content": "bad", "/v1/files/out/content": "good"}.get(path, "all")
        return b"".join(json.dumps(line).encode() + b"\n" for line in self.results(wanted))

    def results(self, wanted):
        for number, line in reversed(list(enumerate(self.lines))):  # any order
            fate = self.fate.get(number, "good")
            if fate == "silent" or (wanted != "all" and (fate == "good") != (wanted == "good")):
                continue
            key = line["custom_id"]
            if "params" in line:
                text = line["params"]["messages"][-1]["content"]
                message = {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
                message["usage"] = {"input_tokens": 100, "output_tokens": 10}
                kind = {"good": "succeeded", "expired": "expired", "failed": "errored"}[fate]
                error = {"error": {"type": "error", "error": {"message": "overloaded"}}} if fate == "failed" else {}
                yield {"custom_id": key, "result": {"type": kind, "message": message, **error}}
            elif fate == "expired":
                yield {"custom_id": key, "response": None, "error": {"code": "batch_expired", "message": "too late"}}
            else:
                text = line["body"]["messages"][-1]["content"]
                choice = {"message": {"content": text}, "finish_reason": "stop"}
                body = {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
                body = body if fate == "good" else {"error": {"message": "overloaded"}}
                status = 200 if fate == "good" else 500
                yield {"custom_id": key, "response": {"status_code": status, "body": body}, "error": None}


@pytest.fixture
def provider():
    made = Provider()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(params=["chat", "messages"])
def asked(request, provider, monkeypatch):
    """The kind of protocol, its bundle, and a client of it."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-chat")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of-messages")
    bundle = ll.Bundle.from_prompt("{{ question }}", model=MODELS[request.param], max_tokens=20)
    kind = ll.OpenAIClient if request.param == "chat" else ll.AnthropicClient
    return request.param, bundle, kind(f"{provider.url}/v1")


@pytest.fixture
def store(tmp_path):
    return tmp_path / "calls.sqlite"


@pytest.fixture
def night(tmp_path):
    return tmp_path / "night"


@pytest.fixture
def write(asked, store, night):
    """`write_batches` of the run, for the folder `night` where no other is named."""
    _, bundle, client = asked
    return lambda folder=night, by=client: batches.write_batches(bundle, GOLDEN, folder=folder, client=by, store=store)


@pytest.fixture
def sent(write, night):
    """What was written there, sent."""
    write()
    batches.send_batches(night)


@pytest.fixture
def replies(provider, monkeypatch):
    """Sets the lines of the provider's results."""
    return lambda lines: monkeypatch.setattr(provider, "results", lambda wanted: lines if wanted != "bad" else [])


def test_the_same_run_replays_what_a_batch_answered_at_half_the_price(asked, provider, write, night, store):
    kind, bundle, client = asked
    assert [(file.calls, file.state) for file in write().files] == [(6, "")]
    assert "of-" not in "".join(path.read_text() for path in night.iterdir())
    batches.send_batches(night)
    assert batches.read_batches(night, store=store).done
    asked_before = len(provider.seen)
    results = ll.run(bundle, GOLDEN, scorers=[ll.scorers.mentions_expected], client=client, store=store, progress=False)
    assert len(provider.seen) == asked_before
    assert results.frame["cached"].all()
    assert results.frame["text"].tolist() == [f"question {i}?" for i in range(6)]
    of_input, of_output = PRICES[kind]
    assert results.frame["cost_usd"].tolist() == pytest.approx([(100 * of_input + 10 * of_output) / 2e6] * 6)
    header = {"chat": ("Authorization", "Bearer of-chat"), "messages": ("x-api-key", "of-messages")}[kind]
    assert all(fields.get(header[0]) == header[1] for _, _, fields, _ in provider.seen)


def test_what_failed_expired_or_is_not_there_is_counted_and_asked_again_by_the_run(
    provider, write, night, store, tmp_path
):
    provider.fate = {1: "failed", 2: "expired", 4: "silent"}
    write()
    batches.send_batches(night)
    read = batches.read_batches(night, store=store)
    (file,) = read.files
    assert (file.stored, sum(file.failed.values()), len(file.failed), read.done) == (3, 3, 3, True)
    again = write(tmp_path / "again")
    assert (again.files[0].calls, again.already) == (3, 3)


def test_a_file_that_azure_still_reads_is_waited_for_and_its_states_are_known(provider, store, night, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of-chat")
    monkeypatch.setattr(batches, "LOOK_AGAIN_S", 0.01)
    waits, reply = ["pending", "running"], provider.reply

    def as_azure(command, path, body):
        if path in ("/v1/files", "/v1/files/file-1"):
            known = reply(command, path, body) if command == "POST" else {"id": "file-1"}
            return {**known, "status": waits.pop(0) if waits else "processed"}
        said = reply(command, path, body)
        return {**said, "status": said["status"].capitalize()} if "/batches" in path else said

    monkeypatch.setattr(provider, "reply", as_azure)
    bundle = ll.Bundle.from_prompt("{{ question }}", model=MODELS["chat"], max_tokens=20)
    client = ll.OpenAIClient(f"{provider.url}/v1", key_header="api-key")
    batches.write_batches(bundle, GOLDEN, folder=night, client=client, store=store)
    batches.send_batches(night)
    assert [path for _, path, _, _ in provider.seen] == ["/v1/files", *["/v1/files/file-1"] * 2, "/v1/batches"]
    assert batches.read_batches(night, store=store).files[0].stored == len(GOLDEN)
    assert all(fields["api-key"] == "of-chat" for _, _, fields, _ in provider.seen)


def test_a_batch_on_its_way_is_asked_for_again_later(provider, write, night, store):
    provider.state = "in_progress"
    write()
    batches.send_batches(night)
    assert not batches.read_batches(night, store=store).done
    provider.state = "done"
    assert batches.read_batches(night, store=store).done
    before = len(provider.seen)
    assert batches.read_batches(night, store=store).done
    assert len(provider.seen) == before


def test_a_file_is_sent_once_and_one_that_was_being_sent_is_not_sent_blindly_again(provider, write, night):
    (file,) = write().files
    batches.Batches(folder=night, files=(file.model_copy(update={"state": "sending"}),)).save()
    with pytest.raises(DataError, match="--again"):
        batches.send_batches(night)
    batches.send_batches(night, again=True)
    before = len(provider.seen)
    batches.send_batches(night)
    assert len(provider.seen) == before


@pytest.mark.parametrize(("limit", "most", "calls"), [("MOST_CALLS", 4, [4, 2]), ("MOST_BYTES", 1, [1] * 6)])
def test_files_are_cut_at_the_providers_limits(write, monkeypatch, limit, most, calls):
    monkeypatch.setattr(batches, limit, most)
    assert [file.calls for file in write().files] == calls


def test_a_folder_is_not_written_over_and_a_client_without_batches_is_refused(write, tmp_path):
    write()
    with pytest.raises(DataError, match="already"):
        write()
    with pytest.raises(DataError, match="no batch API"):
        write(tmp_path / "fake", by=ll.FakeClient("yes"))


def test_a_broken_list_or_a_refused_key_is_said(asked, write, night, monkeypatch):
    write()
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    if asked[0] == "messages":
        with pytest.raises(LlmlabError, match="ANTHROPIC_API_KEY"):
            batches.send_batches(night)
    (night / "batches.json").write_text("{}")
    for folder in (night, night / "none"):
        with pytest.raises(LlmlabError):
            batches.send_batches(folder)
    assert not (night / "none").exists()


@pytest.mark.parametrize(
    "edit",
    [{"file": "../../.ssh/id_rsa"}, {"file": "/etc/passwd"}, {"calls": -1}, {"stored": -1}, {"failed": {"x": -5}}],
)
def test_a_list_that_somebody_edited_uploads_no_other_file_and_counts_nothing_below_zero(provider, write, night, edit):
    """As found: `file` led to any file of this machine, which was uploaded."""
    write()
    listed = json.loads((night / "batches.json").read_text())
    listed["batches"][0] |= edit
    (night / "batches.json").write_text(json.dumps(listed))
    with pytest.raises(FileRuleError, match="is no list of batches"):
        batches.send_batches(night)
    assert provider.seen == []


def test_two_processes_do_not_send_at_once(provider, write, night, monkeypatch):
    """As found: both uploaded the file, and both batches were paid."""
    monkeypatch.setattr(batches, "LOCK_TIMEOUT_S", 0.1)
    write()
    with batches._alone(night), pytest.raises(DataError, match="another process"):
        batches.send_batches(night)
    assert provider.seen == []
    batches.send_batches(night)
    assert batches.read_batches(night, store=night / "calls.sqlite").done


def test_a_batch_that_is_gone_keeps_no_other_from_being_read(provider, write, night, store, monkeypatch):
    """As found: while the first gave an error no answer of the others was ever fetched, and all were paid."""
    monkeypatch.setattr(batches, "MOST_CALLS", 3)
    write()
    first, second = batches.send_batches(night).files  # the provider of these tests knows the lines of the second
    batches.Batches(folder=night, files=(first.model_copy(update={"id": "gone"}), second)).save()
    monkeypatch.setattr(provider, "reply", refusing(provider.reply, "gone"))
    for _ in range(2):
        with pytest.raises(LlmlabError):
            batches.read_batches(night, store=store)
        assert [file.stored for file in batches.Batches.load(night).files] == [0, 3]


def refusing(reply, place):
    """The provider, with an answer that is none for one of its places."""
    return lambda command, path, body: b"{" if path.endswith(place) else reply(command, path, body)


@pytest.mark.parametrize("line", ["{}", '{"key": "k", "request": 5}', '{"key": "k", "request": "{\\"model\\": {}}"}'])
def test_a_line_that_is_no_call_is_named(sent, night, store, line):
    (night / "requests.jsonl").write_text(line)
    with pytest.raises(FileRuleError, match=r"requests.jsonl:1: is no call"):
        batches.read_batches(night, store=store)


def test_both_prices_are_said_before(asked, store, tmp_path):
    _, bundle, client = asked
    with CallStore(store) as opened:
        dry = ll.dry_run(bundle, GOLDEN, client=client, store=opened)
        assert len(opened) == 0  # it is still open
    assert dry.batch_cost_usd_at_most == dry.total_cost_usd_at_most / 2
    fake = ll.dry_run(bundle, GOLDEN, client=ll.FakeClient("yes", price_usd=1), store=tmp_path / "other.sqlite")
    assert fake.batch_cost_usd_at_most is None


def test_a_refused_upload_may_be_sent_again_and_what_was_stored_is_remembered(
    asked, provider, write, night, store, tmp_path, monkeypatch
):
    _, bundle, client = asked
    write()
    monkeypatch.setattr(provider, "reply", lambda *_: (_ for _ in ()).throw(ConnectionError))
    with pytest.raises(LlmlabError):
        batches.send_batches(night)
    monkeypatch.undo()
    ll.run(bundle, GOLDEN, client=ll.FakeClient("x", fingerprint=client.fingerprint), store=store, progress=False)
    assert write(tmp_path / "none").already == batches.Batches.load(tmp_path / "none").already == 6


def coded(key):
    return base64.b64encode(key.encode()).decode()


@pytest.mark.parametrize("secret", ["OPENAI_API_KEY", "MAIL_PASSWORD"])
@pytest.mark.parametrize("spelled", [str, coded])
def test_no_secret_that_a_provider_repeats_is_kept(provider, sent, night, store, monkeypatch, secret, spelled, replies):
    key = "tr0ub4dor-and-three-horses"
    monkeypatch.setenv(secret, key)
    shown = spelled(key)
    tails = [
        {"response": None, "error": {"code": f"bad {shown}"}},
        {"response": {"status_code": 200, "body": {"error": {"message": f"x {shown}"}}}},
        {"response": {"status_code": 401, "body": {"error": {"message": f"x {shown}"}}}},
        {"result": {"type": f"bad {shown}"}},
        {"result": {"type": "errored", "error": {"error": {"message": f"{'x' * 55} {shown}"}}}},
        {"result": {"type": "succeeded", "message": {"error": {"message": f"x {shown}"}}}},
    ]
    lines = [{"custom_id": line["custom_id"], **tail} for line, tail in zip(provider.lines, tails, strict=True)]
    replies(lines)
    (file,) = batches.read_batches(night, store=store).files
    assert sum(file.failed.values()) == 6
    assert shown[:12] not in (night / "batches.json").read_text()


def test_what_the_endpoints_say_holds_for_batches_too(asked, provider, store, night, tmp_path, monkeypatch):
    kind, _, _ = asked
    monkeypatch.setenv("TEAM", "blue")
    bundle = ll.Bundle.from_prompt("{{ question }}", model=MODELS[kind], max_tokens=20, temperature=0.0)
    rules = f"{{base_url: {provider.url}/v1, drop: [temperature], headers: {{X-Team: TEAM}}, key_env: TEAM}}"
    (tmp_path / "endpoints.yaml").write_text(f"endpoints: {{{bundle.model.provider}: {rules}}}")
    batches.write_batches(bundle, GOLDEN, folder=night, endpoints=tmp_path / "endpoints.yaml", store=store)
    batches.send_batches(night)
    assert batches.read_batches(night, store=store).done
    bodies = [line.get("body") or line["params"] for line in provider.lines]
    assert len(bodies) == 6
    assert not any("temperature" in body or body.get("stream") for body in bodies)
    assert {fields.get("X-Team") for _, _, fields, _ in provider.seen} == {"blue"}
    assert "blue" not in (night / "batches.json").read_text()


def test_a_version_of_the_api_is_sent_or_refused_before_anything_is_written(asked, provider, write, night):
    kind, _, client = asked
    versioned = type(client)(f"{provider.url}/v1", api_version="2024-10-21")
    if kind == "chat":  # Azure's
        with pytest.raises(DataError, match="api_version"):
            write(by=versioned)
        assert not night.exists()
        return
    write(by=versioned)
    batches.send_batches(night)
    assert {fields.get("anthropic-version") for _, _, fields, _ in provider.seen} == {"2024-10-21"}


@pytest.mark.parametrize("errors", [{"data": [{"message": "Enqueued limit, of-chat"}] * 2}, {"data": None}, None])
def test_a_batch_that_failed_as_a_whole_gives_the_providers_reason(
    asked, provider, sent, night, store, monkeypatch, errors
):
    if asked[0] == "messages":
        pytest.skip("Anthropic's batches do not fail as a whole")
    monkeypatch.setattr(provider, "reply", lambda *_: {"id": "batch_1", "status": "failed", "errors": errors})
    read = batches.read_batches(night, store=store)
    ((why, calls),) = read.files[0].failed.items()
    assert (calls, read.done) == (6, True)
    assert why.count("Enqueued limit") == bool(errors and errors["data"])
    assert "of-chat" not in why


@pytest.mark.parametrize("without_id", ["/v1/files", "batches"])
def test_an_answer_without_an_id_is_an_error_and_the_file_is_never_taken_for_sent(
    asked, provider, write, night, monkeypatch, without_id
):
    write()
    usual = provider.reply
    broken = {"error": "of-chat of-messages"}
    replies = {True: lambda *_: broken, False: usual}
    monkeypatch.setattr(provider, "reply", lambda *args: replies[args[1].endswith(without_id)](*args))
    if asked[0] == "messages" and without_id == "/v1/files":
        pytest.skip("Anthropic's has no upload")
    with pytest.raises(LlmlabError, match="001") as caught:
        batches.send_batches(night)
    assert f"of-{asked[0]}" not in str(caught.value)
    (file,) = batches.Batches.load(night).files
    assert (file.id, file.state) == ("", "" if without_id == "/v1/files" else "sending")


@pytest.mark.parametrize("code", ["OK", None, [200], "²", -1])
def test_a_status_that_is_no_number_is_a_call_without_an_answer(provider, sent, night, store, code, replies):
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
    response = {"status_code": code, "body": body}
    lines = [{"custom_id": line["custom_id"], "response": response} for line in provider.lines]
    replies(lines)
    (file,) = batches.read_batches(night, store=store).files
    assert (file.stored, sum(file.failed.values())) == (0, 6)
    assert str(code) in next(iter(file.failed))


def test_a_foreign_or_torn_line_costs_no_other_answer(provider, write, night, store, monkeypatch, tmp_path, sent):
    lines = list(provider.results("all"))
    lines.append({**lines[0], "custom_id": "of-nobody"})
    raw = b"\n".join(json.dumps(line).encode() for line in lines)
    torn = raw.replace(b'{"custom_id', b"{'custom_id", 1)
    usual = provider.reply
    last = {"/v1/files/err/content": b""}
    ends = ("/content", "/results")
    monkeypatch.setattr(
        provider, "reply", lambda *args: last.get(args[1], torn) if args[1].endswith(ends) else usual(*args)
    )
    with pytest.warns(RuntimeWarning, match=r"2 .*of-nobody"):
        read = batches.read_batches(night, store=store)
    assert (read.files[0].stored, sum(read.files[0].failed.values()), read.done) == (5, 1, True)
    assert write(tmp_path / "again").already == 5


@pytest.mark.parametrize("body", [b"<html>busy</html>", b'{"custom_id": "of-nobody"}'])
def test_a_file_without_any_line_of_the_run_is_refused_and_may_be_read_again(
    provider, sent, night, store, monkeypatch, body
):
    usual = provider.reply
    monkeypatch.setattr(
        provider, "reply", lambda *args: body if args[1].endswith(("/content", "/results")) else usual(*args)
    )
    with pytest.raises(LlmlabError):
        batches.read_batches(night, store=store)
    monkeypatch.setattr(provider, "reply", usual)
    assert batches.read_batches(night, store=store).files[0].stored == 6


def test_a_call_that_is_told_twice_is_counted_once(provider, sent, night, store, replies):
    good = list(provider.results("all"))[:5]
    bad = [{"custom_id": line["custom_id"], "response": None, "error": {"code": "late"}} for line in good]
    replies([*good, *bad])
    (file,) = batches.read_batches(night, store=store).files
    assert (file.stored, list(file.failed.values())) == (5, [1])
