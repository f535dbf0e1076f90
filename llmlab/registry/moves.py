"""The history of a model's aliases: a total order made by MLflow itself, without a lock and without a clock.

Each move of an alias is a version of a second registered model (`<name>__history`), numbered atomically, and names
the move that it follows. A move that does not follow the last valid one lost a race: it never moves the alias, and
whoever made it is told. A move is written first and the alias set after it; what a crash leaves between the two is
finished by the next command that looks.
"""

from __future__ import annotations

import itertools
import json
import math
import uuid
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import pydantic

from llmlab.base.cells import Chip
from llmlab.base.documents import is_forged, signature
from llmlab.base.errors import RegistryError
from llmlab.base.private import scrub
from llmlab.base.project import actor, utc
from llmlab.display.markdown import markdown
from llmlab.display.shown import Shown
from llmlab.registry.connection import HISTORY, Registry, Version, alias_of, retried
from llmlab.registry.versions import sha256
from llmlab.tracking.store import link, reported

Kind = Literal["promote", "rollback", "adopt"]
LONGEST_REASON_CHARS = 500
SETTLED = "settled"  # the tag of a move whose alias has been set
UNREADABLE = "its record was edited by hand, or is a newer llmlab's"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Move(Shown):
    """One move of an alias.

    Attributes:
        number: its place in the history, given by MLflow; 0 before it is written.
        alias, before, version: the alias, the version it pointed to (None = it did not exist), and points to now.
        digest: of the bundle that `version` is.
        follows: the move it follows, 0 for the first.
        receipt: digest of the receipt it rests on, "" where it needs or has none.
        forced: whether it was made against the gate.
        outcome: of the check of its receipt, "" where none was made (a rollback, a move of an earlier version).
        evidence: digest of all that the check read.
        policy, golden, experiment: digests of the rules and the cases of the check, and the folder they came from.
        named_by: who says that it was `who`: CI's variable or the tracking server's, or one that anybody may set.
        forged: whether there is a key (LLMLAB_SIGNING_KEY) here by which it was not signed.
        move_id: tells a repeated write from a second move.
    """

    number: int = 0
    alias: str
    kind: Kind
    before: int | None
    version: int
    digest: str
    follows: int
    who: str
    when: str
    reason: str
    receipt: str = ""
    forced: bool = False
    outcome: Literal["", "holds", "does not hold"] = ""
    evidence: str = ""
    policy: str = ""
    golden: str = ""
    experiment: str = ""
    named_by: str = ""
    forged: bool = False
    move_id: str = ""
    settled: bool = False

    @property
    def held(self) -> bool:
        """Whether the receipt that it rests on was checked, and held; earlier versions checked whom they promoted."""
        earlier = self.kind == "promote" and bool(self.receipt) and not self.forced
        return not self.forged and (self.outcome == "holds" or (not self.outcome and earlier))

    @property
    def by(self) -> str:
        """Who made it, and who says so."""
        return f"{self.who}, as {self.named_by} says" if self.named_by else self.who

    @property
    def word(self) -> str:
        """`promote`, `rollback`, `adopt`, or FORCED PROMOTE in capitals."""
        return f"FORCED {self.kind.upper()}" if self.forced else self.kind

    def _rows(self) -> list[dict[str, object]]:
        return [_row(self)]

    def _sentence(self) -> str:
        came = "" if self.before is None else f" from version {self.before}"
        return f"{self.alias} moved{came} to version {self.version} ({self.word} by {self.by}): {self.reason}"


_RECORD = pydantic.TypeAdapter(Move)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class History(Shown):
    """Every move of a model's aliases in order, those that lost a race included.

    Attributes:
        moves: all of them, oldest first.
        lost: numbers of those that lost a race, and of those that are void.
        void: numbers of those that were never finished, since their version was deleted.
        damaged: numbers of those whose record cannot be read: it was edited, or a newer llmlab wrote it.
        pointed: where the aliases point in the store, None where nobody asked.
        deleted: the versions, among those that were moved to, that are not there any more.
    """

    name: str
    moves: tuple[Move, ...] = ()
    lost: frozenset[int] = frozenset()
    void: frozenset[int] = frozenset()
    damaged: tuple[int, ...] = ()
    pointed: Mapping[str, int] | None = None
    deleted: frozenset[int] = frozenset()
    url: str = ""

    def valid(self, alias: str) -> tuple[Move, ...]:
        """The moves of one alias that counted, oldest first."""
        return tuple(move for move in self.moves if move.alias == alias and move.number not in self.lost)

    def last(self, alias: str) -> Move | None:
        """The move that decides where the alias points now."""
        return next(reversed(self.valid(alias)), None)

    def check_of(self, alias: str, version: int, digest: str | None = None) -> Move | None:
        """The newest move that brought this version to the alias: on a check of its receipt, or by force."""
        moves = (move for move in reversed(self.valid(alias)) if move.kind != "rollback" and move.version == version)
        return next((move for move in moves if digest in (None, move.digest)), None)

    def last_checked(self, alias: str, *, before: float = math.inf) -> Move | None:
        """The newest move of the alias (with a number under `before`) that names the policy of its check."""
        moves = (move for move in reversed(self.valid(alias)) if move.policy)
        return next((move for move in moves if move.number < before), None)

    def changed(self, move: Move) -> str:
        """What a checked move was made under that the one before it was not: policy, golden set, folder; "" = none."""
        before = self.last_checked(move.alias, before=move.number)
        words = {"policy": "another policy", "golden": "another golden set", "experiment": "another folder"}
        both = {} if before is None else {name: {getattr(move, name), getattr(before, name)} - {""} for name in words}
        return ", ".join(words[name] for name, values in both.items() if len(values) == 2)

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the moves that somebody deleted (100 at most); of the newest ones nothing tells."""
        numbers = {*self.damaged, *(move.number for move in self.moves)}
        gone = (number for number in range(1, max(numbers, default=0)) if number not in numbers)
        return tuple(itertools.islice(gone, 100))

    @property
    def aliases(self) -> tuple[str, ...]:
        """Every alias that was ever moved."""
        return tuple(dict.fromkeys(move.alias for move in self.moves))

    def ways_back(self, alias: str, current: int | None) -> tuple[int, ...]:
        """The earlier versions that no rollback has left since, the newest first."""
        left: set[int] = {current} if current is not None else set()
        for move in self.valid(alias):
            left.discard(move.version)
            if move.kind == "rollback" and move.before is not None:
                left.add(move.before)
        known = dict.fromkeys(move.version for move in reversed(self.valid(alias)))
        return tuple(number for number in known if number not in left and number != current)

    def _rows(self) -> list[dict[str, object]]:
        return [
            _row(move, lost=move.number in self.lost, void=move.number in self.void, under=self.changed(move))
            for move in self.moves
        ]

    def _sentence(self) -> str:
        if not (self.moves or self.damaged):
            return f"No alias of {self.name} was ever moved by llmlab."
        facts = [self._at(alias) for alias in dict.fromkeys([*self.aliases, *(self.pointed or ())])]
        void = [move for move in self.moves if move.number in self.void]
        facts += [f"move {move.number} is void: version {move.version} was deleted" for move in void]
        facts += [f"move {number} cannot be read: {UNREADABLE}" for number in self.damaged]
        facts += [f"move {number} was deleted" for number in self.missing]
        return f"{'; '.join(filter(None, facts))}. {link(self.url)}"

    def _at(self, alias: str) -> str:
        """Where the alias points now, and what the last move said where that is something else."""
        last = self.last(alias)
        now_at = (last and last.version) if self.pointed is None else self.pointed.get(alias)
        if last is None or last.version == now_at:
            return "" if now_at is None else f"{alias} is version {now_at}{'' if last else ', set by hand'}"
        is_gone = last.version in self.deleted
        came = f"the last move was to version {last.version}{', which was deleted' if is_gone else ''}"
        if now_at is None:
            return f"{alias} is {'gone' if is_gone else 'removed by hand'} ({came})"
        return f"{alias} is version {now_at}, set by hand ({came})"


def read_history(registry: Registry, name: str, *, known: History | None = None) -> History:
    """The moves of a model's aliases, and which of them lost; only what came after `known` is asked for."""
    known = History(name=name) if known is None else known
    moves, damaged = list(known.moves), list(known.damaged)
    above = max((*(move.number for move in moves), *damaged), default=0)
    for version in registry.versions(name + HISTORY, above=above):
        move = _read(version)
        if move is None:
            damaged.append(version.number)
        else:
            moves.append(move)
    void = frozenset(m.number for m in moves if not m.settled and registry.version(name, m.version) is None)
    lost, url = _lost(moves, void), registry.url(name + HISTORY)
    return History(name=name, moves=tuple(moves), lost=lost, void=void, damaged=tuple(damaged), url=url)


def settle(registry: Registry, name: str) -> History:
    """The history, after finishing every move that a crash left half made.

    An alias that differs from its last move although all moves to where it is were finished was set by hand: it stays.
    """
    history = read_history(registry, name)
    pending = sorted(alias for alias in history.aliases if _unsettled(history, alias))
    for alias in pending:
        _point(registry, history, alias)
    return read_history(registry, name) if pending else history


def make_move(
    registry: Registry,
    past: History,
    alias: str,
    *,
    kind: Kind,
    to: Version,
    before: int | None,
    reason: str,
    **facts: Any,
) -> Move:
    """The alias moved to version `to`: written into the history and, if nobody was quicker, carried out.

    Args:
        past: the history as it was when this was decided: the move follows the last valid one in it.
        facts: what else the move says of itself.

    Raises:
        RegistryError: another move was quicker; it says which. Nothing was changed.
    """
    name, last, (who, named_by) = past.name, past.last(alias), actor()
    own = {"follows": last.number if last else 0, "who": _storable(who), "named_by": named_by, "when": now()}
    move = Move(
        alias=alias,
        kind=kind,
        before=before,
        version=to.number,
        digest=to.digest,
        reason=_storable(scrub(reason))[:LONGEST_REASON_CHARS],
        move_id=uuid.uuid4().hex,
        **{**own, **facts},
    )
    if not move.follows:
        about = f"Every move of an alias of {name}. llmlab writes it; change nothing here."
        registry.create_model(name + HISTORY, about)
    with reported(f"the move of {move.alias!r} cannot be written"):
        attempts = itertools.count()
        number = retried(lambda: _write(registry, name, move, to, again=next(attempts) > 0))
    history = read_history(registry, name, known=past)
    if number in history.lost:  # then another one followed the same move before it
        if number in history.void:
            raise RegistryError(f"version {move.version} of {name} was deleted meanwhile; {move.alias} was not moved")
        winner = next(m for m in history.valid(move.alias) if m.number > move.follows)
        raise RegistryError(
            f"{move.alias} of {name} was not moved to version {move.version}: {winner.who} moved it to version "
            f"{winner.version} first (move {winner.number}): {winner.reason}. Look at what it is now, and decide again"
        )
    _point(registry, history, move.alias)
    return replace(move, number=number, settled=True)


def now() -> str:
    """UTC, ISO 8601. Moves are ordered by their numbers; whether a look came before a promotion is told by this."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _storable(text: str) -> str:
    """The text in UTF-8: what a terminal of another encoding hands over is none, and stops no rollback."""
    return text.encode("utf-8", "replace").decode()


def _point(registry: Registry, history: History, alias: str) -> None:
    """Set the alias to what its last valid move says, again if somebody moved on meanwhile, and mark it finished."""
    name = history.name
    while True:
        last = history.last(alias)
        assert last is not None  # noqa: S101  # the caller wrote or saw a valid move
        exists = registry.version(name, last.version) is not None  # deleted after it was finished: the audit tells
        with reported(f"{alias!r} of {name!r} cannot be set to version {last.version} (the next command finishes it)"):
            if exists:
                retried(registry.client.set_registered_model_alias, name, alias, str(last.version))
        # Who moved it while it was set may have been overwritten: then the later move is set again.
        history = read_history(registry, name, known=history)
        newest = history.last(alias)
        if newest is not None and newest.number == last.number:
            break
    for move in _unsettled(history, alias):
        with reported(f"move {move.number} cannot be marked as finished (the next command does it)"):
            retried(registry.client.set_model_version_tag, name + HISTORY, str(move.number), SETTLED, "yes")


def _unsettled(history: History, alias: str) -> list[Move]:
    return [move for move in history.valid(alias) if not move.settled]


def _write(registry: Registry, name: str, move: Move, target: Version, *, again: bool = False) -> int:
    """The number of the written move; one that an interrupted attempt wrote is found `again` by its id."""
    earlier = registry.versions(name + HISTORY, query=f"tags.move_id = '{move.move_id}'") if again else []
    if earlier:
        return earlier[0].number
    fields = {name: fact for name, fact in asdict(move).items() if name not in ("number", "settled", "forged")}
    record = json.dumps(fields, sort_keys=True, ensure_ascii=False)
    tags = {"move": record, "move_digest": sha256(record), "move_id": move.move_id}
    tags |= {"signature": signed} if (signed := signature(f"{name}{HISTORY} {record}")) else {}
    came = "which did not exist" if move.before is None else f"from version {move.before}"
    follows = f"Follows move {move.follows}." if move.follows else "The first move of this alias."
    written = registry.client.create_model_version(
        name + HISTORY,
        source=target.source,  # a server takes nothing but a run's own artifacts
        run_id=target.run_id,
        tags=tags,
        description=(
            f"**{markdown(move.word)}** `{move.alias}`, {came}, to version {move.version} "
            f"(digest `{move.digest[:8]}`), by {markdown(move.by)} at {move.when}: {markdown(move.reason, None)}"
            f"\n\n{follows}"
        ),
        await_creation_for=0,
    )
    return int(written.version)


def _read(version: Version) -> Move | None:
    """The move that a version of the history records, None where it cannot be read."""
    record = version.tags.get("move", "")
    if sha256(record) != version.tags.get("move_digest"):
        return None
    try:
        move = _RECORD.validate_json(record, strict=True)  # facts that a newer llmlab added are left out
        alias_of(move.alias), utc(move.when)
    except ValueError:
        return None
    forged = is_forged(f"{version.name} {record}", version.tags.get("signature", ""))
    return replace(move, number=version.number, settled=version.tags.get(SETTLED) == "yes", forged=forged)


def _lost(moves: Sequence[Move], void: Set[int]) -> frozenset[int]:
    """Numbers of the moves that are void, or do not follow the last valid one of their alias.

    A move whose predecessor was deleted, edited by hand or void counts, if it came after the last valid one.
    """
    readable = {move.number for move in moves} - void
    last: dict[str, int] = {}
    lost = set()
    for move in moves:
        before = last.get(move.alias, 0)
        gone = move.follows not in readable and move.follows > before
        if move.number not in void and (move.follows == before or gone):
            last[move.alias] = move.number
        else:
            lost.add(move.number)
    return frozenset(lost)


def _row(move: Move, *, lost: bool = False, void: bool = False, under: str = "") -> dict[str, object]:
    colours = {"promote": "good", "rollback": "unsure", "adopt": "neutral"}
    moved = Chip(move.word, "bad" if move.forced else colours[move.kind])
    return {
        "move": move.number,
        "when": move.when,
        "alias": move.alias,
        "what": Chip("void" if void else "lost the race", "neutral") if lost else moved,
        "from": move.before,
        "to": move.version,
        "bundle": move.digest[:8],
        "receipt": move.receipt[:8] or None,
        "check": move.outcome or None,
        "under": under or None,
        "who": move.by,
        "reason": move.reason,
    }
