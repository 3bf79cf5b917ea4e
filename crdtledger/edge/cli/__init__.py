"""The command line: ``crdtledger COMMAND``. A file per noun; ``app`` knows them all.

Rules:

- ``--help`` is instant: no module of this package imports numpy, pycrdt, zmq or apsw before a command runs.
- Figures go to standard output, everything else (progress, errors) to standard error. An error is one line.
- Exit codes: 0 good, 1 a difference or a break was found, 2 wrong use, 3 unreachable.
"""

from __future__ import annotations

from crdtledger.edge.cli.app import app, main

__all__ = ["app", "main"]
