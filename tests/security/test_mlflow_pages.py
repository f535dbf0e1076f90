"""MLflow's own pages over everything that llmlab writes, full of script payloads: none runs or asks another host."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmlab import registry, tracking
from llmlab.notebook import run_notebook
from llmlab.plots import quality_against
from llmlab.tracking.store import open_store
from tests.made_results import experiment
from tests.notebook.notebooks import code, write
from tests.payloads import SCRIPTS
from tests.registry.made import POLICY, bundle
from tests.registry.test_pages import served
from tests.security.everything import answers_with
from tests.security.watching import assert_quiet, assert_readable

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
SHORT = [text for text in SCRIPTS if len(text) < 120 and "\n" not in text][::4]
ALL = " ".join(SCRIPTS)
# Shows outputs of a cell as MLflow's viewer does, in the notebook that is logged with the run.
HOSTILE_CELL = f"import sys\nprint({ALL!r})\nraise RuntimeError({ALL!r})"


def screenshot(page: Any, name: str) -> None:
    if folder := os.environ.get("LLMLAB_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"mlflow_{name}.png", full_page=True)


def visit(page: Any, address: str, *, wait_for: str) -> None:
    page.goto(address)
    page.get_by_text(wait_for).first.wait_for()
    assert_nothing_live(page)


def look_at(page: Any, *names: str, shows: str) -> None:
    """Open a file in MLflow's viewer, folder by folder."""
    for name in names:
        page.get_by_text(name, exact=True).first.click()
    page.get_by_text(shows).first.wait_for()
    assert_nothing_live(page)


def assert_nothing_live(page: Any) -> None:
    page.wait_for_timeout(500)
    assert_quiet(page, markup=False)
    live = page.evaluate(
        "() => [...document.querySelectorAll('*')].filter(n => [...n.attributes].some(a => a.value.includes('__pwned')"
        " && (a.name.startsWith('on') || /^\\s*(javascript|data):/i.test(a.value)))).map(n => n.outerHTML)"
    )
    assert not live, "\n".join(live)


def test_nothing_that_is_logged_registered_or_promoted_is_live_in_mlflow(project: Path, chromium: Any) -> None:
    """Run, its parameters and tags, table, text and HTML artifacts; versions, their descriptions and history."""
    text = SHORT[1]
    results = answers_with(text)
    names = list(results.bundles)
    hostile = "{% raw %}" + ALL + "{% endraw %}{{ question }}"
    bundles = {name: bundle(k=i, name="help_desk", template=hostile) for i, name in enumerate(names)}
    results = replace(results, bundles=bundles, frame=results.frame.assign(text=ALL, explanations=""))
    folder = experiment(project, POLICY, results.golden)
    logged = tracking.log(results, figures={text: quality_against(results, against="right")}, experiment=text)
    version = registry.register(bundles[names[0]])
    registry.promote(version, experiment=folder, reason=ALL[:450], force=True)
    path = write(project / "hostile.ipynb", code("name: str = 'x'", "parameters"), code(HOSTILE_CELL))
    done = run_notebook(path, {"name": text})
    store = open_store(project)
    runs = f"experiments/{store.experiment_id(text)}/runs/{logged.run_ids[names[0]]}"
    notebooks = f"experiments/{store.experiment_id('notebooks')}/runs/{done.run_id}"
    with served(project) as address:
        visit(chromium, f"{address}/#/{runs}", wait_for="About this run")
        assert_readable(chromium, [text])
        screenshot(chromium, "run")
        visit(chromium, f"{address}/#/{runs}/artifacts/cases.json", wait_for="case_id")
        visit(chromium, f"{address}/#/{runs}/artifacts", wait_for="cases.parquet")
        look_at(chromium, "bundle", "bundle.yaml", shows="provider:")
        screenshot(chromium, "yaml")
        visit(chromium, f"{address}/#/{notebooks}", wait_for="About this run")
        visit(chromium, f"{address}/#/{notebooks}/artifacts", wait_for="notebook")
        look_at(chromium, "notebook", Path(done.html).name, shows="Path:")
        chromium.frame_locator("iframe").get_by_text("RuntimeError").first.wait_for()
        look_at(chromium, Path(done.executed).name, shows="nbformat")
        visit(chromium, f"{address}/#/experiments/{store.experiment_id(text)}/runs", wait_for="matching runs")
        visit(chromium, f"{address}/#/models/help_desk/versions/{version.number}", wait_for=version.digest)
        assert_readable(chromium, SCRIPTS[:3])
        screenshot(chromium, "version")
        visit(chromium, f"{address}/#/models/help_desk__history/versions/1", wait_for="FORCED PROMOTE")
        assert_readable(chromium, SCRIPTS[:3])
        visit(chromium, f"{address}/#/models", wait_for="help_desk")
        foreign = urllib.request.Request(
            f"{address}/api/2.0/mlflow/experiments/search", headers={"Host": "evil.example"}
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):  # another site's name for this address (rebinding)
            urllib.request.urlopen(foreign, timeout=30)
