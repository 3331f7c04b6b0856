"""Files become a policy set, or every problem in them at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import PolicyError
from proxy.policy import (
    Policy,
    Route,
    layered,
    load_policies,
    read_policy_dir,
    shipped_policies,
)
from proxy.types import Component, Kind, Mode

NOT_SHOWN = "a value that is not shown"
HASH_WANTED = "sha256: and at least 16 hex digits of the key's SHA-256"
SMALL = {"default.yaml": "", "rag.yaml": "components: {context: {rate: 0.5}}"}


def problems(files):
    with pytest.raises(PolicyError) as caught:
        load_policies({**SMALL, **files})
    return str(caught.value).splitlines()


def test_a_policy_file_says_everything_a_policy_can():
    text = """
name: all
description: Everything.
mode: audit
components:
  instruction: {rate: 1}
  context: {min_relevance: 0.25}
  question: {target_tokens: 50}
min_tokens: 0
protect_kinds: [code, table]
titles: false
neighbours: 2
recall: {share: 0}
whole_text: ignore
flat_relevance: spread
overview_rate: 0.8
cache_floor_tokens: 1024
respect_breakpoints: false
deadline_s: 3
allow: {policy: false, rate: false, bypass: false}
tagging: {leading_pairs: true, tags: {evidence: context}}
"""
    assert load_policies({**SMALL, "file.yaml": text}).policies["all"] == Policy.model_validate(
        {
            "name": "all",
            "description": "Everything.",
            "mode": Mode.AUDIT,
            "components": {
                "instruction": {"rate": 1.0},
                "context": {"min_relevance": 0.25},
                "question": {"target_tokens": 50},
            },
            "min_tokens": 0,
            "protect_kinds": {Kind.CODE, Kind.TABLE},
            "titles": False,
            "neighbours": 2,
            "recall": {"share": 0},
            "whole_text": "ignore",
            "flat_relevance": "spread",
            "overview_rate": 0.8,
            "cache_floor_tokens": 1024,
            "respect_breakpoints": False,
            "deadline_s": 3.0,
            "allow": {"policy": False, "rate": False, "bypass": False},
            "tagging": {"leading_pairs": True, "tags": {"evidence": Component.CONTEXT}},
        }
    )


def test_a_policy_is_called_what_its_file_is_called():
    assert load_policies(SMALL).policies == {
        "default": Policy(name="default"),
        "rag": Policy(name="rag", components={"context": {"rate": 0.5}}),
    }


def test_routes_are_read_in_order():
    text = """
fallback: rag
routes:
  - {name: one, path: /v1/*, model: "*mini", policy: default}
  - {header: {X-Team: a*}, api_key: "sha256:00112233445566AA", policy: rag}
"""
    loaded = load_policies({**SMALL, "routes.yaml": text})
    assert loaded.fallback == "rag"
    assert loaded.routes == (
        Route(name="one", path="/v1/*", model="*mini", policy="default"),
        Route(header={"x-team": "a*"}, api_key="sha256:00112233445566aa", policy="rag"),
    )


def test_without_routes_everything_falls_back_to_default():
    loaded = load_policies(SMALL)
    assert (loaded.routes, loaded.fallback) == ((), "default")


def test_the_fallback_can_be_overridden():
    assert load_policies(SMALL, fallback="rag").fallback == "rag"
    with pytest.raises(PolicyError) as caught:
        load_policies(SMALL, fallback="rga")
    assert str(caught.value) == (
        "fallback policy: found 'rga', wanted default or rag; did you mean rag?"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mode: onn", "1: mode: found 'onn', wanted on, off or audit; did you mean on?"),
        ("mode: true", "1: mode: found true, wanted on, off or audit"),
        ("- a", "1: found a list, wanted a mapping"),
        ("word", "1: found 'word', wanted a mapping"),
        ("min_tokens: '5'", "1: min_tokens: found '5', wanted a whole number >= 0"),
        ("min_tokens: 1.5", "1: min_tokens: found 1.5, wanted a whole number >= 0"),
        ("min_tokens: yes", "1: min_tokens: found 'yes', wanted a whole number >= 0"),
        ("titles: 1", "1: titles: found 1, wanted true or false"),
        ("deadline_s: 1e999", "1: deadline_s: found inf, wanted a number > 0"),
        ("allow:\n", "1: allow: found nothing, wanted a mapping"),
        (
            "name: 'x y'",
            "1: name: found 'x y', wanted up to 64 letters, digits, dots, dashes and underscores",
        ),
        (
            "\ncomponents:\n  context:\n    rate: 0.5\n    min_relevance: 0.3\n",
            (
                "3: components.context: found rate and min_relevance, wanted at most one of rate, "
                "target_tokens, min_relevance"
            ),
        ),
        (
            "components:\n  contxt: {rate: 0.5}\n",
            (
                "2: components.contxt: found an unknown key, wanted one of instruction, context, "
                "question; did you mean context?"
            ),
        ),
        (
            "components: {context: {share: 0.5}}",
            (
                "1: components.context.share: found an unknown key, wanted one of rate, "
                "target_tokens, min_relevance; did you mean recall.share?"
            ),
        ),
        (
            "protect_kinds:\n  - code\n  - tables\n",
            (
                "3: protect_kinds[1]: found 'tables', wanted prose, list, table, json, code, "
                "log, diff, search or demo; did you mean table?"
            ),
        ),
        (
            "tagging:\n  tags:\n    doc: contxt\n",
            (
                "3: tagging.tags.doc: found 'contxt', wanted instruction, context or question; "
                "did you mean context?"
            ),
        ),
        (
            f"description: [{'x' * 99}]",
            "1: description: found a list, wanted text",
        ),
        (
            f"mode: {'x' * 99}",
            f"1: mode: found '{'x' * 56}..., wanted on, off or audit",
        ),
    ],
)
def test_a_wrong_value_is_told_with_place_found_and_wanted(text, told):
    assert problems({"my.yaml": text}) == [f"my.yaml:{told}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "fallback: rga",
            "1: fallback: found 'rga', wanted default or rag; did you mean rag?",
        ),
        (
            "routes:\n- {policy: defualt, model: m}",
            "2: routes[0].policy: found 'defualt', wanted default or rag; did you mean default?",
        ),
        (
            "routes:\n- {policy: rag}",
            (
                "2: routes[0]: found no condition, wanted path, model, header, api_key or key "
                "(the policy for everything else is `fallback`)"
            ),
        ),
        (
            "routes:\n- {policy: rag, path: a, name: n}\n- {policy: rag, path: b, name: n}",
            "3: routes[1].name: found 'n' a second time, wanted it once",
        ),
        (
            "routes:\n- rag\n- {policy: rag, path: a}",
            "2: routes[0]: found 'rag', wanted a mapping",
        ),
        ("routes: {policy: rag}", "1: routes: found a mapping, wanted a list of mappings"),
        (
            "routes:\n- policy: rag\n  api_key: 1234567890123456",
            f"3: routes[0].api_key: found {NOT_SHOWN}, wanted {HASH_WANTED}",
        ),
        (
            "routes:\n- policy: rag\n  api_key: sk-canary",
            f"3: routes[0].api_key: found {NOT_SHOWN}, wanted {HASH_WANTED}",
        ),
        (
            "routes:\n- policy: rag\n  header: {Authorization: Bearer sk-canary}",
            "3: routes[0].header: found Authorization, wanted credentials as a hash under api_key",
        ),
        (
            "routes:\n- policy: rag\n  header: {x-team: 7}",
            "3: routes[0].header.x-team: found 7, wanted text",
        ),
    ],
)
def test_a_wrong_route_is_told_with_place_found_and_wanted(text, told):
    assert problems({"routes.yaml": text}) == [f"routes.yaml:{told}"]


def test_all_problems_of_all_files_are_told_at_once_in_order():
    files = {
        "b.yaml": "mode: on\nmode: off\nneighbours: 9\n",
        "a.yaml": "titles: [",
        "routes.yaml": "fallbck: rag\nroutes:\n- {policy: c, path: x}\n- {polic: rag}\n",
    }
    places = [problem.split(": found")[0] for problem in problems(files)]
    assert places == [
        "a.yaml:1",
        "b.yaml:2: mode",
        "b.yaml:3: neighbours",
        "routes.yaml:1: fallbck",
        "routes.yaml:3: routes[0].policy",
        "routes.yaml:4: routes[1].polic",
        "routes.yaml:4: routes[1].policy",
    ]


def test_a_route_to_a_policy_that_has_a_problem_is_not_a_second_problem():
    files = {"x.yaml": "neighbours: 9", "routes.yaml": "fallback: x"}
    assert len(problems(files)) == 1


def test_two_files_cannot_hold_policies_of_one_name():
    assert problems({"x.yaml": "\nname: rag"}) == [
        "x.yaml:2: name: found 'rag', which rag.yaml has too, wanted a name of its own"
    ]


def test_no_files_at_all_is_a_problem():
    with pytest.raises(PolicyError) as caught:
        load_policies({})
    assert str(caught.value) == ("routes.yaml:1: fallback: found 'default', wanted a policy file")


@given(
    st.dictionaries(
        st.sampled_from(["default.yaml", "rag.yaml", "routes.yaml"]),
        st.text("ab:- \n[]{}*&!#'\"01.", max_size=80)
        | st.lists(
            st.sampled_from(
                ["mode: on", "mode: 3", "routes:", "- policy: rag", "  path: x", "name: a",
                 "fallback: rag", "components:", "  context: {rate: 0.5}", "recall:", "name: rag"]
            ),
            max_size=6,
        ).map("\n".join),
    )
)  # fmt: skip
def test_any_text_loads_or_ends_in_a_policy_error_with_places(files):
    try:
        loaded = load_policies(files)
    except PolicyError as error:
        for line in str(error).splitlines():
            file, number, rest = line.split(":", 2)
            assert (file in files or file == "routes.yaml", number.isdigit()) == (True, True)
            assert "found" in rest
    else:
        assert loaded.fallback in loaded.policies
        assert all(route.policy in loaded.policies for route in loaded.routes)


# Directories


def test_a_directory_is_its_yaml_files(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfdescription: \xc3\xa9")
    (tmp_path / ".#a.yaml").write_text("an editor's lock")
    (tmp_path / "notes.md").write_text("no policy")
    (tmp_path / "more.yaml").mkdir()
    assert read_policy_dir(tmp_path) == {"a.yaml": "description: é"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.yml", b"", "found .yml, wanted the ending .yaml"),
        ("a.yaml", b"\xff", "found bytes that are not UTF-8, wanted UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        read_policy_dir(tmp_path)
    assert str(caught.value) == f"{tmp_path / name}: {told}"


def test_a_directory_that_is_not_there_is_told(tmp_path):
    with pytest.raises(PolicyError) as caught:
        read_policy_dir(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path / 'none'}: found No such file or directory, wanted *.yaml to read"
    )
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_files_of_ones_own_are_laid_over_the_shipped_ones():
    files = layered({"rag.yaml": "min_tokens: 1", "mine.yaml": "", "routes.yaml": "fallback: mine"})
    loaded = load_policies(files)
    assert loaded.policies["rag"] == Policy(name="rag", min_tokens=1)
    assert loaded.policies["mine"] == Policy(name="mine")
    assert loaded.fallback == "mine"
    assert set(loaded.policies) == {*load_policies(shipped_policies()).policies, "mine"}


# The shipped policies


@pytest.fixture(scope="module")
def shipped():
    return load_policies(shipped_policies())


def test_the_shipped_policies_are_all_there(shipped):
    paper = {"llmlingua", "llmlingua2", "longllmlingua", "selective-context", "lexical"}
    own = {"agent", "audit", "chat", "default", "few-shot", "off", "rag"}
    assert set(shipped.policies) == own | paper
    assert (shipped.routes, shipped.fallback) == ((), "default")


def test_no_shipped_policy_cuts_instructions_questions_or_code_that_anyone_wrote(shipped):
    for policy in shipped.policies.values():
        assert policy.components.instruction.keeps_all
        assert policy.components.question.keeps_all
        assert policy.tool_results.only or policy.protect_kinds >= {Kind.CODE, Kind.DIFF}
        assert policy.whole_text != "ignore"


def test_agent_leaves_alone_what_anyone_says_and_short_results(shipped):
    agent = shipped.policies["agent"]
    assert agent.tool_results.only
    assert agent.tool_results.min_tokens > 0
    assert agent.protect_kinds == frozenset()


def test_default_is_threshold_based_and_safe(shipped):
    policy = shipped.policies["default"]
    assert policy.components.context.min_relevance is not None
    assert (policy.whole_text, policy.flat_relevance) == ("safe", "pass")


def test_audit_measures_exactly_what_default_does(shipped):
    audit, default = shipped.policies["audit"], shipped.policies["default"]
    assert audit.model_copy(update={"mode": Mode.ON}).fingerprint == default.fingerprint
    assert audit.mode is Mode.AUDIT


def test_off_is_off(shipped):
    assert shipped.policies["off"].mode is Mode.OFF


def test_every_shipped_policy_has_a_description(shipped):
    assert all(policy.description for policy in shipped.policies.values())


def test_the_commented_routes_are_an_example_that_works():
    text = (Path(__file__).parent.parent / "policies" / "routes.yaml").read_text()
    lines = text.splitlines()
    example = "\n".join(line[2:] for line in lines[lines.index("# routes:") :] if line[0] == "#")
    assert [r.policy for r in load_policies(layered({"routes.yaml": example})).routes] == [
        "off", "rag", "audit", "rag",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("llmlingua", "mine.yaml:1: method: found 'llmlingua', wanted a mapping with `name`"),
        ("{name: llmlinga}", "mine.yaml:1: method: found 'llmlinga', wanted a mapping with"),
        ("{name: llmlinga}", "; did you mean llmlingua?"),
        ("{}", "mine.yaml:1: method: found a mapping, wanted a mapping with `name`"),
        ("{name: llmlingua, k: x}", "mine.yaml:1: method.k: found 'x', wanted a number >= 1"),
        (
            "{name: lexical, k: 1}",
            "mine.yaml:1: method.k: found an unknown key",
        ),
    ],
)
def test_a_wrong_method_is_told_where_it_stands(method, said):
    with pytest.raises(PolicyError) as caught:
        load_policies({**shipped_policies(), "mine.yaml": f"method: {method}\n"})
    assert said in str(caught.value)
