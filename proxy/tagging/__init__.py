"""Tagging, pure: the text of a request in, labelled segments out.  See docs/tagging.md."""

from proxy.tagging.turns import Memory, Tagged, turns

__all__ = ["Memory", "Tagged", "turns"]
