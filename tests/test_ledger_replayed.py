"""Two hundred conversations through the proxy: the ledger's sums are those of what was sent."""

import asyncio
import json
import random
from contextlib import AsyncExitStack, closing
from decimal import Decimal

import httpx
from driving import SCORER, policy
from fakes import DirectEngine
from house import house
from servers import (
    CHAT,
    JSON,
    SSE,
    answer,
    call,
    chunk,
    completion,
    connected,
    request_bytes,
    upstream,
)

from proxy.app import Books
from proxy.gateway import Cascade
from proxy.gateway.history import History
from proxy.ledger import Ledger, Prices, SqliteSink
from proxy.ledger.segments import unpacked
from proxy.memo import Sent, TurnMemo
from proxy.policy import PolicySet, PriceSpec
from proxy.tokens import encoding_for

CONVERSATIONS, TURNS = 200, 3
WORDS = (
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grain", "harbour", "inlet", "jetty",
    "kiln", "ledge", "mill", "notch", "oat", "pier", "quarry", "ridge", "slate", "tarn", "upland",
    "vale", "weir", "yard", "zinc", "lantern", "keeper", "signal", "tide", "barrel", "copper",
    "orchard", "saddle", "timber", "velvet", "winter",
)  # fmt: skip
RATE = policy(name="half", components={"context": {"rate": 0.5}}, recall={"share": 0.2})


class Engine(DirectEngine):
    """Scores on the spot, and is always ready."""

    def ready(self):
        return True


def conversation(draw):
    """The messages of a caller, request by request: documents, then what is asked about them."""
    messages = [{"role": "system", "content": "Answer from what you are given."}]
    for number in range(TURNS):
        if number:
            messages.append({"role": "assistant", "content": "It is in the text above."})
        text = "\n\n".join(
            " ".join(draw.choices(WORDS, k=12)).capitalize() + "."
            for _ in range(draw.randint(4, 9))
        )
        asked = " ".join(draw.choices(WORDS, k=4))
        messages.append({"role": "user", "content": f"{text}\n\nWhat of the {asked}?"})
        yield list(messages)


def body_of(messages):
    return json.dumps({"model": "gpt-4o", "messages": messages}).encode()


def tokens(messages):
    return [encoding_for("gpt-4o").count(message["content"]) for message in messages]


def by_message(segments, messages):
    """The tokens of each message before and after, by what the ledger tells of its segments."""
    found = [[0, 0] for _ in range(messages)]
    for segment in unpacked(segments):
        found[segment["message"]][0] += segment["before"]
        found[segment["message"]][1] += segment["after"]
    return list(map(tuple, found))


async def test_the_ledgers_sums_are_what_was_left_out_of_the_bodies(tmp_path):
    draw = random.Random(5)  # noqa: S311 - no secret
    talks = [list(conversation(draw)) for _ in range(CONVERSATIONS)]
    method = Cascade(TurnMemo(), lambda: SCORER.revision)
    only = PolicySet({"half": RATE}, fallback="half")
    async with (
        upstream() as far,
        house(far, fallback="half", method=method, engine=Engine(SCORER), policy_set=only) as home,
        httpx.AsyncClient(trust_env=False) as caller,
    ):
        for talk in talks:
            for messages in talk:
                body = {"model": "gpt-4o", "messages": messages}
                url = f"{home.url}/v1/chat/completions"
                (await caller.post(url, json=body, timeout=60)).raise_for_status()
        entries = [await home.ledger.entry(n) for n in range(1, CONVERSATIONS * TURNS + 1)]
        bodies = [seen.json()["messages"] for seen in far.seen]

    asked = [messages for talk in talks for messages in talk]
    removed = [
        [came - went for came, went in zip(tokens(messages), tokens(body), strict=True)]
        for messages, body in zip(asked, bodies, strict=True)
    ]
    # What each entry says is what can be counted in the bodies, to the token.
    for messages, body, entry, gone in zip(asked, bodies, entries, removed, strict=True):
        assert (entry.tokens_before, entry.tokens_after) == (
            sum(tokens(messages)),
            sum(tokens(body)),
        )
        assert (entry.first_saved, entry.repeat_saved) == (gone[-1], sum(gone[:-1]))
        assert entry.busted_tokens == 0
        sizes = zip(tokens(messages), tokens(body), strict=True)
        assert by_message(entry.segments, len(messages)) == list(sizes)
    # Each token that is left out counts once as first, however often the history is sent again.
    last = removed[TURNS - 1 :: TURNS]
    assert sum(entry.first_saved for entry in entries) == sum(map(sum, last)) > 0
    assert len({entry.conversation for entry in entries}) == CONVERSATIONS
    # What opened the request before is unchanged: all of it but the assistant's new words.
    for before, entry, body in zip(entries, entries[1:], bodies[1:], strict=False):
        if entry.conversation == before.conversation:
            assert entry.unchanged_tokens == sum(tokens(body[:-2]))

    sink = SqliteSink(tmp_path / "ledger.sqlite3")
    for entry in entries:
        sink.write(entry)
    sink.close()
    prices = Prices([PriceSpec(input=10, cache_read=1, output=0)])
    total = Ledger(tmp_path / "ledger.sqlite3").total(prices=prices)
    first = sum(map(sum, last))
    repeated = sum(sum(gone[:-1]) for gone in removed)
    assert (total.first_saved, total.repeat_saved) == (first, repeated)
    assert total.tokens_saved == sum(map(sum, removed))
    assert total.money.value == (first * Decimal(10) + repeated * Decimal(1)) / 10**6


async def test_the_next_turn_may_be_recorded_elsewhere_before_the_one_it_follows(tmp_path):
    """What an upstream took is known to all from the beginning of its answer on."""
    first, second, _ = conversation(random.Random(5))  # noqa: S311 - no secret
    over = asyncio.Event()

    async def script(seen, wire):
        if len(seen.json()["messages"]) > len(first):
            await wire.send(answer(200, completion(), headers=[JSON]))
            return
        head = answer(200, b"", headers=[SSE, ("Transfer-Encoding", "chunked")], length=False)
        await wire.send(head + chunk(b"data: {}\n\n"))
        await over.wait()
        await wire.send(b"0\r\n\r\n")

    async with AsyncExitStack() as stack:
        far = await stack.enter_async_context(upstream(script))
        homes = []
        for _ in range(2):
            file = stack.enter_context(closing(Sent(tmp_path / "sent")))
            proxy = house(
                far,
                fallback="half",
                method=Cascade(TurnMemo(), lambda: SCORER.revision),
                engine=Engine(SCORER),
                policy_set=PolicySet({"half": RATE}, fallback="half"),
                books=Books(history=History(shared=file)),
            )
            homes.append(await stack.enter_async_context(proxy))
        one, other = homes
        wire = await stack.enter_async_context(connected(one.port))
        await wire.send(request_bytes("POST", CHAT, body_of(first), [JSON]))
        await wire.until(b"data: {}")
        await asyncio.to_thread(one.ledger.clerk.flush)
        await call(other.port, "POST", CHAT, body_of(second), [JSON])
        later = await other.ledger.entry()
        over.set()
        earlier = await one.ledger.entry()
    assert earlier.unchanged_tokens == 0
    assert later.unchanged_tokens == earlier.tokens_after > 0
