"""The dashboard: what was saved, exchange by exchange, and a playground; for those who may see.

Pages and scripts are files of the package and load nothing from elsewhere; figures come as JSON
from the ledger's file, read in a thread.  Nothing here changes anything.
"""

from proxy.dashboard.api import Dashboard

__all__ = ["Dashboard"]
