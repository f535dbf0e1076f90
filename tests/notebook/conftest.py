"""Projects that notebooks are run in."""

import pytest


@pytest.fixture
def quick_desk(help_desk):
    """The same without v3, whose topic search takes long to build."""
    (help_desk / "bundles" / "v3.yaml").unlink()
    return help_desk
