"""``crdtledger demo``: the whole story on real processes; the play itself is ``crdtledger.edge.demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def demo(
    *,
    nodes: Annotated[int, Parameter(help="How many nodes.")] = 4,
    facts: Annotated[int | None, Parameter(help="How many trades.")] = None,
    replay: Annotated[
        list[Path] | None, Parameter(help="Recorded Binance streams to replay.", consume_multiple=True)
    ] = None,
    seed: Annotated[int | None, Parameter(help="Seed of the generated market. Default: a fresh one.")] = None,
    format: Annotated[Literal["table", "json"], Parameter(help="How to print the verdict.")] = "table",
    keep: Annotated[Path | None, Parameter(help="Keep the cluster in this folder, new or empty.")] = None,
) -> int:
    """Record, cut the network in two, kill a node, heal, and judge whether anything was lost. Exit 1 if it was."""
    from crdtledger.edge.demo import run

    return run(nodes=nodes, facts=facts, replay=replay or [], seed=seed, format=format, keep=keep)
