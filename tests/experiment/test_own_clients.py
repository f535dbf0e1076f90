"""A model that no address reaches: `clients.py` of the folder answers for its provider, wherever the folder is used."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.base.errors import FileRuleError
from llmlab.cli import main
from llmlab.clients.endpoints import client_for
from llmlab.notebook import run_notebook
from tests.made_results import capitals, experiment_folder

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
OWN = """
import llmlab as ll

class Acme:
    fingerprint = "acme 1"

    async def complete(self, request):
        known = "Name" in request.messages[0]["content"]
        city = request.messages[-1]["content"].removeprefix("Capital ").removesuffix("?")
        text = f"It is city {city}." if known or int(city) % 2 else "I have no idea."
        return ll.Generation(text=text, usage=ll.Usage(input_tokens=9, output_tokens=5), latency_s=0.01)

acme = Acme()
print("clients.py runs")
"""


@pytest.fixture
def folder(project):
    """Two prompts for a model of a provider that nobody else knows."""
    v1 = ll.Bundle.from_prompt(
        "{{ question }}", model="acme/big-1", name="capitals", system="Answer.", temperature=0.0, max_tokens=50
    )
    bundles = {"v1": v1, "v2": v1.with_(system="Name the facts.")}
    made = experiment_folder(project / "experiments" / "capitals", bundles, capitals(40))
    (made / "clients.py").write_text(OWN)
    return made


def test_it_answers_for_its_provider_and_runs_when_a_model_is_asked(folder, capsys):
    exp = ll.Experiment.load(folder)
    assert exp.bundles
    assert exp.golden
    assert "runs" not in capsys.readouterr().out
    results = exp.run(progress=False)
    assert capsys.readouterr().out.count("clients.py runs") == 1
    assert results.frame.groupby("variant")["mentions_expected"].mean().to_dict() == {"v1": 0.5, "v2": 1.0}
    assert dict(results.provenance.endpoints) == {"v1": "acme 1", "v2": "acme 1"}
    again = ll.Experiment.load(folder).run(progress=False)
    assert again.frame["cached"].all()
    assert again.digest == results.digest


def test_other_providers_are_reached_as_ever_and_an_address_given_by_hand_is_asked_instead(folder):
    reached = ll.Experiment.load(folder).endpoints
    assert client_for(ll.ModelRef.parse("openai/gpt-4o"), reached).fingerprint == "https://api.openai.com/v1"
    by_hand = ll.Experiment.load(folder, base_url="http://127.0.0.1:9/v1").endpoints
    assert client_for(ll.ModelRef.parse("acme/big-1"), by_hand).fingerprint == "http://127.0.0.1:9/v1"


def test_a_changed_file_is_another_client(folder):
    """Its fingerprint is in the call key, so that nothing is replayed of the one before."""
    ll.Experiment.load(folder).run(progress=False)
    (folder / "clients.py").write_text(OWN.replace("acme 1", "acme 2"))
    assert not ll.Experiment.load(folder).run(progress=False).frame["cached"].any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "makes no client"),
        (OWN.replace("acme = Acme()", "acme = Acme"), "makes no client"),
        (OWN.replace("acme = Acme()", "offline = Acme()"), "llmlab's own"),
        (OWN.replace('fingerprint = "acme 1"', "fingerprint = property(lambda self: {}[0])"), "fingerprint"),
        ("import sys; sys.exit()", "SystemExit"),  # a gate that ends so must not be green
    ],
)
def test_a_file_that_makes_none_is_refused_with_its_name(folder, text, said):
    (folder / "clients.py").write_text(text)
    with pytest.raises(FileRuleError, match=said) as refused:
        ll.Experiment.load(folder).dry_run()
    assert refused.value.path.name == "clients.py"


def test_threads_that_come_at_once_get_the_whole_file(folder):
    (folder / "clients.py").write_text(f"import time; time.sleep(0.2)\n{OWN}")
    reached = ll.Experiment.load(folder).endpoints
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: client_for(ll.ModelRef.parse("acme/big-1"), reached), range(4)))
    assert len({id(client) for client in found}) == 1


def test_a_provider_with_a_hyphen_is_a_variable_with_an_underscore(folder):
    (folder / "clients.py").write_text(OWN.replace("acme = Acme()", "my_co = Acme()"))
    assert client_for(ll.ModelRef.parse("my-co/big-1"), ll.Experiment.load(folder).endpoints).fingerprint == "acme 1"


def test_amounts_in_floats_cost_no_answer(folder):
    """A price and a cost as people write them."""
    priced = OWN.replace("latency_s=0.01)", "cost_usd=0.001)") + "Acme.price_usd = lambda self, model, usage: 0.002\n"
    (folder / "clients.py").write_text(priced)
    exp = ll.Experiment.load(folder)
    assert exp.dry_run().total_cost_usd_at_most == Decimal("0.004")  # priced once for each variant
    assert exp.run(progress=False, budget_usd=1).total("cost_usd") == pytest.approx(0.08)


@pytest.mark.slow
def test_a_notebook_as_a_job_and_a_dry_run_use_it_too(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "experiments/capitals", "--dry-run"])
    assert not ended.value.code, capsys.readouterr()
    done = run_notebook(NOTEBOOKS / "01_compare_variants.ipynb", {"experiment": "experiments/capitals"})
    assert (done.exit_code, done.verdict) == (0, "PASS"), done.message


@pytest.mark.slow
def test_a_watch_of_ones_own_folder_needs_nothing_of_the_demos(folder):
    """Neither its runbooks nor its bundles: what the notebook's cascade asks for and is not there is said."""
    (folder / "watch.yaml").write_text("{}\n")
    rules = (
        "name: r\nbaseline: bundles/v1.yaml\ncandidate: bundles/v2.yaml\nguards: [{metric: error_rate, margin: 0.02}]\n"
    )
    (folder / "rollout.yaml").write_text(f"{rules}enrol: 100%\nplanned_units: 400\n")
    done = run_notebook(NOTEBOOKS / "07_watch_and_grow.ipynb", {"experiment": "experiments/capitals"})
    assert (done.exit_code, done.message) == (0, "")
