"""The wheel that is built from the source distribution, used in an empty folder and without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv is not installed beside this interpreter")
    folder = tmp_path_factory.mktemp("package")
    build = [uv, "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
    subprocess.run([*install, "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def test_a_case_of_ones_own_is_compared_with_what_the_wheel_holds(site: Path, tmp_path: Path, loopback: Any) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site), "LLM_API_KEY": "none"}

    def llmlab(*words: str) -> str:
        command = [sys.executable, "-m", "llmlab.cli", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    place = "import llmlab; print(llmlab.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", place], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).is_relative_to(site)
    (tmp_path / "cases.csv").write_text("question,expected\n" + "".join(f"What is {i}?,{i}\n" for i in range(12)))
    llmlab("new", "mine", "--csv", "cases.csv", "--model", "tiny", "--base-url", loopback.base_url)
    assert "v1" in llmlab("run", "experiments/mine")
    assert "01_compare_variants.ipynb" in llmlab("notebooks")
    assert "stays" in llmlab("notebooks")
    copies = {path.name for path in (tmp_path / "notebooks").glob("*.ipynb")}
    assert copies == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert (tmp_path / "mlruns" / "calls.sqlite").exists()
    assert {path.name for path in (site / "llmlab" / "runbooks").glob("*.md")} >= {"cost-spike.md", "quality-drop.md"}
