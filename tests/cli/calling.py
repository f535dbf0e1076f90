"""`llmlab COMMAND`, called within this process as a shell calls it."""

from click.testing import CliRunner, Result

from llmlab.cli import main


def llmlab(*arguments: object) -> Result:
    """What the command wrote, and its exit code."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
