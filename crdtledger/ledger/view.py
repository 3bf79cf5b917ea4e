"""A view: positions, collateral and reference data as a pure function of (base, batches).

Batches go in one at a time, in any order that respects lanes and deps; the same set gives the same figures, byte for byte
(``canonical``). Nothing here refuses a batch: what it may not do is void and named among the breaks.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from crdtledger.errors import decimal_text
from crdtledger.ledger.batch import Batch, lane_text
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.catalog import Binding, Catalog, Place
from crdtledger.ledger.collateral import Balance, Collateral
from crdtledger.ledger.dedupe import FillIndex, terms_of
from crdtledger.ledger.facts import RIGHTS_KINDS, Kind
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import digest
from crdtledger.ledger.positions import Position, Positions
from crdtledger.ledger.rights import Rights
from crdtledger.ledger.settled import SettledState


class VoidBatch(NamedTuple):
    """A batch without effect, and why."""

    lane: bytes
    seq: int
    reason: str


class View:
    """The folded state of a set of batches. ``salt`` only places hash-table slots; no figure depends on it."""

    def __init__(
        self, genesis: Genesis, salt: int = 0, base: SettledState | None = None, settling: bool = False
    ) -> None:
        self.genesis = genesis
        self.base = SettledState.empty(genesis) if base is None else base
        self.settling = settling
        self.catalog = Catalog(genesis)
        self._batches: list[Batch] = []
        self._bindings: list[Binding] = []
        self._places: list[Place] = []
        self._lane_clock: dict[bytes, int] = {}
        self.positions = Positions(self.catalog, self._batches, self._bindings, self._places, salt)
        self.rights = Rights(self.catalog, salt)
        self.collateral = Collateral(self.catalog, self._batches, self._bindings, self._places, salt)
        self.void_batches: list[VoidBatch] = []
        self._void_facts: list[tuple[bytes, int, Kind, str, int]] = []
        self.cursors: dict[tuple[bytes, str], tuple[int, int]] = {}
        self.facts = 0

    def apply(self, batch: Batch, place: Place | None = None) -> None:
        """Fold one batch. Its lane's earlier batches and its deps are in already."""
        number = len(self._batches)
        if place is None:
            clock = self._lane_clock[batch.key] = max(batch.header.clock, self._lane_clock.get(batch.key, 0) + 1)
            place = Place(clock, batch.key, batch.seq)
        binding = self.catalog.bind(batch.body)
        self._batches.append(batch)
        self._bindings.append(binding)
        self._places.append(place)
        self.facts += batch.facts
        for fresh in self.catalog.apply(batch, place):
            self.positions.define(fresh)
        for kind in (Kind.FILL, Kind.BUST):
            if kind in batch.body.tables:
                self._apply_fills(number, batch, binding, kind)
        if batch.header.deps or RIGHTS_KINDS & batch.body.tables.keys():
            self._apply_rights(number, batch, binding)
        for cursor in batch.body.cursors:
            self.cursors[batch.key, cursor.source] = (cursor.position, cursor.line)

    def _apply_fills(self, number: int, batch: Batch, binding: Binding, kind: Kind) -> None:
        node = self.genesis.by_id[batch.lane.node].name
        accounts = binding.accounts[batch.body.tables[kind]["account"]]
        distinct, inverse = np.unique(accounts, return_inverse=True)
        allowed = np.fromiter((self.catalog.may_record(node, account) for account in distinct.tolist()), np.bool_)[
            inverse
        ]
        if not allowed.all():
            self._void_facts.append((batch.key, batch.seq, kind, "not this node's account", int((~allowed).sum())))
        self.positions.apply(number, kind, np.flatnonzero(allowed))

    def _apply_rights(self, number: int, batch: Batch, binding: Binding) -> None:
        verdict = self.rights.judge(batch.key, batch.header.deps, batch.body, binding)
        self.rights.commit(batch, binding, verdict)
        self.collateral.apply(number, verdict)
        if verdict.fault:
            self.void_batches.append(VoidBatch(batch.key, batch.seq, verdict.fault))
        for kind, _, reason in verdict.dropped:
            self._void_facts.append((batch.key, batch.seq, kind, reason, 1))

    # -- reading --------------------------------------------------------------------------------------------

    def position_rows(self) -> list[Position]:
        """Positions, sorted by account, then instrument."""
        return self.positions.rows()

    def collateral_rows(self) -> list[Balance]:
        """Collateral, sorted by account, then asset."""
        return self.collateral.rows()

    def breaks(self) -> list[Break]:
        """Everything recorded that does not simply count, sorted; the same at every replica with these batches."""
        out = [Break("void_batch", f"{self._lane(v.lane)}#{v.seq}", v.reason) for v in self.void_batches]
        for (lane, seq, kind, reason), count in self._grouped_void_facts().items():
            out.append(Break("void_fact", f"{self._lane(lane)}#{seq}", f"{count} x {kind.name.lower()}: {reason}"))
        for waiting in self.positions.suspended():
            detail = f"{waiting.facts} facts under definition {waiting.digest.hex()}: {waiting.reason}"
            out.append(Break("suspended", waiting.instrument, detail))
        for name, digests in self.catalog.rivals().items():
            others = ", ".join(rival.hex() for rival in digests[1:])
            out.append(Break("definitions", name, f"{digests[0].hex()} stands, not {others}"))
        for kind in (Kind.FILL, Kind.BUST):
            out += self._fill_conflicts(kind, self.positions.indexes[kind])
        out += self._collateral_conflicts()
        for account, asset, node, amount in self.collateral.overdrawn():
            short = decimal_text(-amount, self.genesis.asset_decimals[asset])
            out.append(Break("overdraft", f"{node} {account} {asset}", f"its lanes together spent {short} too much"))
        for bust, fill in self.positions.mismatched_busts():
            where = self._batches[bust.batch], self._batches[fill.batch]
            subject = self._fill_name(Kind.BUST, bust.batch, bust.row)
            detail = (
                f"terms at {self._at(where[0], bust.row)} are not those of the fill at {self._at(where[1], fill.row)}"
            )
            out.append(Break("bust", subject, detail))
        return sorted(out, key=lambda item: (item.type, item.subject, item.detail))

    def break_count(self) -> int:
        """How many ``breaks`` there are, without their words: somebody may have made very many."""
        conflicts = sum(len(index.variants) for index in self.positions.indexes.values())
        contradicted = sum(len({s.content for s in said}) > 1 for said in self.collateral.repeated.values())
        busts = sum(1 for _ in self.positions.mismatched_busts())
        named = len(self.positions.suspended()) + len(self.catalog.rivals()) + len(self.collateral.overdrawn())
        return len(self.void_batches) + len(self._grouped_void_facts()) + conflicts + contradicted + busts + named

    def _grouped_void_facts(self) -> dict[tuple[bytes, int, Kind, str], int]:
        """How many facts of one batch and kind are void for one reason."""
        grouped: dict[tuple[bytes, int, Kind, str], int] = {}
        for lane, seq, kind, reason, count in self._void_facts:
            grouped[lane, seq, kind, reason] = grouped.get((lane, seq, kind, reason), 0) + count
        for kind, number, _ in self.positions.out_of_range:
            batch = self._batches[number]
            key = (batch.key, batch.seq, kind, "its value or its fee's asset cannot be carried")
            grouped[key] = grouped.get(key, 0) + 1
        return grouped

    def _lane(self, lane: bytes) -> str:
        return lane_text(lane, self.genesis)

    def _at(self, batch: Batch, row: int) -> str:
        return f"{self._lane(batch.key)}#{batch.seq}[{row}]"

    def _fill_conflicts(self, kind: Kind, index: FillIndex) -> list[Break]:
        out = []
        for ordinal, variants in index.variants.items():
            stories = sorted((at, stated) for stated, at in variants.items())  # no two stand at one place
            texts = []
            for (place, row), stated in stories:
                texts.append(f"{self._terms_text(terms_of(stated))} at {self._lane(place.lane)}#{place.seq}[{row}]")
            winner = index.spot(ordinal)
            subject = self._fill_name(kind, winner.batch, winner.row)
            out.append(Break("conflict", subject, f"counts: {texts[0]}; does not: {'; '.join(texts[1:])}"))
        return out

    def _fill_name(self, kind: Kind, number: int, row: int) -> str:
        body = self._batches[number].body
        fact = body.tables[kind][row]
        scope = body.scopes[int(fact["scope"])]
        trade = body.strings[int(fact["id"])] if fact["flags"] & 1 else str(fact["id"])
        leg = f"/{scope.leg}" if scope.leg else ""
        name = body.instruments[scope.instrument][0]
        return f"{kind.name.lower()} {scope.venue}/{scope.id_space}/{name}/{trade}{leg}"

    def _terms_text(self, terms: tuple[int, ...]) -> str:
        account, instrument, side, qty, price, fee, asset = terms
        definition = self.catalog.meaning(instrument)
        name = self.catalog.instrument_keys[instrument].name
        amounts = f"{qty}@{price}"
        if definition is not None:
            amounts = f"{decimal_text(qty, definition.qty_decimals)}@{decimal_text(price, definition.price_decimals)}"
        fees = f" fee {fee} {self.catalog.assets[asset] if asset >= 0 else ''}".rstrip() if fee else ""
        return f"{self.catalog.account_names[account]} {'buy' if side > 0 else 'sell'} {amounts} {name}{fees}"

    def _collateral_conflicts(self) -> list[Break]:
        out = []
        for (kind, _), statements in self.collateral.repeated.items():
            if len({statement.content for statement in statements}) < 2:
                continue
            texts = []
            for statement in sorted(statements, key=lambda one: (one.place, one.row)):
                account, asset = self.catalog.cell_name(statement.cell)
                amount = decimal_text(statement.amount, self.genesis.asset_decimals[asset])
                texts.append(
                    f"{account} {amount} {asset} at {self._lane(statement.lane)}#{statement.seq}[{statement.row}]"
                )
            out.append(Break("conflict", f"{kind.name.lower()}", "; ".join(texts)))
        return out

    def canonical(self) -> bytes:
        """The whole view as canonical bytes. Equal frontiers and base give equal bytes."""
        state = {
            "positions": self.position_rows(),
            "collateral": self.collateral_rows(),
            "breaks": self.breaks(),
            "instruments": {name: self.catalog.standing(name) for name in self.catalog.names()},
            "accounts": {name: label for name, (_, label) in self.catalog.labels.items()},
            "marks": sorted(self.catalog.marks.items()),  # pairs: a joined name could be split in two ways
            "cursors": {f"{lane.hex()} {source}": at for (lane, source), at in self.cursors.items()},
        }
        return msgspec.json.encode(_wide(state), order="deterministic")

    def digest(self) -> bytes:
        """32 bytes over ``canonical``."""
        return digest("view", self.canonical())


def _wide(value: object) -> object:
    """Plain data with every integer as text: sums outgrow what a JSON encoder takes."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _wide(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_wide(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {field: _wide(getattr(value, field)) for field in value.__struct_fields__}
    return value
