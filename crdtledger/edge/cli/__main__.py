"""``python -m crdtledger.edge.cli``: the same as the console script ``crdtledger``."""

from __future__ import annotations

import sys

from crdtledger.edge.cli.app import main

sys.exit(main())
