"""The cases of a logged run in the form of MLflow's own tables, so that its pages show them."""

from __future__ import annotations

import json
from itertools import islice

from llmlab.base.private import scrub_frame
from llmlab.results.results import Results

__all__ = ["case_table"]

LONGEST_CELL_CHARS = 2_000
MOST_TABLE_ROWS = 2_000


def case_table(part: Results) -> str:
    """The rows in the form of MLflow's own tables, texts cut; the Parquet file has all of it."""
    import pandas as pd

    columns = ["case_id", "repeat", "status", "text", *part.metrics, "retrieved", "latency_s", "cost_usd", "error"]
    rows = pd.DataFrame(list(islice(part.answers(*columns), MOST_TABLE_ROWS)), columns=columns)
    shown = rows.assign(text=rows["text"].str.slice(0, LONGEST_CELL_CHARS), retrieved=rows["retrieved"].map(" ".join))
    if part.golden is not None:
        inputs = {case.id: json.dumps(dict(case.inputs), ensure_ascii=False) for case in part.golden}
        shown.insert(1, "inputs", scrub_frame(shown["case_id"].map(inputs).to_frame("inputs"))["inputs"])
    split = json.loads(shown.to_json(orient="split", index=False))
    return json.dumps({"columns": split["columns"], "data": split["data"]}, ensure_ascii=False)
