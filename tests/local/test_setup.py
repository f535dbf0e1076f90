"""What is told where the model cannot run, before anything is started."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from pathlib import Path

import pytest

from llmlab.bundle.bundle import ModelRef
from llmlab.clients.endpoints import Endpoints, client_for
from llmlab.clients.local import LocalClient
from llmlab.local.setup import LocalModel, LocalModelError, package_file

FLAGS = "flags\t\t: fpu avx avx2 fma f16c bmi2\n"


@pytest.fixture
def own(tmp_path: Path) -> LocalModel:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF")
    return LocalModel.of(f"path:{path}")


def test_a_file_of_the_users_own_is_known_by_its_hash_and_not_by_its_place(own: LocalModel, tmp_path: Path) -> None:
    assert own.sha256 == hashlib.sha256(b"GGUF").hexdigest()
    assert own.sha256 in own.fingerprint
    assert str(tmp_path) not in own.fingerprint + own.alias
    assert "mine" not in own.fingerprint
    assert dataclasses.replace(own, slots=2).fingerprint != own.fingerprint


def test_a_revision_is_the_files_sha256(own: LocalModel) -> None:
    other = LocalModel.of(f"path:{own.path}", revision=f"sha256:{'0' * 64}")
    with pytest.raises(LocalModelError, match=own.sha256[:12]):
        other.require_ready()
    with pytest.raises(LocalModelError, match="not known"):
        LocalModel.of("smollm2-135m-instruct", revision="0" * 64)


def test_a_file_that_was_cut_off_after_it_was_named_is_refused(own: LocalModel) -> None:
    assert own.path is not None
    own.path.write_bytes(b"GG")
    with pytest.raises(LocalModelError, match="cut off"):
        own.require_ready()


def test_what_is_not_installed_is_told_with_its_command(own: LocalModel) -> None:
    with pytest.raises(LocalModelError, match="llmlab local setup"):
        dataclasses.replace(own, path=None).require_ready()
    assert package_file("package_of_nobody", "x.gguf") is None


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="flags are of x86-64")
def test_an_old_processor_is_named_before_it_dies_of_an_instruction(own: LocalModel, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(FLAGS.replace("avx2 ", ""))
    with pytest.raises(LocalModelError, match="lacks avx2,"):
        own.require_ready(cpuinfo=cpuinfo)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalModelError, match=r"none\.gguf"):
        LocalModel.of(f"path:{tmp_path / 'none.gguf'}")


def test_what_is_pinned() -> None:
    assert ModelRef.parse("local/smollm2-135m-instruct").pinned
    assert ModelRef(provider="local", id="path:mine.gguf", revision="a" * 64).pinned
    assert not ModelRef.parse("local/path:mine.gguf").pinned
    assert not ModelRef.parse("local/llama3").pinned


def test_a_provider_that_a_user_called_local_is_reached_as_the_user_says() -> None:
    own = Endpoints.model_validate({"endpoints": {"local": {"base_url": "http://127.0.0.1:9/v1"}}})
    assert client_for(ModelRef.parse("local/llama3"), own).fingerprint == "http://127.0.0.1:9/v1"
    assert isinstance(client_for(ModelRef.parse("local/smollm2-135m-instruct"), own), LocalClient)
