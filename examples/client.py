"""A program that talks to a running node: found a cluster, start two nodes, record at one, read at the other.

    python examples/client.py

In production the nodes run by themselves (``crdtledger up DIR``) and a program is only the part under ``Client``.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from pathlib import Path

from crdtledger.edge import folders, process
from crdtledger.edge.client import AsyncClient, Client


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


async def balances(node: Path) -> None:
    async with AsyncClient(node) as client:
        collateral, members = await asyncio.gather(client.query("collateral"), client.query("members"))
    for row in collateral:
        print(row["account"], row["asset"], "held", row["held"], "reserved", row["reserved"], "rights", row["rights"])
    print("members:", ", ".join(member["node"] for member in members))


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        cluster = Path(directory) / "cluster"
        folders.found(cluster, [free_address(), free_address()])
        first, second = folders.node_folders(cluster)
        with process.running(first, second), Client(first) as one, Client(second) as two:
            one.record(
                [
                    {"kind": "account", "name": "FUND"},
                    {"kind": "deposit", "id": "d1", "account": "FUND", "asset": "USDT", "amount": "500"},
                    {"kind": "reserve", "id": "margin", "account": "FUND", "asset": "USDT", "amount": "120"},
                ]
            )
            wanted = one.watch(b"", 0)
            seen = two.watch(b"", 0)
            while seen != wanted:  # not a poll: the node answers when its frontier changes
                seen = two.watch(seen, 10)
            asyncio.run(balances(second))


if __name__ == "__main__":
    main()
