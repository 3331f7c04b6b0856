"""Change what splices and what holds spans, line by line, and fail where no test notices.

Run by ``make mutate``, which puts mutmut beside our own environment.  ``[tool.mutmut]`` in
``pyproject.toml`` names the files and the tests; TARGETS are the functions.  A change that leaves
the program as it was stands in ``equivalent.toml`` with the reason; one there that is no longer
made, or that a test does notice, fails as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
MUTANTS = Path("mutants")
TARGETS = (
    "proxy.wire.scan.*",
    "proxy.wire.beginnings.*",
    "proxy.wire.splice.*",
    "proxy.compress.protect.*",
    *(
        f"proxy.compress.layout.x_{name}__mutmut_*"
        for name in ("kept_spans", "strongest", "render_spans", "_merged")
    ),
)
NOTICED = {"killed", "timeout", "segfault"}


def main() -> None:
    """Run mutmut, and judge what it found."""
    command = [sys.executable, "-m", "mutmut", "run", *TARGETS, *sys.argv[1:]]
    subprocess.run(command, check=True)  # noqa: S603 - our own interpreter
    survived = {(name.partition("__mutmut_")[0], change_of(name)) for name in unnoticed()}
    listed = tomllib.loads((HERE / "equivalent.toml").read_text())["equivalent"]
    known = {(each["function"], each["change"].strip("\n")) for each in listed}
    for function, change in sorted(survived - known):
        print(f"no test notices, in {function}:\n{change}\n")
    for function, change in sorted(known - survived):
        print(f"equivalent.toml: found no such survivor, in {function}:\n{change}\n")
    print(f"{len(survived - known)} changes that no test notices, {len(known)} that change nothing")
    sys.exit(survived != known)


def unnoticed() -> list[str]:
    """Return the names of the changes that were tried and that no test failed on."""
    from mutmut.stats import status_by_exit_code  # noqa: PLC0415 - beside our environment alone

    codes: dict[str, int | None] = {}
    for path in MUTANTS.rglob("*.meta"):
        codes |= json.loads(path.read_text())["exit_code_by_key"]
    status = {name: status_by_exit_code[code] for name, code in codes.items()}
    return [name for name, told in status.items() if told not in {*NOTICED, "not checked"}]


def change_of(name: str) -> str:
    """Return the lines that a change takes away and puts in."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # noqa: PLC0415 - as above

    lines = get_diff_for_mutant(name).splitlines()
    changed = [line for line in lines if line[:1] in {"-", "+"} and line[:3] not in {"---", "+++"}]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in changed)


if __name__ == "__main__":
    main()
