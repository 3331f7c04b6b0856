"""What the docs say of figures is what there is."""

import json
import re
from pathlib import Path

from proxy.gateway import Metrics
from proxy.ledger import LedgerEntry, outcome_fields
from proxy.memo import Usage
from proxy.types import Mode, Outcome, Reason

DOCS = Path(__file__).parent.parent / "docs"


def exposed():
    """The names of all figures, of a proxy that has met everything."""
    metrics = Metrics(lambda: {"memory": Usage(1, 1, 1, 1)})
    outcome = Outcome("rag", Mode.ON, Reason.FAILED, "ValueError", tokens_before=2, tokens_after=1)
    metrics.write(
        LedgerEntry(
            request_id="r",
            started_at="t",
            method="POST",
            path="/",
            key_name="team",
            upstream_ttfb_ms=1.0,
            **outcome_fields(outcome),
        )
    )
    metrics.breaker("fallback", True)
    return set(re.findall(r"^(laconic_\w+)", metrics.exposition().decode(), re.MULTILINE))


def test_the_grafana_dashboard_asks_for_figures_that_there_are():
    panels = json.loads((DOCS / "grafana.json").read_text())["panels"]
    asked = set(re.findall(r"laconic_\w+", json.dumps([panel["targets"] for panel in panels])))
    assert asked <= exposed()
    assert len(asked) > 10


def test_every_figure_is_in_the_docs():
    text = (DOCS / "observability.md").read_text()
    known = set(re.findall(r"`(laconic_\w+)`", text))
    names = (name for name in exposed() if not name.endswith("_created"))
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert bare == known
