"""What a worker more costs in memory: ``laconic serve --workers N`` beside N separate processes.

    python benchmarks/workers.py [--workers 1 2 4]

Starts each in turn, waits until every model is loaded and warm, and reads what Linux says of the
processes, the supervisor included.  Prints one JSON line a row: ``pss_mb`` counts a page that k
processes share as 1/k in each, summed over all; ``own_mb`` is what a worker shares with nobody,
on average; ``weights_own_kb`` the part of the encoder's file among that.  The figure that travels
is ``ratio``, ``pss_mb`` / (N * that of one process by itself).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from processes import free_port

WEIGHTS = "all-minilm-l6-v2/model.safetensors"


def kb(pid: int, file: str, *names: str, of: str = "") -> int:
    """Sum figures of /proc/PID/FILE, over the mappings whose name ends with ``of``."""
    text = Path(f"/proc/{pid}/{file}").read_text("utf-8")
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE)
    chosen = "".join(m for m in mappings if m.partition("\n")[0].endswith(of))
    found = re.findall(rf"^(?:{'|'.join(names)}): +(\d+)", chosen, re.MULTILINE)
    return sum(map(int, found))


def figures(supervisor: int, workers: list[int]) -> dict[str, Any]:
    """Read the memory of the processes."""
    own = [kb(pid, "smaps_rollup", "Private_Clean", "Private_Dirty") for pid in workers]
    everyone = {supervisor, *workers}
    return {
        "workers": len(workers),
        "pss_mb": round(sum(kb(pid, "smaps_rollup", "Pss") for pid in everyone) / 1024),
        "own_mb": round(sum(own) / len(own) / 1024),
        "weights_own_kb": max(
            kb(pid, "smaps", "Private_Dirty", "Anonymous", of=WEIGHTS) for pid in workers
        ),
    }


def measured(workers: int) -> dict[str, Any]:
    """Start a proxy, wait until its models are warm, read, and stop it."""
    options = {"--workers": workers, "--port": free_port(), "--upstream": "http://127.0.0.1:9"}
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "-m", "proxy", "serve", "--ledger", "none", *words]
    environ = os.environ | {"LACONIC_MEMO_PATH": "none"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:  # noqa: S603 - our own
        assert process.stderr is not None  # noqa: S101 - for the type
        ready, pids = 0, []
        for line in process.stderr:
            said = json.loads(line)
            ready += said["event"] == "ready"
            pids += [said["pid"]] if said["event"] == "worker-started" else []
            if ready == workers:
                break
        found = figures(process.pid, pids or [process.pid])
        process.terminate()
    return found


def main() -> None:
    """Measure each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    alone = measured(1)["pss_mb"]
    for workers in parser.parse_args().workers:
        row = measured(workers)
        ratio = round(row["pss_mb"] / (workers * alone), 2)
        print(json.dumps(row | {"ratio": ratio}), flush=True)


if __name__ == "__main__":
    main()
