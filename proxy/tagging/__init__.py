"""Tagging, pure: the text of a request in, labelled segments out.  See docs/tagging.md."""

from proxy.tagging.turns import Tagged, turns

__all__ = ["Tagged", "turns"]
