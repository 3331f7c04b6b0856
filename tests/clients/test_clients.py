"""No client can tell the proxy from the upstream, whatever it does.

The official client for Python is installed here and always runs; the others run where
``make test-clients`` has made an environment for each, which also writes the table of
docs/clients.md.
"""

import os

import pytest
from matrix import CLIENTS, column, engine, write

ASKED = "LACONIC_CLIENTS" in os.environ


@pytest.fixture(scope="module")
def model():
    made = engine()
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def columns():
    """What was found, by client; written down once it was found of all."""
    found = {}
    yield found
    if found.keys() == {client.name for client in CLIENTS}:
        write(found)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
async def test_a_client_cannot_tell(client, model, columns):
    if client.home is not None and not ASKED:
        pytest.skip("it has an environment of its own: make test-clients")
    await model.wait_ready()
    found = columns[client.name] = await column(client, model)
    assert found.differing == {}
