"""Cases that are not ours go from a CSV file to a promoted bundle, through the notebooks as they are.

Whatever somebody writes for their case lies in its folder: nothing else is edited.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.notebook import run_notebook
from tests.cli.calling import llmlab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CASES = 40
BETTER = "Be exact."
TEAMS = ("billing", "shipping", "returns", "other")


def extraction(i):
    """Invoices to JSON on an OpenAI-like endpoint; half of the plain prompt's totals are wrong."""
    text, right = f"Invoice {i:03d} of Acme, {i} EUR.", {"number": f"{i:03d}", "total": i}
    row = {"text": text, "expected": json.dumps(right)}
    return row, text, json.dumps(right), json.dumps({**right, "total": i + 1})


def assistance(i):
    """A help desk on an Anthropic-like endpoint, with a scorer of its own beside a shipped one."""
    question, fact = f"How long does refund {i:03d} take?", f"{i + 2} days"
    row = {"question": question, "expected": fact, "topic": f"t{i % 20}"}
    return row, question, f"It takes {fact}.", "It takes some days."


def classification(i):
    """Tickets into teams by a reasoning model, whose thought names other teams than its answer."""
    ticket, team, other = f"Ticket {i:03d}: please help.", TEAMS[i % len(TEAMS)], TEAMS[(i + 1) % len(TEAMS)]
    thought = "<think>billing or shipping or returns?</think>\n"
    return {"question": ticket, "expected": team}, ticket, f"{thought}{team}", f"{thought}{other}"


OWN_SCORER = """
import llmlab as ll

@ll.scorer
def says_it_once(case, generation):
    return generation.text.count("days") <= 1
"""
THEIRS = {
    "invoices": (extraction, "openai/gpt-4o-2024-08-06", ""),
    "helpdesk": (assistance, "anthropic/claude-haiku-4-5-20251001", OWN_SCORER),
    "tickets": (classification, "openai/o3-2025-04-16", ""),
}


def outside(project, folder):
    """Digests of the files that somebody could have edited outside of their folder."""
    files = [*NOTEBOOKS.glob("*.ipynb"), *(path for path in project.rglob("*") if path.is_file())]
    ours = (path for path in files if not path.is_relative_to(folder) and not path.is_relative_to(project / "mlruns"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in ours}


@pytest.mark.parametrize("name", THEIRS)
def test_a_case_of_ones_own_goes_from_a_csv_file_to_a_promoted_bundle(project, loopback, name):
    """`llmlab new`, edits in the folder, notebooks 01, 02 and 05: the better prompt is in production."""
    make, model, scorers = THEIRS[name]
    rows, answers = [], []
    for i in range(CASES):
        row, question, right, wrong = make(i)
        rows.append(row)
        answers += [[[BETTER, question], right], [[question], right if i % 2 else wrong]]
    loopback.set(answers=answers)
    with (project / "theirs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    provider, _, model_id = model.partition("/")
    address = loopback.origin if provider == "anthropic" else loopback.base_url
    asked = ["--base-url", address, "--provider", provider, "--model", model_id]
    made = llmlab("new", name, "--csv", "theirs.csv", *asked)
    assert made.exit_code == 0, made.output
    folder = project / "experiments" / name
    before = outside(project, folder)

    for file, system in {"v1": "Answer.", "v2": BETTER}.items():  # all that somebody edits for their case
        bundle = ll.Bundle.load(folder / "bundles" / f"{file}.yaml")
        (folder / "bundles" / f"{file}.yaml").unlink()
        bundle.with_(system=system).save(folder / "bundles" / f"{file}.yaml")
    if scorers:
        (folder / "scorers.py").write_text(scorers)

    for notebook in ("01_compare_variants", "02_ab_significance"):
        done = run_notebook(NOTEBOOKS / f"{notebook}.ipynb", {"experiment": f"experiments/{name}"})
        assert (done.exit_code, done.verdict) == (0, "PASS"), done.message
    release = {"experiment": f"experiments/{name}", "promote": "true"}
    done = run_notebook(NOTEBOOKS / "05_gate_and_promote.ipynb", release)
    assert (done.exit_code, done.verdict) == (0, "PASS"), done.message
    served = ll.registry.load(f"{name}@production", require_receipt=True)
    assert served.bundle.digest == ll.Experiment.load(folder).bundles["v2"].digest
    assert outside(project, folder) == before
