"""``crdtledger maelstrom``: a node that Maelstrom, or whoever speaks its protocol, can test."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from crdtledger.edge.cli.options import GOOD


def maelstrom(
    workload: Annotated[Literal["broadcast", "g-set", "pn-counter"], Parameter(help="What the clients will ask for.")],
    /,
) -> int:
    """Be one node of a Maelstrom test: messages as JSON lines on standard input and output, until the input ends."""
    from crdtledger.edge.maelstrom.shell import serve

    serve(workload)
    return GOOD
