"""Projects that notebooks are run in."""

import shutil

import pytest

from tests.notebook.notebooks import ROOT


@pytest.fixture
def help_desk(project):
    """A project that holds the experiments, the current folder; gives the folder of the embedded default."""
    shutil.copytree(ROOT / "experiments", project / "experiments")
    return project / "experiments" / "pandas_help"


@pytest.fixture
def quick_desk(help_desk):
    """The same without v3, whose topic search takes long to build."""
    (help_desk / "bundles" / "v3.yaml").unlink()
    return help_desk
