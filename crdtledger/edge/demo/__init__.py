"""``crdtledger demo``: a cluster of real node processes trades, spends, is cut in two, loses a node, heals, and is checked.

    market, replay   where trades come from: made up from a seed, or read from captures
    feeds, script    who records what and when (pure)
    stage            the node processes, their clients, the cut and the kill
    pit              orders that both sides of the cut take, and what becomes of the matches
    performance      the acts in order; what was acknowledged goes into the books
    books, verdict   the driver's own sums, and every node held against them (pure)
    scene, observer, picture, curtain   what there is to see

Importing this package loads none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def run(
    nodes: int = 4,
    facts: int | None = None,
    replay: Sequence[str | Path] = (),
    seed: int | None = None,
    format: str = "table",
    keep: str | Path | None = None,
) -> int:
    """Run the demo; 0 if everything held, 1 if not. ``CallerError`` for wrong use, ``OperatorError`` when a node is lost.

    ``facts``: how many trades; ``replay``: captures instead of a made-up market; ``keep``: an empty or new folder that the
    nodes live in and that stays. The table and the live picture go to standard output, or one JSON object does.
    """
    from crdtledger.edge.demo.direction import direct

    return direct(nodes, facts, [Path(path) for path in replay], seed, format, Path(keep) if keep else None)


__all__ = ["run"]
