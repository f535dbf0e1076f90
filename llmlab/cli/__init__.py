"""The command line: `llmlab COMMAND`. Each command lives in its own module, loaded when it is called.

Exit codes are the same everywhere: 0 pass, 1 fail, 3 inconclusive, 2 broken, invalid or a mistake in the call.
"""

from __future__ import annotations

import difflib
import importlib
import os
import traceback
from pathlib import Path
from typing import Any

import click

from llmlab.base.cells import plain
from llmlab.base.errors import LlmlabError
from llmlab.base.private import scrub

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "run": ("llmlab.cli.run:run", "Execute a notebook as a job: checked parameters, a verdict, kept copies."),
    "new": ("llmlab.cli.new:new", "Start an experiment of your own from a CSV file of questions."),
    "notebooks": ("llmlab.cli.run:notebooks", "Copy the notebooks that come with llmlab into a folder."),
    "import": ("llmlab.cli.imports:import_file", "Turn another tool's file into cases, prompts or results."),
    "ui": ("llmlab.cli.tracking:ui", "Show the logged runs in MLflow's pages, on this machine only."),
    "check-model": ("llmlab.cli.models:check_model", "Say whether a model id is pinned, and why."),
    "local": ("llmlab.cli.models:local", "Install or serve a small language model on this machine."),
    "retrieval": ("llmlab.cli.retrieval:retrieval", "Judge a search engine's run, or compare two."),
    "compare": ("llmlab.cli.compare:compare", "Compare variants of results that exist already."),
    "gate-init": ("llmlab.cli.gate:gate_init", "Write a gate for an experiment, with what it can detect."),
    "gate": ("llmlab.cli.gate:gate", "Decide whether a candidate may be released."),
    "calibrate": ("llmlab.cli.calibrate:calibrate", "Measure a judge against human labels."),
    "models": ("llmlab.cli.models:models", "List the models in use, what expires, and what that touches."),
    "register": ("llmlab.cli.registry:register", "Register a bundle as a version in MLflow."),
    "promote": ("llmlab.cli.registry:promote", "Point an alias at a version that passed its gate."),
    "rollback": ("llmlab.cli.registry:rollback", "Point an alias back at the version before."),
    "history": ("llmlab.cli.registry:history", "List every move of a model's aliases."),
    "audit": ("llmlab.cli.registry:audit", "Check the registry against its receipts and history."),
    "export": ("llmlab.cli.registry:export", "Write a registered bundle and its receipt as one JSON file."),
    "server": ("llmlab.cli.tracking:server", "Start a tracking server for a team, bound to this machine."),
    "batch": ("llmlab.cli.batch:batch", "Ask an experiment overnight, at half the price."),
    "join": ("llmlab.cli.batch:join", "Join the shards of a run and show its scores."),
    "traces": ("llmlab.cli.traces:traces", "Show the figures of trace files, or forget a person."),
    "watch": ("llmlab.cli.traces:watch", "Say whether production is as it was, and what to do if not."),
    "calls": ("llmlab.cli.batch:calls", "Show what answers are stored and what they cost, or forget some."),
    "sync": ("llmlab.cli.tracking:sync", "Log what was kept while the tracking store was away."),
}
INTERRUPTED, TERMINATED = 130, 143  # 128 + the number of the signal, as shells say it


class _LazyGroup(click.Group):
    """Names and one-line helps without an import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"{error.message}{hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """The command; whatever a user can mend becomes one line on stderr and exit code 2."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.show()
            ctx.exit(2)
        except KeyboardInterrupt as interrupt:
            click.echo("interrupted; what was received is kept, and the same command resumes", err=True)
            ctx.exit(TERMINATED if "SIGTERM" in interrupt.args else INTERRUPTED)
        except (LlmlabError, ValueError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            message = " ".join(str(error).split()) or type(error).__name__
            click.echo(f"llmlab: {plain(scrub(message), None)}", err=True)
            ctx.exit(2)
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception:  # noqa: BLE001  # whatever else breaks: Python's own exit code is 1, which a job reads as FAIL
            click.echo(scrub(traceback.format_exc()), err=True)
            ctx.exit(2)


@click.group("llmlab", cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="llmlab", message="%(prog)s %(version)s")
def main(debug: bool) -> None:
    """Is the changed prompt better or worse, how sure are you, and can you ship it?"""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        Path.cwd()
    except FileNotFoundError:
        raise click.ClickException("the current folder was removed: `cd` into one that is there") from None
