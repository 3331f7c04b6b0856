"""The dashboard: its files and figures, and the page in a real browser."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import entries
import pytest
from browser import CHROMIUM, chromium
from driving import SCORER, passages, policy
from fakes import DirectEngine
from house import house, policies
from servers import call, chat, upstream

from proxy.compress.show import Fate, Shown, Stretch
from proxy.dashboard.api import STATIC
from proxy.gateway import Cascade
from proxy.ledger import outcome_fields
from proxy.ledger.capture import sealed
from proxy.ledger.segments import packed
from proxy.memo import TurnMemo
from proxy.policy import PolicySet, PriceSpec, Route, UpstreamSpec, key_hash, layered, load_policies
from proxy.types import Address, Component, Kind, Mode, Outcome, Reason

NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")
SHORT = Outcome("chat", Mode.ON, Reason.TOO_SHORT, tokens_before=40, tokens_after=40)


SEGMENTS = packed([(1, 0, Component.CONTEXT, Kind.PROSE, "first-passage", 900, 300)])
TEXT = sealed(
    [
        Shown(
            Address(1, 0),
            "user",
            (
                Stretch("The mill stands. ", Fate.KEPT, Component.CONTEXT, Kind.PROSE, "long"),
                Stretch("It was built.", Fate.DROPPED, Component.CONTEXT, Kind.PROSE, "long"),
            ),
        )
    ]
)


def entry(number, minutes=30, **changed):
    return entries.entry(number, datetime.now(UTC) - timedelta(minutes=minutes), **changed)


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    short = entry(4, 1, model="o3", **outcome_fields(SHORT))
    entries.write(path, *(entry(n, 60 - n) for n in range(4)), short)
    return path


@asynccontextmanager
async def dashboard(ledger_path=None, **given):
    async with upstream() as far, house(far, ledger_path=ledger_path, **given) as home:
        yield home
    assert far.seen == []  # nothing of it is the upstream's


async def asked(home, path, status=200):
    got = await call(home.port, "GET", f"/laconic/{path}")
    assert got.status == status, got.body
    return json.loads(got.body)


async def tried(home, status=200, **given):
    headers = [("Content-Type", "application/json")]
    body = json.dumps(given).encode()
    got = await call(home.port, "POST", "/laconic/api/try", body, headers)
    assert got.status == status, got.body
    return json.loads(got.body)


# -- files ----------------------------------------------------------------------------------------


async def test_the_pages_files_are_answered_and_load_nothing_from_elsewhere():
    async with dashboard() as home:
        page = await call(home.port, "GET", "/laconic/")
        script = await call(home.port, "GET", "/laconic/app.js")
        bare = await call(home.port, "GET", "/laconic")
        none = await call(home.port, "GET", "/laconic/../admin.py")
    assert (page.status, script.status, bare.status, none.status) == (200, 200, 308, 404)
    assert dict(bare.headers)["Location"] == "/laconic/"
    for answer in (page, script):
        policy = dict(answer.headers)["Content-Security-Policy"]
        assert policy.startswith("default-src 'self'")
    for path in STATIC.iterdir():
        if path.suffix in {".html", ".css", ".js"} and "uPlot" not in path.name:
            assert "http://" not in path.read_text().replace("http://www.w3.org", "")
            assert "https://" not in path.read_text()


def test_what_was_taken_over_comes_with_its_licence():
    vendored = {path.name for path in STATIC.iterdir() if path.name.startswith("uPlot")}
    assert vendored == {"uPlot.iife.min.js", "uPlot.min.css", "uPlot-LICENSE.txt"}
    assert "MIT" in (STATIC / "uPlot-LICENSE.txt").read_text()


# -- figures --------------------------------------------------------------------------------------


async def test_figures_come_by_group_by_time_and_one_by_one(ledger):
    async with dashboard(ledger) as home:
        overview = await asked(home, "api/overview?by=model")
        series = await asked(home, "api/series")
        only = await asked(home, "api/series?model=o3")
        latest = await asked(home, "api/exchanges?limit=2")
        one = await asked(home, "api/exchanges/r3")
    assert [(row["key"], row["tokens_saved"]) for row in overview["rows"]] == [
        ("gpt-4o", 2400),
        ("o3", 0),
    ]
    assert overview["total"]["passes"] == {"too-short": 1}
    assert series["step"] == "ten_minutes"
    assert sum(point["first_saved"] for point in series["points"]) == 2000
    assert [point["exchanges"] for point in only["points"]] == [1]
    assert [row["request_id"] for row in latest["exchanges"]] == ["r4", "r3"]
    assert one["components"]["context"] == {"before": 900, "after": 300}


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("api/overview?by=colour", 400, "wanted one of route, policy"),
        ("api/series?since=yesterday", 400, "wanted a time as 2026-01-31T12:00:00Z"),
        ("api/series?since=2026-01-01T00:00:00", 400, "wanted a time"),
        ("api/exchanges?limit=-1", 400, "wanted a whole number"),
        ("api/exchanges?before=9999999999999999999", 400, "wanted a whole number"),
        ("api/exchanges/nobody", 404, "found none of that id"),
        ("api/nothing", 404, "Not Found"),
    ],
)
async def test_what_cannot_be_answered_is_said(ledger, path, status, told):
    async with dashboard(ledger) as home:
        error = (await asked(home, path, status))["error"]
    assert told in error["message"]


async def test_without_a_ledger_there_are_no_figures_and_a_broken_one_is_named(tmp_path):
    broken = tmp_path / "broken.sqlite3"
    broken.write_bytes(b"not a database at all, but long enough for one" * 20)
    async with dashboard() as home:
        assert (await asked(home, "api/overview", 404))["error"]["code"] == "no_ledger"
        assert (await asked(home, "api/policies"))["policies"]
    async with dashboard(broken) as home:
        assert (await asked(home, "api/series", 503))["error"]["code"] == "ledger_unreadable"


async def test_the_token_is_asked_for_on_every_path():
    async with dashboard(admin_token=key_hash("t")) as home:
        for path in ("", "/", "/app.js", "/api/policies", "/api/exchanges/x"):
            got = await call(home.port, "GET", f"/laconic{path}")
            assert (got.status, dict(got.headers)["WWW-Authenticate"]) == (
                401,
                'Basic realm="laconic"',
            )
        got = await call(home.port, "POST", "/laconic/api/try", b"{}")
        assert got.status == 401
        shown = [("Authorization", "Bearer t")]
        assert (await call(home.port, "GET", "/laconic/", headers=shown)).status == 200


# -- the playground -------------------------------------------------------------------------------


async def test_a_request_is_tried_and_laid_open():
    body = chat("keep this xdrop and this").decode()
    async with dashboard() as home:
        found = await tried(home, body=body, policy="on")
    stretches = found["leaves"][-1]["stretches"]
    assert "".join(s["text"] for s in stretches if s["fate"] == "dropped").strip() == "xdrop"
    assert found["outcome"]["tokens_saved"] > 0
    assert stretches[0]["component"] in set(Component)
    assert home.ledger.entries == []


async def test_a_trial_is_priced_at_the_upstream_that_its_route_chooses():
    own = (
        PriceSpec(upstream="far", input=10, output=0),
        PriceSpec(model="o9", input=1000, output=0),
    )
    upstreams = {"far": UpstreamSpec(url="http://far.example/v1")}
    routes = (Route(model="gpt-*", policy="on", upstream="far"),)
    routed = replace(policies(), routes=routes, upstreams=upstreams, prices=own)
    async with dashboard(policy_set=routed) as home:
        bodies = [chat("keep xdrop this", model=name).decode() for name in ("gpt-4o", "o9", "o3")]
        found = [await tried(home, body=body, policy="on") for body in bodies]
    routed, general, unknown = [each["cost"] for each in found]
    assert (routed["before_usd"], routed["after_usd"]) == (0.00003, 0.00002)
    assert routed["told"] == ("$0.000030 -> $0.000020 ($10.0 a million tokens, routes.yaml)")
    assert (general["before_usd"], general["after_usd"]) == (0.003, 0.002)
    assert unknown == {
        "before_usd": None,
        "after_usd": None,
        "told": "no price is known for model o3 at 127.0.0.1: tokens only",
    }


async def test_the_policy_that_was_tried_can_be_taken_along():
    async with dashboard(policy_set=load_policies(layered({})), fallback="rag") as home:
        found = await tried(home, body=chat("some text").decode(), policy="rag", rate=0.3)
    written = load_policies(layered({"rag.yaml": found["policy"]})).policies["rag"]
    shipped = load_policies(layered({})).policies["rag"]
    assert written.components.context.rate == 0.3
    assert written.model_copy(update={"components": shipped.components}) == shipped


async def test_what_is_no_request_and_what_is_off_are_shown_as_they_are():
    async with dashboard() as home:
        broken = await tried(home, body='{"messages": 1}', policy="on")
        off = await tried(home, body=chat("keep xdrop").decode(), policy="off")
    assert (broken["leaves"], broken["outcome"]["reason"]) == ([], "unparsed")
    assert {s["fate"] for leaf in off["leaves"] for s in leaf["stretches"]} == {"kept"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"body": "{}", "policy": "nobody"}, "policy: found 'nobody'"),
        ({"body": "{}"}, "wanted two texts"),
        ({"body": {}, "policy": "on"}, "wanted two texts"),
        ({"body": "{}", "policy": "on", "rate": "half"}, "wanted a number or null"),
        ({"body": chat("some text").decode(), "policy": "on", "rate": 0}, "wanted a number > 0"),
    ],
)
async def test_a_trial_that_cannot_be_is_a_400(given, told):
    async with dashboard() as home:
        assert told in (await tried(home, 400, **given))["error"]["message"]


async def test_a_trial_takes_json_of_bounded_size_alone():
    as_json = [("Content-Type", "application/json")]
    async with dashboard() as home:
        plain = await call(home.port, "POST", "/laconic/api/try", b"{}")
        huge = await call(home.port, "POST", "/laconic/api/try", b" " * (5 << 20), as_json)
        broken = await call(home.port, "POST", "/laconic/api/try", b"{", as_json)
        listed = await call(home.port, "POST", "/laconic/api/try", b"[]", as_json)
    assert [got.status for got in (plain, huge, broken, listed)] == [415, 413, 400, 400]


# -- in a browser ---------------------------------------------------------------------------------


def axe():
    return files("axe_core_python").joinpath("axe.min.js").read_text()


READY = "'ready' in document.body.dataset"


@NEEDS_CHROMIUM
async def test_the_page_shows_figures_exchanges_and_a_trial(ledger):
    async with dashboard(ledger) as home, chromium() as page:
        await page.open(f"http://127.0.0.1:{home.port}/laconic/")
        await page.until(f"{READY} && document.querySelector('#groups tbody th')")
        assert await page.run("document.querySelector('#sums dd').firstChild.textContent") == "5"
        assert await page.run("document.querySelectorAll('#tokens-chart canvas').length") == 1

        await page.run("chosen.policy.value = 'chat'; chosen.dispatchEvent(new Event('input'))")
        await page.until("document.querySelector('#sums dd').firstChild.textContent === '1'")
        await page.run("chosen.policy.value = ''; location.hash = '#exchanges'")
        await page.until("document.querySelectorAll('#latest tbody tr').length === 5")
        entries.write(ledger, replace(entry(5, minutes=0), segments=SEGMENTS))
        await page.until("document.querySelectorAll('#latest tbody tr').length === 6")
        await page.run("document.querySelector('#latest button').click()")
        await page.until("document.querySelector('#one').open")
        assert "r5" in await page.run("document.querySelector('#one-title').textContent")
        told = await page.run("document.querySelector('#one-told').innerText")
        assert "first-passage" in told
        assert "capture is off for this route" in told
        await page.run("document.querySelector('#one').close(); location.hash = '#playground'")

        body = json.dumps(chat("keep this xdrop and this").decode())
        await page.run(f"document.querySelector('#body').value = {body}")
        await page.run("rate.value = .4; rate.dispatchEvent(new Event('input'))")
        await page.until("document.querySelector('#leaves del')")
        assert await page.run("document.querySelector('#leaves del').textContent.trim()") == "xdrop"
        assert "no price is known for model" in await page.run("came.textContent")
        assert "rate: 0.4" in await page.run("document.querySelector('#yaml').textContent")
        assert page.errors == []
        assert await page.run("trouble.hidden")


HOLD_NEWS = """
(() => {
  const plain = window.fetch;
  window.held = [];
  window.answered = 0;
  window.fetch = async (url, given) => {
    const news = url.includes("after=");
    if (news) await new Promise((go) => window.held.push(go));
    const answer = await plain(url, given);
    if (news) window.answered += 1;
    return answer;
  };
})()
"""


@NEEDS_CHROMIUM
async def test_news_that_overlap_a_fresh_look_show_no_exchange_twice(ledger):
    rows = "document.querySelectorAll('#latest tbody tr').length"
    async with dashboard(ledger) as home, chromium() as page:
        await page.open(f"http://127.0.0.1:{home.port}/laconic/#exchanges")
        await page.until(f"{READY} && {rows} === 5")
        await page.run(HOLD_NEWS)
        await page.until("held.length")
        entries.write(ledger, entry(9, 0))
        await page.run("chosen.dispatchEvent(new Event('input'))")
        await page.until(f"{rows} === 6")
        await page.run("held.forEach((go) => go())")
        await page.until("answered")
        await page.run("new Promise((done) => setTimeout(done, 100))")
        assert await page.run(rows) == 6


@NEEDS_CHROMIUM
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible(ledger, scheme):
    async with dashboard(ledger) as home, chromium() as page:
        await page.dark(scheme)
        await page.open(f"http://127.0.0.1:{home.port}/laconic/")
        await page.until(f"{READY} && document.querySelector('#groups tbody th')")
        await page.run(axe())
        for name in ("overview", "exchanges", "playground"):
            await page.run(f"location.hash = '#{name}'")
            await page.until(f"!document.querySelector('#{name}').hidden")
            found = await page.run("axe.run().then((found) => found.violations)")
            told = [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found]
            assert told == [], name
        entries.write(ledger, replace(entry(9, 0), segments=SEGMENTS, captured=TEXT))
        await page.run("location.hash = '#exchanges'")
        await page.until("document.querySelectorAll('#latest tbody tr').length === 6")
        await page.run("document.querySelector('#latest button').click()")
        await page.until("document.querySelector('#one del.context')?.offsetHeight")
        found = await page.run("axe.run().then((found) => found.violations)")
        assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found] == []


class Ready(DirectEngine):
    """Scores on the spot, and is always ready."""

    def ready(self):
        return True


NAMES = ("lighthouse", "mill", "church", "bridge", "harbour", "school", "library", "railway")
FACTS = [f"The {name} of the town is {7 * n} metres high." for n, name in enumerate(NAMES, 1)]


@NEEDS_CHROMIUM
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_coloured_by_score_is_accessible_and_dollars_move_with_the_rate(scheme):
    method = Cascade(TurnMemo(), lambda: SCORER.revision)
    half = policy(name="on", components={"context": {"rate": 0.5}})
    priced = (PriceSpec(input=1000, output=0),)
    only = PolicySet({"on": half}, fallback="on", prices=priced)
    body = json.dumps(chat(f"{passages(*FACTS)}\n\nHow high is the mill?").decode())
    given = {"method": method, "engine": Ready(SCORER), "policy_set": only}
    async with dashboard(**given) as home, chromium() as page:
        await page.dark(scheme)
        await page.open(f"http://127.0.0.1:{home.port}/laconic/#playground")
        await page.until(READY)
        await page.run(axe())
        await page.run(f"document.querySelector('#body').value = {body}")
        told = set()
        for rate in (0.7, 0.3):
            await page.run(f"rate.value = {rate}; rate.dispatchEvent(new Event('input'))")
            await page.until(f"yaml.textContent.includes('rate: {rate}')")
            told.add(await page.run("came.textContent.match(/[$][0-9.]+ as sent/)[0]"))
        assert len(told) == 2
        for colour in ("both", "component", "score"):
            await page.run(f"colour.value = '{colour}'; colour.dispatchEvent(new Event('change'))")
            assert await page.run(
                "document.querySelectorAll('#leaves .s0, #leaves .s4').length > 1"
            )
            found = await page.run("axe.run().then((found) => found.violations)")
            nodes = [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found]
            assert nodes == [], colour
        backgrounds = "getComputedStyle(document.querySelector('#leaves {}')).backgroundColor"
        assert await page.run(backgrounds.format(".s4")) != await page.run(
            backgrounds.format(".s0")
        )


@NEEDS_CHROMIUM
async def test_a_ledger_that_is_not_there_is_said_on_the_page():
    async with dashboard() as home, chromium() as page:
        await page.open(f"http://127.0.0.1:{home.port}/laconic/")
        await page.until(f"{READY} && !trouble.hidden")
        assert "LACONIC_LEDGER_PATH" in await page.run("trouble.textContent")
