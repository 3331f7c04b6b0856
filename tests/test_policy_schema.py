"""What policies and routes may say, and the fingerprint of a policy's choices."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.policy import Allow, Policy, Recall, Route, Routes, Tagging, Target
from proxy.types import Component, Kind, Mode


def test_defaults_are_safe():
    policy = Policy(name="x")
    assert policy.mode is Mode.ON
    assert all(
        getattr(policy.components, component).keeps_all
        for component in ("instruction", "context", "question")
    )
    assert policy.protect_kinds == frozenset({Kind.CODE, Kind.DIFF})
    assert policy.respect_breakpoints
    assert policy.recall == Recall(share=0.15)
    assert policy.deadline_s == 2.0


@pytest.mark.parametrize(
    ("target", "keeps_all"),
    [
        (Target(), True), (Target(rate=1), True), (Target(rate=0.99), False),
        (Target(target_tokens=10**9), False), (Target(min_relevance=0), False),
    ],
)  # fmt: skip
def test_a_target_keeps_all_only_where_it_can_drop_nothing(target, keeps_all):
    assert target.keeps_all is keeps_all


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Target, {"rate": 0}), (Target, {"rate": 1.01}), (Target, {"rate": float("nan")}),
        (Target, {"target_tokens": 0}), (Target, {"min_relevance": -0.1}),
        (Target, {"rate": 0.5, "min_relevance": 0.3}), (Recall, {"share": 1.5}),
        (Policy, {"name": ""}), (Policy, {"name": "a b"}), (Policy, {"name": "a\nb"}),
        (Policy, {"name": "x" * 65}), (Policy, {"name": ".x"}), (Policy, {}),
        (Policy, {"name": "x", "deadline_s": float("inf")}),
        (Policy, {"name": "x", "neighbours": 6}), (Policy, {"name": "x", "min_token": 1}),
        (Tagging, {"tags": {"a b": "context"}}), (Tagging, {"tags": {"a": "role"}}),
        (Route, {"policy": "x"}), (Route, {"policy": "x", "path": ""}), (Route, {"path": "*"}),
        (Route, {"policy": "x", "api_key": "sha256:0123456789abcde"}),
        (Route, {"policy": "x", "api_key": "md5:0123456789abcdef"}),
        (Route, {"policy": "x", "header": {"": "*"}}),
        (Route, {"policy": "x", "header": {"X-Api-Key": "*"}}),
        (Routes, {"fallback": "no name"}),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(model, values):
    with pytest.raises(ValidationError):
        model.model_validate(values)


def test_models_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Policy(name="x").mode = Mode.OFF


def test_tags_name_components():
    assert Tagging(tags={"evidence": "context"}).tags == {"evidence": Component.CONTEXT}


def test_route_conditions_are_normalised():
    route = Route(policy="x", header={"X-Team": "A*"}, api_key="SHA256:ABCDEF0123456789")
    assert (route.header, route.api_key) == ({"x-team": "A*"}, "sha256:abcdef0123456789")


def test_a_fingerprint_tells_choices_not_names():
    policy = Policy(name="a", components={"context": {"rate": 0.5}})
    twin = Policy(
        name="b",
        description="The same under another name.",
        holdout=0.05,
        recover=True,
        allow=Allow(rate=False),
        components={"context": {"rate": 0.5}, "question": {}},
    )
    assert policy.fingerprint == twin.fingerprint
    assert len(policy.fingerprint) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"mode": Mode.AUDIT},
        {"method": {"name": "llmlingua"}},
        {"min_tokens": 201},
        {"protect_kinds": frozenset()},
        {"tool_results": {"only": True}},
        {"titles": False},
        {"neighbours": 1},
        {"recall": Recall(share=0)},
        {"whole_text": "sure"},
        {"flat_relevance": "spread"},
        {"overview_rate": 0.6},
        {"cache_floor_tokens": 1024},
        {"respect_breakpoints": False},
        {"deadline_s": 1.0},
        {"tagging": Tagging(leading_pairs=True)},
        {"components": {"context": {"rate": 0.5}}},
        {"components": {"question": {"rate": 0.5}}},
    ],
)
def test_every_choice_changes_the_fingerprint(change):
    base = Policy(name="x")
    changed = Policy.model_validate({"name": "x", **change})
    assert changed.fingerprint != base.fingerprint
    assert base.model_copy(update={k: getattr(changed, k) for k in change}).fingerprint == (
        changed.fingerprint
    )


def test_naming_what_is_the_default_anyway_changes_nothing():
    for named in ({"method": {"name": "cascade"}}, {"tool_results": {"only": False}}):
        assert Policy(name="x", **named).fingerprint == Policy(name="x").fingerprint


def test_a_target_by_relevance_is_the_cascades_alone():
    with pytest.raises(ValidationError, match="min_relevance under method llmlingua"):
        Policy(
            name="x",
            method={"name": "llmlingua"},
            components={"context": {"min_relevance": 0.5}},
        )


def test_the_list_of_choices_above_is_complete():
    choices = test_every_choice_changes_the_fingerprint.pytestmark[0].args[1]
    assert {key for change in choices for key in change} == set(Policy.model_fields) - {
        "name",
        "description",
        "holdout",
        "recover",
        "allow",
    }


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.AUDIT])
def test_nobody_is_held_out_where_nobody_is_compressed(mode):
    with pytest.raises(ValidationError, match=f"found holdout under mode {mode}, wanted mode on"):
        Policy(name="x", mode=mode, holdout=0.05)


def test_a_fingerprint_is_the_same_in_every_process():
    code = (
        "from proxy.policy import Policy; from proxy.types import Kind; "
        "print(Policy(name='x', protect_kinds=frozenset(Kind)).fingerprint)"
    )
    printed = {
        subprocess.run(  # noqa: S603 - our own interpreter and text
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert printed == {Policy(name="x", protect_kinds=frozenset(Kind)).fingerprint}


@given(st.permutations(["a", "b", "c"]), st.permutations(list(Kind)))
def test_a_fingerprint_ignores_the_order_things_were_written_in(tags, kinds):
    def policy(tags, kinds):
        return Policy(
            name="x", tagging={"tags": dict.fromkeys(tags, "context")}, protect_kinds=kinds
        )

    assert policy(tags, kinds).fingerprint == policy("abc", list(Kind)).fingerprint
