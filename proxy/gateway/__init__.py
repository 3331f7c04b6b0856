"""The way of one request, from the caller's socket to the upstream's and back.

``gateway`` tells it; ``access`` knows who may come in, ``way`` where it leads; ``compression`` is
the part that may fail, ``breaker`` knows where it is no use, ``relay`` is the way back,
``exchange`` the notes that become the ledger entry, ``metrics`` one of the places they go;
``method`` puts Laconic's own method together.
"""

from proxy.gateway.access import Access
from proxy.gateway.breaker import Breaker
from proxy.gateway.compression import Compression
from proxy.gateway.gateway import Gateway
from proxy.gateway.method import Cascade
from proxy.gateway.metrics import MemoUsage, Metrics, SharedMetrics
from proxy.gateway.ports import Engine, Method
from proxy.gateway.relay import own_error, without_additions

__all__ = [
    "Access",
    "Breaker",
    "Cascade",
    "Compression",
    "Engine",
    "Gateway",
    "MemoUsage",
    "Method",
    "Metrics",
    "SharedMetrics",
    "own_error",
    "without_additions",
]
