"""Compression, pure: tagged turns and scores in, kept spans out.  No socket, clock or torch.

:func:`compress` drives a request's turns; whoever holds the model answers what it yields.
"""

from proxy.compress.request import compress, keep_verbatim
from proxy.compress.result import Compressed, TurnResult

__all__ = ["Compressed", "TurnResult", "compress", "keep_verbatim"]
