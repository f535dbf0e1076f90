"""No store stalls anybody: whatever answers at its address, or does not, is told within a bound."""

from __future__ import annotations

import ipaddress
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from llmlab import tracking
from llmlab.base.errors import StoreError
from llmlab.registry import load, rollback
from llmlab.tracking import reach
from llmlab.tracking.reach import check_store, within
from llmlab.tracking.store import open_store, store_uri
from tests.made_results import made
from tests.registry.made import free_port

ANSWERS = {
    "healthy": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK",
    "page": b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\nConnection: close\r\n\r\n<html>sign in</html>  ",
    "nonsense": b"\x00\xff 220 smtp ready\r\n" * 9,
}
PROMISED_S = 10.0  # what a test may take at most, although its bounds are shorter


class Odd(socketserver.ThreadingTCPServer):
    """A server whose answers are odd: `probed` to the questions that llmlab asks first, `asked` to MLflow's own."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, probed: str, asked: str) -> None:
        self.probed, self.asked, self.n_asked, self.over = probed, asked, 0, threading.Event()
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server: Odd = self.server  # type: ignore[assignment]
        head = self.request.recv(65536)
        probed = b"/health" in head or b"llmlab-probe" in head
        server.n_asked += not probed
        kind = server.probed if probed else server.asked
        if kind == "mute":
            server.over.wait(20)
        elif kind == "drips":
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not server.over.wait(0.05):
                try:
                    self.request.sendall(b" ")
                except OSError:  # it hung up
                    return
        else:
            self.request.sendall(ANSWERS[kind])


Serve = Callable[[str, str], Odd]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts an odd server that the tracking URI names, with bounds of a test."""
    running: list[Odd] = []
    monkeypatch.setattr(reach, "PROBE_TIMEOUT_S", 0.4)
    monkeypatch.setattr(reach, "SILENCE_S", 0.6)

    def start(probed: str, asked: str) -> Odd:
        server = Odd(probed, asked)
        running.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        return server

    yield start
    for server in running:
        server.over.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("is_healthy", [False, True])
@pytest.mark.parametrize("asked", ["mute", "drips", "nonsense", "page"])
def test_load_and_rollback_are_told_in_time(asked: str, is_healthy: bool, serve: Serve, project: Path) -> None:
    """A StoreError, whatever MLflow itself would raise, or wait for."""
    serve("healthy" if is_healthy else asked, asked)
    begun = time.monotonic()
    with pytest.raises(StoreError):
        load("qa@production")
    with pytest.raises(StoreError):
        rollback("qa", reason="r")
    assert time.monotonic() - begun < PROMISED_S


@pytest.mark.parametrize(("probed", "asked"), [("drips", "drips"), ("healthy", "drips"), ("healthy", "page")])
def test_results_are_kept_in_time(probed: str, asked: str, serve: Serve, project: Path) -> None:
    """What could not be logged is in the spool."""
    serve(probed, asked)
    begun = time.monotonic()
    with pytest.warns(RuntimeWarning, match="Nothing is lost"):
        tracking.log(made({"a": [1.0, 0.0], "b": [1.0, 1.0]}), root=project)
    assert time.monotonic() - begun < PROMISED_S
    assert len(list((project / "mlruns" / "spool").iterdir())) == 1


def test_a_store_that_owes_an_answer_is_not_waited_for_again_within_one_call(serve: Serve, project: Path) -> None:
    """Closing a run on it, say: the bound is of the silence and not of each question."""
    server = serve("healthy", "mute")
    client = open_store(project).client
    for _ in range(3):
        with pytest.raises(TimeoutError):
            client.search_experiments()
    assert server.n_asked == 1


def test_a_web_page_is_told_as_one(serve: Serve, project: Path) -> None:
    """A proxy that asks for a sign-in answers 200 to everything."""
    serve("page", "page")
    with pytest.raises(StoreError, match="web page"):
        check_store(store_uri(project))


@pytest.mark.parametrize("listens", [True, False])
def test_a_postgresql_that_is_down_is_told_in_time(
    listens: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow would try for 106 seconds; the password is in no message."""
    pytest.importorskip("psycopg2")
    monkeypatch.setattr(reach, "PROBE_TIMEOUT_S", 0.5)
    port = free_port()
    mute = socket.create_server(("127.0.0.1", port)) if listens else None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://u:canary-7f3a9c@127.0.0.1:{port}/mlflow")
    begun = time.monotonic()
    for ask in (lambda: load("qa@production"), lambda: rollback("qa", reason="r"), open_store):
        with pytest.raises(StoreError, match="does not answer") as told:
            ask()
        assert "canary-7f3a9c" not in str(told.value)
    assert time.monotonic() - begun < PROMISED_S
    if mute is not None:
        mute.close()


@pytest.mark.parametrize("uri", ["postgresql://u:canary-7f3a9c@h/d", "mysql+nodriver://u:canary-7f3a9c@h/d",
                                 "mysql+pymysql://u:canary-7f3a9c@127.0.0.1/d"])  # fmt: skip
def test_a_missing_driver_is_a_sentence(uri: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no traceback, which a job would take for a verdict."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "pymysql", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(StoreError, match=r"driver|dialect|plugin") as told:
        open_store(project)
    assert "canary-7f3a9c" not in str(told.value)


@pytest.fixture
def over_tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server with a certificate that nobody else has signed: its address and the certificate."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a company's own")])
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    signed = made.add_extension(place, critical=False).sign(key, hashes.SHA256())
    pem, secret = tmp_path / "own.pem", tmp_path / "key.pem"
    pem.write_bytes(signed.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Well)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}", pem
    server.shutdown()
    server.server_close()


class _Well(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "MLFLOW_TRACKING_SERVER_CERT_PATH"])
def test_a_server_is_trusted_whose_certificate_the_environment_names_and_no_other(
    variable: str, over_tls: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MLflow's own client does: a company's certificate, none at all by word, or a file that is not there."""
    address, pem = over_tls
    with pytest.raises(StoreError, match="certificate"):
        check_store(address)
    monkeypatch.setenv(variable, str(pem))
    check_store(address)
    monkeypatch.setenv(variable, "nowhere.pem")
    with pytest.raises(StoreError, match="cannot be read"):
        check_store(address)
    monkeypatch.delenv(variable)
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    check_store(address)


def test_within_gives_what_was_asked_for_or_raises_what_it_raised() -> None:
    """The thread beside is not seen."""
    assert within(5, lambda: 3) == 3
    with pytest.raises(KeyError):
        within(5, lambda: {}["nothing"])
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        within(0.01, threading.Event().wait)
