"""Assignment: sticky, equal everywhere, half and half, and nobody moves when the share grows."""

import hashlib
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.base.errors import FileRuleError
from llmlab.base.yamlfile import to_yaml
from llmlab.production import Arm
from tests.production.made import START, policy

V1 = ll.Bundle.from_prompt("Answer: {{ question }}", model="openai/gpt-4o-2024-08-06")
V2 = ll.Bundle.from_prompt("Answer briefly: {{ question }}", model="openai/gpt-4o-2024-08-06")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
UNITS = [f"user-{i}" for i in range(20_000)]


def rollout(**changes):
    return ll.Rollout(policy=policy(**changes), baseline=V1, candidate=V2)


def test_a_place_is_read_off_two_halves_of_one_digest():
    """Enrolled by the first 64 bits of sha256("name:unit"), candidate by the next: anybody can compute it."""
    half = rollout(enrol=[{"share": 0.5}])
    for unit in UNITS[:200]:
        bits = hashlib.sha256(f"r1:{unit}".encode()).digest()
        first, second = int.from_bytes(bits[:8]), int.from_bytes(bits[8:16])
        enrolled = first < 2**63
        name, bundle = ("candidate", V2) if enrolled and second < 2**63 else ("baseline", V1)
        assert half.assign(unit) == Arm(name=name, bundle=bundle, enrolled=enrolled, rollout="r1")


def test_nobody_in_an_arm_moves_when_the_share_grows():
    """And the two arms stay equal at every share (within 4 standard errors)."""
    before = {}
    for share in (0.05, 0.1, 0.5, 1.0):
        ramped = rollout(enrol=[{"share": share}])
        arms = {unit: ramped.assign(unit) for unit in UNITS}
        inside = {unit: arm.name for unit, arm in arms.items() if arm.enrolled}
        assert all(inside[unit] == name for unit, name in before.items())
        assert len(inside) == pytest.approx(share * 20_000, abs=4 * (20_000 * share * (1 - share)) ** 0.5)
        candidates = sum(name == "candidate" for name in inside.values())
        assert candidates == pytest.approx(len(inside) / 2, abs=2 * len(inside) ** 0.5)
        before = inside


def test_two_rollouts_do_not_share_their_candidates():
    """The name is the salt: of one rollout's candidates half are another's."""
    one, other = rollout(), rollout(name="r2")
    both = [other.assign(u).name == "candidate" for u in UNITS if one.assign(u).name == "candidate"]
    assert sum(both) / len(both) == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_every_process_says_the_same(tmp_path):
    """Whatever its hash seed and time zone; the share that holds is that of UTC."""
    V1.save(tmp_path / "v1.yaml")
    V2.save(tmp_path / "v2.yaml")
    rules = policy(start="2026-03-02T00:00:00", enrol=[{"share": 0.1, "hours": 24}, {"share": 0.5}])
    (tmp_path / "rollout.yaml").write_text(rules.to_yaml())
    code = (
        "import sys, hashlib; from datetime import datetime, UTC; import llmlab as ll\n"
        "rollout = ll.Rollout.load(sys.argv[1])\n"
        "moments = [datetime(2026, 3, day, hour, tzinfo=UTC) for day, hour in ((2, 23), (3, 1))]\n"
        "arms = [rollout.assign(f'user-é-{i}', now=now) for now in moments for i in range(500)]\n"
        "said = repr([(a.name, a.enrolled) for a in arms]).encode()\n"
        "print(hashlib.sha256(said).hexdigest(), sum(a.enrolled for a in arms))"
    )
    said = set()
    for seed, zone in (("1", "Asia/Kolkata"), ("7", "America/New_York")):
        given = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}
        command = [sys.executable, "-c", code, str(tmp_path / "rollout.yaml")]
        said.add(subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout)
    assert len(said) == 1
    assert 200 < int(said.pop().split()[1]) < 400  # 10% of 500 on the first day and 50% on the second


STEPS = [{"share": 0.1, "hours": 24}, {"share": 0.3, "hours": 24}, {"share": 1.0}]


@pytest.mark.parametrize(
    ("enrol", "start", "shares"),
    [
        (STEPS, START, [0.0, 0.1, 0.1, 0.3, 0.3, 1.0, 1.0]),
        (STEPS, None, [0.1] * 7),
        ([{"share": 0.5, "hours": 24}, {"share": 0.0}], START, [0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]),
        ([{"share": 1.0}], START, [0.0, *[1.0] * 6]),
    ],
)
def test_the_share_grows_by_the_hours_since_the_start(enrol, start, shares):
    """Nobody is enrolled before it, nor after a last 0; without a start the first stays, and the rules say so."""
    ramped = rollout(enrol=enrol, **({"start": start.isoformat()} if start else {}))
    moments = [START + timedelta(hours=hours) for hours in (-5, 1, 23.9, 24, 47, 49, 999)]
    assert [ramped.policy.share_at(moment.timestamp()) for moment in moments] == shares
    for moment, share in zip(moments, shares, strict=True):
        enrolled = sum(ramped.assign(unit, now=moment).enrolled for unit in UNITS[:500])
        assert enrolled / 500 == pytest.approx(share, abs=0.1 * (share % 1 > 0))
    assert ("`start`" in str(ramped.policy)) == (start is None)


@pytest.mark.parametrize("start", [START.isoformat(), None])
def test_a_moment_without_a_time_zone_is_refused(start):
    """Every machine would read its own zone into it, and enrol others."""
    with pytest.raises(ValueError, match=r"no time zone; write datetime\.now\(UTC\)"):
        rollout(start=start, enrol=STEPS).assign("user-1", now=START.replace(tzinfo=None))


def test_testers_and_nobody_are_not_enrolled():
    """A tester always gets the same arm and is never analysed; a request of no unit gets the baseline."""
    tested = rollout(overrides={"candidate": ["tester-1"], "baseline": ["tester-2"]})
    arms = [tested.assign(unit) for unit in ("tester-1", "tester-2", "")]
    assert [(arm.name, arm.enrolled) for arm in arms] == [
        (name, False) for name in ("candidate", "baseline", "baseline")
    ]
    with pytest.raises(TypeError, match="must be a text"):
        tested.assign(7)


def test_in_the_shadow_every_enrolled_request_is_served_the_baseline():
    """The candidate answers it a second time, off the request's path."""
    shadow = rollout(mode="shadow", enrol=[{"share": 0.5}])
    arms = [shadow.assign(unit) for unit in UNITS[:500]]
    assert {arm.bundle for arm in arms} == {V1}
    assert {(arm.enrolled, arm.shadow) for arm in arms} == {(True, V2), (False, None)}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"enrol": [{"share": 0.5, "hours": 2}, {"share": 0.1}]}, "never shrinks"),
        ({"enrol": [{"share": 0.5}, {"share": 1.0}]}, "hours"),
        ({"mode": "split", "enrol": [{"share": 0.5}]}, "enrols everybody"),
        ({"guards": []}, "asks for nothing"),
        ({"guards": [{"metric": "error_rate"}]}, "needs a margin"),
        ({"guards": [{"metric": "latency_s", "quantile": 0.99, "margin": 0.01}]}, "belong together"),
        ({"guards": [{"metric": "error_rate", "margin": 0.01}] * 2}, "named twice"),
        ({"guards": [{"metric": "error_rate", "margin": 0.01, "higher_is_better": True}]}, "belongs to signals"),
        ({"guards": [{"metric": "eror_rate", "margin": 0.01}]}, "error_rate"),
        ({"guards": [{"metric": "laency_s", "margin": 0.01, "quantile": 0.9, "over": "2x"}]}, "latency_s"),
        ({"guards": [{"metric": "error_rate", "margin": 2}]}, "0.02"),
        ({"guards": [{"metric": "latency_s", "margin": 1, "quantile": 0.9, "over": "2x"}]}, "0.02"),
        ({"guards": [{"metric": "latency_s", "margin": 0.1, "quantile": 0.9, "over": "0x"}]}, "2x"),
        ({"guards": [], "goal": {"metric": "error_rate", "rule": "superior", "min_effect": 2}}, "0.02"),
        ({"name": "a:b"}, "pattern"),
        ({"start": "yesterday"}, "ISO 8601"),
        ({"overrides": {"candidate": ["t1", "t2"], "baseline": ["t1"]}}, "one arm"),
        ({"planned_units": 6}, "100"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(tmp_path, changes, rule):
    """With the file, and what to do."""
    given = {"name": "r1", "baseline": "v1.yaml", "candidate": "v2.yaml", "planned_units": 600}
    given["guards"] = [{"metric": "error_rate", "margin": 0.01}]
    path = tmp_path / "rollout.yaml"
    path.write_text(to_yaml({**given, **changes}))
    with pytest.raises(FileRuleError) as refused:
        ll.Rollout.load(path)
    assert rule in refused.value.rule


def test_few_units_are_said_at_load_with_the_weeks_they_need(tmp_path):
    """From `units_a_day`: 150 a day, half enrolled, 6,000 planned."""
    for name, bundle in (("v1", V1), ("v2", V2)):
        bundle.save(tmp_path / f"{name}.yaml")
    (tmp_path / "rollout.yaml").write_text(policy(units_a_day=150, enrol=[{"share": 0.5}]).to_yaml())
    with pytest.warns(UserWarning, match="about 12 weeks"):
        ll.Rollout.load(tmp_path / "rollout.yaml")
    assert policy(units_a_day=6000).forecast.endswith("about 1 week.")


def test_a_candidate_that_is_served_already_is_told_and_still_served(tmp_path):
    """A service that loads the rollout goes on after the promotion that ends it."""
    for name in ("v1", "v2"):
        V2.save(tmp_path / f"{name}.yaml")
    (tmp_path / "rollout.yaml").write_text(policy().to_yaml())
    with pytest.warns(UserWarning, match="serves already"):
        loaded = ll.Rollout.load(tmp_path / "rollout.yaml")
    assert {loaded.assign(unit).bundle.digest for unit in UNITS[:50]} == {V2.digest}


def test_a_baseline_that_is_nowhere_is_told(tmp_path):
    """An alias that the registry does not have wants a file that stands in."""
    V2.save(tmp_path / "v2.yaml")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "rollout.yaml").write_text(policy(baseline="production").to_yaml())
    with pytest.raises(FileRuleError) as refused:
        ll.Rollout.load(tmp_path / "rollout.yaml", root=tmp_path)
    assert "baseline_file" in refused.value.rule
    assert Path(refused.value.path).name == "rollout.yaml"


def test_an_experiment_carries_its_rollout(tmp_path, monkeypatch):
    """Names are relative to its file; where the alias does not exist yet, the file stands in, and no store is made."""
    shutil.copytree(EXPERIMENTS, tmp_path / "experiments")
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    found = ll.Experiment.load("experiments/pandas_help").rollout
    bundles = ll.load_bundles("experiments/pandas_help/bundles")
    assert (found.baseline, found.candidate) == (bundles["v1"], bundles["v2"])
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("enrol", ["20%", 0.2, [{"share": "20%"}]])
def test_a_share_is_written_as_people_write_it(enrol):
    """In percent or not, and without a list where it stays: the same rules."""
    assert policy(enrol=enrol).digest == policy(enrol=[{"share": 0.2}]).digest
