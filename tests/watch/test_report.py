"""A report's texts: for people, CI, Prometheus; its worst requests in the Explorer; the command."""

import re
import xml.etree.ElementTree as ET
from datetime import timedelta

import pytest

import llmlab as ll
from llmlab.base.errors import GateError
from tests.cli.calling import llmlab
from tests.watch.test_rules import NOW, PAGES, START, rules, traffic

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def bad():
    """A tenth of the last day fails, and somebody complains in HTML."""
    return traffic(
        status=lambda day, place: "error" if day == 28 and place % 10 == 0 else "ok",
        inputs=lambda day, place: f'{{"question": "{place} <b>?</b>"}}',
        bundle=lambda day, place: "a" * 64 if place % 2 else "b" * 64,
        **{"signals.thumbs": lambda day, place: 0.0 if day == 28 and place == 7 else float("nan")},
    )


@pytest.fixture(scope="module")
def report(bad):
    given = rules(
        {"metric": "error_rate", "above": 0.01, "window": "1d"}, {"metric": "cost_usd", "over": "2x"},
        {"metric": "quality", "worse_by": "5%"},
    )  # fmt: skip
    return ll.Watch(policy=given, name=HOSTILE).report(bad, now=NOW)


def test_alerts_come_first_with_their_page(report):
    first = report._rows()[0]
    assert (str(first["state"]), first["metric"], first["runbook"]) == ("ALERT", "error_rate", "provider-outage.md")
    assert report.verdict == "FAIL"
    with pytest.raises(GateError) as ended:
        report.require("pass")
    assert ended.value.decision is report
    assert report.require("none") is report


def test_the_worst_requests_step_through_the_explorer(report):
    """Those that made the alert first, then the complaint; a request is a case, with what it asked."""
    worst = report.worst(45)
    assert worst.n_cases == 45
    assert worst.n_answers(status="error") == 40
    tags = [case.tags for case in worst.golden]
    assert tags.count(("error_rate",)) == 40
    assert ("complaint",) in tags
    explorer = ll.widgets.Explorer(worst)
    assert len(explorer.matches) == 45
    assert "<b>" not in explorer._repr_html_().replace("&lt;b&gt;", "")


def test_junit_fails_alerts_and_skips_what_is_not_known(report):
    suite = ET.fromstring(report.to_junit())  # our own text
    counts = {name: suite.get(name) for name in ("tests", "failures", "skipped")}
    assert counts == {"tests": "3", "failures": "1", "skipped": "1"}
    assert "provider-outage.md" in suite.find("testcase/failure").get("message")


def test_markdown_holds_no_html(report):
    text = report.to_markdown()
    assert text.startswith("## Watch: FAIL")
    assert "<script>" not in text


def test_prometheus_reads_every_line_once_by_the_digest_of_the_bundle(report):
    """Its text format: a name, labels with quotes and backslashes escaped, a number; no series twice."""
    lines = [line for line in report.to_prometheus().splitlines() if not line.startswith("#")]
    pattern = re.compile(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)+)\} (-?[\d.e+-]+)')
    found = [pattern.fullmatch(line) for line in lines]
    assert all(found), lines
    assert len({(match[1], match[2]) for match in found}) == len(lines)
    failures = {m[2]: float(m[3]) for m in found if 'figure="failures"' in m[2]}
    assert {re.search('bundle="(.)', labels)[1]: n for labels, n in failures.items()} == {"a": 0, "b": 40}
    assert 'metric="error_rate",window="1 day",runbook="provider-outage.md"} 2' in report.to_prometheus()


def test_a_small_service_has_no_series_twice_and_always_the_same():
    """Rules over an hour and a day read the same day there: a series is named by what its rule asks for."""
    costs = [{"metric": "cost_usd", "over": "2x", "window": window} for window in ("1h", "1d")]
    names = []
    for n in (40, 4000):
        text = ll.Watch(policy=rules(*costs, at_least=20)).report(traffic(n), now=NOW).to_prometheus()
        names.append([line.rpartition(" ")[0] for line in text.splitlines() if "watch_state{" in line])
    assert len(set(names[0])) == 2
    assert sorted(names[0]) == sorted(names[1])


def test_who_leaves_is_no_failure_and_counted():
    """In no error rate, and so in no sum of failures: where everybody left, nothing may look quiet unsaid."""
    frame = traffic().to_frame()
    frame = frame.assign(status="error", error_code="CancelledError")
    report = ll.Watch(policy=rules({"metric": "error_rate", "above": 0.01})).report(
        ll.Traces.from_frame(frame), now=NOW
    )
    assert "cancelled before an answer" in "; ".join(report.notes)
    assert (report.verdict.value, "nan" in report.to_prometheus()) == ("INCONCLUSIVE", False)


@pytest.mark.parametrize(
    ("silent", "told"), [(timedelta(hours=20), "20 hours"), (timedelta(days=3, hours=2), "3 days")]
)
def test_silence_is_told_in_hours_or_days(silent, told):
    given = rules({"metric": "error_rate", "above": 0.01}, ended_after="2 hours")
    traces = traffic()
    last = traces.to_frame()["time"].iloc[-1].to_pydatetime()
    assert f"{told} ago" in ll.Watch(policy=given).report(traces, now=last + silent).notes[0]


def test_a_folder_is_no_place_for_a_report(folder):
    traces = folder.parents[1] / "traces.parquet"
    done = llmlab("watch", folder, traces, "--prometheus", folder)
    assert done.exit_code == 2
    assert "is a folder" in str(done.exception) + done.output


@pytest.fixture
def folder(tmp_path, bad):
    """An experiment with a watch, and its traces in a file."""
    (tmp_path / "pyproject.toml").touch()
    exp = tmp_path / "experiments" / "mine"
    exp.mkdir(parents=True)
    (exp / "golden.jsonl").write_text('{"id": "q1", "inputs": {"question": "7?"}, "tags": ["numbers"]}\n')
    (exp / "watch.yaml").write_text(
        f"runbooks: {PAGES}\nrules: [{{metric: error_rate, above: 0.01, window: 1d}}]\ndrift: []\n"
    )
    bad.to_frame().drop(columns=["guards", "retrieved"]).to_parquet(tmp_path / "traces.parquet")
    return exp


@pytest.mark.parametrize(
    ("until", "code"), [(NOW, 1), (NOW - timedelta(days=1), 0), (NOW + timedelta(days=9), 3), (START, 2)]
)
def test_the_command_exits_as_it_found(folder, until, code):
    """1 alert, 0 quiet, 3 too little data, 2 broken."""
    texts = {name: folder / f"out.{name}" for name in ("junit", "markdown", "prometheus")}
    options = [part for name, path in texts.items() for part in (f"--{name}", str(path))]
    traces = folder.parents[1] / ("traces.parquet" if code != 2 else "none.jsonl")
    until_text = f"{until:%Y-%m-%dT%H:%M:%S}"
    done = llmlab("watch", folder, traces, "--until", until_text, *options)
    assert done.exit_code == code, done.output
    assert all(path.is_file() == (code != 2) for path in texts.values())


def test_an_experiment_without_a_watch_says_what_to_write(folder):
    (folder / "watch.yaml").unlink()
    with pytest.raises(ll.LlmlabError, match="is not there"):
        _ = ll.Experiment.load(folder).watch


def test_what_prometheus_is_told_of_costs_and_drift_does_not_depend_on_how_much_is_known():
    """A cost that nobody recorded is no cost of 0, and a drift that cannot be read keeps the name of its series."""
    unknown = traffic(cost_usd=lambda day, place: float("nan"))
    text = ll.Watch(policy=rules({"metric": "error_rate", "above": 0.01})).report(unknown, now=NOW).to_prometheus()
    assert 'figure="requests"' in text
    assert 'figure="cost_usd"' not in text
    names = set()
    for n in (10, 4000):
        text = ll.Watch(policy=rules(drift=["answer_words"])).report(traffic(n), now=NOW).to_prometheus()
        names.add(next(line.rpartition(" ")[0] for line in text.splitlines() if 'metric="answer_words drift"' in line))
    assert len(names) == 1


def test_requests_after_the_moment_are_counted():
    traces = traffic()
    n = len(traces.to_frame())
    report = ll.Watch(policy=rules({"metric": "error_rate", "above": 0.01})).report(traces, now=START)
    assert f"{n:,} requests dated {START:%Y-%m-%d %H:%M} UTC or later were not read" in " ".join(report.notes)


def test_what_a_watch_asks_reads_as_words():
    assert rules({"metric": "served_model", "changed": True}).watched[0].limit == "changed"
    note = ll.Watch(policy=rules({"metric": "error_rate", "above": 0.01})).report(
        traffic(), now=NOW + timedelta(days=9)
    )
    assert str(note).endswith("does the service still record?")
