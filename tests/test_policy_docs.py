"""docs/policies.md and the published schema say what the code says."""

import json
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from proxy.compress.methods import METHODS
from proxy.errors import PolicyError
from proxy.policy import (
    Policy,
    PriceSpec,
    Route,
    Routes,
    UpstreamSpec,
    load_policies,
    policy_json_schema,
    shipped_policies,
)
from proxy.policy.explain import keys_table, markdown_table
from proxy.policy.schema import METHOD_NAMES, Method
from proxy.policy.source import read_yaml

ROOT = Path(__file__).parent.parent
DOC = (ROOT / "docs" / "policies.md").read_text()
METHODS_DOC = (ROOT / "docs" / "methods.md").read_text()
VARIANTS = get_args(get_args(Method)[0])


def fences(language):
    return [part.split("```")[0] for part in DOC.split(f"```{language}\n")[1:]]


@pytest.mark.parametrize("model", [Policy, Routes, Route, UpstreamSpec, PriceSpec])
def test_every_key_is_in_the_docs_as_the_code_has_it(model):
    assert keys_table(model) in DOC


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_method_is_in_the_docs_with_its_parameters(variant):
    name = variant.model_fields["name"].annotation.__args__[0]
    section = METHODS_DOC.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert keys_table(variant, spell="method.{}".format) in section


def test_a_method_is_named_by_policies_and_known_to_compression():
    assert tuple(v.model_fields["name"].annotation.__args__[0] for v in VARIANTS) == METHOD_NAMES
    assert set(METHODS) == set(METHOD_NAMES)


def test_no_shipped_policy_rewrites():
    policies = load_policies(shipped_policies()).policies.values()
    assert not [policy.name for policy in policies if policy.method.rewrites]
    rewriting = {"name": "lexical", "letters": True}, {"name": "longllmlingua", "reorder": True}
    for method in rewriting:
        assert Policy.model_validate({"name": "x", "method": method}).method.rewrites


def test_the_example_of_a_policy_that_recovers_does():
    text = (ROOT / "docs" / "recovery.md").read_text().split("```yaml\n")[1].split("```")[0]
    loaded = load_policies({**shipped_policies(), "names.yaml": text})
    assert loaded.policies["names"].recover is True


def test_no_shipped_policy_changes_answers():
    policies = load_policies(shipped_policies()).policies.values()
    assert [policy.name for policy in policies if policy.recover] == []


def test_the_shipped_policies_are_listed_with_their_descriptions():
    shipped = load_policies(shipped_policies()).policies
    rows = [(f"`{name}`", policy.description) for name, policy in sorted(shipped.items())]
    assert markdown_table(("Policy", "What it does"), rows) in DOC


def test_the_example_policy_is_valid():
    (policy, routes, *_) = fences("yaml")
    loaded = load_policies({**shipped_policies(), "contracts.yaml": policy, "routes.yaml": routes})
    assert loaded.policies["contracts"].allow.policy is False
    assert [route.policy for route in loaded.routes] == ["off", "rag", "audit"]


def test_the_example_of_upstreams_is_valid():
    (_, _, routes, _) = fences("yaml")
    loaded = load_policies({**shipped_policies(), "routes.yaml": routes}, keys=["partner-team"])
    assert [route.upstream for route in loaded.routes] == ["local", "azure", "partner"]
    assert set(loaded.upstreams) == {"local", "azure", "partner"}


def test_the_example_of_prices_is_valid():
    (*_, routes) = fences("yaml")
    loaded = load_policies({**shipped_policies(), "routes.yaml": routes})
    assert [(price.upstream, price.input) for price in loaded.prices] == [
        ("local", 0.2),
        ("gateway", None),
        (None, 2.0),
    ]


@pytest.mark.parametrize(
    ("price", "problem"),
    [
        ("{model: x}", "prices[0]: found no price, wanted provider, or input and output"),
        ("{input: 1}", "prices[0]: found no price, wanted provider, or input and output"),
        (
            "{provider: openai, input: 1}",
            "prices[0]: found provider and prices, wanted one of the two",
        ),
        ("{input: -1, output: 1}", "prices[0].input: found -1, wanted a number >= 0"),
        (
            "{since: July, input: 1, output: 1}",
            "prices[0].since: found 'July', wanted a date such as 2026-03-01",
        ),
        ("{inptu: 1, output: 1}", "did you mean input?"),
    ],
)
def test_prices_that_are_wrong_are_told_where_they_stand(price, problem):
    routes = f"fallback: off\nprices:\n  - {price}\n"
    with pytest.raises(PolicyError, match=r"routes\.yaml:3: ") as caught:
        load_policies({**shipped_policies(), "routes.yaml": routes})
    assert problem in str(caught.value)


def test_the_errors_shown_are_the_errors_raised():
    text = "mode: onn\ncomponents:\n  context: {rate: 40}\nmin_tokns: 100\n"
    with pytest.raises(PolicyError) as caught:
        load_policies({**shipped_policies(), "mine.yaml": text})
    assert str(caught.value) in DOC


def test_the_published_schema_is_current():
    published = json.loads((ROOT / "docs" / "policy.schema.json").read_text())
    assert policy_json_schema() == published, "laconic check --schema > docs/policy.schema.json"


def test_the_schema_is_that_of_a_file_which_need_not_repeat_its_name():
    schema = policy_json_schema()
    assert schema["$ref"] == "#/$defs/Policy"
    assert "required" not in schema["$defs"]["Policy"]
    assert schema["$defs"]["Route"]["required"] == ["policy"]
    assert schema["$defs"]["Policy"]["additionalProperties"] is False
    assert set(schema["$defs"]["Policy"]["properties"]) == set(Policy.model_fields)
    assert set(schema["$defs"]["Routes"]["properties"]) == set(Routes.model_fields)


def test_the_models_still_refuse_what_the_schema_refuses():
    with pytest.raises(ValidationError):
        Policy.model_validate({"name": "x", "more": 1})


@pytest.mark.parametrize("file", sorted(shipped_policies()))
def test_a_shipped_file_opens_with_what_it_is_for(file):
    text = shipped_policies()[file]
    assert text.startswith(f"# {file.removesuffix('.yaml')}: ")
    assert read_yaml(file, text).problems == ()


@pytest.mark.parametrize("file", sorted(set(shipped_policies()) - {"routes.yaml"}))
def test_a_shipped_policy_says_what_it_risks(file):
    assert "\n# Risk: " in shipped_policies()[file]
