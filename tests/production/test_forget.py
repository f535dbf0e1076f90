"""A person is forgotten: every line of theirs goes, nobody else's, and nobody is said to be who is not."""

import gzip
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

import llmlab as ll
from llmlab import production
from llmlab.base.errors import DataError, FileRuleError
from llmlab.production.recorder import pseudonym

KEY = b"k" * 32


def recorder(folder):
    return ll.Recorder(folder, service="help-desk", key=KEY, personal="flag")


def test_lines_go_into_the_file_of_its_name_although_a_copy_has_the_old_one(tmp_path):
    """A backup of hard links takes no line that comes after a person was forgotten."""
    recorded = recorder(tmp_path / "traces")
    with recorded.request(unit="anna"):
        pass
    (path,) = (tmp_path / "traces").iterdir()
    (tmp_path / "backup").hardlink_to(path)
    production.forget(tmp_path / "traces", "anna", key=KEY)
    with recorded.request(unit="ben"):
        pass
    assert [len((tmp_path / name).read_bytes().splitlines()) for name in ("backup", f"traces/{path.name}")] == [1, 1]


def test_a_person_is_forgotten_by_their_name_signals_included(tmp_path):
    """Everybody else's lines stay as they were, byte by byte; a recorder goes on in the new file."""
    recorded = recorder(tmp_path)
    with recorded.request(unit="anna") as hers:
        pass
    with recorded.request(unit="ben"):
        pass
    recorded.signal(hers.request_id, thumbs=1)
    (path,) = tmp_path.iterdir()
    kept = path.read_bytes().splitlines(keepends=True)[1]
    assert production.forget(tmp_path, "anna", key=KEY) == 2
    assert path.read_bytes() == kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert production.forget(tmp_path, "anna", key=KEY) == 0
    with recorded.request(unit="carl"):
        pass
    assert len(path.read_bytes().splitlines()) == 2
    with path.open("a") as file:  # of a writer that counts its requests
        file.write(json.dumps({"request_id": 7, "unit_id": pseudonym("dora", key=KEY)}) + "\n")
    assert production.forget(tmp_path, "dora", key=KEY) == 1


def test_a_person_is_forgotten_in_every_file_of_lines_torn_ones_included(tmp_path):
    """Whatever it is called; a file without them is left alone, and of what another name says nothing is deleted."""
    hers = {"request_id": "a", "unit_id": pseudonym("anna", key=KEY), "text": "private"}
    nobodys = {"request_id": "", "unit_id": None, "text": "kept"}
    torn = json.dumps({**hers, "request_id": "b"})[:-4].encode()
    for name in ("one.ndjson", "two.json", "three.jsonl", "four.jsonl.1"):
        rows = [hers, nobodys, {**hers, "request_id": ""}]
        text = b"\xef\xbb\xbf" + b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        (tmp_path / name).write_bytes(text + torn + b"\n{broken\n")
    kept = tmp_path / "kept.jsonl"
    kept.write_text(json.dumps(nobodys) + "\n")
    (tmp_path / ".three.jsonl.7.part").write_bytes(torn)  # of a `forget` that was killed
    before = kept.stat().st_ino
    assert production.forget(tmp_path, "anna", key=KEY) == 12
    assert [path for path in tmp_path.iterdir() if b"private" in path.read_bytes()] == []
    assert (tmp_path / "one.ndjson").read_text(encoding="utf-8-sig") == json.dumps(nobodys) + "\n{broken\n"
    assert kept.stat().st_ino == before
    assert production.forget(tmp_path, "None", key=KEY) == 0


def test_nobody_is_said_to_be_forgotten_whom_another_file_still_holds(tmp_path):
    """Parquet, a JSON list, and what cannot be looked into are named; lines are deleted all the same."""
    recorded = recorder(tmp_path)
    for unit in ("anna", "ben"):
        with recorded.request(unit=unit, request_id=unit):
            pass
    (path,) = tmp_path.iterdir()
    lines = path.read_text().splitlines()
    (tmp_path / "list.json").write_text("[\n" + ",\n".join(reversed(lines)) + "\n]")
    frame = ll.Traces.load(path).frame[["request_id", "time", "unit_id", "status"]]
    frame.to_parquet(tmp_path / "all.parquet")
    frame[1:].to_parquet(tmp_path / "bens.parquet")
    (tmp_path / "old.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError) as raised:
        production.forget(tmp_path, "anna", key=KEY)
    told = str(raised.value)
    assert told.startswith("1 line deleted, but")
    assert [name in told for name in ("list.json", "all.parquet", "old.jsonl.gz")] == [True] * 3
    assert [name in told for name in ("bens.parquet", path.name)] == [False] * 2
    assert "anna" not in told.replace(str(tmp_path), "")
    assert path.read_text().splitlines() == lines[1:]
    assert (tmp_path / "list.json").read_text().count("\n") == 3
    for name in ("list.json", "all.parquet", "old.jsonl.gz"):
        (tmp_path / name).unlink()
    (tmp_path / "blank.jsonl").write_text("\n \n")  # holds nobody
    assert production.forget(tmp_path, "anna", key=KEY) == 0
    with pytest.raises(FileRuleError, match="no folder"):
        production.forget(tmp_path / "typo", "anna", key=KEY)


@pytest.mark.parametrize("name", ["scores.json", "scores.jsonl", "scores.parquet", "said.json"])
def test_scores_of_a_person_in_files_of_their_own_are_named(tmp_path, name):
    """They say whose they are by the request alone."""
    recorded = recorder(tmp_path)
    for unit in ("anna", "ben"):
        with recorded.request(unit=unit, request_id=f"of-{unit}"):
            pass
    score = {"id": "s1", "trace_id": "of-anna", "name": "thumbs", "value": 0.0, "data_type": "NUMERIC"}
    score = {"request_id": "of-anna", "signals": {"thumbs": 0}} if name == "said.json" else score
    if name.endswith("parquet"):
        pd.DataFrame([score]).to_parquet(tmp_path / name)
    else:
        (tmp_path / name).write_text(json.dumps([score] if name.endswith("json") else score))
    with pytest.raises(DataError, match=f"{name} .still signals for 1 request of theirs"):
        production.forget(tmp_path, "anna", key=KEY)
    assert production.forget(tmp_path, "ben", key=KEY) == 1


def test_two_who_forget_at_once_bring_back_nobody(tmp_path):
    """The second one waits for the file, and then takes the one that is there."""
    recorded = recorder(tmp_path)
    units = [f"u{i}" for i in range(8)]
    for unit in units * 50:
        with recorded.request(unit=unit):
            pass
    with ThreadPoolExecutor(8) as pool:
        gone = list(pool.map(lambda unit: production.forget(tmp_path, unit, key=KEY), units))
    assert gone == [50] * 8
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b""]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_root_replaced_is_still_its_services(tmp_path):
    with recorder(tmp_path).request(unit="anna"):
        pass
    (path,) = tmp_path.iterdir()
    os.chown(path, 1234, 1234)
    assert production.forget(tmp_path, "anna", key=KEY) == 1
    assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (1234, 1234, 0o600)


def test_nothing_is_lost_while_people_are_forgotten(tmp_path):
    """Writers in other threads wait for the new file."""
    recorded = [recorder(tmp_path) for _ in range(2)]

    def write(mine):
        for i in range(300):
            with mine.request(unit=f"u{i % 3}"):
                pass

    threads = [threading.Thread(target=write, args=(mine,)) for mine in recorded]
    for thread in threads:
        thread.start()
    gone = 0
    while any(thread.is_alive() for thread in threads):
        gone += production.forget(tmp_path, "u0", key=KEY)
    gone += production.forget(tmp_path, "u0", key=KEY)
    assert (gone, len(ll.Traces.load(tmp_path))) == (200, 400)
