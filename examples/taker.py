"""A taker that is cut off from the maker it trades with: its matches say how likely they are to stand, and less so the longer it lasts.

    python examples/taker.py

Four real node cores on the simulated network: virtual time, so it takes no longer than it computes, and is the same every time.
"""

from __future__ import annotations

import random

from crdtledger.edge import api
from crdtledger.edge.agency import Agency
from crdtledger.edge.calibration import calibrate
from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import SECOND, Cluster
from crdtledger.errors import LedgerError
from crdtledger.ledger.genesis import Policies
from crdtledger.matching.agents import MakerConfig, MarketMaker, Taker, TakerConfig

BELIEF = 10_000.0
"""What everybody believes the price to be, in cents."""
ROUNDS = 24
ROUND_US = SECOND // 4


def main() -> None:
    draw = random.Random(7)
    cluster = Cluster(seed=7, policies=Policies(agreement="tendermint", checkpoint_interval_ms=1_000))
    cluster.record("n0", facts.linear("PERP", margin_ppm=100_000), facts.account("MAKER"), facts.account("TAKER"))
    cluster.record(
        "n0", facts.deposit("d1", "MAKER", "USDT", 10_000_000), facts.deposit("d2", "TAKER", "USDT", 10_000_000)
    )
    cluster.record("n0", facts.grant("g1", "TAKER", "USDT", 10_000_000, "n2"))
    assert cluster.settle()

    definition = cluster.core("n0").replica.view.catalog.definition("PERP")
    assert definition is not None
    quotes = MakerConfig(limit=50_000, lot=1_000, levels=2, step=5, variance=1.0, aversion=0.001)
    maker = Agency(MarketMaker(quotes), "MAKER", definition, "n0", "maker")
    taker = Agency(Taker(TakerConfig(most=500, informed=0.0), draw.random), "TAKER", definition, "n2", "taker")

    for number in range(ROUNDS):
        if number == ROUNDS // 2:
            cluster.sim.partition([["n0", "n1", "n3"], ["n2"]])
            print("the taker's node is cut off")
        belief = BELIEF + draw.gauss(0, 5)
        for agency, account, node in ((maker, "MAKER", "n0"), (taker, "TAKER", "n2")):
            book = cluster.ask(node, api.Book("PERP", account))
            matches = cluster.ask(node, api.Query("matches", account=account))
            for fact in agency.act(book, matches, belief, cluster.sim.now_us):
                try:
                    cluster.record(node, fact)
                except LedgerError as refusal:
                    print(f"{account}: {refusal}")
        cluster.sim.run_for(ROUND_US)

    told = cluster.ask("n2", api.Query("matches", account="TAKER"))
    waiting = {row["id"]: row["survival"] for row in told if row["status"] == "tentative"}
    print("unanswered, with survival in ppm:", *waiting.values())

    cluster.settle()
    cluster.sim.run_for(2 * SECOND)
    told = cluster.ask("n2", api.Query("matches", account="TAKER"))
    for when, rows in (
        ("before", [row for row in told if row["id"] not in waiting]),
        ("after", [row for row in told if row["id"] in waiting]),
    ):
        seen = calibrate(rows)
        print(
            f"matched {when} the cut: {seen.tentative} tentative, {seen.predicted:.1f} were to survive, {seen.survived} did"
        )
    print("why not:", *sorted({row["reason"] for row in told if "reason" in row}), sep="\n  ")


if __name__ == "__main__":
    main()
