"""A judge against people's labels, and against itself: calibration of what it judged, and anchors judged again.

`calibrate` takes results that are judged. `Judge.calibrate` takes others too: what people labelled and it has not
judged yet, it judges now (`as_judged`). A label fits an answer that is the same, word for word, to the same question;
others are counted and not used. Drift is found by `check_anchors`, before a judge that its provider changed decides.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from llmlab.base.cells import Chip
from llmlab.base.errors import DataError
from llmlab.base.numbers import p_text
from llmlab.bundle.bundle import ModelRef
from llmlab.display.shown import Shown
from llmlab.engine.call_setup import CallOptions
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.labels import Label, Labels, text_digest
from llmlab.judge.calibrating import calibrate_scores, of_verdicts
from llmlab.judge.calibration import Calibration
from llmlab.judge.grading import Instrument, family, prefer, score, verdict_frame
from llmlab.results.labelled import label_keys
from llmlab.results.provenance import JudgeRecord
from llmlab.results.results import Results
from llmlab.stats.agreement import cohen_kappa, mcnemar
from llmlab.stats.estimate import Estimate, mean_estimate

if TYPE_CHECKING:
    import pandas as pd

_LEVEL = 0.99  # drift is looked for again and again, so a single look must be rarely wrong
_KAPPA_AT_LEAST = 0.8  # of a judge with itself
Unused = dict[tuple[str, ...], tuple[Label, ...]]  # labels by what they are of; each counts once, and is taken out


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AnchorCheck(Shown):
    """A judge compared with itself; true in a condition when it is steady.

    Attributes:
        drifted: why it is held to have changed, "" when it is steady.
        n, lost: anchors with a score both times, and those without one now.
        changed: how many scores differ.
        kappa: agreement of then and now, weighted quadratically.
        shift: mean of now - then.
        p_mcnemar: whether it is right (as people labelled) more or less often than then; None without labels.
    """

    drifted: str
    n: int
    lost: int
    changed: int
    kappa: Estimate
    shift: Estimate
    p_mcnemar: float | None

    def __bool__(self) -> bool:
        return not self.drifted

    def _rows(self) -> list[dict[str, object]]:
        return [
            {
                "judge": Chip("steady", "good") if self else Chip("drifted", "bad"),
                "anchors": self.n,
                "changed": self.changed,
                "lost": self.lost,
                "kappa with itself": self.kappa.interval(),
                "now - then": self.shift.interval(),
                "p (McNemar)": p_text(self.p_mcnemar),
            }
        ]

    def _sentence(self) -> str:
        if self.drifted:
            return f"The judge has changed: {self.drifted}. Calibrate it again before its next verdict."
        return f"{self.n - self.changed:,} of {self.n:,} anchors have the score that they had."


def calibrate(
    labels: Labels,
    results: Results | Sequence[Results],
    *,
    metric: str | None = None,
    by: str | None = None,
    level: float = 0.95,
) -> Calibration:
    """A judge's metric in these results against the labels of the same answers.

    Preferences also tell whether the judge likes answers of its own family of models better, where it wrote some.

    Args:
        results: judged results, or several of one judge, such as the preferences of several pairs of variants.
        metric: the judge's, by default the labels' rubric (`<rubric>_preferred` for preferences).
        by: "tags" for the same per tag of the cases; a case with two tags counts in both.

    Raises:
        DataError: no label fits, the metric was not given by a judge, or the results are of several judges.

    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(400, labelled=300, seed=1, kindness=(0.5, 0.5))
    >>> calibration = calibrate(planted.labels, planted.results).only
    >>> calibration.n, round(calibration.leaning.value, 1)
    (600, 0.5)
    """
    import pandas as pd  # heavy

    if by not in (None, "tags"):
        raise ValueError(f"by == {by!r}, must be 'tags' or None")
    name = metric or (f"{labels.rubric}_preferred" if labels.pairwise else labels.rubric)
    every = [results] if isinstance(results, Results) else list(results)
    judges = {part.metric(name).judge for part in every}
    if len(judges) != 1 or not all(judges):
        raise DataError(f"{name!r} was not given by one judge; judge the results with one, then calibrate it")
    unused: Unused = dict(labels.by_key)
    rows = [row for part in every for row in (_pairs if labels.pairwise else _grades)(unused, part, name)]
    lost = sum(map(len, unused.values()))
    if not rows:
        raise _none_fits(labels)
    frame = pd.DataFrame(rows) if by is None else pd.DataFrame(rows).explode(by)
    how: dict[str, Any] = {"cluster": "cluster", "by": () if by is None else (by,), "level": level}
    meaning, record = every[0].metric(name), every[0].provenance.judges.get(name, JudgeRecord())
    if labels.pairwise:
        names = {"length1": "words_1", "length2": "words_2", "cluster": how.pop("cluster"), "pair": "pair"}
        names |= {part: part for part in ("label", "order1", "order2")} | _authors(frame, record.model)
        calibration = of_verdicts(frame, names, **how)
    else:
        scale = range(int(meaning.low or 0), int(meaning.high or 0) + 1)
        calibration = calibrate_scores(frame, scale=scale, length="words", **how)
    note = f"{lost} of {len(labels)} labels fit no answer here (changed since, or of other answers) and were not used."
    return replace(
        calibration,
        judge=record.model or name,
        judge_digest=meaning.judge,
        labels_digest=labels.digest,
        pinned=bool(record.pinned),
        notes=(note,) if lost else (),
    )


def as_judged(
    judge: Instrument, labels: Labels, results: Results | Sequence[Results] | None, name: str, options: CallOptions
) -> list[Results]:
    """The results with this judge's metric `name`; what people labelled and it has not judged yet, it judges now.

    Raises:
        DataError: the labels are of another kind or rubric, none fits, or there are neither results nor texts.
    """
    if labels.pairwise != (judge.kind == "pairwise"):
        kinds = ("preferences", "grades") if labels.pairwise else ("grades", "preferences")
        raise DataError(
            f"these labels are {kinds[0]}, and {judge.bundle.name!r} is a {judge.kind} judge: give {kinds[1]}"
        )
    if labels.rubric != judge.rubric.name:
        raise DataError(f"the labels are by the rubric {labels.rubric!r}, the judge's is {judge.rubric.name!r}")
    if results is None:
        results = _as_read(labels)
    every = [results] if isinstance(results, Results) else list(results)
    judged = [part for answers in every for part in _judged(judge, labels, answers, name, options)]
    if not judged:
        raise _none_fits(labels)
    return judged


def graded_frame(labels: Labels, results: Results, *, metric: str | None = None) -> pd.DataFrame:
    """What was labelled beside what the judge said, one row per label: tags, cluster, human, judge, words."""
    import pandas as pd  # heavy

    rows = list(_grades(dict(labels.by_key), results, metric or labels.rubric))
    return pd.DataFrame(rows, columns=["tags", "cluster", "human", "judge", "words"])


def check_anchors(
    anchors: Results,
    judge: Instrument,
    *,
    metric: str | None = None,
    labels: Labels | None = None,
    **options: Unpack[CallOptions],
) -> AnchorCheck:
    """The anchors judged again, really asked: stored replies are not used unless a `store` is given.

    Args:
        anchors: results that this judge has scored, kept for this purpose (`to_parquet`).
        metric: the judge's, by default its rubric's name.
        labels: people's, for whether the judge became better or worse and not only different.

    >>> from llmlab.clients.fake import FakeClient
    >>> from llmlab.simulate import judged_results
    >>> planted = judged_results(30, labelled=10, seed=1)
    >>> check = check_anchors(planted.results, planted.judge, client=FakeClient('{"score": 5}'), progress=False)
    >>> bool(check), check.n
    (False, 60)
    """
    name = metric or judge.metric
    if anchors.metric(name).judge != judge.digest:
        raise DataError(f"the anchors' {name!r} was given by another judge than {judge.digest[:8]}; freeze new ones")
    with tempfile.TemporaryDirectory() as folder:
        call_options: CallOptions = {"store": Path(folder) / "calls.sqlite", **options}
        again = score(anchors, judge, name=name, **call_options)
    then, now = (results.scores(name) for results in (anchors, again))
    both = ~np.isnan(then) & ~np.isnan(now)
    if both.sum() < 2:
        raise DataError(f"{int(both.sum())} of {len(then)} anchors could be judged both times: nothing to compare")
    cases = np.array([case_id for (case_id,) in anchors.answers("case_id")])
    clusters = cases[both] if len(set(cases[both])) > 1 else None
    scale = [float(level) for level in judge.rubric.scale]
    kappa = cohen_kappa(then[both], now[both], labels=scale, weights="quadratic", clusters=clusters, level=_LEVEL)
    shift = mean_estimate(now[both] - then[both], clusters, level=_LEVEL, n_attempted=len(then))
    p = None if labels is None else _mcnemar(anchors, labels, then, now)
    return AnchorCheck(
        drifted=_drifted(kappa, shift, p),
        n=int(both.sum()),
        lost=int((~np.isnan(then) & np.isnan(now)).sum()),
        changed=int((then[both] != now[both]).sum()),
        kappa=kappa,
        shift=shift,
        p_mcnemar=p,
    )


def _grades(unused: Unused, results: Results, metric: str) -> Iterator[dict[str, Any]]:
    """One row per label and answer text: the same text in two variants is one thing that was labelled."""
    cases = results.golden.by_id if results.golden else {}
    keys = label_keys(results.frame, results.golden)
    for key, (text, grade) in zip(keys, results.answers("shown", metric), strict=True):
        case = cases[key[0]]
        about = {"tags": case.tags, "cluster": case.cluster or case.id}
        for label in unused.pop(key, ()):
            yield {**about, "human": label.value, "judge": grade, "words": len(text.split())}


def _pairs(unused: Unused, results: Results, metric: str) -> Iterator[dict[str, Any]]:
    """One row per label of the two answers, whichever of them stood first when it was labelled."""
    cases = results.golden.by_id if results.golden else {}
    for row in verdict_frame(results, metric).to_dict("records"):
        case = cases[str(row["case_id"])]
        first, second = text_digest(row["output_1"]), text_digest(row["output_2"])
        for answers, winners in (((first, second), {1: 1, 2: 2}), ((second, first), {1: 2, 2: 1})):
            for label in unused.pop((case.id, text_digest(case.question), *answers), ()):
                winner = "tie" if label.value == "tie" else winners[int(label.value or 0)]
                about = {"tags": case.tags, "pair": f"{case.id} {first} {second}", "label": winner}
                yield {str(name): cell for name, cell in row.items()} | about


def _none_fits(labels: Labels) -> DataError:
    fits = "is of two answers here" if labels.pairwise else "fits"
    changed = "the questions or answers have changed since they were made, or a variant is left out"
    return DataError(f"none of the {len(labels)} labels {fits}: {changed}")


def _authors(frame: pd.DataFrame, model: str) -> dict[str, Any]:
    """The columns that tell self-preference, where the judge's family wrote some of the answers and others the rest."""
    judge_family = family(ModelRef.parse(model)) if "/" in model else ""
    wrote = {*frame["author_1"], *frame["author_2"]}
    if judge_family not in wrote or len(wrote) < 2:
        return {}
    frame["judge"] = judge_family
    return {"judge": "judge", "author1": "author_1", "author2": "author_2"}


def _judged(judge: Instrument, labels: Labels, results: Results, name: str, options: CallOptions) -> list[Results]:
    """The results, where this judge gave the metric already; else what people labelled of them (if any), judged now."""
    if name in results.metrics and results.metric(name).judge == judge.digest:
        return [results]
    keys = label_keys(results.frame, results.golden)
    read = {(key[0], digest) for key in labels.by_key for digest in key[2:]}
    # Nothing is paid for but the answers that a label is of.
    labelled = results.rows_where([(case_id, answer) in read for case_id, _, answer in keys])
    if not labelled.n_answers():
        return []
    if judge.kind == "pointwise":
        return [score(labelled, judge, name=name, **options)]
    pairs = _labelled_pairs(labels, labelled)
    return [prefer(labelled, a, b, judge, name=name, **options) for a, b in pairs]


def _labelled_pairs(labels: Labels, results: Results) -> list[tuple[str, str]]:
    """The pairs of variants of which people compared some answers."""
    said_by: defaultdict[tuple[str, str], set[str]] = defaultdict(set)  # case and text -> variants
    keys = label_keys(results.frame, results.golden)
    for (variant,), (case_id, _, text) in zip(results.answers("variant"), keys, strict=True):
        said_by[case_id, text].add(variant)
    compared = {
        frozenset(pair)
        for case_id, _, first, second in labels.by_key
        for pair in itertools.product(said_by[case_id, first], said_by[case_id, second])
    }
    return [pair for pair in itertools.combinations(results.variants, 2) if frozenset(pair) in compared]


def _as_read(labels: Labels) -> Results:
    """Results of the texts that the labels hold themselves (`asked` and `text`, as a worklist writes them)."""
    import pandas as pd  # heavy

    readable = [label for label in labels if label.asked and label.answer == text_digest(label.text)]
    if len(readable) < len(labels):
        raise DataError(
            f"{len(labels) - len(readable)} of {len(labels)} labels do not hold the text that was read; "
            "give the results that it is in: `judge.calibrate(labels, results)`"
        )
    question_of = {label.case_id: label.asked for label in readable}
    golden = GoldenSet(tuple(Case(id=case_id, inputs={"question": text}) for case_id, text in question_of.items()))
    if any(text_digest(golden.by_id[label.case_id].question) != label.question for label in readable):
        raise DataError("a label's question is not the text that it holds; give the results that it is of")
    texts = dict.fromkeys((label.case_id, label.text) for label in readable)
    frame = pd.DataFrame(list(texts), columns=["case_id", "text"]).assign(variant="as labelled")
    return Results.from_frame(frame.assign(repeat=frame.groupby("case_id").cumcount()), golden=golden)


def _mcnemar(anchors: Results, labels: Labels, then: np.ndarray, now: np.ndarray) -> float | None:
    """McNemar's exact p on right then against right now, over labelled answers, each case once."""
    right: dict[str, tuple[float, float]] = {}
    for i, key in enumerate(label_keys(anchors.frame, anchors.golden)):
        if key in labels.by_key and not np.isnan(then[i] + now[i]):
            wanted = labels.by_key[key][0].value
            right.setdefault(key[0], (float(then[i] == wanted), float(now[i] == wanted)))
    if len(right) < 2:
        return None
    return mcnemar(*zip(*right.values(), strict=True))


def _drifted(kappa: Estimate, shift: Estimate, p: float | None) -> str:
    reasons = []
    if kappa.high is not None and kappa.high < _KAPPA_AT_LEAST:
        reasons.append(f"its agreement with itself is {kappa}, below {_KAPPA_AT_LEAST}")
    if shift.low is not None and shift.high is not None and not shift.low <= 0 <= shift.high:
        reasons.append(f"its scores moved by {shift.value:.2g} on average")
    if p is not None and p < 1 - _LEVEL:
        reasons.append(f"it is right on other cases than before (McNemar p {p_text(p)})")
    return "; ".join(reasons)
