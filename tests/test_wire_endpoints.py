import pytest

from proxy.wire.endpoints import CHAT, COMPLETIONS, RESPONSES, endpoint_for, endpoint_of


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/chat/completions", CHAT),
        ("/chat/completions", CHAT),
        ("/openai/deployments/d/chat/completions", CHAT),
        ("/openai/v1/chat/completions", CHAT),
        ("/api/v1/chat/completions", CHAT),
        ("/v1beta/openai/chat/completions", CHAT),
        ("/v1/responses", RESPONSES),
        ("/responses", RESPONSES),
        ("/openai/responses", RESPONSES),
        ("/openai/v1/responses", RESPONSES),
        ("/v1/completions", COMPLETIONS),
        ("/openai/deployments/d/completions", COMPLETIONS),
        ("/v1/chat/completions/", None),
        ("/v1/chat/completions/chatcmpl-1", None),
        ("/v1/responses/compact", None),
        ("/v1/responses/input_tokens", None),
        ("/v1/responses/resp_1/cancel", None),
        ("/v1/embeddings", None),
        ("/v1/conversations/c/items", None),
        ("/v1/files", None),
        ("/v1/batches", None),
        ("/v1/audio/speech", None),
        ("/v1/images/generations", None),
        ("/v1/realtime/sessions", None),
        ("/", None),
    ],
)
def test_an_endpoint_is_known_by_how_its_path_ends(path, endpoint):
    assert endpoint_of("POST", path) is endpoint


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD", "OPTIONS"])
def test_only_what_is_posted_is_read(method):
    assert endpoint_of(method, "/v1/chat/completions") is None


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        (b'{"messages":[],"prompt":"a"}', CHAT),
        (b'{"model":"m","input":"a"}', RESPONSES),
        (b'{"prompt":{"id":"p"},"input":[]}', RESPONSES),
        (b'{"instructions":"a"}', RESPONSES),
        (b'{"prompt":"a"}', COMPLETIONS),
        (b"{}", CHAT),
        (b"[]", CHAT),
        (b"", CHAT),
        (b"\xff", CHAT),
        (b'{"input":', RESPONSES),
    ],
)
def test_a_body_tells_what_it_is_for(body, endpoint):
    assert endpoint_for(body) is endpoint
