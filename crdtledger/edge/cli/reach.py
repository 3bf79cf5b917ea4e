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
    if _turned_away(endpoint):
        why = (
            f"whoever listens at {endpoint.address} is not {endpoint.name} of this genesis, or does not let this key in"
        )
        raise Unreachable(target=endpoint.target, why=why)


def _turned_away(endpoint: Endpoint) -> bool:
    """Whether the CURVE handshake fails for sure. A node that is merely busy answers later: that is no failure."""
    import zmq
    from zmq.utils.monitor import parse_monitor_message

    from crdtledger.edge.client import dial

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        probe = context.socket(zmq.DEALER)
        wanted = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        failures = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        monitor = probe.get_monitor_socket(wanted | failures | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        dial(probe, endpoint)
        if not monitor.poll(int(DIAL_S * 1000)):
            return False
        event = parse_monitor_message(monitor.recv_multipart())["event"]
        return bool(event != zmq.EVENT_HANDSHAKE_SUCCEEDED)
    finally:
        context.destroy(linger=0)
