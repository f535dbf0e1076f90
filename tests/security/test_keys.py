"""Nothing leaked: canary keys go everywhere that keys go, and then every file that was written is searched for them."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import llmlab as ll
from llmlab import registry, tracking
from llmlab.base.errors import DataError
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.export import Exported
from llmlab.cli import tracking as tracking_commands
from llmlab.clients.access import RetryPolicy
from llmlab.clients.base import Generation
from llmlab.clients.openai import OpenAIClient
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results import Metric
from llmlab.scorers import Score
from llmlab.tracking.store import Store
from tests.notebook.notebooks import code, write
from tests.registry.made import judged

KEY = "canaryA7/Zq+8xT-never-write-this-k3Y9wQ"  # of a variable named like a key
NAMED = "canaryB2-known-only-by-the-client-8d7F"  # of a variable that only a client's key_env names
PASSWORD = "canaryC5-in-an-address-p4Ssw0rd"
PASTED = "sk-proj-" + "canaryD9aB3xY7qLmZ2kW8vT5nR1"
QUERY = "canaryE6-in-the-query-of-an-address-w3Rt9"  # of no variable
SECRETS = (KEY, NAMED, PASSWORD)
ENVIRONMENT = {
    "SOME_API_KEY": KEY,
    "GATEWAY_LOGIN": NAMED,
    "DATABASE_URL": f"postgresql://me:{PASSWORD}@db.invalid/x",
}
MODES = ("json", "html", "header", "malformed", "start", "answer", "tool", "stream", "model", "finish")


def forms(secret: str) -> set[bytes]:
    """What must not be found: the secret itself, its beginning, and how addresses and base64 spell it."""
    coded = {base64.b64encode(b"x" * i + secret.encode()).decode()[i + 3 : -5] for i in range(3)}
    return {text.encode() for text in {secret, secret[:12], quote(secret, safe=""), *coded}}


class _Echo(http.server.BaseHTTPRequestHandler):
    """An endpoint that gives the key it was sent back, in every place where one does."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key, mode = self.headers.get("Authorization", "").removeprefix("Bearer "), self.path.split("/")[1]
        message: dict[str, Any] = {"role": "assistant", "content": f"Your key is {key} ({key[:14]}…)."}
        if mode == "tool":
            call = {"function": {"name": "f", "arguments": json.dumps({"key": key})}, "type": "function", "id": "1"}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        reply = {"choices": [{"message": message, "finish_reason": "stop", "index": 0}], "model": "m", "usage": {}}
        if mode == "model":
            reply = {**reply, "model": f"m-{key}", "system_fingerprint": key, "id": key, "service_tier": key}
        if mode == "finish":
            odd = {"message": {"content": None, "refusal": key, "reasoning": key}, "finish_reason": key, "index": key}
            reply = {**reply, "choices": [odd], "usage": {"prompt_tokens": key, key: key}, "error": None}
        basic = base64.b64encode(f"user:{key}".encode()).decode()
        status, body = {
            "json": (401, json.dumps({"error": {"message": f"Incorrect API key provided: {key} Basic {basic}"}})),
            "html": (400, f"<html><body>Bad key {key}, see https://u:{key}@x/?api-key={quote(key)}</body></html>"),
            "header": (500, "{}"),
            "malformed": (200, f'{{"choices": [{{"message": "{key}'),
            "start": (403, f"no access for {key[:12]}**** nor {key[:20]}"),
            "stream": (200, f'data: {{"error": "{key}"}}\n\ndata: [DONE]\n\n'),
        }.get(mode, (200, json.dumps(reply)))
        self.send_response(status, f"No {key}")
        self.send_header("Content-Type", "text/event-stream" if mode == "stream" else "application/json")
        self.send_header("X-Key", key)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def bundle(text: str = "{{ question }}") -> Bundle:
    return Bundle.from_prompt(text, model="openai/gpt-4o-2024-08-06", name="qa", max_tokens=9)


def cases(question: str = "How?") -> GoldenSet:
    return GoldenSet((Case(id="q1", inputs={"question": question}, expected=("yes",)),))


def leaks(*roots: Path) -> list[str]:
    """Where any form of any secret stands: every file's bytes, and the values of Parquet files."""
    import pyarrow.parquet as pq

    found = []
    needles = {needle for secret in SECRETS for needle in forms(secret)}
    for path in (file for root in roots for file in root.rglob("*") if file.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            content += f"{table.to_pydict()}{table.schema.metadata}".encode("utf-8", "replace")
        found += [f"{path}: {needle!r}" for needle in needles if needle in content]
    return found


def test_the_search_finds_a_key_in_every_form_it_looks_for(tmp_path: Path) -> None:
    """Otherwise finding none would say nothing."""
    import sqlite3

    import pandas as pd

    pd.DataFrame({"x": [KEY]}).to_parquet(tmp_path / "a.parquet", compression="gzip")
    with sqlite3.connect(tmp_path / "b.sqlite") as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (?)", (NAMED,))
    database.close()
    (tmp_path / "c.txt").write_text(base64.b64encode(f"me:{PASSWORD}".encode()).decode())
    (tmp_path / "d.txt").write_text(f"{KEY[:12]}****")
    (tmp_path / "e.txt").write_text(quote(KEY, safe=""))
    assert {Path(found.partition(": ")[0]).stem for found in leaks(tmp_path)} == {"a", "b", "c", "d", "e"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variable", ["SOME_API_KEY", "GATEWAY_LOGIN"])
def test_a_key_that_the_endpoint_gives_back_is_in_no_answer_store_or_file(
    mode: str, variable: str, echo: str, secrets: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Error bodies, reason phrases, headers, malformed JSON, a stream, the answer itself and a tool's arguments."""
    client = OpenAIClient(
        f"{echo}/{mode}/v1", api_key_env=variable, retry=RetryPolicy(attempts=1), stream=mode == "stream"
    )
    results = ll.run(bundle(), cases(), client=client, store=tmp_path / "calls.sqlite", progress=True)
    results.to_parquet(tmp_path / "results.parquet")
    view = results.show("q1", store=tmp_path / "calls.sqlite")
    (tmp_path / "shown.txt").write_text(f"{view}{view._repr_html_()}{results.frame.to_string()}{client!r}")
    captured = capfd.readouterr()
    (tmp_path / "said.txt").write_text(captured.out + captured.err)
    assert leaks(tmp_path) == []
    assert "removed]" in str(view) + results.frame.to_json() or mode == "header"


def test_what_an_application_raises_or_returns_is_scrubbed(secrets: None, tmp_path: Path) -> None:
    def raises(_case: Case, _bundle: Bundle) -> Generation:
        raise RuntimeError(f"GET https://me:{PASSWORD}@db.invalid/ with {KEY} failed")

    def returns(_case: Case, _bundle: Bundle) -> Generation:
        return Generation(text=f"{KEY} {os.environ['DATABASE_URL']}", tool_calls=({"name": "f", "arguments": KEY},))

    for app in (raises, returns):
        results = ll.run(bundle(), cases(), app=app, store=tmp_path / "calls.sqlite", progress=False)
        results.to_parquet(tmp_path / f"{app.__name__}.parquet")
        assert "removed]" in results.frame.to_json()
    assert leaks(tmp_path) == []


def test_what_a_scorer_raises_or_says_is_scrubbed(secrets: None, tmp_path: Path) -> None:
    """Of a run, of a scorer that comes later, and of scores that are brought along."""

    @ll.scorer
    def raises(_case: Case, _generation: Generation) -> float:
        raise RuntimeError(f"GET https://me:{PASSWORD}@db.invalid/ with {KEY} failed")

    @ll.scorer
    def says(_case: Case, _generation: Generation) -> Score:
        return Score(value=0.0, explanation=f"the endpoint said {KEY!r}")

    results = ll.run(bundle(), cases(), app=lambda *_: "x", scorers=[raises, says], progress=False)
    later = ll.run(bundle(), cases(), app=lambda *_: "x", progress=False).scored_by([raises, says])
    brought = later.with_scores(Metric(name="brought"), [1.0], explanations=[KEY])
    for i, scored in enumerate((results, later, brought)):
        scored.to_parquet(tmp_path / f"{i}.parquet")
        (tmp_path / f"{i}.txt").write_text(f"{scored.summary()}{scored.show('q1')}")
        assert "removed]" in scored.frame["explanations"].iloc[0]
    assert leaks(tmp_path) == []


@pytest.mark.parametrize("where", ["prompt", "question"])
@pytest.mark.parametrize("secret", [KEY, PASSWORD])
def test_a_secret_of_the_environment_in_a_prompt_or_case_is_refused_before_anything_is_sent_or_written(
    where: str, secret: str, secrets: None, tmp_path: Path
) -> None:
    made = bundle(f"{secret} {{{{ question }}}}" if where == "prompt" else "{{ question }}")
    golden = cases(secret if where == "question" else "How?")
    with pytest.raises(DataError, match=r"SOME_API_KEY|DATABASE_URL") as told:
        ll.run(made, golden, client=ll.FakeClient({}), store=tmp_path / "calls.sqlite")
    assert secret[:12] not in str(told.value)
    with pytest.raises(DataError):
        ll.run(made, golden, app=lambda *_: "x", store=tmp_path / "calls.sqlite")
    assert leaks(tmp_path) == []


def test_a_pasted_key_that_no_variable_holds_is_flagged_too(project: Path) -> None:
    """In a prompt it is refused; in a case it is flagged at once, and not logged unless redacted."""
    with pytest.raises(DataError, match="looks like an API key") as told:
        ll.run(bundle(f"{PASTED} {{{{ question }}}}"), cases(), client=ll.FakeClient({}))
    assert PASTED[8:20] not in str(told.value)
    with pytest.warns(RuntimeWarning, match=r"q1 \(API key\)") as warned:
        results = ll.run(bundle(), cases(f"why is {PASTED} wrong?"), app=lambda *_: "no idea", progress=False)
    assert not any(PASTED[8:20] in str(one.message) for one in warned)
    with pytest.raises(DataError, match="looks like API keys"):
        tracking.log(results)
    tracking.log(results, pii="redact")
    assert not any(
        PASTED.encode() in path.read_bytes()
        for path in (project / "mlruns").rglob("*")
        if path.is_file() and "calls.sqlite" not in path.name
    )
    with pytest.raises(DataError, match="API key"):
        registry.register(bundle(f"{PASTED} {{{{ question }}}}"))


def test_the_password_of_the_store_is_in_no_command_line_and_no_repr() -> None:
    """`ps` shows command lines to everybody on the machine, and a page's line goes into terminals and logs."""
    store = Store(uri=f"postgresql://me:{PASSWORD}@db.invalid/x", artifacts=None)
    command = tracking_commands._ui_options(store)
    assert PASSWORD not in f"{command} {store!r} {store} {store._repr_html_()}"


NOTEBOOK = """
import os, sys, logging
print(os.environ["SOME_API_KEY"], os.environ["DATABASE_URL"])
print(os.environ["SOME_API_KEY"], file=sys.stderr)
os.environ["ONLY_HERE"] = "sk-proj-" + "canaryD9aB3xY7qLmZ2kW8vT5nR1"
print(os.environ["ONLY_HERE"])
logging.getLogger().error("key %s", os.environ["SOME_API_KEY"])
from IPython.display import HTML, display
import base64, html
display(HTML(html.escape(os.environ["SOME_API_KEY"])), {"key": os.environ["SOME_API_KEY"]})
print(base64.b64encode(("user:" + os.environ["SOME_API_KEY"]).encode()).decode())
def call(key):
    raise RuntimeError(f"401 for {key}, {os.environ['DATABASE_URL']}, {os.environ['ONLY_HERE']}")
call(os.environ["SOME_API_KEY"])
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_key_is_in_anything_that_a_whole_project_writes(project: Path, secrets: None) -> None:
    """Logged, spooled, registered, promoted, rolled back, exported, and a notebook that fails with the key in hand."""
    results, decision, folder = judged(project)
    hostile = replace(
        results,
        frame=results.frame.assign(text=KEY, error=f"https://me:{PASSWORD}@db.invalid {KEY[:14]}***"),
        notes=(),
    )
    tracking.log(hostile)
    again = replace(hostile, frame=hostile.frame.assign(text=f"again {KEY}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.warns(RuntimeWarning, match="kept in"):
            tracking.log(again)
    version = registry.register(results.bundles["new"], receipt=decision.receipt())
    registry.promote(version, experiment=folder, reason=f"because {KEY} said so")
    other = registry.register(results.bundles["old"])
    registry.promote(other, experiment=folder, reason=os.environ["DATABASE_URL"], force=True)
    registry.rollback("qa", reason=f"{KEY}")
    served = registry.load("qa@production")
    Exported(
        reference="qa@production",
        version=version.number,
        digest=served.bundle.digest,
        bundle=served.bundle,
        exported_at="2026-01-01T00:00:00+00:00",
    ).save(project / "export.json")
    parameters = code("token: str = 'x'\nbase_url: str = ''", "parameters")
    path = write(project / "leaky.ipynb", parameters, code(NOTEBOOK, "report"))
    command = ["-m", "llmlab.cli", "run", str(path), "-p", "token", KEY, "--junit", "j.xml", "--markdown", "m.md"]
    command += ["-p", "base_url", f"https://models.invalid/v1?api-key={QUERY}"]
    done = subprocess.run([sys.executable, *command], cwd=project, capture_output=True, check=False, timeout=200)
    assert done.returncode == 2, done.stderr
    (project / "said.txt").write_bytes(done.stdout + done.stderr)
    source = path.read_bytes()
    assert leaks(project) == []
    for text in (QUERY, PASTED):
        assert not [path for path in project.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
    assert source == path.read_bytes()
    assert b"removed]" in (project / "m.md").read_bytes()
