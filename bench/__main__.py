"""All benches, or those that are named: the table, and with ``--keep`` results as JSON and a picture each.

    python -m bench [NAME ...] [--quick] [--runs 5] [--keep] [--captures FOLDER]

Each runs in a process of its own: what one leaves in memory is not another's cost. Ends with 1 when a result was wrong, never because
something was slow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.measured import Plan
from bench.one import one

BENCHES = ("join", "endtoend")
