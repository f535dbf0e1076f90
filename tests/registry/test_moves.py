"""The history of aliases: one order, one winner, and nothing half done."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from llmlab.base.errors import RegistryError, StoreError
from llmlab.registry import audit, history, rollback
from llmlab.registry.connection import HISTORY, open_registry
from llmlab.registry.moves import _point, make_move, read_history, settle
from tests.registry.made import alias_now, half, moved, registered, released


def test_a_move_is_a_numbered_version_of_the_history_and_the_alias_follows_it(project: Path) -> None:
    registry, _ = released(project, 2)
    past = history("qa")
    assert [(move.number, move.before, move.version) for move in past.moves] == [(1, None, 1), (2, 1, 2)]
    assert alias_now(registry) == 2
    assert past.moves[-1].settled
    assert f"#/models/qa{HISTORY}" in str(past)
    assert list(past.to_frame()["to"]) == [1, 2]


def test_a_move_that_does_not_follow_the_last_valid_one_loses_and_is_told_who_won(project: Path) -> None:
    registry, (one, two, three) = registered(project, 3)
    moved(registry, one)
    moved(registry, two, follows=1)
    with pytest.raises(RegistryError, match=r"somebody moved it to version 2 first \(move 2\)"):
        moved(registry, three, follows=1)
    assert alias_now(registry) == 2
    past = history("qa")
    assert past.lost == {3}
    assert "lost the race" in str(past)


def test_aliases_are_moved_independently(project: Path) -> None:
    registry, (one, two) = registered(project, 2)
    moved(registry, one)
    moved(registry, two, alias="staging", follows=0)
    moved(registry, two, follows=1)
    assert not history("qa").lost
    assert alias_now(registry, alias="staging") == 2


def test_a_move_that_a_crash_left_half_made_is_finished_by_the_next_command(project: Path) -> None:
    registry, (one, two) = registered(project, 2)
    moved(registry, one)
    half(registry, two.number, follows=1)
    assert alias_now(registry) == 1
    assert history("qa").last("production").settled
    assert alias_now(registry) == 2


def test_a_crash_between_alias_and_mark_is_finished_too(project: Path) -> None:
    registry, _ = released(project, 1)
    registry.client.delete_model_version_tag(f"qa{HISTORY}", "1", "settled")
    assert not read_history(registry, "qa").moves[0].settled
    assert history("qa").moves[0].settled


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_half(project: Path) -> None:
    """A process that dies at once after writing its move: the next rollback starts from where that move led."""
    registry, (one, _) = registered(project, 2)
    moved(registry, one)
    script = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from llmlab.registry import moves
        from llmlab.registry.connection import open_registry
        registry = open_registry(Path({str(project)!r}))
        moves._point = lambda *_: os.kill(os.getpid(), 9)
        past, to = moves.read_history(registry, "qa"), registry.version("qa", 2)
        moves.make_move(registry, past, "production", kind="promote", to=to, before=1, reason="r")
    """)
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=120, cwd=project)
    assert done.returncode == -9
    assert alias_now(registry) == 1
    back = rollback("qa", reason="it crashed")
    assert (back.before, back.version) == (2, 1)
    assert alias_now(registry) == 1


def test_a_slow_writer_that_sets_an_old_move_last_puts_it_right_itself(project: Path) -> None:
    """Whoever sets the alias looks again afterwards, so that the last valid move decides and not the last writer."""
    registry, (one, two, three) = registered(project, 3)
    moved(registry, one)
    half(registry, two.number, follows=1)
    stale = read_history(registry, "qa")
    moved(registry, three)
    _point(registry, stale, "production")
    assert alias_now(registry) == 3


def test_a_deleted_move_does_not_invalidate_those_after_it(project: Path) -> None:
    registry, (one, _, _) = released(project, 3)
    registry.client.delete_model_version(f"qa{HISTORY}", "2")
    past = history("qa")
    assert [move.number for move in past.moves] == [1, 3]
    assert not past.lost
    assert "move 2 was deleted" in str(past)
    assert [(finding.kind, finding.about) for finding in audit("qa").findings] == [("noted", "move 2")]
    assert moved(registry, one).number == 4


def test_an_edited_move_is_found_and_counts_no_more(project: Path) -> None:
    registry, _ = released(project, 2)
    tag = registry.client.get_model_version(f"qa{HISTORY}", "1").tags["move"].replace("somebody", "nobody12")
    registry.client.set_model_version_tag(f"qa{HISTORY}", "1", "move", tag)
    past = history("qa")
    assert past.damaged == (1,)
    assert past.last("production").version == 2


def test_a_reason_and_a_name_in_another_encoding_stop_no_rollback(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python gives what a Latin-1 terminal hands over, and as git gives what a Latin-1 editor wrote."""
    released(project, 3)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    with (project / ".git" / "config").open("ab") as file:
        file.write("[user]\n email = bérénice@example.org\n".encode("latin-1"))
    assert rollback("qa", reason="caf\udce9 is down").reason == "caf? is down"
    monkeypatch.setenv("LLMLAB_WHO", "b\udce9r\udce9nice")
    assert rollback("qa", reason="so is tea").who == "b?r?nice"
    assert [move.who for move in history("qa").moves[3:]] == ["b\ufffdr\ufffdnice@example.org", "b?r?nice"]


@pytest.mark.slow
def test_of_two_processes_that_promote_at_once_exactly_one_wins_over_200_trials(project: Path) -> None:
    names, fresh = [f"qa{i}" for i in range(10)], get_context("spawn")
    for name in names:
        registry, _ = registered(project, 2, name=name)
    barrier, told = fresh.Barrier(2), fresh.SimpleQueue()
    racers = [fresh.Process(target=_race, args=(names, number, 20, barrier, told)) for number in (1, 2)]
    for racer in racers:
        racer.start()
    outcomes = [told.get() for _ in racers]
    for racer in racers:
        racer.join(timeout=60)
    assert all(a + b == 1 for a, b in zip(*outcomes, strict=True))
    assert len(outcomes[0]) == 200
    for name in names:
        past = read_history(registry, name)
        assert (len(past.moves), len(past.lost)) == (40, 20)
        assert alias_now(registry, name) == past.last("production").version


def test_a_second_rollback_goes_further_back_and_not_to_and_fro(project: Path) -> None:
    """What a rollback has left is no target again, until it is promoted again."""
    registry, (_, two, three) = released(project, 3)
    assert rollback("qa", reason="r").version == 2
    assert rollback("qa", reason="r").version == 1
    with pytest.raises(RegistryError, match="no earlier version that no rollback has left"):
        rollback("qa", reason="r")
    assert alias_now(registry) == 1
    moved(registry, three)
    moved(registry, two)
    assert rollback("qa", reason="r").version == 3


def test_a_named_version_can_be_rolled_back_to(project: Path) -> None:
    released(project, 3)
    assert rollback("qa", to=1, reason="r").version == 1
    assert rollback("qa", to=3, reason="r").version == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "nobody"}, "no model 'nobody' is registered"),
        ({"alias": "staging"}, "has no alias 'staging'"),
        ({"to": 9}, "has no version 9"),
        ({"to": 1}, "is version 1 already"),
        ({}, "no earlier version"),
    ],
)
def test_a_rollback_without_history_is_refused_and_moves_nothing(
    project: Path, arguments: dict[str, Any], message: str
) -> None:
    registry, _ = released(project, 1)
    with pytest.raises(RegistryError, match=message):
        rollback(**{"name": "qa", "reason": "r", **arguments})
    assert alias_now(registry) == 1


@pytest.mark.parametrize(
    ("arguments", "rule"), [({"reason": " "}, "reason is empty"), ({"alias": "v1"}, "alias == 'v1'")]
)
def test_mistakes_in_a_rollback_are_value_errors(project: Path, arguments: dict[str, str], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        rollback(**{"name": "qa", "reason": "r", **arguments})


def test_a_read_only_store_is_told_and_nothing_moves(project: Path) -> None:
    registry, _ = released(project, 2)
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as holder, holder:
        holder.execute("CREATE TRIGGER frozen BEFORE INSERT ON model_versions BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreError, match="cannot be written"):
        rollback("qa", reason="r")
    assert alias_now(registry) == 2


def _race(names: list[str], number: int, trials: int, barrier: Barrier, told: Any) -> None:
    """Promote this version at the same moments as the other process; tells the outcome of each trial, 1 for won."""
    registry, won = open_registry(), []
    for name in names:
        to = registry.version(name, number)
        for _ in range(trials):
            barrier.wait(timeout=100)
            seen = settle(registry, name)
            barrier.wait(timeout=100)
            try:
                make_move(registry, seen, "production", kind="promote", to=to, before=None, reason="a race")
                won.append(1)
            except RegistryError:
                won.append(0)
    told.put(won)
