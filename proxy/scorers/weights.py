"""Weights of models: those in our own form, read where they lie, and the name of any.

The file is checked and then mapped into memory, not copied: what is used as it is stored (int8
rows) stays the file's own pages, clean and read-only in effect, and all processes that map the file
have them once between them, in the page cache.  A file in use must therefore be replaced (as
package managers do), never rewritten in place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from proxy.errors import PolicyError


def mapped(folder: Path, sha256: str) -> dict[str, Tensor]:
    """Map ``model.safetensors`` of ``folder``, whose digest has to be ``sha256``.

    Raises PolicyError where it cannot be read or is another.
    """
    path = folder / "model.safetensors"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PolicyError(f"model {folder}: {error.strerror or error}") from error
    if found != sha256:
        raise PolicyError(f"model {folder}: found weights {found}, wanted {sha256}")
    return load_file(path)


def digest(model: Any) -> str:
    """Name a module's weights by their content: a folder or a branch name says nothing of them."""
    hashed = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        hashed.update(key.encode())
        hashed.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()[:12]
