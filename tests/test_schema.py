"""Every request of ``make test-schema`` that ever came out wrong, and some of each sort."""

import pytest
from schemas import FOUND, Asked, Comparison
from servers import JSON

WRITTEN = [
    Asked(
        "POST",
        "/v1/chat/completions",
        (JSON,),
        b'{"messages":[{"role":"user","content":"keep xdrop this"}],"n":1e2,"stream":true}',
    ),
    Asked("POST", "/v1/responses", (JSON,), b'{"input":"keep xdrop","store":false}'),
    Asked("POST", "/v1/completions", (JSON,), b'{"prompt":["keep xdrop",1]}'),
    Asked("POST", "/v1/completions", (JSON,), b'{"prompt":"keep xdrop","prompt":"x"}'),
    Asked("GET", "/v1/models?limit=%00&after=a%2Fb", (("Authorization", "Bearer "),)),
    Asked("GET", "/v1/files/a%0Ab"),
    Asked("DELETE", "/v1/files/%20", (("Accept", "*/*"),)),
    Asked("POST", "/v1/embeddings", (JSON,), b'{"input":"keep xdrop this"}'),
    Asked(
        "POST",
        "/v1/files",
        (("Content-Type", "multipart/form-data; boundary=b"),),
        b"--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\nxdrop\r\n--b--\r\n",
    ),
]
KEPT = [Asked.read(path.read_bytes()) for path in sorted(FOUND.glob("*.http"))]


@pytest.mark.parametrize("asked", [*WRITTEN, *KEPT], ids=lambda asked: asked.target)
async def test_a_request_comes_to_the_same_directly_and_through_the_proxy(asked):
    async with Comparison() as comparison:
        assert await comparison.faults(asked) == []


async def test_only_what_is_for_an_endpoint_with_text_is_edited():
    async with Comparison() as comparison:
        edited = []
        for asked in WRITTEN:
            await comparison.faults(asked)
            edited.append(comparison.far.last.body != (asked.body or b""))
    assert edited == [True, True] + [False] * 7


def test_a_request_is_kept_as_it_was():
    assert [Asked.read(asked.written()) for asked in WRITTEN] == WRITTEN
