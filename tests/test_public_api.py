"""What `import llmlab` promises: complete sorted names, each with a home, and nothing loaded before it is used."""

import json
import subprocess
import sys

import pytest

import llmlab

HEAVY = {"numpy", "pandas", "aiohttp", "mlflow", "datasets", "statsmodels", "scipy", "sklearn", "matplotlib"}
HEAVY |= {"ipywidgets", "papermill", "pydantic"}


def test_all_is_sorted_and_small():
    assert llmlab.__all__ == sorted(llmlab.__all__)
    assert len(llmlab.__all__) <= 30


@pytest.mark.parametrize("name", llmlab.__all__)
def test_every_public_name_resolves(name):
    """A name in __all__ can be reached, and says what it is."""
    assert getattr(llmlab, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        _ = llmlab.rnu


def loaded_by(program):
    """The packages that a program has loaded at its end."""
    code = f"{program}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return {module.partition(".")[0] for module in json.loads(done.stdout)}


def test_importing_llmlab_loads_nothing_heavy():
    """Importing is free: no numpy, no pandas, no client, no tracking."""
    assert not loaded_by("import llmlab") & HEAVY


def test_a_service_loads_no_frames_and_no_tracking():
    """What records, assigns arms and serves the bundle of an alias starts within a second."""
    served = "import llmlab as ll; ll.Recorder, ll.Rollout, ll.Fallback, ll.registry.load"
    assert not loaded_by(served) & {"pandas", "pyarrow", "mlflow", "matplotlib"}


def test_importing_llmlab_reads_no_environment_and_touches_no_network():
    """Nothing happens at import: no variable is read, no socket opened, no handler added."""
    code = (
        "import os, socket, logging\n"
        "class Watched(dict):\n"
        "    def __getitem__(self, key): raise SystemExit(f'read {key}')\n"
        "    get = __getitem__\n"
        "os.environ = Watched(); socket.socket = None\n"
        "before = list(logging.getLogger().handlers)\n"
        "import llmlab\n"
        "assert logging.getLogger().handlers == before\n"
        "print('quiet')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "quiet", done.stderr + done.stdout
