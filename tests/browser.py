"""A headless Chromium, driven over its DevTools protocol: no driver to install beside it."""

import asyncio
import base64
import json
import shutil
import tempfile
from contextlib import asynccontextmanager
from itertools import count

import aiohttp

PATIENCE_S = 60
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--window-size=1280,1600",
)


class Page:
    """One page."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = count(1)
        self._answers = {}
        self._loaded = asyncio.Event()
        self.errors = []  # what the page's own script failed at

    async def listen(self):
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            elif told["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif told["method"] == "Runtime.exceptionThrown":
                self.errors.append(told["params"]["exceptionDetails"])

    async def send(self, method, **params):
        """Call a method of the protocol."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        told = await asyncio.wait_for(self._answers[number], PATIENCE_S)
        assert "error" not in told, told
        return told["result"]

    async def run(self, script):
        """Evaluate an expression, await what it promises, and return it."""
        told = await self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script):
        """Wait until an expression is true, and return its value."""
        async with asyncio.timeout(PATIENCE_S):
            # A frame's time at least between two looks, as the page counts it.
            return await self.run(
                f"(async () => {{ let found; while (!(found = {script}))"
                " await new Promise(requestAnimationFrame); return found; })()"
            )

    async def open(self, url):
        """Go to an address, and wait until all of it is there."""
        self._loaded.clear()
        await self.send("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), PATIENCE_S)

    async def dark(self, scheme="dark"):
        """Prefer a colour scheme."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.send("Emulation.setEmulatedMedia", features=[feature])

    async def screenshot(self, path):
        told = await self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))


@asynccontextmanager
async def chromium(headers=None):
    """A page that nothing is open in; ``headers`` go with each of its requests."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                while b"DevTools listening on" not in (line := await process.stderr.readline()):
                    assert line, "chromium ended"
            port = line.split(b"://", 1)[1].split(b"/", 1)[0].rsplit(b":", 1)[1].decode()
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    pages = await answer.json()
                url = next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page")
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    page = Page(socket)
                    listening = asyncio.create_task(page.listen())
                    await page.send("Page.enable")
                    await page.send("Runtime.enable")
                    if headers:
                        await page.send("Network.enable")
                        await page.send("Network.setExtraHTTPHeaders", headers=headers)
                    yield page
                    listening.cancel()
        finally:
            process.kill()
            await process.wait()
