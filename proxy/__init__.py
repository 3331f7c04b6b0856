"""Laconic: a transparent reverse proxy that compresses prompts for OpenAI-compatible APIs.

The way of one request is told in :mod:`proxy.gateway`; the floors and laws that the modules keep
are in ``docs/architecture.md``.  Importing this package loads no model and no torch.
"""

__version__ = "0.1.0"
