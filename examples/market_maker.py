"""A market maker that quotes at two real nodes at once, and stays within its inventory limit while they do not see each other.

    python examples/market_maker.py

Each node has a half of the limit: a right, like the collateral behind it, so no partition can make the halves exceed the whole. Takers
trade at both. Avellaneda and Stoikov's quotes come from ``crdtledger.matching.agents``; ``crdtledger.edge.agency`` carries them to a node.
"""

from __future__ import annotations

import random
import socket
import tempfile
from pathlib import Path

from crdtledger.edge import api, folders, process
from crdtledger.edge.agency import Agency
from crdtledger.edge.client import Client
from crdtledger.errors import LedgerError
from crdtledger.ledger.facts import Instrument
from crdtledger.matching.agents import MakerConfig, MarketMaker, Taker, TakerConfig

PERP = Instrument(
    name="PERP",
    type="perp",
    base="BTC",
    quote="USDT",
    settlement="USDT",
    price_decimals=2,
    qty_decimals=0,
    margin_ppm=100_000,
)
HALF = 30
"""Contracts: each node's half of the limit."""
ROUNDS = 30
BELIEF = 10_000.0
"""What everybody believes the price to be, in cents."""


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def start(one: Client) -> None:
    """Everything that trading takes."""
    units = {"price_decimals": PERP.price_decimals, "qty_decimals": PERP.qty_decimals, "margin_ppm": PERP.margin_ppm}
    kind = {"type": PERP.type, "base": PERP.base, "quote": PERP.quote, "settlement": PERP.settlement}
    accounts = ("MAKER", "TAKER-1", "TAKER-2")
    one.record([{"kind": "instrument", "name": PERP.name, **kind, **units}])
    one.record([{"kind": "account", "name": name} for name in accounts])
    money = {"asset": "USDT", "amount": "100000"}
    one.record([{"kind": "deposit", "id": f"d {name}", "account": name, **money} for name in accounts])
    given = {"MAKER": "50000", "TAKER-2": "100000"}
    grants = [{"id": f"g {a}", "account": a, "asset": "USDT", "amount": n} for a, n in given.items()]
    one.record([{"kind": "grant", "node": "node-2", **grant} for grant in grants])


def agree(one: Client, two: Client) -> None:
    """Wait until both hold the same."""
    seen = two.watch(b"", 0)
    while seen != one.watch(b"", 0):
        seen = two.watch(seen, 1)


def main() -> None:
    draw = random.Random(11)
    with tempfile.TemporaryDirectory() as directory:
        cluster = Path(directory) / "cluster"
        folders.found(cluster, [free_address(), free_address()])
        paths = folders.node_folders(cluster)
        with process.running(*paths), Client(paths[0]) as one, Client(paths[1]) as two:
            start(one)
            agree(one, two)
            quotes = MakerConfig(limit=HALF, lot=5, levels=2, step=3, aversion=0.01, tolerance=2)
            makers = [MarketMaker(quotes), MarketMaker(quotes)]
            desks = [
                (client, account, Agency(agent, account, PERP, f"node-{number}", f"{account}/"))
                for number, client, maker in ((1, one, makers[0]), (2, two, makers[1]))
                for account, agent in (
                    ("MAKER", maker),
                    (f"TAKER-{number}", Taker(TakerConfig(informed=0.3), draw.random)),
                )
            ]
            for number in range(ROUNDS):
                if number == ROUNDS // 3:
                    one.request(api.Links(["node-2"]))
                    two.request(api.Links(["node-1"]))
                if number == 2 * ROUNDS // 3:
                    one.request(api.Links([]))
                    two.request(api.Links([]))
                belief = BELIEF + draw.gauss(0, 3)
                for client, account, agency in desks:
                    book = client.request(api.Book(PERP.name, account))
                    matches = client.query("matches", account=account)
                    for fact in agency.act(book, matches, belief, number):
                        try:
                            client.record([fact])
                        except LedgerError as refusal:
                            print(f"{account}: {refusal}")
                assert all(abs(maker.inventory) <= HALF for maker in makers)
            agree(one, two)
            told = two.query("matches", instrument=PERP.name)
            print("matches:", len(told), "firm:", sum(not row["survival"] for row in told))
            print("the maker holds", *(maker.inventory for maker in makers), "of at most", HALF, "at each node")


if __name__ == "__main__":
    main()
