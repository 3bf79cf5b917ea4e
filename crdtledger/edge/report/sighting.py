"""What one node says, read at one frontier: its figures, its breaks, what it knows of who holds what, and what people noted there.
Impure: asks a node.

A cluster records while it is read. The frontier's digest is asked for before and after; as long as it moved, everything is read once
more, a few times, and then ``moved`` says that the figures are of no single moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import msgspec

from crdtledger.edge import api
from crdtledger.edge.client import Client
from crdtledger.ledger.batch import lane_text, open_evidence
from crdtledger.ledger.decimals import to_minor
from crdtledger.ledger.facts import Instrument
from crdtledger.ledger.genesis import Genesis
from reconcile.checkpoint import decode_checkpoint
from reconcile.divergence.breakrow import Handling
from reconcile.divergence.causes import Holder, MarkTold, Rules, newest_marks
from reconcile.divergence.corrections import Units
from reconcile.divergence.figures import Figures, Kind, Told, figures
from reconcile.divergence.rows import Moment, SettledCut
from reconcile.divergence.tolerance import Tolerances
from reconcile.divergence.worth import Worth

ATTEMPTS: Final = 3
HEIGHTS: Final = 256
"""So many of the newest heights are read for ages; what was settled earlier has the age of the oldest of them."""
POSITION_FIELDS: Final = ("qty", "bought", "sold", "value_bought", "value_sold", "fees", "fills")
BALANCE_FIELDS: Final = ("held", "reserved", "deposited", "withdrawn")

Row = Mapping[str, Any]


class Sighting(msgspec.Struct, frozen=True, eq=False):
    """One node's answers. ``frontier``: the digest of what it held, the same at nodes that hold the same. ``moved``: its frontier moved
    while it was read."""

    node: str
    target: str
    genesis: Genesis
    now_us: int
    frontier: str
    status: Row
    holders: tuple[Holder, ...]
    members: Sequence[Row]
    breaks: Sequence[Row]
    marks: Sequence[Row]
    instruments: Mapping[str, Instrument]
    positions: Sequence[Row]
    collateral: Sequence[Row]
    board: Mapping[str, Handling]
    moved: bool
    matches: Sequence[Row] = ()

    @property
    def height(self) -> int:
        """The checkpoint that it stands on, 0 for none."""
        return int(self.status["base"]["height"])

    @property
    def own(self) -> Holder:
        """What it holds itself."""
        return next(holder for holder in self.holders if holder.node == self.node)

    def silent(self, rules: Rules) -> list[Holder]:
        """The nodes that it has not heard of for too long."""
        return [holder for holder in self.holders if holder.silent(self.now_us, rules)]

    def behind(self) -> tuple[str, ...]:
        """Batches that a peer has told of and that are not here."""
        out = []
        for holder in self.holders:
            for lane, seq in holder.heads.items():
                held = self.own.heads.get(lane, 0)
                if seq > held:
                    out.append(f"{lane}#{held + 1}-{seq} at {self.node}")
        return tuple(sorted(set(out)))

    def units(self) -> dict[str, Units]:
        """Decimals, by instrument."""
        assets = self.genesis.asset_decimals
        return {name: Units(one.price_decimals, one.qty_decimals, assets) for name, one in self.instruments.items()}

    def told_marks(self) -> list[MarkTold]:
        """The marks as integers."""
        out = []
        for row in self.marks:
            terms = self.instruments.get(row["instrument"])
            price = to_minor(row["price"], terms.price_decimals, signed=True) if terms and row["price"] else None
            out.append(MarkTold(row["instrument"], row["source"], price, row["ts_us"], row["sequence"]))
        return out

    def open_quantities(self) -> dict[str, Fraction]:
        """How much is held of each instrument, both ways added up."""
        out: dict[str, Fraction] = {}
        for row in self.positions:
            out[row["instrument"]] = out.get(row["instrument"], Fraction(0)) + abs(Fraction(row["qty"]))
        return out

    def figures(self, kind: Kind = "replica") -> Figures:
        """Its positions and its collateral as columns."""
        return figures(self.node, kind, (*POSITION_FIELDS, *BALANCE_FIELDS), self._rows())

    def _rows(self) -> Iterator[tuple[str, str, Told]]:
        for row in self.positions:
            yield row["account"], row["instrument"], {field: exact(row[field]) for field in POSITION_FIELDS}
        for row in self.collateral:
            yield row["account"], row["asset"], {field: exact(row[field]) for field in BALANCE_FIELDS}

    def moment(self, rules: Rules, cuts: Sequence[SettledCut], quote: str, tolerances: Tolerances) -> Moment:
        """What rows are made with."""
        newest = newest_marks(self.told_marks(), self.now_us, rules)
        marks = {name: mark.price for name, mark in newest.items() if mark.price is not None}
        worth = Worth(self.instruments, marks, quote)
        decimals = self.genesis.asset_decimals
        return Moment(
            now_us=self.now_us,
            observer=self.node,
            worth=worth,
            decimals=decimals,
            rules=rules,
            cuts=cuts,
            tolerances=tolerances,
        )


def exact(text: Any) -> tuple[int, int]:
    """(integer, decimals) of an amount as nodes write them."""
    whole, _, fraction = str(text).partition(".")
    return int(whole + fraction), len(fraction)


def look(client: Client) -> Sighting:
    """Everything that a report needs of one node."""
    genesis = client.endpoint.genesis
    assert genesis is not None, "an endpoint that was located has its genesis"
    moved = True
    for _ in range(ATTEMPTS):
        before = client.query("digest")
        heard, status, positions, collateral, breaks = (
            client.query("heard"),
            client.query("status"),
            client.query("positions"),
            client.query("collateral"),
            client.query("breaks"),
        )
        moved = client.query("digest") != before
        if not moved:
            break
    return Sighting(
        node=heard["node"],
        target=client.endpoint.target,
        genesis=genesis,
        now_us=heard["now_us"],
        frontier=before["frontier"],
        status=status,
        holders=tuple(_holder(row) for row in heard["holders"]),
        members=client.query("members"),
        breaks=breaks,
        marks=client.query("marks"),
        instruments={row["name"]: instrument(row) for row in client.query("instruments")},
        positions=positions,
        collateral=collateral,
        board={row["break"]: _handling(row) for row in client.query("board")},
        moved=moved,
        matches=client.query("matches"),
    )


def _handling(row: Row) -> Handling:
    comment = f"{row['last_comment']} ({row['last_by']})" if row["last_comment"] else ""
    return Handling(row["owner"], row["resolution"], row["status"], comment)


def _holder(row: Row) -> Holder:
    silences = tuple((spell["from_us"], spell["to_us"]) for spell in row["silences"])
    return Holder(row["node"], row["heads"], row["heard_us"], row["connected"], silences)


def instrument(row: Row) -> Instrument:
    """A definition from a row of ``instruments``. Strike and expiry are not needed here and left out."""
    size, decimals = exact(row["contract_size"])
    return Instrument(
        name=row["name"],
        type=row["type"],
        base=row["base"],
        quote=row["quote"],
        settlement=row["settlement"],
        price_decimals=row["price_decimals"],
        qty_decimals=row["qty_decimals"],
        inverse=row["inverse"],
        contract_size=size,
        contract_decimals=decimals,
    )


def settled_cuts(client: Client, genesis: Genesis, height: int) -> list[SettledCut]:
    """The newest heights of a node's checkpoint store, oldest first; none where there are no checkpoints."""
    out: list[SettledCut] = []
    first = max(1, height - HEIGHTS + 1)
    while height and first <= height:
        part = api.unpack_checkpoints(client.request(api.Checkpoints(first)))
        if not part:
            break
        for stored in part:
            checkpoint = decode_checkpoint(stored.body)
            lanes = {lane_text(entry.lane, genesis): entry.seq for entry in checkpoint.cut}
            forks = tuple(lane_text(open_evidence(raw, genesis).lane, genesis) for raw in checkpoint.evidence)
            out.append(SettledCut(checkpoint.height, stored.decided_us, lanes, forks))
        first += len(part)
    return out


def accounts_of(rows: Iterable[Row]) -> list[str]:
    """The accounts that rows name, sorted."""
    return sorted({row["account"] for row in rows})
