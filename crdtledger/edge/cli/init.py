"""``crdtledger init``: found a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from crdtledger.edge.cli.options import GOOD

if TYPE_CHECKING:
    from crdtledger.ledger.genesis import Asset, Genesis

DEFAULT_NODES = 4
FIRST_PORT = 4711


def init(
    directory: Path,
    /,
    *,
    nodes: Annotated[int | None, Parameter(help="How many nodes. Default: as many as addresses, else 4.")] = None,
    address: Annotated[
        list[str] | None,
        Parameter(
            help="Where a node listens, e.g. tcp://10.0.0.7:4711; once per node. Default: free ports on loopback."
        ),
    ] = None,
    validators: Annotated[
        int | None,
        Parameter(
            help="How many of them vote on checkpoints, the first ones. Default: all. Of 3f+1, f may fail or lie."
        ),
    ] = None,
    agreement: Annotated[
        Literal["tendermint", "none"],
        Parameter(help="How checkpoints come about: by the validators' votes; or never, and all stays provisional."),
    ] = "tendermint",
    checkpoint_interval_ms: Annotated[
        int, Parameter(help="How long after a checkpoint the next may begin, while there is something to settle.")
    ] = 1_000,
    id_window_ms: Annotated[
        int, Parameter(help="How long ids of fills are remembered, so that a trade counts once. Default: 0, for good.")
    ] = 0,
    cluster: Annotated[str, Parameter(help="The cluster's name.")] = "cluster",
    asset: Annotated[
        list[str] | None, Parameter(help="NAME:DECIMALS, once per asset. Default: USDT, USD, BTC, ETH with 8.")
    ] = None,
    grant_finality: Annotated[
        Literal["immediate", "settled"],
        Parameter(help="When granted rights may be spent: as soon as seen (trusted members), or once settled."),
    ] = "immediate",
) -> int:
    """Found a cluster: the genesis and one folder with keys per node.

    Parameters
    ----------
    directory
        A new folder for the cluster.
    """
    import msgspec

    from crdtledger.edge import folders
    from crdtledger.errors import BadInput
    from crdtledger.ledger.genesis import Policies

    count = nodes if nodes is not None else len(address or ()) or DEFAULT_NODES
    if count < 1:
        raise BadInput(what=str(count), where="--nodes", why="at least one node")
    if address and len(address) != count:
        raise BadInput(what=f"{len(address)} addresses", where="--address", why=f"one for each of {count} nodes")
    assets = [_asset(text) for text in asset] if asset else folders.DEFAULT_ASSETS
    if validators is not None and not 0 <= validators <= count:
        raise BadInput(what=str(validators), where="--validators", why=f"0 to {count}, the number of nodes")
    policies = Policies(
        grant_finality=grant_finality,
        agreement=agreement,
        checkpoint_interval_ms=checkpoint_interval_ms,
        id_window_ms=id_window_ms or msgspec.UNSET,
    )
    genesis = folders.found(directory, address or free_addresses(count), cluster, assets, policies, validators)
    print(f"{directory}: cluster {genesis.cluster!r}, genesis {genesis.hash.hex()[:16]}")
    for member in genesis.nodes:
        print(f"  {member.name}  {member.address}{'  validator' if 'validator' in member.roles else ''}")
    print(_who_settles(genesis))
    print(f"start all of them with `crdtledger up {directory}`")
    return GOOD


def _who_settles(genesis: Genesis) -> str:
    """What checkpoints this cluster will have, in a sentence."""
    from reconcile.policy import quorum_threshold
    from reconcile.quorum import committee_of

    if genesis.policies.agreement == "none":
        return "no checkpoints: every figure stays provisional"
    committee = committee_of(genesis)
    count, faulty = len(committee.validators), committee.tolerated
    enough = f"{quorum_threshold(count)} of {count} validators certify a checkpoint"
    if not faulty:
        return f"{enough}; none of them may fail or lie: that takes four"
    return f"{enough}; {faulty} may fail or lie"


def _asset(text: str) -> Asset:
    from crdtledger.errors import BadInput
    from crdtledger.ledger.genesis import Asset

    name, colon, decimals = text.partition(":")
    if not colon or not (decimals.isascii() and decimals.isdigit()):
        raise BadInput(what=repr(text), where="--asset", why="NAME:DECIMALS, for example USDT:8")
    return Asset(name, int(decimals))


def free_addresses(count: int) -> Sequence[str]:
    """Loopback addresses nobody listens at now, from port 4711 up."""
    import socket

    found: list[str] = []
    port = FIRST_PORT
    while len(found) < count and port < 65_536:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                found.append(f"tcp://127.0.0.1:{port}")
            except OSError:
                pass
        port += 1
    return found
