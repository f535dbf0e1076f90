"""Where a project's files lie, which commit its code is at, who acts, and when.

Moments are UTC: written with their offset, and read as UTC where a file names none. A naive datetime is refused.
"""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

_CI_ACTORS = {
    "GITHUB_ACTIONS": "GITHUB_ACTOR",
    "GITLAB_CI": "GITLAB_USER_LOGIN",
    "BUILDKITE": "BUILDKITE_BUILD_CREATOR",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """The commit that is checked out, its author, and whether files differ from it. "" without a repository."""

    commit: str = ""
    dirty: bool = False
    author: str = ""


def project_root(start: str | Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working directory) with a pyproject.toml, else `start`.

    Without any pyproject.toml the folder above `notebooks/` counts, if it has `experiments/`: an installed llmlab needs
    no project file, and a kernel starts in its notebook's folder.
    """
    here = Path(start or Path.cwd()).resolve()
    above = here.parents if "notebooks" in (here.name, here.parent.name) else ()
    beside = next((folder for folder in above if (folder / "experiments").is_dir()), here)
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), beside)


def shipped(folder: str) -> Path:
    """A folder that comes with llmlab: the installed package's, else the checkout's."""
    package = Path(__file__).parents[1]
    installed = package / Path(folder).name
    return installed if installed.is_dir() else package.parent / folder


def located(path: str | Path) -> Path:
    """A path as people write it: from the working directory, and where nothing is there from the project's root.

    JupyterLab and VS Code start a notebook's kernel in the notebook's own folder, a job in the project's root.
    """
    path = Path(path)
    below_root = project_root() / path
    return below_root if not path.exists() and below_root.exists() else path


def inside_experiment(given: str, folder: Path) -> Path:
    """A path that a file in `folder` names, from there; ValueError where it leaves the experiment.

    That is the folder itself, and of `bundles/` and `judges/` the one that holds them.
    """
    start = folder.resolve()
    home = start.parent if start.name in ("bundles", "judges") else start
    path = (start / given).resolve()
    if not path.is_relative_to(home):
        raise ValueError(f"the path {given!r} leaves {home}; paths of a bundle stay inside its experiment")
    return path


def runs_folder() -> Path:
    """`mlruns/` of the project, made when it is missing: call store, tracking store, spool, executed notebooks."""
    folder = project_root() / "mlruns"
    folder.mkdir(exist_ok=True)
    return folder


def pii_policy(root: Path) -> str:
    """What is done about personal data before it is logged: `pii` under [tool.llmlab] of pyproject.toml, or "flag"."""
    try:
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no project, or a file that others will complain about
        return "flag"
    policy = settings.get("tool", {}).get("llmlab", {}).get("pii", "flag")
    if policy not in ("flag", "redact", "refuse"):
        raise ValueError(f"[tool.llmlab] pii = {policy!r} in pyproject.toml, must be flag, redact or refuse")
    return str(policy)


def git_state(folder: str | Path | None = None) -> GitState:
    """Commit and cleanliness of the repository that holds `folder`."""
    commit = _git("rev-parse", "HEAD", folder=folder)
    if commit is None:
        return GitState()
    changes = _git("status", "--porcelain", "--untracked-files=no", folder=folder)
    author = _git("log", "-1", "--format=%ae", folder=folder) or ""
    return GitState(commit=commit, dirty=bool(changes), author=author)


def named_in(environment: Mapping[str, str]) -> str:
    """Who acts: who started the CI's job, else whom the tracking server logs in, else LLMLAB_WHO; "" where none says.

    >>> named_in({"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "anna", "LLMLAB_WHO": "bert"})
    'anna'
    """
    return next(iter(_named_in(environment)), ("", ""))[0]


def who() -> str:
    """The person or job that acts: as `named_in`, else the commits' author, or the account."""
    return actor()[0]


def actor() -> tuple[str, str]:
    """Who acts, and who says so: a variable of CI's or of the tracking server's log-in, or one that anybody may set."""
    email, account = _git("config", "user.email", folder=None), os.environ.get("USER") or os.environ.get("USERNAME")
    others = [(email, "git's user.email"), (account, "the account")]
    actors = [*_named_in(os.environ), *((name[:200], by) for name, by in others if name)]
    return next(iter(actors), ("unknown", ""))


def _named_in(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names with the variable that says them, the most reliable first."""
    variables = [actor for system, actor in _CI_ACTORS.items() if environment.get(system)]
    server = urlsplit(environment.get("MLFLOW_TRACKING_URI", ""))
    at_server = server.scheme in ("http", "https")
    variables += [*(["MLFLOW_TRACKING_USERNAME"] if at_server else []), "LLMLAB_WHO"]
    actors = [(environment.get(name, "").strip()[:200], name) for name in variables]
    url_user = (unquote(server.username)[:200], "MLFLOW_TRACKING_URI") if at_server and server.username else ("", "")
    return [(name, by) for name, by in (*actors[:-1], url_user, actors[-1]) if name]


def utc(text: str) -> datetime:
    """The moment of an ISO 8601 text, in UTC; one without an offset is taken to be UTC.

    Raises:
        ValueError: it is no moment.

    >>> utc("2026-03-29T02:30:00+02:00").isoformat(), utc("2026-03-29T02:30:00").isoformat()
    ('2026-03-29T00:30:00+00:00', '2026-03-29T02:30:00+00:00')
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # of the year 0 or 10000 in UTC
        raise ValueError(f"{text!r} is no ISO 8601 moment such as 2026-01-31T12:00:00+00:00") from None


def aware(moment: datetime) -> datetime:
    """The moment in UTC; ValueError for one without a time zone, of which nobody knows when it is."""
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; write datetime.now(UTC), or .replace(tzinfo=UTC)")
    return moment.astimezone(UTC)


def changed_files(folder: str | Path | None, pattern: str) -> tuple[Path, ...]:
    """Files of the repository around `folder` that match and differ from the commit, new ones included."""
    root = _git("rev-parse", "--show-toplevel", folder=folder)
    if root is None:
        return ()
    tracked = _git("diff", "--name-only", "-z", "HEAD", "--", pattern, folder=root) or ""
    untracked = _git("ls-files", "-z", "--others", "--exclude-standard", "--", pattern, folder=root) or ""
    return tuple(Path(root, name) for name in sorted({*tracked.split("\0"), *untracked.split("\0")} - {""}))


def _git(*arguments: str, folder: str | Path | None) -> str | None:
    command = ["git", "-C", str(folder or Path.cwd()), *arguments]
    try:
        # git's own output has the encoding of whoever wrote it
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False)  # noqa: S603  # fixed program
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
