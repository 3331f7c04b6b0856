"""The door to the upstream: one request out, one answer back, chunk by chunk."""

from proxy.upstream.client import Answer, Outgoing, Streamed, Upstream, UpstreamTimeouts

__all__ = ["Answer", "Outgoing", "Streamed", "Upstream", "UpstreamTimeouts"]
