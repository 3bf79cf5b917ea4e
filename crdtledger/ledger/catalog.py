"""Names to numbers, and reference data as seen in a set of batches.

A batch's strings are its own dictionary; the folds need one numbering for all batches. The catalogue hands out small
local numbers for accounts and for instruments (name *and* definition digest: two definitions of one name are two
instruments). Local numbers depend on arrival and never leave the process; every figure shown is named by text.

Definitions, accounts and marks are small last- or first-writer registers whose winner is decided by ``Place`` or by the
mark's own time, never by arrival. What is settled comes first: a settled definition stands, a settled label stays. The base
is looked up, not copied.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import Body, definition_digests
from crdtledger.ledger.facts import NO_STRING, Instrument, Kind
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.reference import InstrumentKey, MarkEntry
from crdtledger.ledger.settled import SettledState

K = TypeVar("K")
V = TypeVar("V")

NO_ASSET = -1
"""The local number of "no asset named" (a fee in the settlement asset)."""
UNKNOWN_ASSET = -2
FEW = 64
"""Up to this many rows are bound one by one."""
TEXTS_BOUND = 1 << 18
"""Strings of dictionaries whose accounts are remembered together."""


class Place(NamedTuple):
    """Where a batch stands in the canonical order.

    Provisionally ``clock`` is the batch's hybrid clock made monotone along its lane, so a lane's own order is never contradicted.
    Settlement replaces this order by one that no single node can steer (``clock`` is then the batch's number in that order);
    until then it is the same at every replica. What is settled stands before everything: its clock is below zero.
    """

    clock: int
    lane: bytes
    seq: int


class Binding(NamedTuple):
    """A batch's dictionary in local numbers. All arrays are indexed by the batch's own indices, and not to be written to: other batches
    may have the same."""

    accounts: npt.NDArray[np.int64]  # string index -> account number
    assets: npt.NDArray[
        np.int64
    ]  # string index -> position in the genesis, or UNKNOWN_ASSET; of strings named as an asset
    instruments: npt.NDArray[np.int64]  # instrument index -> instrument number
    scopes: npt.NDArray[np.int64]  # scope index -> instrument number


class _Numbers(dict[str, int]):
    """Numbers by name, -1 for a name that has none."""

    __slots__ = ()

    def __missing__(self, name: str) -> int:
        return -1


class Catalog:
    """Local numbers and reference data of one view, on top of what its base has settled.

    ``definitions``: every one known, by digest. ``labels``: by account. ``marks``: by (instrument's name, source).
    """

    def __init__(self, genesis: Genesis, base: SettledState) -> None:
        self.genesis = genesis
        self.base = base
        self.assets = [asset.name for asset in genesis.assets]
        self._authority: dict[str, npt.NDArray[np.bool_]] = {}
        self._asset_number = {name: number for number, name in enumerate(self.assets)}
        self.account_names: list[str] = []
        self._account_number = _Numbers()
        self._bound: dict[tuple[str, ...], npt.NDArray[np.int64]] = {}
        self._bound_texts = 0
        self._no_assets = np.full(0, UNKNOWN_ASSET)
        self.instrument_keys: list[InstrumentKey] = []
        self._instrument_number: dict[InstrumentKey, int] = {}
        self._fresh: dict[bytes, Instrument] = {}
        self._first_seen: dict[str, dict[bytes, Place]] = {}
        self._labels: dict[str, tuple[Place, str]] = {}
        self._fresh_labels: dict[str, str] = {}
        self._marks: dict[tuple[str, str], MarkEntry] = {}
        self.definitions: Mapping[bytes, Instrument] = layered(self._fresh, base.by_digest)
        self.labels: Mapping[str, str] = layered(self._fresh_labels, base.labels)
        self.marks: Mapping[tuple[str, str], MarkEntry] = layered(self._marks, base.marks)

    # -- numbers --------------------------------------------------------------------------------------------

    def account(self, name: str) -> int:
        """The local number of an account, given out at first sight."""
        number = self._account_number[name]
        if number < 0:
            number = self._account_number[name] = len(self.account_names)
            self.account_names.append(name)
        return number

    def asset(self, name: str) -> int:
        """The asset's position in the genesis, ``UNKNOWN_ASSET`` if it is not there."""
        return self._asset_number.get(name, UNKNOWN_ASSET)

    def instrument(self, key: InstrumentKey) -> int:
        """The local number of one definition of one name."""
        number = self._instrument_number.get(key)
        if number is None:
            number = self._instrument_number[key] = len(self.instrument_keys)
            self.instrument_keys.append(key)
        return number

    def bind(self, body: Body) -> Binding:
        """Translate a body's dictionary. Only strings that a row uses as an account get an account number."""
        if sum(map(len, body.tables.values())) <= FEW:
            return self._bind_few(body)
        accounts, fresh, named = self._accounts_of(body.strings), list[int](), set[int]()
        unknown = (accounts < 0).nonzero()[0]
        for table in body.tables.values():
            columns = table.dtype.names or ()
            for column in ("account", "credit"):
                if column in columns and len(unknown):
                    uses = np.bincount(table[column], minlength=len(accounts))
                    fresh += unknown[uses[unknown] > 0].tolist()
            if "asset" in columns:
                named.update(table["asset"].tolist())
            if "fee_asset" in columns and table["fee_asset"].min() != NO_STRING:
                named.update(table["fee_asset"].tolist())
        if fresh:
            accounts = accounts.copy()
            for index in fresh:
                accounts[index] = self.account(body.strings[index])
            self._bound[body.strings] = accounts
        assets = self._unnamed(len(body.strings))
        if named:
            assets = assets.copy()
            for index in named - {NO_STRING}:
                assets[index] = self.asset(body.strings[index])
        return self._binding(body, accounts, assets)

    def _accounts_of(self, strings: tuple[str, ...]) -> npt.NDArray[np.int64]:
        """The account number of each string, -1 of one that has none, or had none when they were last asked for: the batches of a writer
        name the same accounts over and over, and share what is found here."""
        accounts = self._bound.get(strings)
        if accounts is None:
            self._bound_texts += len(strings)
            if self._bound_texts > TEXTS_BOUND:
                self._bound.clear()
                self._bound_texts = len(strings)
            accounts = np.fromiter(map(self._account_number.__getitem__, strings), np.int64, len(strings))
            self._bound[strings] = accounts
        return accounts

    def _unnamed(self, strings: int) -> npt.NDArray[np.int64]:
        """The assets of so many strings none of which is named as one. Shared, as far as it is long enough."""
        if strings > len(self._no_assets):
            self._no_assets = np.full(strings, UNKNOWN_ASSET)
        return self._no_assets[:strings]

    def _bind_few(self, body: Body) -> Binding:
        """``bind`` of a body with few rows, name by name: numpy takes longer to look at a short column than Python does."""
        used, named = set[int](), set[int]()
        for table in body.tables.values():
            for column in table.dtype.names or ():
                if column in ("account", "credit"):
                    used.update(table[column].tolist())
                elif column in ("asset", "fee_asset"):
                    named.update(table[column].tolist())
        accounts, assets = [-1] * len(body.strings), [UNKNOWN_ASSET] * len(body.strings)
        for index in used:
            accounts[index] = self.account(body.strings[index])
        for index in named - {NO_STRING}:
            assets[index] = self.asset(body.strings[index])
        return self._binding(body, np.array(accounts, np.int64), np.array(assets, np.int64))

    def _binding(self, body: Body, accounts: npt.NDArray[np.int64], assets: npt.NDArray[np.int64]) -> Binding:
        numbers = [self.instrument(InstrumentKey(*entry)) for entry in body.instruments]
        scopes = [numbers[scope.instrument] for scope in body.scopes]
        return Binding(accounts, assets, np.array(numbers, np.int64), np.array(scopes, np.int64))

    def cells(self, binding: Binding, table: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
        """The cell of every row: ``account number * number of assets + asset number``."""
        accounts, assets = binding.accounts[table["account"]], binding.assets[table["asset"]]
        cells: npt.NDArray[np.int64] = accounts * len(self.assets) + assets
        return cells

    def cell_name(self, cell: int) -> tuple[str, str]:
        """(account, asset) of a cell."""
        return self.account_names[cell // len(self.assets)], self.assets[cell % len(self.assets)]

    def may_record(self, node: str, account: int) -> bool:
        """Whether the genesis lets ``node`` record facts for an account, by its local number."""
        return bool(self.allowed(node)[account])

    def allowed(self, node: str) -> npt.NDArray[np.bool_]:
        """The same for every account that has a number; asked once per pair."""
        known = self._authority.get(node)
        if known is None or len(known) < len(self.account_names):
            asked = self.account_names[0 if known is None else len(known) :]
            fresh = np.fromiter((self.genesis.may_record(node, name) for name in asked), np.bool_, len(asked))
            known = self._authority[node] = fresh if known is None else np.concatenate((known, fresh))
        return known

    # -- reference data -------------------------------------------------------------------------------------

    def apply(self, batch: Batch, place: Place) -> list[bytes]:
        """Take in definitions, accounts and marks; the digests of definitions that were unknown before."""
        fresh = []
        for definition, digest in zip(batch.body.definitions, definition_digests(batch.body), strict=True):
            if definition.settlement not in self._asset_number:
                continue  # cannot mean anything in this cluster; facts under it stay suspended
            if digest in self.base.by_digest:
                continue
            places = self._first_seen.setdefault(definition.name, {})
            if digest not in self._fresh:
                self._fresh[digest] = definition
                fresh.append(digest)
            places[digest] = min(places.get(digest, place), place)
        for entry in batch.body.accounts:
            known = self._labels.get(entry.name)
            candidate = (place, entry.label)
            if entry.name not in self.base.labels and (known is None or candidate < known):
                self._labels[entry.name] = candidate
                self._fresh_labels[entry.name] = entry.label
        marks = batch.body.tables.get(Kind.MARK)
        if marks is not None:
            self._apply_marks(batch, marks)
        return fresh

    def _apply_marks(self, batch: Batch, marks: npt.NDArray[np.void]) -> None:
        newest_last = np.lexsort((marks["price"], marks["sequence"], marks["ts_us"]))
        pairs = marks["instrument"][newest_last].astype(np.int64) << 16 | marks["source"][newest_last]
        _, last = np.unique(pairs[::-1], return_index=True)
        for row in newest_last[len(pairs) - 1 - last].tolist():
            slot, entry = _mark(batch.body, row)
            if slot not in self.marks or self.marks[slot] < entry:
                self._marks[slot] = entry

    def known_marks(self, body: Body) -> npt.NDArray[np.bool_]:
        """Which marks of a body change nothing: a newer one of their source stands, or comes earlier in the body."""
        newer: dict[tuple[str, str], MarkEntry] = {}
        standing = layered(newer, self.marks)
        known = np.zeros(len(body.tables[Kind.MARK]), np.bool_)
        for row in range(len(known)):
            slot, entry = _mark(body, row)
            known[row] = slot in standing and entry <= standing[slot]
            if not known[row]:
                newer[slot] = entry
        return known

    def rivals_of(self, name: str) -> tuple[bytes, ...]:
        """The digests of all definitions of ``name``: the standing one first, settled ones before others."""
        places = self._first_seen.get(name, {})
        settled = tuple(rival.digest for rival in self.base.definitions.get(name, ()))
        return settled + tuple(sorted(places, key=lambda digest: (places[digest], digest)))

    def standing(self, name: str) -> bytes | None:
        """The digest of the definition of ``name`` that stands: the settled one, or else the first in canonical order."""
        settled = self.base.standing(name)
        places = self._first_seen.get(name) if settled is None else None
        if places and len(places) == 1:  # as names have: it is asked several times a fact
            return next(iter(places))
        return min(places, key=lambda digest: (places[digest], digest)) if places else settled

    def defined_at(self, name: str) -> Place | None:
        """Where the standing definition of ``name`` was recorded, None if it is settled or there is none."""
        standing = self.standing(name)
        return (
            self._first_seen.get(name, {}).get(standing) if standing and standing not in self.base.by_digest else None
        )

    def definition(self, name: str) -> Instrument | None:
        """The standing definition of ``name``."""
        digest = self.standing(name)
        return self.definitions[digest] if digest else None

    def names(self) -> list[str]:
        """Every instrument name that has a definition, sorted."""
        return sorted({*self._first_seen, *self.base.definitions})

    def rivals(self) -> dict[str, tuple[bytes, ...]]:
        """Names for which the unsettled batches make more than one definition: all their digests, the standing one first."""
        all_of = {name: self.rivals_of(name) for name in sorted(self._first_seen)}
        return {name: digests for name, digests in all_of.items() if len(digests) > 1}

    def fresh_definitions(self) -> dict[str, tuple[bytes, ...]]:
        """Names that the unsettled batches add a definition to: all their digests, the standing one first."""
        return {name: self.rivals_of(name) for name in sorted(self._first_seen)}

    def fresh_labels(self) -> Mapping[str, str]:
        """Labels of accounts that the base does not know."""
        return self._fresh_labels

    def fresh_marks(self) -> Mapping[tuple[str, str], MarkEntry]:
        """Marks that stand above those of the base."""
        return self._marks

    def lost(self, number: int) -> bool:
        """Whether facts under this local number can never count: another definition of the name is settled, or the
        digest is of a settled definition with another name."""
        key = self.instrument_keys[number]
        settled = self.base.standing(key.name)
        return settled != key.digest if settled is not None else key.digest in self.base.by_digest

    def meaning(self, number: int) -> Instrument | None:
        """The definition behind a local number, if it is known and bears that name."""
        key = self.instrument_keys[number]
        definition = self.definitions.get(key.digest)
        return definition if definition is not None and definition.name == key.name else None


def layered(front: dict[K, V], back: Mapping[K, V]) -> ChainMap[K, V]:
    """Both mappings as one; the front's entries hide the back's, and only the front is ever written to."""
    return ChainMap(front, cast("MutableMapping[K, V]", back))


def _mark(body: Body, row: int) -> tuple[tuple[str, str], MarkEntry]:
    """One mark: (instrument's name, source), and what stands if no greater one does."""
    mark = body.tables[Kind.MARK][row]
    key = InstrumentKey(*body.instruments[int(mark["instrument"])])
    entry = MarkEntry(int(mark["ts_us"]), int(mark["sequence"]), int(mark["price"]), key)
    return (key.name, body.strings[int(mark["source"])]), entry
