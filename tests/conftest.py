"""What holds for every test."""

import os

# OpenMP's threads wait for each other by spinning: where test workers share the cores, a model of
# a few kilobytes then trains for minutes.  Set before torch is imported; workers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test leaves anything in the home of whoever runs it.
os.environ.setdefault("LACONIC_MEMO_PATH", "none")

# Clients' scripts run in environments of their own, and are imported nowhere here.
collect_ignore = ["clients/scripts"]
