"""Laconic's errors, shallow on purpose.

::

    LaconicError
      CallerError            the caller's request cannot be served: 400, 401, 413 or 415
      PolicyError            a policy or settings file is wrong: start-up and ``laconic check``
      CompressionError       compression gave up; the request goes through verbatim (law 8)
        Overloaded             the engine's queue is full
        DeadlineExceeded       scoring would take, or took, longer than the policy allows
        ScorerFailed           the model raised
      UpstreamError          the upstream is absent (an upstream *answer* is data, never an error)
        UpstreamTimeout        also a TimeoutError
        UpstreamUnavailable    also a ConnectionError
        LoopDetected           the upstream turns out to be this proxy itself: 508
"""


class LaconicError(Exception):
    """The root: anything that Laconic itself raises on purpose."""


class CallerError(LaconicError):
    """The caller's request cannot be served; ``status`` is the HTTP status to answer with."""

    def __init__(self, message: str, *, status: int = 400, code: str = "invalid_request") -> None:
        """Keep the sentence for the caller, the status and OpenAI's machine-readable ``code``."""
        super().__init__(message)
        self.status = status
        self.code = code


class PolicyError(LaconicError):
    """A policy or settings file is wrong; the text is ``file:line: key.path: found, wanted``."""


class CompressionError(LaconicError):
    """Compression gave up; the caller's bytes go through unchanged, with the reason."""


class Overloaded(CompressionError):
    """The engine's queue is full."""


class DeadlineExceeded(CompressionError):
    """Scoring would take, or took, longer than the policy's deadline."""


class ScorerFailed(CompressionError):
    """The model raised; the cause is chained."""


class UpstreamError(LaconicError):
    """The upstream is absent: no complete HTTP answer came back."""


class UpstreamTimeout(UpstreamError, TimeoutError):
    """The upstream took too long to connect, or to send the next bytes."""


class UpstreamUnavailable(UpstreamError, ConnectionError):
    """The upstream refused, reset or closed the connection."""


class LoopDetected(UpstreamError):
    """The upstream turned out to be this proxy itself; 508 says so (RFC 5842, 7.2)."""

    status = 508
    code = "loop_detected"
