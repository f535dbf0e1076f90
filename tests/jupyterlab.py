"""A real JupyterLab in a real browser: a server on loopback over a copy of the project, driven by playwright.

    def test_it(jupyterlab, page):                      # both are fixtures; they skip where there is no Chromium
        path = jupyterlab.write("mine.ipynb", "1 + 1")
        open_notebook(page, path)
        run_all(page)                                   # AssertionError with the traceback where a cell ends in one
        assert cell_outputs(page)[-1] == "2"

`page.alerts` holds every dialog that a script opened: tests of hostile texts assert that it stays empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 60_000
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none", "recordTiming": False},  # every cell is in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}
# What the page's own JupyterLab says of the notebook on top.
CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.getSource().trim())
    .map(cell => ({
        count: cell.model.executionCount,
        source: cell.model.sharedModel.getSource(),
        outputs: cell.model.outputs.toJSON(),
        text: cell.outputArea.node.innerText,
        html: cell.outputArea.node.innerHTML,
    }))"""
SETTLED = """() => {
    const notebook = window.jupyterapp.shell.currentWidget;
    const cells = notebook.content.widgets
        .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.getSource().trim());
    const failed = cells.some(cell => cell.model.outputs.toJSON().some(output => output.output_type === 'error'));
    const ran = cells.every(cell => cell.model.executionCount !== null && cell.model.executionState !== 'running');
    return (ran || failed) && notebook.sessionContext.session.kernel.status === 'idle';
}"""
READY = """() => {
    const notebook = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    const kernel = notebook && notebook.sessionContext && notebook.sessionContext.session
        && notebook.sessionContext.session.kernel;
    return Boolean(kernel && kernel.status === 'idle' && notebook.content.widgets.length);
}"""


class JupyterLab:
    """A server over `root`, which holds copies of `notebooks/` and `experiments/`; its `mlruns/` lie there too."""

    def __init__(self, folder: Path) -> None:
        self.root, self.token = folder / "project", secrets.token_hex(8)
        self.root.mkdir()
        (self.root / "pyproject.toml").touch()
        for name in ("notebooks", "experiments"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        self._write_settings(folder / "settings")
        self._log = (folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            self._command(), cwd=self.root, env=self._environment(folder), stdout=self._log, stderr=self._log
        )
        try:
            self.url = self._address(folder / "runtime", folder / "server.log")
        except BaseException:
            self.stop()
            raise

    def write(self, name: str, *sources: str) -> str:
        """A notebook with these code cells, below the root; gives its path as the server knows it."""
        import nbformat.v4 as made

        notebook = made.new_notebook(
            cells=[made.new_code_cell(source) for source in sources],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        (self.root / name).write_text(json.dumps(notebook), encoding="utf-8")
        return name

    def end_kernels(self) -> None:
        """Shut down every session, so that the next test finds the memory free."""
        for session in self._asked("GET", "/api/sessions"):
            self._asked("DELETE", f"/api/sessions/{session['id']}")

    def stop(self) -> None:
        """End the server and its kernels."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _asked(self, method: str, path: str) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read() or "null")

    def _command(self) -> list[str]:
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": "0",
            "ServerApp.root_dir": str(self.root),
            "ServerApp.terminals_enabled": "False",
            "IdentityProvider.token": self.token,
            "LabApp.expose_app_in_browser": "True",
            "LabApp.extension_manager": "readonly",
        }
        given = [f"--{name}={value}" for name, value in options.items()]
        return [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *given]

    @staticmethod
    def _environment(folder: Path) -> dict[str, str]:
        own = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        kept = {
            name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "JUPYTER_PATH")
        }
        folders = {name: str(folder / part) for name, part in own.items()}
        return {**kept, **folders, "PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PLATFORM_DIRS": "1"}

    @staticmethod
    def _write_settings(folder: Path) -> None:
        for plugin, settings in SETTINGS.items():
            path = folder / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings), encoding="utf-8")

    def _address(self, runtime: Path, log: Path) -> str:
        """Where it listens, once it says so in its runtime folder."""
        ends = time.monotonic() + 120
        while time.monotonic() < ends:
            assert self._process.poll() is None, log.read_text(errors="replace")
            for path in runtime.glob("jpserver-*.json"):
                if text := path.read_text(encoding="utf-8"):
                    return f"http://127.0.0.1:{json.loads(text)['port']}"
            time.sleep(0.1)
        raise TimeoutError(log.read_text(errors="replace"))


@pytest.fixture(scope="session")
def _jupyterlab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    _require_chromium()
    server = JupyterLab(tmp_path_factory.mktemp("jupyterlab"))
    yield server
    server.stop()


@pytest.fixture
def jupyterlab(_jupyterlab_server: JupyterLab) -> Iterator[JupyterLab]:
    """A JupyterLab server, one for the session; its kernels end with the test."""
    yield _jupyterlab_server
    _jupyterlab_server.end_kernels()


@pytest.fixture
def page(jupyterlab: JupyterLab, tmp_path: Path) -> Iterator[Any]:
    """A page of headless Chromium that may use the server, and notes every dialog in `page.alerts`."""
    with chromium_page(width=1280) as opened:
        opened.lab = jupyterlab
        opened.pictures = Path(os.environ.get("LLMLAB_SCREENSHOTS", tmp_path))
        yield opened


@contextlib.contextmanager
def chromium_page(*, width: int) -> Iterator[Any]:
    """A page of headless Chromium that notes every dialog in `page.alerts`; the test is skipped where there is none."""
    _require_chromium()
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": width, "height": 1000})
        opened.set_default_timeout(PATIENCE_MS)
        opened.alerts = []
        opened.on("dialog", lambda dialog: (opened.alerts.append(dialog.message), dialog.dismiss()))
        yield opened
        browser.close()


def open_notebook(page: Any, path: str, *, theme: str = "JupyterLab Light") -> None:
    """The notebook alone on the page, its kernel idle."""
    page.goto(f"{page.lab.url}/doc/tree/{path}?reset&token={page.lab.token}")
    page.wait_for_function(READY)
    if page.evaluate("document.body.dataset.jpThemeName") != theme:  # the server keeps that of the page before
        page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
        page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)


def run_all(page: Any, *, timeout_s: float = 300) -> list[dict[str, Any]]:
    """Run every cell by the menu; gives the code cells {source, count, outputs, text, html} once the kernel is idle.

    Raises:
        AssertionError: a cell ended in an error (with its traceback), or a widget could not be displayed.
    """
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells")).first.click()
    page.wait_for_function(SETTLED, timeout=timeout_s * 1000)
    cells: list[dict[str, Any]] = page.evaluate(CELLS)
    for cell in cells:
        for output in cell["outputs"]:
            assert output["output_type"] != "error", f"{cell['source']}\n" + "\n".join(output.get("traceback", []))
        assert "Error displaying widget" not in cell["text"], cell["source"]
    return cells


def cell_outputs(page: Any) -> list[str]:
    """What each code cell shows, as text, in their order."""
    return [cell["text"].strip() for cell in page.evaluate(CELLS)]


def screenshot(page: Any, name: str, *, of: Any = None) -> Path:
    """A picture of the page, or of one locator, kept under the test's folder or where LLMLAB_SCREENSHOTS says."""
    path: Path = page.pictures / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    (page if of is None else of).screenshot(path=path)
    return path


def unwanted(text: str, words: Sequence[str] = ("Error displaying widget", "Loading widget", "Traceback")) -> list[str]:
    """Which of these words a cell shows, and should not."""
    return [word for word in words if word in text]


def _require_chromium() -> None:
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
