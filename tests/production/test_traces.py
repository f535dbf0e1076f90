"""Requests of production are read however torn their files are, and nothing is dropped without being counted."""

import json
from datetime import UTC, date, datetime
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab.base.errors import DataError, FileRuleError

ASKED = {
    "request_id": "r1",
    "time": "2026-03-02T10:00:00Z",
    "unit_id": "u1",
    "session_id": "s1",
    "service": "help-desk",
}
ARM = {"rollout": "r1", "arm": "candidate", "bundle": "c" * 64}
SPENT = {"latency_s": 1.2, "first_token_s": 0.4, "cost_usd": 0.0017, "prompt_tokens": 510, "completion_tokens": 42}
ANSWER = {"status": "ok", "text": "Use dropna().", "served_model": "m-1", "retrieved": [{"id": "dropna", "score": 7.5}]}
WHOLE = {**ASKED, **ARM, **SPENT, **ANSWER, "inputs": '{"question": "NaN?"}', "guards": ["no_pii", "grounded"]}


ENDLESS = (float("inf"), float("nan"), "Infinity")
NO_MOMENTS = (
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59Z"),
    *("1970-01-01T00:00:00Z", 0, True, 1e30),
)


def line(**changes):
    return json.dumps({**WHOLE, **changes})


def written(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ll.Traces.load(path)


def problems(traces):
    return {row["problem"]: (row["count"], row["first"]) for row in traces.problems.rows}


def test_a_line_is_a_request_with_all_its_fields(tmp_path):
    """The same object whether its block is read as columns or line by line."""
    whole = written(tmp_path / "a.jsonl", line(signals={"thumbs": 0}))
    pd.testing.assert_frame_equal(written(tmp_path / "flat.jsonl", line(**{"signals.thumbs": 0})).frame, whole.frame)
    (trace,) = whole
    assert (trace.time, trace.inputs) == (datetime(2026, 3, 2, 10, tzinfo=UTC), {"question": "NaN?"})
    assert (trace.answer.text, trace.answer.retrieved, trace.scores) == ("Use dropna().", ("dropna",), (7.5,))
    assert (trace.answer.usage.input_tokens, float(trace.answer.cost_usd)) == (510, 0.0017)
    assert (trace.guards, trace.signals, trace.arm) == (("no_pii", "grounded"), {"thumbs": 0.0}, "candidate")
    assert whole.problems.rows == ()
    torn = written(tmp_path / "b.jsonl", line(signals={"thumbs": 0}), '{"request_id": "r2", "ti')
    pd.testing.assert_frame_equal(torn.frame, whole.frame)
    assert problems(torn) == {"torn line, or no JSON object": (1, "b.jsonl:2")}


def test_doubled_and_unordered_lines_are_counted_with_their_places(tmp_path):
    """The last of two wins, all are in order of time."""
    read = written(
        tmp_path / "a.jsonl",
        line(request_id="a", time="2026-03-02T12:00:00Z", text="first"),
        line(request_id="b", time="2026-03-02T11:59:50Z"),
        "",
        line(request_id="c", time="2026-03-02T10:00:00Z"),
        line(request_id="a", time="2026-03-02T12:00:00Z", text="second"),
    )
    assert read.frame["request_id"].tolist() == ["c", "b", "a"]
    assert read.frame["text"].iloc[-1] == "second"
    assert problems(read) == {
        "out of order, sorted by time": (2, "a.jsonl:2, a.jsonl:4"),
        "request that came twice, the last one kept": (1, "a.jsonl:1"),
    }


def test_requests_that_overlap_are_in_order(tmp_path):
    """A line has the moment at which its request began, and is written when it ends: the long one comes last."""
    times = [f"2026-03-02T10:00:{second:02d}Z" for second in (5, 8, 3)]
    took = [{"request_id": f"r{i}", "latency_s": seconds} for i, seconds in enumerate((1, 1, 7))]
    lines = [line(**about, time=time) for about, time in zip(took, times, strict=True)]
    assert written(tmp_path / "a.jsonl", *lines).problems.rows == ()
    assert "out of order, sorted by time" in problems(written(tmp_path / "b.jsonl", *lines[:2], line(time=times[2])))


def test_the_latest_signal_counts_whatever_its_file(tmp_path):
    """Files are read by name, and somebody may change their mind in another service; what has no time comes first."""
    late = {"request_id": "r1", "time": "2026-03-02T12:00:00Z", "signals": {"thumbs": 1}}
    early = {"request_id": "r1", "time": "2026-03-02T11:00:00Z", "signals": {"thumbs": 0, "edited": 1}}
    untimed = {"request_id": "r1", "signals": {"thumbs": 0, "edited": 0}}
    (tmp_path / "a-api.jsonl").write_text("\n".join([line(), json.dumps(late)]))
    (tmp_path / "b-web.jsonl").write_text("\n".join(map(json.dumps, [early, untimed])))
    (trace,) = ll.Traces.load(tmp_path)
    assert trace.signals == {"thumbs": 1.0, "edited": 1.0}


@pytest.mark.parametrize("torn", ["", "{nonsense"])
def test_signals_come_later_on_lines_of_their_own(tmp_path, torn):
    """The last one of a name counts; one for nobody is counted."""
    signals = [
        {"request_id": "r1", "signals": {"thumbs": 1}},
        {"request_id": "r1", "signals": {"thumbs": 0, "edited": True}},
    ]
    read = written(
        tmp_path / "a.jsonl", line(), *map(json.dumps, signals), '{"request_id": "x", "signals": {"thumbs": 1}}', torn
    )
    assert len(read) == 1
    assert read.frame[["signals.thumbs", "signals.edited"]].to_numpy().tolist() == [[0.0, 1.0]]
    assert problems(read)["signal for a request that is not here"][0] == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"latency_s": -1}, "latency_s below zero or endless, taken as missing"),
        ({"latency_s": "soon"}, "latency_s that is none, taken as missing"),
        ({"time": "yesterday"}, "time that is none, taken as missing"),
        ({"request_id": ""}, "line without a request_id"),
        ({"status": "odd"}, "status that nobody knows, taken as an error"),
        ({"signals": {"thumbs": "up"}}, "signals.thumbs that is none, taken as missing"),
        ({"signals": [1]}, "signals that is none, taken as missing"),
        *(({"latency_s": odd}, "latency_s that is none, taken as missing") for odd in ENDLESS),
        *(({"signals": {"thumbs": odd}}, "signals.thumbs that is none, taken as missing") for odd in ENDLESS),
        *(({"time": odd}, "time that is none, taken as missing") for odd in NO_MOMENTS),
    ],
)
def test_a_value_that_cannot_be_is_counted_and_never_fatal(tmp_path, change, problem):
    """The other requests of its block are read as they stand."""
    for torn in ((), ("{torn",)):
        read = written(tmp_path / "a.jsonl", line(request_id="r0"), line(**change), *torn)
        assert problems(read)[problem] == (1, "a.jsonl:2" if "nobody" not in problem else "")
        assert "r0" in read.frame["request_id"].tolist()
        assert "nan" not in str(read)
        assert "inf" not in str([trace.signals for trace in read])


@pytest.mark.parametrize("day", ["20260302", 20260302, "2026-03-02 00:00:00 UTC", "2026-03-02", date(2026, 3, 2)])
def test_a_day_is_no_number_of_seconds(day):
    """As spreadsheets and warehouses write it; read as seconds, the first two lie in 1970."""
    (trace,) = ll.Traces.from_frame(pd.DataFrame([{"time": day}]))
    assert trace.time == datetime(2026, 3, 2, tzinfo=UTC)


def test_order_in_a_table_is_no_lateness(tmp_path):
    """Of what is sorted newest first, or by person, nothing came late; nor of a file of ours that is."""
    rows = [{"request_id": f"r{i}", "time": f"2026-03-02T{20 - i}:00:00Z", "text": "x"} for i in range(9)]
    assert ll.Traces.from_frame(pd.DataFrame(rows)).problems.rows == ()
    assert written(tmp_path / "a.jsonl", *map(json.dumps, rows)).problems.rows == ()
    pd.DataFrame(rows).to_csv(tmp_path / "b.csv", index=False)
    assert ll.Traces.load(tmp_path / "b.csv").problems.rows == ()


def test_a_signal_in_a_list_or_a_table_is_not_read_as_another_request(tmp_path):
    """Its row has a time and no answer; until now it took the answer's place."""
    request = {"request_id": "r1", "time": "2026-03-02T10:00:00Z", "status": "ok", "text": "Hello"}
    signal = {"request_id": "r1", "time": "2026-03-02T11:00:00Z", "signals.thumbs": 0}
    (tmp_path / "a.json").write_text(json.dumps([request, signal], indent=1))
    pd.DataFrame([request, signal]).to_csv(tmp_path / "b.csv", index=False)
    for read in (
        *(ll.Traces.load(tmp_path / name) for name in ("a.json", "b.csv")),
        ll.Traces.from_frame(pd.DataFrame([request, signal])),
    ):
        (trace,) = read
        assert (trace.answer.text, trace.signals, read.wrong) == ("Hello", {"thumbs": 0.0}, [])


def test_odd_columns_of_tables_are_read_or_refused():
    """Whole numbers beside gaps, lists as arrays, statuses in other words, and two columns of one name."""
    table = pd.DataFrame({"time": ["2026-03-02", "2026-03-03"], "unit_id": [7.0, np.nan], "status": ["Success", 500]})
    (named,) = ll.Traces.from_frame(pd.DataFrame([{"time": "2026-03-02", "request_id": UUID(int=7)}]))
    assert named.request_id == "00000000-0000-0000-0000-000000000007"
    read = ll.Traces.from_frame(table.assign(guards=[np.array(["no_pii"]), None]))
    assert read.frame[["unit_id", "status", "guards"]].to_numpy().tolist() == [["7", "ok", "no_pii"], ["", "error", ""]]
    with pytest.raises(DataError, match="more than one column 'time'"):
        ll.Traces.from_frame(pd.concat([table, table], axis=1))
    with pytest.raises(DataError, match="endless"):
        read.with_signals(pd.DataFrame({"request_id": ["row-1"], "quality": [np.inf]}))


def test_any_table_is_read_by_a_mapping():
    """Without ids each row is a request; times without an offset are UTC."""
    table = pd.DataFrame({"at": ["2026-03-02 10:00", "2026-03-02 11:00"], "who": ["a", None], "liked": [1, np.nan]})
    read = ll.Traces.from_frame(table, mapping={"time": "at", "unit_id": "who", "signals.thumbs": "liked"})
    assert read.frame["unit_id"].tolist() == ["a", ""]
    assert str(read.frame["time"].dtype) == "datetime64[us, UTC]"
    assert np.isnan(read.frame["answer_chars"]).all()
    for mapping, kind in (({"tiem": "at"}, ValueError), ({"time": "then"}, DataError), ({"unit_id": "who"}, DataError)):
        with pytest.raises(kind, match=r"tiem|then|when"):
            ll.Traces.from_frame(table, mapping=mapping)


def test_signals_of_a_table_are_joined_and_a_span_of_time_is_cut_out(tmp_path):
    read = written(tmp_path / "a.jsonl", line(request_id="a"), line(request_id="b", time="2026-03-03T10:00:00Z"))
    late = pd.DataFrame({"request_id": ["b", "z"], "quality": [0.5, 1.0]})
    joined = read.with_signals(late)
    assert joined.frame["signals.quality"].fillna(-1).tolist() == [-1, 0.5]
    assert problems(joined) == {"signal for a request that is not here": (1, "")}
    assert "signals.quality" not in read.frame
    day = read.between(datetime(2026, 3, 3, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC))
    assert day.frame["request_id"].tolist() == ["b"]
    with pytest.raises(ValueError, match="time zone"):
        read.between(datetime(2026, 3, 3), datetime(2026, 3, 4))  # noqa: DTZ001  # what it is about


def test_parquet_csv_folders_and_patterns_are_read_alike(tmp_path):
    """A frame that was saved comes back, and files together are one."""
    whole = written(tmp_path / "a.jsonl", line(request_id="a", signals={"thumbs": 1}), line(request_id="b"))
    whole.frame.to_parquet(tmp_path / "kept.parquet")
    again = ll.Traces.load(tmp_path / "kept.parquet")
    assert [t.answer for t in again] == [t.answer for t in whole]
    assert [t.signals for t in again] == [t.signals for t in whole]
    pd.DataFrame([{**ASKED, "latency_s": 2}]).to_csv(tmp_path / "c.csv", index=False)
    assert ll.Traces.load(tmp_path / "c.csv").frame["latency_s"].tolist() == [2.0]
    assert len(ll.Traces.load(tmp_path)) == len(ll.Traces.load(str(tmp_path / "*"))) == 3
    with pytest.raises(FileRuleError, match="no trace file"):
        ll.Traces.load(tmp_path / "none*.jsonl")
    (tmp_path / "odd.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(FileRuleError, match="from_frame"):
        ll.Traces.load(tmp_path / "odd.jsonl")


def test_texts_that_parquet_holds_as_bytes_are_read_and_other_bytes_are_counted(tmp_path):
    """As Spark and Hive write them, where nothing says that they are texts."""
    asked = {"time": b"2026-03-03T10:00:00Z", "inputs": {"question": "Größe?".encode()}}
    answers = [{"request_id": b"r1", "text": b"XL"}, {"request_id": b"r2", "text": b"\x89PNG"}]
    pd.DataFrame([{**asked, **answer} for answer in answers]).to_parquet(tmp_path / "t.parquet")
    read = ll.Traces.load(tmp_path / "t.parquet")
    assert [(t.inputs, t.answer.text) for t in read] == [({"question": "Größe?"}, "XL"), ({"question": "Größe?"}, "")]
    assert problems(read) == {"text that is none, taken as missing": (1, "t.parquet:2")}


@pytest.mark.parametrize(
    ("bad", "requests"),
    [
        (b'{"request_id": "x", "status": "ok", "text": "\xff"}', 1),
        (line(request_id="a").encode() + line(request_id="b").encode(), 1),
        (line(text="\ud800").encode(), 1),
        (line(time=-1e30).encode(), 1),
        (line(text="a\0b\r").encode(), 2),
        (b'{"request_id": ' + b"[" * 100_000, 1),
    ],
)
def test_no_bytes_are_fatal(tmp_path, bad, requests):
    """No UTF-8, two objects on a line, half a surrogate, endless numbers and depths."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([b"", line(request_id="r0").encode(), bad, b" "]))
    read = ll.Traces.load(path)
    assert len(read) == len(list(read)) == requests
    assert read.figures()["requests"].n == requests
    assert bool(read.problems.rows) == (requests == 1)


SILENT = [({"text": "a"}, "ok"), ({"text": " "}, "empty"), ({"error": "boom"}, "error"), ({}, "ok")]
SILENT += [({"text": "", "tool_calls": [{"name": "f"}]}, "ok")]


@pytest.mark.parametrize("read", ["file", "table"])
def test_a_line_without_a_status_is_what_its_text_and_error_say(tmp_path, read):
    """A model that said nothing is no success, whatever the file it stands in."""
    rows = [{"request_id": f"r{i}", "time": "2026-03-02T10:00:00Z", **row} for i, (row, _) in enumerate(SILENT)]
    if read == "file":
        traces = written(tmp_path / "a.jsonl", *map(json.dumps, rows))
    else:
        traces = ll.Traces.from_frame(pd.DataFrame(rows))
    assert traces.frame["status"].tolist() == [status for _, status in SILENT]


@pytest.mark.parametrize("torn", [[], ['{"request_id": "r2", "ti']])
def test_an_empty_text_loses_no_signal_and_hides_no_answer(tmp_path, torn):
    """A signal's row may have empty columns; an outer span may say nothing where the model below answered."""
    signal = json.dumps({"request_id": "r1", "text": "", "signals": {"thumbs": 0}})
    assert written(tmp_path / "a.jsonl", line(), signal, *torn).frame["signals.thumbs"].tolist() == [0.0]
    rows = [{"request_id": "1", "time": "2026-03-02T10:00:00Z", "text": "Hello"}]
    rows.append({"request_id": "1", "text": "", "signals.thumbs": 1.0})
    assert ll.Traces.from_frame(pd.DataFrame(rows)).frame["signals.thumbs"].tolist() == [1.0]
    whole = {"trace_id": "t", "start_time": "2026-03-02T10:00:00Z", "end_time": "2026-03-02T10:00:01Z"}
    kinds = [("a", None, "CHAIN", ""), ("b", "a", "LLM", "The answer")]
    spans = [
        {"context": {"trace_id": "t", "span_id": name}, "parent_id": above, "name": name, **whole, "span_kind": kind,
         "attributes": {"openinference.span.kind": kind, "output.value": said}}
        for name, above, kind, said in kinds
    ]  # fmt: skip
    read = written(tmp_path / "b.jsonl", *map(json.dumps, spans)).frame
    assert read[["status", "text"]].to_numpy().tolist() == [["ok", "The answer"]]
