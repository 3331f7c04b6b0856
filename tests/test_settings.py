"""Settings: where they come from, what is refused, and how the upstream's address is joined."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CallerError, PolicyError
from proxy.policy.explain import markdown_table
from proxy.settings import (
    LogFormat,
    LogLevel,
    Settings,
    default_ledger_path,
    load_settings,
    settings_table,
    upstream_url,
)

DOC = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()

CHAT = "/chat/completions"
JOINS = [  # also the table in docs/settings.md
    ("https://api.openai.com/v1", f"/v1{CHAT}", f"https://api.openai.com/v1{CHAT}"),
    ("https://api.openai.com", f"/v1{CHAT}", f"https://api.openai.com/v1{CHAT}"),
    ("https://api.openai.com/v1", CHAT, f"https://api.openai.com/v1{CHAT}"),
    (
        "https://x.openai.azure.com",
        f"/openai/deployments/d{CHAT}?api-version=1",
        f"https://x.openai.azure.com/openai/deployments/d{CHAT}?api-version=1",
    ),
    (
        "https://x.openai.azure.com/openai",
        f"/openai/deployments/d{CHAT}",
        f"https://x.openai.azure.com/openai/deployments/d{CHAT}",
    ),
    (
        "https://x.openai.azure.com/openai/v1",
        "/openai/deployments/d/embeddings",
        "https://x.openai.azure.com/openai/deployments/d/embeddings",
    ),
    (
        "https://x.openai.azure.com",
        "/openai/v1/responses",
        "https://x.openai.azure.com/openai/v1/responses",
    ),
    (
        "https://x.openai.azure.com/openai/v1",
        "/openai/v1/responses",
        "https://x.openai.azure.com/openai/v1/responses",
    ),
    (
        "https://x.openai.azure.com/openai/v1",
        "/v1/responses",
        "https://x.openai.azure.com/openai/v1/responses",
    ),
    ("https://h/openai", "/v1/responses", "https://h/openai/v1/responses"),
    ("https://gw/x/openai/v1", "/v1/responses", "https://gw/x/openai/v1/responses"),
    ("https://gw/x/openai/v1", "/responses", "https://gw/x/openai/v1/responses"),
    ("https://gw/x/openai/v1", "/openai/v1/responses", "https://gw/x/openai/v1/responses"),
    ("https://gw/x/openai/v1", "/x/openai/v1/responses", "https://gw/x/openai/v1/responses"),
    ("https://gw/api/v1", "/v1/models", "https://gw/api/v1/models"),
    ("https://gw/api/v1", "/models", "https://gw/api/v1/models"),
    ("https://gw/v1beta/openai", CHAT, f"https://gw/v1beta/openai{CHAT}"),
    ("https://gw/chat", CHAT, f"https://gw/chat{CHAT}"),
]


NOT_SHOWN = "found a value that is not shown"
A_DIGEST = "sha256: and 64 hex digits, as `laconic keys` prints them"


def problems(arguments=None, environ=None):
    with pytest.raises(PolicyError) as caught:
        load_settings(arguments, environ)
    return str(caught.value).splitlines()


def test_defaults():
    assert load_settings() == Settings(
        upstream="https://api.openai.com/v1",
        host="127.0.0.1",
        port=8790,
        policies=None,
        policy=None,
        ledger_path=Path(".laconic/ledger.sqlite3"),
        log_level=LogLevel.INFO,
        log_format=LogFormat.JSON,
        max_body_bytes=64 * 1024 * 1024,
        max_header_bytes=64 * 1024,
        connect_timeout_s=10.0,
        read_timeout_s=600.0,
        model="embedded",
        threads=None,
        queue_entries=64,
        memo_bytes=128 * 1024 * 1024,
        memo_path=Path(".laconic/memo.sqlite3"),
        memo_disk_bytes=1024 * 1024 * 1024,
    )


def test_arguments_win_over_environment_and_environment_over_defaults():
    environ = {"LACONIC_PORT": "9001", "LACONIC_HOST": "::1", "HOME": "/home/a"}
    settings = load_settings({"port": 9002, "host": None, "policy": "rag"}, environ)
    assert (settings.port, settings.host, settings.policy) == (9002, "::1", "rag")
    assert settings.queue_entries == 64


def test_an_empty_variable_counts_as_not_set():
    assert load_settings(environ={"LACONIC_PORT": "", "LACONIC_POLICIES": ""}) == load_settings()


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


def test_keys_are_names_and_hashes_between_commas_or_blanks():
    one, two = f"sha256:{'1' * 64}", f"sha256:{'AB' * 32}"
    settings = load_settings(environ={"LACONIC_KEYS": f"alice={one}, bob={two}\n"})
    assert settings.keys == {"alice": one, "bob": two.lower()}
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_sizes_may_be_written_with_a_unit():
    settings = load_settings({"max_body_bytes": "8 MiB"}, {"LACONIC_MEMO_BYTES": "0"})
    assert (settings.max_body_bytes, settings.memo_bytes) == (8 * 1024 * 1024, 0)


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("PORT", "abc", "found 'abc', wanted a whole number >= 1 and <= 65535"),
        ("PORT", "0", "found '0', wanted a whole number >= 1 and <= 65535"),
        ("PORT", "65536", "found '65536', wanted a whole number >= 1 and <= 65535"),
        ("HOST", " ", "found ' ', wanted text"),
        (
            "LOG_LEVEL",
            "warn",
            "found 'warn', wanted debug, info, warning or error; did you mean warning?",
        ),
        ("LOG_FORMAT", "xml", "found 'xml', wanted json or console"),
        ("CONNECT_TIMEOUT_S", "nan", "found 'nan', wanted a number > 0"),
        ("READ_TIMEOUT_S", "inf", "found 'inf', wanted a number > 0"),
        ("MAX_BODY_BYTES", "0", "found '0', wanted a number of bytes > 0, or a size such as 64MiB"),
        ("MEMO_BYTES", "-1", "found '-1', wanted a number of bytes, or a size such as 64MiB"),
        ("THREADS", "0", "found '0', wanted a whole number >= 1 and <= 1024"),
        ("QUEUE_ENTRIES", "1.5", "found '1.5', wanted a whole number >= 1"),
        (
            "UPSTREAM_KEY",
            "sk-canary",
            f"{NOT_SHOWN}, wanted env:NAME or file:PATH, the place where the key is found",
        ),
        ("KEYS", "lk-canary", f"{NOT_SHOWN}, wanted {A_DIGEST}"),
        ("KEYS", "a=sha256:0123456789abcdef", f"{NOT_SHOWN}, wanted {A_DIGEST}"),
        (
            "KEYS",
            "lk/canary",
            (
                f"{NOT_SHOWN}, wanted name=sha256:... for each key, as `laconic keys new` prints "
                "them"
            ),
        ),
        ("KEYS", "a=x a=y", "found a name twice, wanted each key under a name of its own"),
        (
            "POLICY",
            "a b",
            "found 'a b', wanted up to 64 letters, digits, dots, dashes and underscores",
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_was_wanted(variable, value, text):
    assert problems(environ={f"LACONIC_{variable}": value}) == [f"LACONIC_{variable}: {text}"]


def test_all_problems_are_told_at_once_each_by_the_name_it_was_given_under():
    environ = {"LACONIC_PROT": "1", "LACONIC_THREADS": "x", "LACONIC_PORT": "y"}
    unknown, port, threads = problems({"port": 70000}, environ)
    assert unknown.startswith("LACONIC_PROT: found an unknown variable, wanted one of LACONIC_UP")
    assert unknown.endswith("; did you mean LACONIC_PORT?")
    assert port == "--port: found 70000, wanted a whole number >= 1 and <= 65535"
    assert threads == "LACONIC_THREADS: found 'x', wanted a whole number >= 1 and <= 1024"


def test_an_unknown_argument_is_refused():
    (problem,) = problems({"log_levle": "info"})
    assert problem.startswith(
        "--log-levle: found an unknown key, wanted one of upstream, upstream_"
    )
    assert problem.endswith("; did you mean log_level?")


def test_variables_that_are_not_ours_are_passed_over():
    environ = {
        "PATH": "/bin",
        "LACONIC_DATA": "/data",
        "LACONIC_PEERS": "/peers",
        "LACONIC_SERVICE_HOST": "10.0.0.1",
        "LACONIC_SERVICE_PORT": "8790",
        "LACONIC_SERVICE_PORT_HTTP": "8790",
        "LACONIC_PORT": "tcp://10.0.0.1:8790",
        "LACONIC_PORT_8790_TCP": "tcp://10.0.0.1:8790",
        "LACONIC_PORT_8790_TCP_ADDR": "10.0.0.1",
        "LACONIC_PROXY_SERVICE_HOST": "10.0.0.1",
        "LACONIC_PROXY_PORT": "tcp://10.0.0.1:8790",
    }
    assert load_settings(environ=environ) == load_settings()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/a"}, "/state/laconic/ledger.sqlite3"),
        ({"HOME": "/home/a"}, "/home/a/.local/state/laconic/ledger.sqlite3"),
        ({"USERPROFILE": "/users/a"}, "/users/a/.local/state/laconic/ledger.sqlite3"),
        ({}, ".laconic/ledger.sqlite3"),
    ],
)
def test_the_ledger_is_kept_per_user(environ, expected):
    assert default_ledger_path(environ) == Path(expected)
    assert load_settings(environ=environ).ledger_path == Path(expected)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/cache", "HOME": "/home/a"}, "/cache/laconic/memo.sqlite3"),
        ({"HOME": "/home/a"}, "/home/a/.cache/laconic/memo.sqlite3"),
        ({}, ".laconic/memo.sqlite3"),
        ({"LACONIC_MEMO_PATH": "~/m", "HOME": "/home/a"}, "/home/a/m"),
    ],
)
def test_the_memo_is_kept_per_user(environ, expected):
    assert load_settings(environ=environ).memo_path == Path(expected)


def test_the_memos_file_can_be_turned_off():
    assert load_settings(environ={"LACONIC_MEMO_PATH": "none"}).memo_path is None


def test_the_ledger_file_can_be_left_out():
    assert load_settings(environ={"LACONIC_LEDGER_PATH": "none"}).ledger_path is None
    assert load_settings({"ledger_path": "none"}).ledger_path is None


def test_a_leading_tilde_is_the_home_directory():
    environ = {"HOME": "/home/a", "LACONIC_POLICIES": "~/policies", "LACONIC_LEDGER_PATH": "a~/b"}
    settings = load_settings(environ=environ)
    assert (settings.policies, settings.ledger_path) == (Path("/home/a/policies"), Path("a~/b"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("HTTP://127.0.0.1:9999/v1/", "http://127.0.0.1:9999/v1"),
        ("https://[::1]:8000", "https://[::1]:8000"),
        ("https://h/a%20b//", "https://h/a%20b"),
    ],
)
def test_the_upstream_is_normalised(given, kept):
    assert load_settings({"upstream": given}).upstream == kept


@pytest.mark.parametrize(
    "upstream",
    [
        "", "api.openai.com", "ftp://h", "https://", "https:///v1", "https://u:canary@h/v1",
        "https://canary@h", "https://h/v1?key=canary", "https://h?", "https://h/v1#canary",
        "https://h:99999", "https://h:0", "https://h:x", "https://[::1", "https://h/a b",
        "https://h\n/v1", "https://h\\canary", "https://hö/v1", "//h/v1", 7,
    ],
)  # fmt: skip
def test_a_wrong_upstream_is_refused_and_not_repeated(upstream):
    wanted = "an http or https URL without user, query and fragment, such as https://host/v1"
    told = f"--upstream: found a value that is not shown, wanted {wanted}"
    assert problems({"upstream": upstream}) == [told]


@pytest.mark.parametrize(("upstream", "path", "joined"), JOINS)
def test_the_callers_path_is_joined_to_the_upstream(upstream, path, joined):
    assert upstream_url(upstream, path) == joined


@pytest.mark.parametrize(
    "path",
    ["/v1/a%2Fb//c?x=%20&y=+", "/v1", "/v1?x", "/v1/", "/v1/files/..%2f", "/v1/?", "/v1//evil/"],
)
def test_path_and_query_stay_as_sent(path):
    assert upstream_url("https://h/v1", path) == f"https://h{path}"


@pytest.mark.parametrize("path", ["/v10/x", "/v1beta/x", "/openaix", "/"])
def test_only_whole_segments_count(path):
    assert upstream_url("https://h/openai/v1", path) == f"https://h/openai/v1{path}"


@pytest.mark.parametrize("path", ["", "*", "@evil/x", ":80@evil/", "http://evil/x", ".evil/x"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(CallerError) as caught:
        upstream_url("https://h", path)
    assert caught.value.status == 400


@given(
    base=st.sampled_from(["", "/v1", "/openai", "/openai/v1", "/x", "/x/v1", "/x/openai/v1"]),
    tail=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#")),
)
def test_no_path_chooses_another_host_or_loses_a_character(base, tail):
    joined = upstream_url(f"https://host:1{base}", f"/{tail}")
    assert urlsplit(joined)[:2] == ("https", "host:1")
    assert joined.endswith(f"/{tail}")


def test_every_setting_is_in_the_docs_as_the_code_has_it():
    assert settings_table() in DOC
    for field in Settings.model_fields:
        assert f"`LACONIC_{field.upper()}`" in DOC


def test_the_errors_and_addresses_shown_are_real():
    assert "\n".join(problems({}, {"LACONIC_PORT": "abc", "LACONIC_LOG_LEVEL": "warn"})) in DOC
    rows = [tuple(f"`{cell}`" for cell in row) for row in JOINS]
    assert markdown_table(("Upstream", "Request", "Goes to"), rows) in DOC
