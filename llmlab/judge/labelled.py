"""Judged results that carry people's labels, so that every number of theirs can be corrected wherever it is shown.

`with_labels` puts a label beside each answer that it fits, word for word. The labels then travel with the cases: into
Parquet, into MLflow, and into the verdict that a promotion computes again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from llmlab.base.errors import DataError
from llmlab.judge.labels import Labels, labelled_answers
from llmlab.results.results import Results

__all__ = ["labels_digests", "people_of", "with_labels"]


def with_labels(results: Results, labels: Labels, *, metric: str | None = None) -> Results:
    """The same results with people's grades beside the judge's: `summary()`, `compare()` and the gate correct by them.

    Adds the columns `<metric>_label` (mean of the labellers, NaN = none) and `<metric>_inclusion` (the probability of
    having been chosen, NaN = not known), and the labels' digest to the provenance. Labels of the same metric that
    were there before are replaced. A label that fits no answer is counted as stale and not used.

    Args:
        metric: the judge's, by default the labels' rubric.

    Raises:
        DataError: preferences, labels by another rubric than the judge's, or none that fits.

    >>> import pandas as pd
    >>> from llmlab.golden.cases import Case, GoldenSet
    >>> from llmlab.judge.labels import Label, text_digest
    >>> golden = GoldenSet((Case(id="q1", inputs={"question": "Which function drops gaps?"}),))
    >>> answers = pd.DataFrame({"variant": ["v1", "v2"], "case_id": "q1", "text": ["dropna", "fillna"]})
    >>> judged = Results.from_frame(answers, golden=golden)
    >>> judged = replace(judged, frame=judged.frame.assign(relevance=[4.0, 4.0]))
    >>> asked = text_digest("Which function drops gaps?")
    >>> label = Label(rubric="relevance", case_id="q1", question=asked, answer=text_digest("dropna"), value=5)
    >>> with_labels(judged, Labels((label,))).frame["relevance_label"].tolist()
    [5.0, nan]
    """
    if labels.pairwise:
        raise DataError("these are preferences; a corrected score needs grades of single answers")
    name = metric or labels.rubric
    record = results.provenance.get("judges", {}).get(name, {})
    if record.get("rubric", labels.rubric) != labels.rubric:
        raise DataError(f"{name!r} was judged by the rubric {record['rubric']!r}, the labels are by {labels.rubric!r}")
    if name not in results.frame.columns:
        raise DataError(f"no {name!r} in these results; judge them, or name the metric that these labels are of")
    people, chances, used = [], [], set()
    for (key, *_), status in zip(labelled_answers(results, name), results.frame["status"].tolist(), strict=True):
        found = labels.by_key.get(key, ()) if status != "error" else ()
        used |= {key} if found else set()
        people.append(float(np.mean([float(one.value) for one in found if one.value not in (None, "tie")] or [np.nan])))
        chance = found[0].inclusion if found else None
        chances.append(np.nan if chance is None else chance)
    if not used:
        raise DataError(f"no label fits an answer with a {name!r}: questions or answers have changed")
    n_used = sum(len(labels.by_key[key]) for key in used)
    stale = len(labels) - n_used
    about = {"digest": labels.digest, "used": n_used, "stale": stale}
    note = f"{stale} of {len(labels)} labels of {name} fit no answer here (changed, or of others) and are not used."
    frame = results.frame.assign(**{f"{name}_label": people, f"{name}_inclusion": chances})
    known = {**results.provenance.get("labels", {}), name: about}
    notes = tuple(dict.fromkeys([*results.notes, *([note] if stale else [])]))
    return replace(results, frame=frame, provenance={**results.provenance, "labels": known}, notes=notes)


def people_of(results: Results, metric: str) -> dict[str, Any]:
    """Per answer: variant, case_id, repeat, cluster, weight, the judge's score, the label, its inclusion (NaN = none).

    Raises:
        DataError: the results carry no labels of this metric.
    """
    frame = results.frame
    if f"{metric}_label" not in frame.columns:
        raise DataError(f"these results carry no labels of {metric!r}; give them, or add them with `with_labels`")
    by_id = results.golden.by_id if results.golden is not None else {}
    clusters = [by_id[case_id].cluster if case_id in by_id else None for case_id in frame["case_id"]]
    weights = [by_id[case_id].weight if case_id in by_id else 1.0 for case_id in frame["case_id"]]
    return {
        **{name: frame[name].to_numpy() for name in ("variant", "case_id", "repeat")},
        "weight": np.array(weights),
        "cluster": np.array(
            [one or f"\0{case_id}" for one, case_id in zip(clusters, frame["case_id"], strict=True)], dtype=object
        ),
        "judged": frame[metric].to_numpy(dtype=float, na_value=np.nan),
        "human": frame[f"{metric}_label"].to_numpy(dtype=float, na_value=np.nan),
        "inclusion": frame[f"{metric}_inclusion"].to_numpy(dtype=float, na_value=np.nan),
    }


def labels_digests(results: Results) -> dict[str, str]:
    """Metric -> digest of the labels that the results carry."""
    return {name: str(about["digest"]) for name, about in dict(results.provenance.get("labels") or {}).items()}
