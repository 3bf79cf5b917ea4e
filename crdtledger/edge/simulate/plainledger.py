"""The oracle: a ledger in plain Python, one fact at a time, against which every node's views are held.

It shares with the real one only the reading of a batch's bytes; what the facts add up to is worked out here with dicts,
``int`` and ``Fraction``. It knows nothing of lanes' judged rights, deps or claims: it asks the simpler question whether
all that honest nodes recorded can stand together.

``Statement`` is one fact as it stands in a journal; its ``said`` is what a client said, and what an acknowledgement is
about. ``Tally`` follows rights as statements come in, and names whoever is overdrawn; ``positions`` and ``collateral`` are
the views, ``plainorders`` has that of orders. Canonical order: (the batch's clock made to rise along its lane, lane, seq), then row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from crdtledger.edge.simulate.plainorders import Said, read_orders
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import definition_digests
from crdtledger.ledger.facts import ID_IS_TEXT, NO_STRING, ORDER_KINDS, REF_IS_TEXT, Instrument, Kind
from crdtledger.ledger.genesis import Genesis

Cell = tuple[str, str]
"""(account, asset)."""

SPENDS = ("withdrawal", "transfer", "reserve", "grant")
SHARED = ("deposit", "withdrawal", "transfer")
"""Kinds whose ids are the whole cluster's."""


class Statement(NamedTuple):
    """One fact in a journal. ``digest``: of the definition it stands under, or that it is."""

    said: Said
    row: int
    digest: bytes = b""
    definition: Instrument | None = None


class Entry(NamedTuple):
    """One batch in a journal."""

    hash: bytes
    lane: bytes
    seq: int
    clock: int
    node: str
    statements: tuple[Statement, ...]


def read(batch: Batch, genesis: Genesis) -> Entry:
    """The batch as statements, in precedence of kinds, then by row."""
    body = batch.body
    statements = [
        Statement(("instrument", definition.name, ()), row, digest, definition)
        for row, (definition, digest) in enumerate(zip(body.definitions, definition_digests(body), strict=True))
    ]
    statements += [Statement(("account", entry.name, ()), row) for row, entry in enumerate(body.accounts)]
    for kind in sorted(body.tables.keys() - ORDER_KINDS):
        statements += _rows(batch, kind, genesis)
    statements += [Statement(said, row) for said, row in read_orders(batch, genesis)]
    node = genesis.by_id[batch.lane.node].name
    return Entry(batch.hash, batch.key, batch.seq, batch.header.clock, node, tuple(statements))


def _rows(batch: Batch, kind: Kind, genesis: Genesis) -> Iterator[Statement]:
    body, name = batch.body, kind.name.lower()
    table = body.tables[kind]
    columns = table.dtype.names or ()
    for number, row in enumerate(table.tolist()):
        field = dict(zip(columns, row, strict=True))
        for text in ("account", "asset", "credit"):
            if text in field:
                field[text] = body.strings[field[text]]
        flags = field.get("flags", 0)
        if "id" in field:
            field["id"] = body.strings[field["id"]] if flags & ID_IS_TEXT else str(field["id"])
        if "reserve" in field:
            field["reserve"] = body.strings[field["reserve"]] if flags & REF_IS_TEXT else str(field["reserve"])
        if kind in (Kind.FILL, Kind.BUST):
            scope = body.scopes[field["scope"]]
            instrument, digest = body.instruments[scope.instrument]
            fee_asset = "" if field["fee_asset"] == NO_STRING else body.strings[field["fee_asset"]]
            identity = (scope.venue, scope.id_space, instrument, field["id"], scope.leg)
            stated = (field["account"], field["side"], field["qty"], field["price"], field["fee"], fee_asset)
            yield Statement((name, identity, stated), number, digest)
        elif kind is Kind.DEPOSIT:
            cell = (field["account"], field["asset"])
            yield Statement((name, (*cell, field["id"]), (*cell, field["amount"])), number)
        elif kind is Kind.POST:
            yield Statement((name, field["id"], (field["reserve"], field["amount"], field["credit"])), number)
        elif kind is Kind.VOID:
            yield Statement((name, field["id"], (field["reserve"],)), number)
        elif kind is not Kind.MARK:
            terms: Said = (field["account"], field["asset"], field["amount"])
            if kind is Kind.TRANSFER:
                terms = (*terms, field["credit"])
            elif kind is Kind.GRANT:
                terms = (*terms, genesis.nodes[field["node"]].name)
            yield Statement((name, field["id"], terms), number)


# -- rights -------------------------------------------------------------------------------------------------


class _Counted(NamedTuple):
    """The statement of an id that counts for one node: the first of the node's lanes has it."""

    at: tuple[bytes, int, int]
    terms: Said


class Tally:
    """Who may spend what after all entries added so far, in any order that respects lanes."""

    def __init__(self) -> None:
        self.rights: dict[tuple[str, Cell], int] = {}
        self.left: dict[tuple[str, str], tuple[Cell, int]] = {}
        """(node, reserve) -> its cell and what is left of it."""
        self.posted: list[tuple[Cell, str, int]] = []
        """(cell, credited account, amount) of every post."""
        self.counted: dict[tuple[str, str, Any], _Counted] = {}

    def add(self, entry: Entry) -> list[tuple[str, Cell, int]]:
        """Add one entry; whose rights it leaves below zero. Only the entry's net effect is looked at."""
        touched: set[tuple[str, Cell]] = set()
        for statement in entry.statements:
            kind, identity, terms = statement.said
            if kind not in (*SHARED, "grant", "reserve", "post", "void"):
                continue
            at = (entry.lane, entry.seq, statement.row)
            known = self.counted.get((entry.node, kind, identity))
            if known is not None:
                if known.at <= at or kind not in SHARED:
                    continue
                self._move(entry.node, kind, known.terms, -1, touched)
            self.counted[entry.node, kind, identity] = _Counted(at, terms)
            if kind in ("post", "void"):
                self._release(entry.node, kind, terms, touched)
            else:
                self._move(entry.node, kind, terms, 1, touched)
            if kind == "reserve":
                self.left[entry.node, identity] = ((terms[0], terms[1]), terms[2])
        return [(*key, self.rights[key]) for key in sorted(touched) if self.rights[key] < 0]

    def _move(self, node: str, kind: str, terms: Said, sign: int, touched: set[tuple[str, Cell]]) -> None:
        cell = (terms[0], terms[1])
        self._change(node, cell, (sign if kind == "deposit" else -sign) * terms[2], touched)
        if kind == "grant":
            self._change(terms[3], cell, sign * terms[2], touched)

    def _change(self, node: str, cell: Cell, amount: int, touched: set[tuple[str, Cell]]) -> None:
        self.rights[node, cell] = self.rights.get((node, cell), 0) + amount
        touched.add((node, cell))

    def _release(self, node: str, kind: str, terms: Said, touched: set[tuple[str, Cell]]) -> None:
        cell, left = self.left[node, terms[0]]
        if kind == "void":
            self._change(node, cell, left, touched)
            self.left[node, terms[0]] = (cell, 0)
            return
        assert terms[1] <= left, f"{node} posted {terms[1]} of a reserve with {left}"
        self.left[node, terms[0]] = (cell, left - terms[1])
        self.posted.append((cell, terms[2], terms[1]))


# -- views --------------------------------------------------------------------------------------------------


def in_canonical_order(entries: Iterable[Entry]) -> list[Entry]:
    """Sorted by place."""
    clocks: dict[bytes, int] = {}
    placed = []
    for entry in sorted(entries, key=lambda entry: (entry.lane, entry.seq)):
        clock = clocks[entry.lane] = max(entry.clock, clocks.get(entry.lane, 0) + 1)
        placed.append((clock, entry.lane, entry.seq, entry))
    return [entry for *_, entry in sorted(placed, key=lambda item: item[:3])]


def collateral(entries: Iterable[Entry]) -> dict[Cell, dict[str, Any]]:
    """What ``View.collateral_rows`` must say, by cell."""
    tally = Tally()
    ordered = in_canonical_order(entries)
    for entry in sorted(ordered, key=lambda entry: (entry.lane, entry.seq)):
        tally.add(entry)
    rows: dict[Cell, dict[str, Any]] = {}

    def add(cell: Cell, field: str, amount: int) -> None:
        row = rows.setdefault(
            cell, dict.fromkeys(("deposited", "withdrawn", "reserved", "in_transit", "incoming", "refundable"), 0)
        )
        row[field] += amount

    taken: set[tuple[str, Any]] = set()
    for entry in ordered:
        for statement in entry.statements:
            kind, identity, terms = statement.said
            known = tally.counted.get((entry.node, kind, identity))
            if kind not in SHARED or known is None or known.at != (entry.lane, entry.seq, statement.row):
                continue
            cell = (terms[0], terms[1])
            if kind == "deposit":
                add(cell, "deposited", terms[2])
            elif (kind, identity) in taken:
                add(cell, "refundable", terms[2])
            else:
                taken.add((kind, identity))
                add(cell, "withdrawn" if kind == "withdrawal" else "in_transit", terms[2])
                if kind == "transfer":
                    add((terms[3], terms[1]), "incoming", terms[2])
    for cell, left in tally.left.values():
        add(cell, "reserved", left)
    for cell, credit, amount in tally.posted:
        add(cell, "in_transit", amount)
        add((credit, cell[1]), "incoming", amount)
    for cell, row in rows.items():
        row["rights"] = {node: n for (node, of), n in tally.rights.items() if of == cell and n}
    return rows


def positions(entries: Iterable[Entry], genesis: Genesis) -> dict[tuple[str, str], dict[str, Any]]:
    """What ``View.position_rows`` must say, by (account, instrument)."""
    first: dict[str, tuple[bytes, Instrument]] = {}
    winners: dict[tuple[str, Any], Statement] = {}
    for entry in in_canonical_order(entries):
        placed: dict[str, tuple[bytes, Instrument]] = {}
        for statement in entry.statements:
            kind, identity, _ = statement.said
            if statement.definition is not None:
                other = placed.get(identity, (statement.digest, statement.definition))
                placed[identity] = min(other, (statement.digest, statement.definition), key=lambda item: item[0])
            elif kind in ("fill", "bust"):
                winners.setdefault((kind, identity), statement)
        first = placed | first
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for (kind, identity), statement in winners.items():
        name = identity[2]
        if name not in first or first[name][0] != statement.digest:
            continue
        account, side, qty, price, fee, fee_asset = statement.said[2]
        instrument, sign = first[name][1], 1 if kind == "fill" else -1
        value = _value(instrument, qty, price, genesis)
        if value is None:
            continue
        row = rows.setdefault(
            (account, name),
            dict.fromkeys(("bought", "sold", "value_bought", "value_sold", "fees", "fills"), 0) | {"other_fees": {}},
        )
        row["bought" if side > 0 else "sold"] += sign * qty
        row["value_bought" if side > 0 else "value_sold"] += sign * value
        row["fills"] += sign
        if fee_asset in ("", instrument.settlement):
            row["fees"] += sign * fee
        else:
            row["other_fees"][fee_asset] = row["other_fees"].get(fee_asset, 0) + sign * fee
    return rows


def _value(instrument: Instrument, qty: int, price: int, genesis: Genesis) -> int | None:
    """The fill's value in minor units, None for an inverse one without a positive price."""
    if not instrument.inverse:
        return qty * price * instrument.contract_size
    if price <= 0:
        return None
    contracts = Fraction(qty, 10**instrument.qty_decimals)
    size = Fraction(instrument.contract_size, 10**instrument.contract_decimals)
    at = Fraction(price, 10**instrument.price_decimals)
    minor_units: int = 10 ** genesis.asset_decimals[instrument.settlement]
    return round(contracts * size / at * minor_units)


# -- when everything is settled -------------------------------------------------------------------------------


class Contested(NamedTuple):
    """Cells whose figures depend on which of several statements of one id, or definitions of one name, settlement put first; and accounts
    that traded: what settlement leaves of their matches depends on its order, too."""

    positions: set[tuple[str, str]]
    collateral: set[Cell]
    traders: set[str]


def contested(entries: Iterable[Entry], auctions: Collection[str] = ()) -> Contested:
    """Where the plain ledger cannot know what settlement made of ``entries``: its order is drawn, nobody's clock decides. Whoever entered
    an order in one of ``auctions`` may have traded without a word.
    """
    definitions: dict[str, set[bytes]] = {}
    told: dict[tuple[str, Any], set[tuple[Said, bytes]]] = {}
    owners: dict[tuple[str, str], str] = {}
    matched: set[tuple[str, str]] = set()
    for entry in entries:
        for statement in entry.statements:
            kind, identity, terms = statement.said
            if kind == "instrument":
                definitions.setdefault(identity, set()).add(statement.digest)
            elif kind == "order":
                owners[entry.node, identity] = terms[0]
                matched |= {(entry.node, identity)} if terms[1] in auctions else set()
            elif kind == "match":
                matched |= {(entry.node, terms[0]), (terms[1], terms[2])}
            else:
                scope = (kind, identity) if kind in (*SHARED, "fill", "bust") else (kind, (entry.node, identity))
                told.setdefault(scope, set()).add((terms, statement.digest))
    found = Contested(set(), set(), {owners[name] for name in matched & owners.keys()})
    for (kind, identity), stated in told.items():
        if kind in ("fill", "bust"):
            if len(stated) > 1 or len(definitions.get(identity[2], ())) != 1:
                found.positions.update((terms[0], identity[2]) for terms, _ in stated)
        elif len(stated) > 1 and kind in SHARED:
            for terms, _ in stated:
                found.collateral.add((terms[0], terms[1]))
                if kind == "transfer":
                    found.collateral.add((terms[3], terms[1]))
    return found


def settled_collateral(entries: Iterable[Entry]) -> dict[Cell, tuple[int, int, int]]:
    """(deposited, withdrawn, held) by cell, once everything is settled: each id once, credits landed, reserves still held."""
    sums: dict[Cell, list[int]] = {}
    reserves: dict[tuple[str, str], Cell] = {}
    counted: set[tuple[str, Any]] = set()

    def add(cell: Cell, deposited: int, withdrawn: int, held: int) -> None:
        row = sums.setdefault(cell, [0, 0, 0])
        for at, amount in enumerate((deposited, withdrawn, held)):
            row[at] += amount

    for entry in sorted(entries, key=lambda entry: (entry.lane, entry.seq)):
        for statement in entry.statements:
            kind, identity, terms = statement.said
            scope = (kind, identity) if kind in SHARED else (kind, (entry.node, identity))
            if kind not in (*SHARED, "reserve", "post") or scope in counted:
                continue
            counted.add(scope)
            if kind == "deposit":
                add((terms[0], terms[1]), terms[2], 0, terms[2])
            elif kind == "withdrawal":
                add((terms[0], terms[1]), 0, terms[2], -terms[2])
            elif kind == "transfer":
                add((terms[0], terms[1]), 0, 0, -terms[2])
                add((terms[3], terms[1]), 0, 0, terms[2])
            elif kind == "reserve":
                reserves[entry.node, identity] = (terms[0], terms[1])
            else:
                cell = reserves[entry.node, terms[0]]
                add(cell, 0, 0, -terms[1])
                add((terms[2], cell[1]), 0, 0, terms[1])
    return {cell: (row[0], row[1], row[2]) for cell, row in sums.items()}
