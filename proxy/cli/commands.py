"""The commands and their options.

Each command imports what it needs when it runs: ``laconic --help`` loads neither a model nor a
server.  Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
"""
# ruff: noqa: PLC0415, PLR0913 - imports inside keep `--help` quick; an option is an argument

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from proxy import __version__
from proxy.errors import LaconicError

if TYPE_CHECKING:
    from proxy.settings import Settings


class _Commands(TyperGroup):
    """Says what is wrong in one place: our errors are sentences for people, not tracebacks."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a LaconicError ends it with exit code 2."""
        try:
            return super().invoke(ctx)
        except LaconicError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    name="laconic",
    cls=_Commands,
    help="A transparent proxy that compresses prompts for OpenAI-compatible APIs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class By(StrEnum):
    """What a report has one row per."""

    ROUTE = "route"
    POLICY = "policy"
    MODEL = "model"
    DAY = "day"
    HOUR = "hour"
    REASON = "reason"
    KEY = "key"
    UPSTREAM = "upstream"
    ARM = "arm"


class Metric(StrEnum):
    """What an evaluation measures."""

    KL = "kl"
    NLL = "nll"


UpstreamOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Where requests go, with or without /v1.")
]
PoliciesOption = Annotated[
    str | None,
    typer.Option("--policies", metavar="DIR", help="Policy files laid over the shipped ones."),
]
LedgerOption = Annotated[
    str | None,
    typer.Option("--ledger", "--ledger-path", metavar="FILE", help="The ledger; `none` for none."),
]
SinceOption = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="A date, an ISO time, or an age such as 7d, 24h, 30m."),
]
UntilOption = Annotated[
    str | None, typer.Option(metavar="WHEN", help="Likewise: what began before that.")
]
KeyOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|HASH", help="A proxy key's name, or an API key's hash."),
]
ConversationOption = Annotated[
    str | None, typer.Option(metavar="DIGITS", help="The ledger's name of a conversation.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
ModelOption = Annotated[
    str | None,
    typer.Option(help="The encoder: `embedded`, a Hugging Face name or a local folder."),
]
BackendOption = Annotated[
    str | None, typer.Option(help="What models compute in: auto, int8, fp32 or cuda.")
]
ThreadsOption = Annotated[str | None, typer.Option(help="Threads that the model may use.")]


@app.command()
def serve(
    *,
    upstream: UpstreamOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[str | None, typer.Option(help="Port to listen on.")] = None,
    workers: Annotated[str | None, typer.Option(help="Processes that share the port.")] = None,
    policies: PoliciesOption = None,
    policy: Annotated[
        str | None, typer.Option(metavar="NAME", help="Policy where no route matches.")
    ] = None,
    ledger: LedgerOption = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console.")] = None,
    model: ModelOption = None,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Run the proxy.

    What is not given comes from the LACONIC_* variables (docs/settings.md), then from defaults.
    """
    settings = _settings(
        upstream=upstream,
        host=host,
        port=port,
        workers=workers,
        policies=policies,
        policy=policy,
        ledger_path=ledger,
        log_level=log_level,
        log_format=log_format,
        model=model,
        backend=backend,
        threads=threads,
    )
    from proxy.workers import run

    run(settings)


@app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR | FILES]", help="Policy files.")
    ] = None,
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of policy files instead.")
    ] = False,
) -> None:
    """Say what is wrong with policy files: `file:line: key.path: found, wanted`.

    Without an argument: the LACONIC_* variables, and the directory that they name.
    """
    from proxy.cli import checking

    if schema:
        typer.echo(checking.schema())
        return
    if paths:
        typer.echo(checking.check(paths))
        return
    settings = _settings()
    places = [] if settings.policies is None else [settings.policies]
    typer.echo(checking.check(places, settings.keys))


@app.command()
def compress(
    *,
    policy: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Policy to apply; without it, routes decide."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Tokens kept / tokens before, of the context.")
    ] = None,
    policies: PoliciesOption = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Many: a request body a line, in and out.")
    ] = False,
    stats: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the stats lines there, not to stderr."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Show what is kept, dropped and inserted instead.")
    ] = False,
    model: ModelOption = None,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Compress a request: body on stdin, compressed body on stdout, stats on stderr."""
    settings = _settings(
        policies=policies, model=model, backend=backend, threads=threads, ledger_path="none"
    )
    from proxy.cli import compressing

    plan = compressing.plan(settings, policy=policy, rate=rate)
    if show:
        if jsonl or stats is not None:
            raise typer.BadParameter(
                "wanted alone, without --jsonl and --stats", param_hint="--show"
            )
        from proxy.cli import showing

        showing.run(plan, settings)
        return
    failed = compressing.run(plan, settings, jsonl=jsonl, stats=stats)
    raise typer.Exit(1 if failed else 0)


@app.command()
def report(
    *,
    by: Annotated[By, typer.Option(help="One row per what.")] = By.ROUTE,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="As Parquet, into a file.")
    ] = None,
    policies: PoliciesOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Sum up the ledger: what was saved and what it is worth, what passed through, and why."""
    if as_json + as_csv + (parquet is not None) > 1:
        raise typer.BadParameter("wanted at most one of --json, --csv and --parquet")
    from proxy.cli import reporting

    settings = _settings(ledger_path=ledger, policies=policies)
    between = reporting.moments(since, until)
    prices = reporting.prices_of(settings.policies)
    found = reporting.read(reporting.required(settings.ledger_path), by, between, prices)
    if as_json:
        typer.echo(reporting.as_json(found))
    elif as_csv:
        typer.echo(reporting.as_csv(found), nl=False)
    elif parquet is not None:
        reporting.to_parquet(found, parquet)
    else:
        reporting.show(found)


@app.command()
def inspect(
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="As in `x-laconic-request-id`.")
    ],
    *,
    as_json: JsonOption = False,
    policies: PoliciesOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Show all that the ledger knows of one exchange, and its price line by line."""
    from proxy.cli import looking, reporting
    from proxy.ledger import Ledger
    from proxy.ledger.capture import captured

    settings = _settings(ledger_path=ledger, policies=policies)
    opened = Ledger(reporting.required(settings.ledger_path))
    found = looking.looked_up(opened, request_id, reporting.prices_of(settings.policies))
    text = captured(opened.path, request_id)
    if as_json:
        typer.echo(looking.as_json(found, text))
    else:
        looking.show(found, text)


@app.command()
def tail(
    *,
    newest: Annotated[int, typer.Option("-n", "--newest", min=0, help="Begin with so many.")] = 10,
    follow: Annotated[bool, typer.Option(help="Go on with each exchange as it is written.")] = True,
    route: Annotated[str | None, typer.Option(metavar="NAME", help="Only this route.")] = None,
    policy: Annotated[str | None, typer.Option(metavar="NAME", help="Only this policy.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")] = None,
    reason: Annotated[str | None, typer.Option(metavar="WORD", help="Only this reason.")] = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this upstream.")
    ] = None,
    key: KeyOption = None,
    conversation: ConversationOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one a line.")] = False,
    ledger: LedgerOption = None,
) -> None:
    """Show the newest exchanges, and each one as it ends."""
    from proxy.cli import looking
    from proxy.ledger import Filter, Ledger

    opened = Ledger(_ledger_file(ledger))
    chosen = Filter(
        route=route,
        policy=policy,
        model=model,
        reason=reason,
        upstream=upstream,
        key=key,
        conversation=conversation,
    )
    try:
        looking.tell(looking.followed(opened, chosen, newest, follow=follow), in_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command("eval")
def evaluate(
    source: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="JSON lines; stdin if left out.")
    ] = None,
    *,
    metric: Annotated[Metric, typer.Option(help="What to measure.")] = Metric.KL,
    model: Annotated[
        str, typer.Option(help="The causal LM: `embedded`, a Hugging Face name or a local folder.")
    ] = "embedded",
    as_json: JsonOption = False,
) -> None:
    """Measure what compression did to answers, under a second model: KL and NLL, in nats.

    A line holds `prompt` or `messages`, `compressed` and `answer`.
    """
    from proxy.cli import evaluating

    found = evaluating.run(source, metric, model)
    if as_json:
        typer.echo(evaluating.as_json(found))
    else:
        evaluating.show(found)


@app.command()
def demo(
    *,
    question: Annotated[
        str | None, typer.Option(help="Ask the demo's twenty passages something else.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Tokens kept / tokens before, of the context.")
    ] = 0.25,
) -> None:
    """See it work, offline: an OpenAI client, the proxy, and an upstream that reads the prompt."""
    from proxy.cli import demonstration

    raise typer.Exit(demonstration.run(question, rate))


@app.command()
def doctor(
    *,
    upstream: UpstreamOption = None,
    policies: PoliciesOption = None,
    ledger: LedgerOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Examine this machine and these settings: what fails, what could be better, what to do.

    Some ten seconds; nothing is written, and no key is sent.
    """
    from proxy.cli import doctor as examining

    arguments = {
        "upstream": upstream,
        "policies": policies,
        "ledger_path": ledger,
        "model": model,
        "backend": backend,
        "threads": threads,
    }
    if as_json:
        found = examining.run(arguments, os.environ)
        typer.echo(examining.as_json(found))
    else:
        found = examining.run(arguments, os.environ, examining.show)
    raise typer.Exit(1 if examining.failed(found) else 0)


ledger_app = typer.Typer(help="Take exchanges out of the ledger.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")


@ledger_app.command()
def export(
    *,
    key: KeyOption = None,
    conversation: ConversationOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, not as JSON lines.")] = False,
    ledger: LedgerOption = None,
) -> None:
    """Print exchanges, one a line, as JSON or as CSV."""
    import sys

    from proxy.cli import keeping, reporting
    from proxy.ledger import Filter, Ledger

    chosen = Filter(reporting.moments(since, until), key=key, conversation=conversation)
    opened = Ledger(_ledger_file(ledger))
    keeping.export(opened, chosen, sys.stdout, as_csv=as_csv)


@ledger_app.command()
def delete(
    *,
    key: KeyOption = None,
    conversation: ConversationOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete them; without it, say how many there are.")
    ] = False,
    ledger: LedgerOption = None,
) -> None:
    """Delete exchanges for good: those of a key, of a conversation, of a time."""
    from proxy.cli import keeping, reporting
    from proxy.ledger import Filter, Ledger
    from proxy.ledger.keeping import erase

    chosen = keeping.required(
        Filter(reporting.moments(since, until), key=key, conversation=conversation)
    )
    path = _ledger_file(ledger)
    if yes:
        typer.echo(f"{erase(path, chosen):,} exchanges deleted")
    else:
        found = Ledger(path).count(chosen)
        typer.echo(f"{found:,} exchanges; with --yes they are deleted")


@ledger_app.command()
def vacuum(*, ledger: LedgerOption = None) -> None:
    """Give the disk back what the ledger's file does not use."""
    from proxy.ledger.keeping import vacuum as shrunk

    before, after = shrunk(_ledger_file(ledger))
    typer.echo(f"{before:,} bytes before, {after:,} after")


keys = typer.Typer(help="Make keys for those who may use the proxy.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is: in the ledger.")],
) -> None:
    """Make a key: it is shown once, with the setting that lets it in beside those there are."""
    from proxy.cli import keys as making

    typer.echo(making.told(name, making.new_key(), _settings(ledger_path="none").keys))


@keys.command()
def admin() -> None:
    """Make the token for /metrics: it is shown once, with the setting that asks for it."""
    from proxy.cli import keys as making

    typer.echo(making.told_admin(making.new_key()))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _ledger_file(given: str | None) -> Path:
    """Return the ledger's file; raises PolicyError where the settings keep none."""
    from proxy.cli import reporting

    return reporting.required(_settings(ledger_path=given).ledger_path)


def _settings(**arguments: object) -> Settings:
    from proxy.settings import load_settings

    return load_settings(arguments, os.environ)
