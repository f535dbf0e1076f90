"""Batches against a server that behaves as the two providers document: any order, partial failure, expiry."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import llmlab as ll
from llmlab.base.errors import DataError, LlmlabError
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


def test_the_same_run_replays_what_a_batch_answered_at_half_the_price(asked, provider, tmp_path):
    kind, bundle, client = asked
    store = tmp_path / "calls.sqlite"
    written = batches.write_batches(bundle, GOLDEN, folder=tmp_path / "night", client=client, store=store)
    assert [(file.calls, file.state) for file in written.files] == [(6, "")]
    assert "of-" not in "".join(path.read_text() for path in (tmp_path / "night").iterdir())
    batches.send_batches(tmp_path / "night")
    assert batches.read_batches(tmp_path / "night", store=store).done
    asked_before = len(provider.seen)
    results = ll.run(bundle, GOLDEN, scorers=[ll.scorers.mentions_expected], client=client, store=store, progress=False)
    assert len(provider.seen) == asked_before
    assert results.frame["cached"].all()
    assert results.frame["text"].tolist() == [f"question {i}?" for i in range(6)]
    of_input, of_output = PRICES[kind]
    assert results.frame["cost_usd"].tolist() == pytest.approx([(100 * of_input + 10 * of_output) / 2e6] * 6)
    header = {"chat": ("Authorization", "Bearer of-chat"), "messages": ("x-api-key", "of-messages")}[kind]
    assert all(fields.get(header[0]) == header[1] for _, _, fields, _ in provider.seen)


def test_what_failed_expired_or_is_not_there_is_counted_and_asked_again_by_the_run(asked, provider, tmp_path):
    _, bundle, client = asked
    provider.fate = {1: "failed", 2: "expired", 4: "silent"}
    store = tmp_path / "calls.sqlite"
    batches.write_batches(bundle, GOLDEN, folder=tmp_path / "night", client=client, store=store)
    batches.send_batches(tmp_path / "night")
    read = batches.read_batches(tmp_path / "night", store=store)
    (file,) = read.files
    assert (file.stored, sum(file.failed.values()), len(file.failed)) == (3, 3, 3)
    assert read.done
    again = batches.write_batches(bundle, GOLDEN, folder=tmp_path / "again", client=client, store=store)
    assert (again.files[0].calls, again.already) == (3, 3)


def test_a_batch_on_its_way_is_asked_for_again_later(asked, provider, tmp_path):
    _, bundle, client = asked
    store, provider.state = tmp_path / "calls.sqlite", "in_progress"
    batches.write_batches(bundle, GOLDEN, folder=tmp_path / "night", client=client, store=store)
    batches.send_batches(tmp_path / "night")
    assert not batches.read_batches(tmp_path / "night", store=store).done
    provider.state = "done"
    assert batches.read_batches(tmp_path / "night", store=store).done
    before = len(provider.seen)
    assert batches.read_batches(tmp_path / "night", store=store).done
    assert len(provider.seen) == before


def test_a_file_is_sent_once_and_one_that_was_being_sent_is_not_sent_blindly_again(asked, provider, tmp_path):
    _, bundle, client = asked
    folder = tmp_path / "night"
    written = batches.write_batches(bundle, GOLDEN, folder=folder, client=client, store=tmp_path / "calls.sqlite")
    (file,) = written.files
    batches.Batches(folder=folder, files=(file.model_copy(update={"state": "sending"}),)).save()
    with pytest.raises(DataError, match="--again"):
        batches.send_batches(folder)
    batches.send_batches(folder, again=True)
    before = len(provider.seen)
    batches.send_batches(folder)
    assert len(provider.seen) == before


def test_files_are_cut_at_the_providers_limits(asked, tmp_path, monkeypatch):
    _, bundle, client = asked
    monkeypatch.setattr(batches, "MOST_CALLS", 4)
    written = batches.write_batches(bundle, GOLDEN, folder=tmp_path / "a", client=client, store=tmp_path / "s.sqlite")
    assert [file.calls for file in written.files] == [4, 2]
    monkeypatch.setattr(batches, "MOST_BYTES", 1)
    written = batches.write_batches(bundle, GOLDEN, folder=tmp_path / "b", client=client, store=tmp_path / "s.sqlite")
    assert [file.calls for file in written.files] == [1] * 6


def test_a_folder_is_not_written_over_and_a_client_without_batches_is_refused(asked, tmp_path):
    _, bundle, client = asked
    store = tmp_path / "calls.sqlite"
    batches.write_batches(bundle, GOLDEN, folder=tmp_path / "night", client=client, store=store)
    with pytest.raises(DataError, match="already"):
        batches.write_batches(bundle, GOLDEN, folder=tmp_path / "night", client=client, store=store)
    with pytest.raises(DataError, match="no batch API"):
        batches.write_batches(bundle, GOLDEN, folder=tmp_path / "fake", client=ll.FakeClient("yes"), store=store)


def test_a_broken_list_or_a_refused_key_is_said(asked, provider, tmp_path, monkeypatch):
    _, bundle, client = asked
    folder = tmp_path / "night"
    batches.write_batches(bundle, GOLDEN, folder=folder, client=client, store=tmp_path / "calls.sqlite")
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    if client.accesses[0].key_env == "ANTHROPIC_API_KEY":
        with pytest.raises(LlmlabError, match="ANTHROPIC_API_KEY"):
            batches.send_batches(folder)
    (folder / "batches.json").write_text("{}")
    with pytest.raises(LlmlabError):
        batches.send_batches(folder)


def test_both_prices_are_said_before(asked, tmp_path):
    _, bundle, client = asked
    dry = ll.dry_run(bundle, GOLDEN, client=client, store=tmp_path / "calls.sqlite")
    assert dry.batch_cost_usd_at_most == dry.total_cost_usd_at_most / 2
    fake = ll.dry_run(bundle, GOLDEN, client=ll.FakeClient("yes", price_usd=1), store=tmp_path / "other.sqlite")
    assert fake.batch_cost_usd_at_most is None


def test_a_refused_upload_may_be_sent_again_and_what_was_stored_is_remembered(asked, provider, tmp_path, monkeypatch):
    _, bundle, client = asked
    folder, store = tmp_path / "night", tmp_path / "calls.sqlite"
    batches.write_batches(bundle, GOLDEN, folder=folder, client=client, store=store)
    monkeypatch.setattr(provider, "reply", lambda *_: (_ for _ in ()).throw(ConnectionError))
    with pytest.raises(LlmlabError):
        batches.send_batches(folder)
    monkeypatch.undo()
    ll.run(bundle, GOLDEN, client=ll.FakeClient("x", fingerprint=client.fingerprint), store=store, progress=False)
    nothing = batches.write_batches(bundle, GOLDEN, folder=tmp_path / "none", client=client, store=store)
    assert nothing.already == batches.Batches.load(tmp_path / "none").already == 6
