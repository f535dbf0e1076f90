"""People labelling answers: which come next, what one says, and how far two of them agree.

A session is blind: an item carries neither variant nor score nor what others said. Several people and processes may
write the same file: each change is made under a lock, replaces nothing but the writer's own line, and is on disk before
the next item is shown. Used by `widgets.Labeller`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llmlab.base.cells import Marked
from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.display.html import Html, html_heading, html_table
from llmlab.display.page import html_of
from llmlab.display.shown import Shown
from llmlab.golden.labels import Label, Labels, Worklist, read_labels, same_way_round, text_digest, write_labels
from llmlab.judge.grading import passages_of
from llmlab.judge.rubrics import Rubric
from llmlab.results.labelled import label_keys
from llmlab.results.results import Results
from llmlab.stats.agreement import agreement, cohen_kappa
from llmlab.stats.arrays import FloatArray
from llmlab.stats.estimate import Estimate

LOCK_TIMEOUT_S = 20.0
Value = int | Literal["left", "right", "tie"]
SIDES: Mapping[str, Value] = {"1": "left", "2": "right", "0": "tie"}
Chosen = Worklist | Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Item(Shown):
    """One answer to grade, or two to choose from, as they are shown.

    Attributes:
        key: case id, digest of the question, digests of the answers: what a label of it is bound to (`Label.key`).
        answers: one text, or the left and the right one.
        turned: whether the right one is `answer_1` of the label.
        beside: title and text of what the rubric needs to be shown: reference, passages.
        inclusion: the probability with which the case was chosen, None where it was chosen by hand.
    """

    key: tuple[str, ...]
    question: str
    answers: tuple[str, ...]
    turned: bool = False
    beside: tuple[tuple[str, str], ...] = ()
    inclusion: float | None = None

    def _rows(self) -> list[dict[str, object]]:
        names = ("answer",) if len(self.answers) == 1 else ("left", "right")
        texts = (Marked(((text, "") if text.strip() else ("(an empty answer)", "quiet"),)) for text in self.answers)
        beside = {title.lower(): Marked(((text, ""),)) for title, text in self.beside}
        return [{"question": self.question, **dict(zip(names, texts, strict=True)), **beside}]

    def _repr_html_(self) -> Html:
        (row,) = self._rows()
        sides: dict[str, object] = {name: row.pop(name) for name in ("left", "right") if name in row}
        del row["question"]
        rest = [{"": name, " ": text} for name, text in row.items()]
        pair = [html_table([{"": "answers", **sides}], even=True)] if sides else []
        return html_of(html_heading(self.question), *pair, *([html_table(rest, even=True)] if rest else []))


class Session:
    """One labeller's way through the items: resumes after the last label, goes back, undoes, skips.

    Attributes:
        items: in the order in which they are shown.
        position: of the item that is shown; `len(items)` when all are labelled.
        given: this labeller's labels of these items, by key.
        n_stale: this labeller's lines that fit no answer of the results any more: counted and not used.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        rubric: Rubric,
        path: str | Path,
        labeller: str,
        seed: int,
        fits: Callable[[tuple[str, ...]], bool] = lambda _: True,
    ) -> None:
        """Read what is on disk. DataError where there is nothing to label, or the file holds another rubric or kind."""
        if not labeller.strip():
            raise ValueError("labeller == '', must be a name: labels of two people are told apart by it")
        if not items:
            raise DataError("nothing to label: no answer of these cases has come")
        self.items, self.rubric, self.labeller, self.seed = tuple(items), rubric, labeller, seed
        self.path = Path(path)
        self.pairwise = len(self.items[0].answers) == 2
        self._place = {item.key: i for i, item in enumerate(self.items)}
        self.given = self._mine(self._lines())
        self.n_stale = sum(not fits(label.key) for label in self._lines() if self._is_mine(label))
        self._history: list[tuple[int, Label | None]] = [(self._place[key], None) for key in self.given]
        self.position = self._open_after(-1)

    @property
    def current(self) -> Item | None:
        """What is shown; None when all are labelled."""
        return self.items[self.position] if self.position < len(self.items) else None

    @property
    def keys(self) -> Mapping[str, Value]:
        """The key that gives each value: a level's own digit (its place from 1 where it has two), 1, 2 and 0 for pairs.

        >>> from llmlab.judge.rubrics import rubric
        >>> item = Item(key=("q1", "a", "b"), question="?", answers=("!",))
        >>> Session([item], rubric=rubric("safety"), path="none.jsonl", labeller="anna", seed=0).keys
        {'0': 0, '1': 1}
        """
        if self.pairwise:
            return dict(SIDES)
        scale = self.rubric.scale
        if scale[0] >= 0 and scale[-1] <= 9:
            return {str(level): level for level in scale}
        return {str(place): level for place, level in enumerate(scale[:9], start=1)}

    @property
    def value(self) -> Value | None:
        """What this labeller said of what is shown, as it is shown; None = nothing yet."""
        item = self.current
        label = self.given.get(item.key) if item else None
        if item is None or label is None or label.value is None:
            return None
        if not self.pairwise or label.value == "tie":
            return label.value
        return "left" if (label.value == 1) != item.turned else "right"

    @property
    def note(self) -> str:
        """The note on what is shown."""
        item = self.current
        return self.given[item.key].note if item and item.key in self.given else ""

    @property
    def n_done(self) -> int:
        """How many of the items this labeller has labelled."""
        return len(self.given)

    @property
    def progress(self) -> str:
        """How far it is, such as `12 of 40`."""
        return f"{self.n_done:,} of {len(self.items):,}"

    def give(self, value: Value, *, note: str = "", date: str = "") -> None:
        """Label what is shown, on disk before this returns, and go to the next open item; ValueError off the scale."""
        if value not in self.keys.values() or isinstance(value, bool):
            raise ValueError(f"value == {value!r}, must be one of {', '.join(map(str, self.keys.values()))}")
        item = self.current
        if item is None:
            raise DataError("all items are labelled; go back to change one")
        before = self.given.get(item.key)
        self._replace(item.key, self._label(item, value, note, date))
        self._history.append((self.position, before))
        self.position = self._open_after(self.position)

    def undo(self) -> bool:
        """Take the last label back, also on disk, and show its item again; False where there is none."""
        if not self._history:
            return False
        place, before = self._history.pop()
        self._replace(self.items[place].key, before)
        self.position = place
        return True

    def skip(self) -> None:
        """Leave what is shown open and go to the next open item; it comes again at the end."""
        self.position = self._open_after(self.position)

    def back(self) -> None:
        """Show the item before, labelled or not; its label stays."""
        self.position = max(0, min(self.position, len(self.items)) - 1)

    def press(self, key: str, *, note: str = "", date: str = "") -> str:
        """What a key does: a value's key labels, u undoes, s skips, b goes back. Gives a sentence that says so."""
        if key in self.keys and self.current is not None:
            value = self.keys[key]
            self.give(value, note=note, date=date)
            return f"Saved: {value}."
        if key == "u":
            return "Taken back." if self.undo() else "There is nothing to take back."
        if key in ("s", "b"):
            self.skip() if key == "s" else self.back()
            return "Skipped; it comes again." if key == "s" else "One back."
        return f"The key {key!r} does nothing here: {', '.join((*self.keys, 'u', 's', 'b'))} do."

    def _open_after(self, position: int) -> int:
        """The next item without a label, from the start again after the last; `len(items)` where there is none."""
        n = len(self.items)
        around = (i % n for i in range(position + 1, position + 1 + n))
        return next((i for i in around if self.items[i].key not in self.given), n)

    def _label(self, item: Item, value: Value, note: str, date: str) -> Label:
        case_id, question, *digests = item.key
        stored = value
        if value in ("left", "right"):
            stored = 1 if (value == "left") != item.turned else 2
        names = ("answer_1", "answer_2") if self.pairwise else ("answer",)
        about: dict[str, Any] = dict(zip(names, digests, strict=True))
        about |= {"inclusion": item.inclusion, "labeller": self.labeller, "date": date, "note": note.strip()}
        return Label(rubric=self.rubric.name, case_id=case_id, question=question, value=stored, **about)  # type: ignore[arg-type]  # sides have become 1 and 2

    def _replace(self, key: tuple[str, ...], label: Label | None) -> None:
        """This labeller's line of an item becomes `label`, or goes; everybody else's lines stay as they are."""
        import filelock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=LOCK_TIMEOUT_S):
                # Read again under the lock: somebody else may have saved since this file was last read.
                lines = [line for line in self._lines() if not self._gives_way(line, key)]
                lines += [] if label is None else [label]
                write_labels(lines, self.path)
        except filelock.Timeout:
            raise DataError(
                f"{self.path} is locked by another process since {LOCK_TIMEOUT_S:.0f} s; nothing was saved, try again"
            ) from None
        self.given = self._mine(lines)

    def _gives_way(self, line: Label, key: tuple[str, ...]) -> bool:
        """Whether a line is this labeller's of that item, or waits for anybody to label it."""
        return same_way_round(line).key == key and (line.labeller == self.labeller or line.value is None)

    def _mine(self, lines: Iterable[Label]) -> dict[tuple[str, ...], Label]:
        turned = (same_way_round(line) for line in lines if self._is_mine(line))
        return {line.key: line for line in turned if line.key in self._place}

    def _is_mine(self, line: Label) -> bool:
        return line.labeller == self.labeller and line.value is not None

    def _lines(self) -> list[Label]:
        lines = list(read_labels(self.path)) if self.path.exists() else []
        for line in lines:
            if (line.rubric, line.answer is None) != (self.rubric.name, self.pairwise):
                kind = "preferences" if line.answer is None else "grades"
                raise DataError(f"{self.path} holds {kind} of {line.rubric!r}; keep one file for each rubric and kind")
        return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOfLabellers:
    """Two people, the share of equal labels with Wilson's interval, and kappa (quadratic weights for a scale)."""

    first: str
    second: str
    same: Estimate
    kappa: Estimate


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LabellerAgreement(Shown):
    """Every two people who labelled the same things, and the things they disagree on, farthest apart first."""

    rubric: str
    pairs: tuple[PairOfLabellers, ...]
    disagreements: tuple[Mapping[str, object], ...]

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "labellers": f"{pair.first}, {pair.second}",
                "labelled by both": pair.kappa.n,
                "same label": pair.same.interval("%"),
                "kappa": pair.kappa.interval(),
            }
            for pair in self.pairs
        ]

    def _sentence(self) -> str:
        if not self.pairs:
            return "No two people have labelled the same answer yet."
        notes = dict.fromkeys(f"{note[0].upper()}{note[1:]}." for pair in self.pairs for note in pair.kappa.notes)
        verb = "differs" if len(self.disagreements) == 1 else "differ"
        differ = f"{counted(len(self.disagreements), 'label')} {verb}; read them together and sharpen the rubric."
        return "\n".join([differ if self.disagreements else "All labels are the same.", *notes])

    def _repr_html_(self) -> str:
        more = html_table([dict(row) for row in self.disagreements]) if self.disagreements else ""
        return Shown._repr_html_(self) + more


def to_label(
    results: Results,
    n: int,
    *,
    metric: str,
    against: str | None = None,
    threshold: float | None = None,
    random_share: float = 0.5,
    labels: Labels | None = None,
    seed: int = 0,
) -> Worklist:
    """All answers of n cases: half by chance, half where two metrics disagree or scores lie near a threshold.

    Systematic sampling with probabilities proportional to size (Madow 1949), so exactly n cases, each with the
    probability that is stored. Nothing is on the list where every case has a label.

    Args:
        metric: the judge's; the labels will be by the rubric that it was judged by.
        against: another metric on the same scale; cases where the two differ most come first.
        threshold: of a decision; cases whose scores lie near it come first.
        random_share: how much of the probability is spread evenly over all cases; above 0, so that none is impossible.
        labels: those there are; their cases are not chosen again. The probability stored is then on the footing of the
            earlier round (as many labels per case), so that both rounds weigh by their numbers in a correction.

    >>> from llmlab.simulate import judged_results
    >>> todo = to_label(judged_results(40, labelled=4, seed=1).results, 6, metric="correctness", threshold=3)
    >>> len(todo), len({case_id for case_id, *_ in todo.items})
    (12, 6)
    """
    table = results.table(metric)
    done = {label.case_id for label in labels or ()}
    open_ = np.array([i for i, case_id in enumerate(table.case_ids) if case_id not in done], dtype=int)
    cases, record = len(open_), results.provenance.judges.get(metric)
    rubric = record.rubric if record is not None and record.rubric else metric
    if not cases:
        return Worklist(rubric=rubric, items=())
    if not 1 <= n <= cases or not 0 < random_share <= 1:
        raise ValueError(
            f"n == {n}, must lie between 1 and {cases} (cases without label), random_share == {random_share} in (0, 1]"
        )
    interest = _interest(results, metric, against, threshold)[open_]
    rng = np.random.default_rng(seed)
    chances = _chances(random_share / cases + (1 - random_share) * interest / interest.sum(), n)
    order = rng.permutation(cases)
    edges = np.cumsum(chances[order])
    picks = order[np.minimum(np.searchsorted(edges, rng.random() + np.arange(n), side="right"), cases - 1)]
    footing = 1.0 if cases == len(table.case_ids) else (cases / n) * (1 - cases / len(table.case_ids))
    chosen = {table.case_ids[open_[i]]: min(1.0, float(chances[i]) * footing) for i in picks}
    answers = [answer for answer in dict.fromkeys(_answers(results)) if answer[0] in chosen]
    shuffled = sorted(rng.permutation(len(answers)), key=lambda i: list(chosen).index(answers[i][0]))
    return Worklist(rubric=rubric, items=tuple((*answers[i], chosen[answers[i][0]]) for i in shuffled))


def label_grades(
    results: Results,
    chosen: Chosen = None,
    *,
    rubric: Rubric,
    path: str | Path,
    labeller: str,
    seed: int = 0,
    base: str | Path | None = None,
) -> Session:
    """A session that grades one answer at a time, each distinct answer once, in an order shuffled with `seed`.

    Args:
        chosen: a worklist of `to_label`, case ids, or None for all cases.
        path: the JSONL file; what it holds already is kept and resumed.
        base: the folder that relative corpus paths start from, for rubrics that need the passages.

    Raises:
        DataError: no golden set, nothing to label, or a worklist whose answers are not in the results.
    """
    items = _items(results, chosen, rubric, base)
    about = {"rubric": rubric, "path": path, "labeller": labeller, "seed": seed}
    return _session(results, items, np.random.default_rng(seed), **about)


def label_preferences(
    results: Results,
    chosen: Chosen = None,
    *,
    rubric: Rubric,
    path: str | Path,
    labeller: str,
    seed: int = 0,
    base: str | Path | None = None,
) -> Session:
    """A session that chooses between two answers to a case, every pair of distinct ones; order and sides are shuffled.

    Arguments and errors as for `label_grades`.
    """
    rng, pairs = np.random.default_rng(seed), list[Item]()
    items = sorted(_items(results, chosen, rubric, base), key=lambda item: item.key[0])
    for _, of_case in itertools.groupby(items, key=lambda item: (item.key[:2], item.inclusion)):
        two = itertools.combinations(sorted(of_case, key=lambda item: item.key[2]), 2)
        pairs += [_paired(first, second, turned=bool(rng.random() < 0.5)) for first, second in two]
    about = {"rubric": rubric, "path": path, "labeller": labeller, "seed": seed}
    return _session(results, pairs, rng, **about)


def between_labellers(labels: Labels, results: Results, *, rubric: Rubric, level: float = 0.95) -> LabellerAgreement:
    """Agreement of every two labellers on what both labelled in these results; cases of one cluster count together.

    Raises:
        DataError: the labels are by another rubric.

    >>> import pandas as pd
    >>> from llmlab.golden.cases import Case, GoldenSet
    >>> from llmlab.judge.rubrics import rubric
    >>> golden = GoldenSet((Case(id="q1", inputs={"question": "Gaps?"}),))
    >>> answers = pd.DataFrame({"variant": ["v1"], "case_id": ["q1"], "text": ["dropna"]})
    >>> thing = {"case_id": "q1", "question": text_digest("Gaps?"), "answer": text_digest("dropna")}
    >>> both = [Label(rubric="tone", value=value, labeller=name, **thing) for name, value in (("anna", 3), ("ben", 4))]
    >>> agreed = between_labellers(
    ...     Labels(tuple(both)), Results.from_frame(answers, golden=golden), rubric=rubric("tone")
    ... )
    >>> agreed.pairs[0].same.value, len(agreed.disagreements)
    (0.0, 1)
    """
    if labels.rubric != rubric.name:
        raise DataError(f"the labels are by the rubric {labels.rubric!r}, not by {rubric.name!r}")
    keys = label_keys(results.frame, results.golden)
    texts = dict(zip(keys, (text for (text,) in results.answers("shown")), strict=True))
    cases = results.golden.by_id if results.golden else {}
    by_key: dict[tuple[str, ...], dict[str, Label]] = {}
    for label in map(same_way_round, labels):
        if _are_here(label.key, texts):
            by_key.setdefault(label.key, {})[label.labeller or "unnamed"] = label
    people = sorted({name for theirs in by_key.values() for name in theirs})
    scale: list[Any] = [1, 2, "tie"] if labels.pairwise else list(rubric.scale)
    weights: Literal["quadratic", "unweighted"] = "unweighted" if labels.pairwise or len(scale) < 3 else "quadratic"
    pairs = []
    for first, second in itertools.combinations(people, 2):
        both = {key: theirs for key, theirs in by_key.items() if first in theirs and second in theirs}
        if not both:
            continue
        first_values, second_values = ([theirs[name].value for theirs in both.values()] for name in (first, second))
        how: dict[str, Any] = {"clusters": [cases[key[0]].cluster or key[0] for key in both], "level": level}
        same = agreement(first_values, second_values, labels=scale, **how)
        kappa = cohen_kappa(first_values, second_values, labels=scale, weights=weights, **how)
        pairs.append(PairOfLabellers(first=first, second=second, same=same, kappa=kappa))
    differing = [(key, theirs) for key, theirs in by_key.items() if len({label.value for label in theirs.values()}) > 1]
    differing.sort(key=lambda item: -_span([label.value for label in item[1].values()]))
    rows = []
    for key, theirs in differing:
        names = ["answer"] if len(key) == 3 else ["answer 1", "answer 2"]
        row: dict[str, object] = {"case": key[0], "question": cases[key[0]].question}
        row |= {name: texts[key[0], key[1], digest] for name, digest in zip(names, key[2:], strict=True)}
        row |= {name: str(label.value) for name, label in sorted(theirs.items())}
        notes = "; ".join(f"{name}: {label.note}" for name, label in sorted(theirs.items()) if label.note)
        rows.append(row | {"notes": notes})
    return LabellerAgreement(rubric=labels.rubric, pairs=tuple(pairs), disagreements=tuple(rows))


def _session(results: Results, items: Sequence[Item], rng: np.random.Generator, **about: Any) -> Session:
    """A session over the items in a random order."""
    shuffled = [items[i] for i in rng.permutation(len(items))]
    known = {(case_id, text_digest(question), text_digest(text)) for case_id, question, text in _answers(results)}
    return Session(shuffled, fits=lambda key: _are_here(key, known), **about)


def _are_here(key: tuple[str, ...], known: Container[tuple[str, ...]]) -> bool:
    """Whether all that a label is of is known, answer by answer."""
    return all((*key[:2], answer) in known for answer in key[2:])


def _items(results: Results, chosen: Chosen, rubric: Rubric, base: str | Path | None) -> list[Item]:
    """The distinct answers that are to be labelled, each with all that a judge is shown beside it.

    Raises:
        DataError: a worklist or case that is not of these results.
    """
    here = dict.fromkeys(_answers(results))
    if isinstance(chosen, Worklist):
        listed: list[tuple[str, str, str, float | None]] = list(chosen.items)
        if lost := sum(answer[:3] not in here for answer in listed):
            raise DataError(f"{lost} of {len(chosen)} answers on the worklist are not in these results; make it again")
    else:
        wanted = {case_id for case_id, _, _ in here} if chosen is None else set(chosen)
        listed = [(*answer, None) for answer in here if answer[0] in wanted]
        if unknown := wanted - {case_id for case_id, *_ in listed}:
            raise DataError(f"no answer to a case {min(unknown)!r} in these results")
    passages: dict[tuple[str, str], str] = {}
    if "passages" in rubric.needs:
        shown = passages_of(results, base=base)
        rows = results.answers("variant", "case_id", "shown")
        passages = {(case_id, text): "\n\n".join(shown[variant, case_id]) for variant, case_id, text in rows}
    items = []
    for case_id, question, text, inclusion in listed:
        beside = [("Passages", passages[case_id, text])] if passages else []
        if "reference" in rubric.needs and results.golden is not None:
            beside.insert(0, ("Reference", results.golden.by_id[case_id].reference or "(the case names none)"))
        key = (case_id, text_digest(question), text_digest(text))
        items.append(Item(key=key, question=question, answers=(text,), beside=tuple(beside), inclusion=inclusion))
    return items


def _paired(one: Item, other: Item, *, turned: bool) -> Item:
    """Two answers to a case as one item, with what is shown beside either."""
    beside = ((title, {text, more}) for (title, text), (_, more) in zip(one.beside, other.beside, strict=True))
    return replace(
        one,
        key=(*one.key, other.key[2]),
        answers=(*other.answers, *one.answers) if turned else (*one.answers, *other.answers),
        turned=turned,
        beside=tuple((title, "\n\n".join(sorted(texts))) for title, texts in beside),
    )


def _answers(results: Results) -> Iterator[tuple[str, str, str]]:
    """(case id, question, text with tool calls) of every answer that came, in the frame's order."""
    if results.golden is None:
        raise DataError("these results carry no golden set, so there is no question to show")
    questions = {case.id: case.question for case in results.golden}
    for case_id, text, status in results.answers("case_id", "shown", "status"):
        if status != "error":
            yield case_id, questions[case_id], text


def _interest(results: Results, metric: str, against: str | None, threshold: float | None) -> FloatArray:
    """How much a label of each case teaches, above 0: one part per reason, else all the same."""
    values = results.table(metric).values
    span = float(np.nanmax(values) - np.nanmin(values)) or 1.0
    interest = np.full(len(values), 1e-3)
    if against is not None:
        interest += np.nan_to_num(np.nanmax(np.abs(values - results.table(against).values) / span, axis=1, initial=0.0))
    if threshold is not None:
        interest += np.nan_to_num(np.nanmax(np.exp(-4 * np.abs(values - threshold) / span), axis=1, initial=0.0))
    return interest


def _chances(share: FloatArray, n: int) -> FloatArray:
    """n times the shares, none above 1: what is cut off goes to the others in proportion."""
    chances = n * share
    for _ in range(len(share)):
        above = chances > 1
        if not above.any():
            break
        fixed = chances >= 1
        chances = np.where(fixed, 1.0, chances * (n - fixed.sum()) / chances[~fixed].sum() if (~fixed).any() else 1.0)
    return np.minimum(chances, 1.0)


def _span(values: Sequence[Any]) -> int:
    """How far labels lie apart; one for a preference against a tie, two against the other side."""
    places = [{1: 0, "tie": 1, 2: 2}[value] if "tie" in values else value for value in values]
    return int(max(places)) - int(min(places))
