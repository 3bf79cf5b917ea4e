"""``crdtledger drill``: break things on purpose. Cut the network, kill a node, make one lie, heal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import App, Parameter

from crdtledger.edge.cli.options import GOOD, Keys, Target
from crdtledger.edge.cli.output import say
from crdtledger.edge.cli.reach import connect

Cluster: TypeAlias = Annotated[
    Path | None,
    Parameter(name=["--cluster", "--target"], help="The cluster's folder. Default: $CRDTLEDGER_CLUSTER, else ."),
]

app = App(
    name="drill",
    help="Break things on purpose: cut the network, kill a node, make one fork its lane, heal.",
    result_action="return_value",
)


@app.command
def partition(
    *groups: Annotated[
        str, Parameter(help="Nodes that still see each other, separated by commas; one argument per group.")
    ],
    cluster: Cluster = None,
) -> int:
    """Cut the network: nodes of different groups lose sight of each other. Nodes not named are a group of their own.

    For example: crdtledger drill partition node-1,node-2 node-3,node-4
    """
    from crdtledger.errors import BadInput

    home, names = _home(cluster)
    sides: list[list[str]] = [[name.strip() for name in group.split(",") if name.strip()] for group in groups]
    seen: set[str] = set()
    for name in (name for side in sides for name in side):
        _known(name, names)
        if name in seen:
            raise BadInput(what=f"node {name!r}", where="drill partition", why="stands in two groups")
        seen.add(name)
    sides.append([name for name in names if name not in seen])
    sides = [side for side in sides if side]
    if len(sides) < 2:
        raise BadInput(
            what="groups", where="drill partition", why="at least two, for example node-1,node-2 node-3,node-4"
        )
    blocks = {name: [other for other in names if other not in side] for side in sides for name in side}
    _block(home, blocks)
    print(" | ".join(",".join(side) for side in sides))
    return GOOD


@app.command
def heal(*, cluster: Cluster = None) -> int:
    """Let all nodes see each other again."""
    home, names = _home(cluster)
    _block(home, {name: [] for name in names})
    print(",".join(names))
    return GOOD


@app.command
def kill(node: Annotated[str, Parameter(help="A node's name.")], /, *, cluster: Cluster = None) -> int:
    """Kill a node's process with SIGKILL, as a crash would."""
    from crdtledger.edge import process
    from crdtledger.errors import Unreachable

    home, names = _home(cluster)
    _known(node, names)
    pid = process.kill(home / node)
    if pid is None:
        raise Unreachable(target=str(home / node), why="no process runs this node here")
    print(f"{node} killed (process {pid}); start it again with `crdtledger node {home / node}`")
    return GOOD


@app.command
def fork(target: Target, /, *, cluster: Keys = None) -> int:
    """Make a running node fork its own lane: sign two batches for one place and show some peers one, the others the other.

    All nodes will name it with evidence, for ever; what it recorded before still counts. It goes on in a new epoch.
    """
    from crdtledger.edge import api

    with connect(target, cluster) as node:
        done = node.request(api.Fork(node.endpoint.name))
    sides = "; ".join(f"{', '.join(each['peers'])} got {each['hash'][:12]}" for each in done["branches"])
    print(f"{node.endpoint.name} forked its lane {done['lane']} at {done['seq']}: {sides}")
    return GOOD


def _home(cluster: Path | None) -> tuple[Path, list[str]]:
    """The cluster's folder and the names of the nodes that have a folder in it."""
    import os

    from crdtledger.edge import folders

    home = cluster or Path(os.environ.get(folders.CLUSTER_VARIABLE, "."))
    return home, [path.name for path in folders.node_folders(home)]


def _known(name: str, names: list[str]) -> None:
    from crdtledger.errors import UnknownName

    if name not in names:
        raise UnknownName(kind="node", name=name, known=names)


def _block(home: Path, blocks: dict[str, list[str]]) -> None:
    """Tell every node whom to ignore. A node that is down is named; the others ignore it all the same."""
    from crdtledger.edge import api
    from crdtledger.errors import Unreachable

    reached = 0
    for name, others in blocks.items():
        try:
            with connect(str(home / name)) as node:
                node.request(api.Links(others))
            reached += 1
        except Unreachable as error:
            say(f"left out: {error}")
    if not reached:
        raise Unreachable(target=str(home), why="no node of this cluster answers")
