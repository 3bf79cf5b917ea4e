"""Reaching a node: the client of a target, or one line that says why not, soon.

A ZeroMQ connection to nobody just waits, and so does one to a node that does not know the key. So the first things are a
plain TCP connection, which fails at once when nobody listens, and a handshake.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdtledger.edge.client import Client
    from crdtledger.edge.folders import Endpoint

DIAL_S = 3.0
HANDSHAKE_S = 5.0


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
    """Raise ``Unreachable`` unless somebody listens at the node's address who is the node and knows our key."""
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
    if not _let_in(endpoint):
        why = f"{endpoint.address} does not let this key in, or is not {endpoint.name} of this genesis, or is too busy"
        raise Unreachable(target=endpoint.target, why=why)


def _let_in(endpoint: Endpoint) -> bool:
    """Whether the CURVE handshake succeeds. A node tells a stranger nothing at all, so the only sign is silence."""
    import zmq

    from crdtledger.edge.client import dial

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        probe = context.socket(zmq.DEALER)
        monitor = probe.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        dial(probe, endpoint)
        return bool(monitor.poll(int(HANDSHAKE_S * 1000)))
    finally:
        context.destroy(linger=0)
