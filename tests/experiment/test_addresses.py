"""Where an experiment's models are reached, and that a folder from a colleague sends no key elsewhere."""

import pytest

import llmlab as ll
from llmlab.base.errors import FileRuleError
from llmlab.bundle import ModelRef
from llmlab.experiment import Addresses
from tests.made_results import capitals, experiment_folder

MODEL = ModelRef.parse("openai/gpt-4o-2024-08-06")


def written(path, *entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("endpoints:\n" + "".join(f"  {entry}\n" for entry in entries))
    return path


def entry(address, key_env="null", name="openai"):
    return f"{name}: {{base_url: '{address}', key_env: {key_env}}}"


def test_the_environments_file_is_asked_first_then_the_folders_then_the_projects(project, monkeypatch):
    """And a provider that none of them names is at its public address."""
    folder = project / "experiments" / "mine"
    folder.mkdir(parents=True)
    assert Addresses.of(folder).endpoint_for(MODEL).base_url == "https://api.openai.com/v1"
    for path, host in (("endpoints.yaml", "project"), ("mine/endpoints.yaml", "folder")):
        written(project / "experiments" / path, entry(f"http://{host}/v1"))
        assert Addresses.of(folder).endpoint_for(MODEL).base_url == f"http://{host}/v1"
    monkeypatch.setenv("LLMLAB_ENDPOINTS", str(written(project / "ci.yaml", entry("http://ci/v1"))))
    assert Addresses.of(folder).endpoint_for(MODEL).base_url == "http://ci/v1"


@pytest.mark.parametrize(
    ("address", "key_env", "allowed"),
    [
        ("https://api.openai.com/v1", "OPENAI_API_KEY", True),
        ("https://mine.openai.azure.com", "AZURE_OPENAI_API_KEY", True),
        ("http://elsewhere/v1", "null", True),
        ("http://elsewhere/v1", "KEY_OF_OUR_TEAM", True),
        ("http://api.openai.com/v1", "OPENAI_API_KEY", False),
        ("https://api.openai.com.elsewhere/v1", "OPENAI_API_KEY", False),
        ("https://api.openai.com:8443/v1", "OPENAI_API_KEY", False),
        ("https://api.mistral.ai/v1", "OPENAI_API_KEY", False),
        ("https://elsewhere/.openai.azure.com", "AZURE_OPENAI_API_KEY", False),
        ("https://elsewhere/v1", "GITHUB_TOKEN", False),
        ("https://elsewhere/v1", "AWS_SECRET_ACCESS_KEY", False),
    ],
)
def test_a_folder_sends_a_well_known_key_to_its_provider_alone(project, address, key_env, allowed):
    """Whatever the folder says; no key at all, or one that nobody has by accident, goes where it says."""
    written(project / "mine" / "endpoints.yaml", entry(address, key_env))
    if allowed:
        assert Addresses.of(project / "mine").endpoint_for(MODEL).base_url == address
        return
    with pytest.raises(FileRuleError, match=key_env) as refused:
        Addresses.of(project / "mine").endpoint_for(MODEL)
    assert "experiments/endpoints.yaml" in refused.value.rule
    line = refused.value.rule.rpartition(': "')[2]
    written(project / "experiments" / "endpoints.yaml", f'"{line}')
    assert Addresses.of(project / "mine").endpoint_for(MODEL).base_url == address


TURNS = "[{base_url: 'https://api.openai.com/v1'}, {base_url: 'https://elsewhere/v1'}]"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ("base_url: 'http://elsewhere/v1', key_env: null, headers: {X-Any: GITHUB_TOKEN}", "GITHUB_TOKEN"),
        (f"key_env: OPENAI_API_KEY, in_turn: {TURNS}", "elsewhere"),
    ],
    ids=["a further header", "the second of two accesses"],
)
def test_there_is_no_way_around(project, fields, named):
    """No well-known key goes elsewhere in a header field, or to an address that takes turns."""
    written(project / "mine" / "endpoints.yaml", f"openai: {{{fields}}}")
    with pytest.raises(FileRuleError, match=named):
        Addresses.of(project / "mine").endpoint_for(MODEL)


@pytest.mark.parametrize(
    ("model", "key_env"),
    [("openai/x", "OPENAI_API_KEY"), ("vllm/x", "OPENAI_API_KEY"), ("anthropic/x", "ANTHROPIC_API_KEY")],
)
def test_an_address_given_by_hand_gets_the_key_of_its_wire(project, model, key_env):
    """Whoever types an address means it."""
    found = Addresses.of(project, base_url="http://127.0.0.1:9/v1").endpoint_for(ModelRef.parse(model))
    assert (found.base_url, found.key_env) == ("http://127.0.0.1:9/v1", key_env)


@pytest.mark.parametrize("address", ["localhost:11434/v1", "http://me:pass@a/v1"])
def test_an_address_given_by_hand_that_is_none_is_told_by_its_rule(project, address):
    """As found: five lines of pydantic, with a link to its pages."""
    with pytest.raises(ValueError, match=r"^base_url: base_url (must be an http|of a must hold no)") as told:
        Addresses.of(project, base_url=address).endpoint_for(MODEL)
    assert "pydantic" not in str(told.value)


def test_an_address_given_by_hand_takes_the_entry_that_names_it(project):
    """Its key, its prices and its limits."""
    written(project / "experiments" / "endpoints.yaml", entry("http://gateway/v1", "KEY_OF_OUR_TEAM"))
    found = Addresses.of(project / "mine", base_url="http://gateway/v1/").endpoint_for(MODEL)
    assert found.key_env == "KEY_OF_OUR_TEAM"


def test_a_refused_key_costs_nothing(project, monkeypatch):
    """The run is refused before its first call."""
    bundle = ll.Bundle.from_prompt("{{ question }}", model=MODEL)
    folder = experiment_folder(project / "mine", {"v1": bundle}, capitals(1))
    written(folder / "endpoints.yaml", entry("http://elsewhere/v1", "OPENAI_API_KEY"))
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key-for-the-test")
    for ask in (ll.Experiment.load(folder).dry_run, ll.Experiment.load(folder).run):
        with pytest.raises(FileRuleError, match="OPENAI_API_KEY"):
            ask()
