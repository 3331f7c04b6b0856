"""Policies are replaced while the proxy runs; the last good ones stay."""

import pytest

from proxy.errors import PolicyError
from proxy.policy import PolicyStore, load_policies

GOOD = {"default.yaml": "", "rag.yaml": ""}
NEWER = {**GOOD, "rag.yaml": "min_tokens: 7", "routes.yaml": "fallback: rag"}
BAD = {**GOOD, "rag.yaml": "min_tokens: x"}


def test_new_files_are_taken_over():
    store = PolicyStore(load_policies(GOOD))
    store.replace(NEWER)
    assert store.current == load_policies(NEWER)
    assert store.error is None


def test_bad_files_leave_the_last_good_ones_in_force_with_the_error():
    store = PolicyStore(load_policies(GOOD))
    store.replace(BAD)
    assert store.current == load_policies(GOOD)
    assert str(store.error) == ("rag.yaml:1: min_tokens: found 'x', wanted a whole number >= 0")


def test_the_error_goes_when_good_files_come():
    store = PolicyStore(load_policies(GOOD))
    store.replace(BAD)
    store.replace(NEWER)
    assert (store.current, store.error) == (load_policies(NEWER), None)


def test_files_that_cannot_be_read_leave_the_last_good_ones_in_force():
    store = PolicyStore(load_policies(GOOD))
    error = PolicyError("policies: found Permission denied, wanted *.yaml to read")
    store.refuse(error)
    assert (store.current, store.error) == (load_policies(GOOD), error)


def test_the_fallback_given_at_the_start_outlives_reloads():
    store = PolicyStore(load_policies(GOOD), fallback="rag")
    assert store.current.fallback == "rag"
    store.replace({**NEWER, "routes.yaml": "fallback: default"})
    assert store.current.fallback == "rag"


def test_files_without_the_fallback_given_at_the_start_are_bad():
    store = PolicyStore(load_policies(GOOD), fallback="rag")
    store.replace({"default.yaml": ""})
    assert "rag" in store.current.policies
    assert str(store.error) == "fallback policy: found 'rag', wanted default"


def test_policies_that_cannot_be_served_here_are_bad():
    def usable(policies):
        if policies.fallback != "default":
            raise PolicyError("found rag, wanted default")

    store = PolicyStore(load_policies(GOOD))
    store.require(usable)
    store.replace(NEWER)
    assert (store.current, str(store.error)) == (load_policies(GOOD), "found rag, wanted default")
    with pytest.raises(PolicyError, match="found rag, wanted default"):
        PolicyStore(load_policies(NEWER)).require(usable)


def test_an_unknown_fallback_at_the_start_is_refused():
    with pytest.raises(PolicyError, match="did you mean rag"):
        PolicyStore(load_policies(GOOD), fallback="rga")


def test_a_request_keeps_the_policies_it_started_with():
    store = PolicyStore(load_policies(GOOD))
    held = store.current
    store.replace(NEWER)
    assert held == load_policies(GOOD)
