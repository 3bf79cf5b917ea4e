"""Reaching a node: the client of a target, or one line that says why not, soon.

A ZeroMQ connection to nobody just waits. So the first thing is a plain TCP connection: whether anybody listens there is
known at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdtledger.edge.client import Client
    from crdtledger.edge.folders import Endpoint

DIAL_S = 3.0


def connect(target: str, cluster: Path | None = None) -> Client:
    """A client of ``target``. Raises ``Unreachable`` (exit 3) when nobody listens, ``BadGenesis`` (2) for a bad folder."""
    from crdtledger.edge.client import Client

    client = Client(target, cluster)
    try:
        knock(client.endpoint)
    except BaseException:
        client.close()
        raise
    return client


def knock(endpoint: Endpoint) -> None:
    """Raise ``Unreachable`` unless somebody listens at the node's address."""
    import socket

    from crdtledger.errors import Unreachable

    scheme, _, rest = endpoint.address.partition("://")
    if scheme != "tcp":
        return
    host, _, port = rest.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), DIAL_S).close()
    except OSError as error:
        start = f"; start it with `crdtledger node {endpoint.folder}`" if endpoint.folder else ""
        why = f"{endpoint.name} does not listen at {endpoint.address} ({error.strerror or error}){start}"
        raise Unreachable(target=endpoint.target, why=why) from None
