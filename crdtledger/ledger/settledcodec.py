"""The one encoding of a settled state: what a snapshot in a journal holds.

    raw = msgpack [version, cluster, counts, lanes, definitions, ...]      every mapping a list of rows, sorted by key

Amounts are decimal text, because sums outgrow what msgpack carries; columns of ids are bytes. Decoding takes nothing for granted:
bytes from a torn file, or from somebody who means harm, are answered with InvalidProof. That rows are sorted, and that
everything is spelt in its one way, is seen by encoding again (``settled.decode_state``). The board comes last, and only if something
stands on it; behind it, and only where the genesis sets a window for ids, what belongs to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import msgspec

from crdtledger.errors import InvalidBatch, InvalidProof
from crdtledger.ledger import ordercodec
from crdtledger.ledger.batch import LANE_BYTES, MAX_SEQ, parse_lane
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.clock import MAX_TIMESTAMP
from crdtledger.ledger.facts import MAX_AMOUNT, Instrument
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import DIGEST_BYTES
from crdtledger.ledger.idwindow import ENDED, FIRST_FLOOR_US, Heard, IdWindow, low_span
from crdtledger.ledger.noteform import decode_entry
from crdtledger.ledger.ordercodec import WHERE, amount_of, need
from crdtledger.ledger.reference import (
    INSTRUMENT_DIGEST_BYTES,
    InstrumentKey,
    MarkEntry,
    instrument_digest,
    instrument_fault,
)
from crdtledger.ledger.seenids import unpack_seen
from crdtledger.ledger.settledparts import (
    Definition,
    Reserved,
    SettledBalance,
    SettledLane,
    SettledNote,
    SettledPosition,
    SuspendedFills,
)
from crdtledger.ledger.settledpositions import SettledPositions
from crdtledger.ledger.sharedmap import Pair
from crdtledger.ledger.timedids import Packed, unpack_timed

if TYPE_CHECKING:
    from crdtledger.ledger.settled import SettledState

VERSION: Final = 2

_LaneKey = Annotated[bytes, msgspec.Meta(min_length=LANE_BYTES, max_length=LANE_BYTES)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
_Heard = Annotated[int, msgspec.Meta(ge=0, le=ENDED)]
_Half = Annotated[int, msgspec.Meta(ge=0)]
_Seen = tuple[bytes, bytes, bytes]
_Balance = tuple[str, str, str, str, str, str, tuple[tuple[int, str], ...], str]


class _Position(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    account: str
    instrument: str
    bought: str
    sold: str
    value_bought: str
    value_sold: str
    fees: str
    other_fees: tuple[tuple[str, str], ...]
    fills: int
    cost: str
    realised: str


class _Window(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    floor_us: Annotated[int, msgspec.Meta(ge=FIRST_FLOOR_US, le=MAX_AMOUNT)]
    newest_us: Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
    heard: tuple[tuple[_LaneKey, _Heard, _Heard], ...]
    fills: Packed
    busts: Packed


class _Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    cluster: bytes
    facts: Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
    batches: Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
    lanes: tuple[tuple[_LaneKey, SettledLane], ...]
    definitions: tuple[tuple[str, tuple[Instrument, ...]], ...]
    labels: tuple[tuple[str, str], ...]
    marks: tuple[tuple[str, str, int, int, int, bytes], ...]
    cursors: tuple[tuple[_LaneKey, str, _Count, _Count], ...]
    positions: tuple[msgspec.Raw, ...]  # each a ``_Position``, which is opened by itself
    collateral: tuple[_Balance, ...]
    reserves: tuple[tuple[_LaneKey, _Half, _Half, str, str, str, str, int], ...]
    fills: _Seen
    busts: _Seen
    used: tuple[tuple[int, _Seen], ...]
    shared: _Seen
    suspended: tuple[tuple[_LaneKey, _Count, tuple[_Count, ...], bytes], ...]
    breaks: tuple[tuple[str, str, str], ...]
    trading: ordercodec.Wire
    board: tuple[tuple[_LaneKey, tuple[SettledNote, ...]], ...] = ()
    window: _Window | None = None


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(_Wire)
_position_decoder = msgspec.msgpack.Decoder(_Position)


def encode(state: SettledState) -> bytes:
    """The bytes of a state."""
    wire = _Wire(
        version=VERSION,
        cluster=state.cluster,
        facts=state.facts,
        batches=state.batches,
        lanes=tuple(sorted(state.lanes.items())),
        definitions=tuple(
            (name, tuple(_plain(rival.instrument) for rival in state.definitions[name]))
            for name in sorted(state.definitions)
        ),
        labels=tuple(sorted(state.labels.items())),
        marks=tuple(
            (*slot, mark.ts_us, mark.sequence, mark.price, mark.instrument.digest)
            for slot, mark in sorted(state.marks.items())
        ),
        cursors=tuple((*slot, *at) for slot, at in sorted(state.cursors.items())),
        positions=tuple(_position(*name, held) for name, held in sorted(state.positions.items())),
        collateral=tuple(_balance(*name, state.collateral[name]) for name in sorted(state.collateral)),
        reserves=tuple(
            (lane, *key, held.account, held.asset, str(held.remaining), held.id, held.expires_us)
            for lane, reserves in sorted(state.reserves.items(), key=lambda item: item[0])
            for key, held in sorted(reserves.items(), key=lambda item: item[0])
        ),
        fills=state.fills.pack(),
        busts=state.busts.pack(),
        used=tuple((member, state.used[member].pack()) for member in sorted(state.used)),
        shared=state.shared.pack(),
        suspended=tuple(waiting.stated for waiting in state.suspended),
        breaks=tuple((one.type, one.subject, one.detail) for one in state.breaks),
        trading=ordercodec.encode(state),
        board=tuple(sorted(state.board.items(), key=lambda item: item[0])),
        window=_packed_window(state.window) if state.window is not None else None,
    )
    said = msgspec.structs.astuple(wire)
    return _encoder.encode(said if wire.window else said[:-1] if wire.board else said[:-2])


def _packed_window(window: IdWindow) -> _Window:
    heard = tuple((lane, *window.heard[lane]) for lane in sorted(window.heard))
    return _Window(window.floor_us, window.newest_us, heard, window.fills.pack(), window.busts.pack())


def _plain(instrument: Instrument) -> Instrument:
    """A definition as the map that is encoded: what it says beyond the defaults, as its digest has it."""
    said: Any = msgspec.to_builtins(instrument)
    return cast("Instrument", said)


def _position(account: str, instrument: str, held: SettledPosition) -> msgspec.Raw:
    wire = _Position(
        account,
        instrument,
        str(held.bought),
        str(held.sold),
        str(held.value_bought),
        str(held.value_sold),
        str(held.fees),
        tuple((asset, str(fee)) for asset, fee in held.other_fees),
        held.fills,
        str(held.cost),
        str(held.realised),
    )
    return msgspec.Raw(_encoder.encode(wire))


def _balance(account: str, asset: str, held: SettledBalance) -> _Balance:
    amounts = (str(held.deposited), str(held.withdrawn), str(held.reserved), str(held.shortfall))
    return (account, asset, *amounts, tuple((member, str(amount)) for member, amount in held.rights), str(held.margin))


def decode(raw: bytes, genesis: Genesis, salt: int) -> dict[str, Any]:
    """The fields of a state by name. InvalidProof for anything that cannot stand in this cluster's."""
    try:
        wire = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as fault:
        raise InvalidProof(WHERE, f"it is not a state: {fault}") from None
    need(wire.version == VERSION, f"its version is {wire.version}, this program reads {VERSION}")
    need(wire.cluster == genesis.hash, "it is another cluster's")
    try:
        return _fields(wire, genesis, salt)
    except InvalidBatch as fault:
        raise InvalidProof(WHERE, str(fault)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise InvalidProof(WHERE, f"a position is none: {fault}") from None


def _fields(wire: _Wire, genesis: Genesis, salt: int) -> dict[str, Any]:
    members = len(genesis.nodes)
    need(all(0 <= member < members for member, _ in wire.used), "it names a member that the genesis does not have")
    reserves = _reserves(wire, genesis)
    definitions = {name: _definitions(name, rivals, genesis) for name, rivals in wire.definitions}
    trading = ordercodec.decode(wire.trading, genesis, {name: rivals[0] for name, rivals in definitions.items()})
    margins: dict[tuple[str, str], int] = {}
    for (account, name), carried in trading["carried"].items():
        cell = (account, definitions[name][0].instrument.settlement)
        margins[cell] = margins.get(cell, 0) + carried.margin
    return {
        "cluster": wire.cluster,
        "facts": wire.facts,
        "batches": wire.batches,
        "lanes": _lanes(wire, genesis),
        "definitions": definitions,
        "labels": dict(wire.labels),
        "marks": {
            (name, source): MarkEntry(ts_us, sequence, price, InstrumentKey(name, digest))
            for name, source, ts_us, sequence, price, digest in wire.marks
            if need(len(digest) == INSTRUMENT_DIGEST_BYTES, f"a mark of {name!r} names no definition")
        },
        "cursors": {(lane, source): (position, line) for lane, source, position, line in wire.cursors},
        "positions": SettledPositions.of((_opened_position(raw, genesis) for raw in wire.positions), salt),
        "collateral": _collateral(wire, genesis, reserves, margins),
        "reserves": reserves,
        "fills": unpack_seen(wire.fills, salt, WHERE),
        "busts": unpack_seen(wire.busts, salt, WHERE),
        "used": {member: unpack_seen(seen, salt, WHERE) for member, seen in wire.used},
        "shared": unpack_seen(wire.shared, salt, WHERE),
        "suspended": tuple(_suspended(*entry) for entry in wire.suspended),
        "breaks": tuple(Break(*words) for words in wire.breaks),
        "board": _board(wire, genesis),
        "window": _window(wire.window, genesis, salt),
        **trading,
    }


def _lanes(wire: _Wire, genesis: Genesis) -> dict[bytes, SettledLane]:
    for key, lane in wire.lanes:
        need(parse_lane(key).node in genesis.by_id, "a lane is of no member")
        need(len(lane.hash) == DIGEST_BYTES and 0 <= lane.seq <= MAX_SEQ, "a lane's cut names no batch")
        need(lane.base_height >= 0 and lane.closed >= 0, "a lane's base or its fork is below zero")
        need((lane.closed > 0) == bool(lane.evidence), "a lane is closed without evidence, or open with it")
    return dict(wire.lanes)


def _board(wire: _Wire, genesis: Genesis) -> dict[bytes, tuple[SettledNote, ...]]:
    for lane, notes in wire.board:
        need(
            parse_lane(lane).node in genesis.by_id and bool(notes),
            "a lane on the board is of no member, or noted nothing",
        )
        sound = all(0 < one.clock <= MAX_TIMESTAMP and decode_entry(one.entry) is not None for one in notes)
        need(sound, "what stands on the board is no note")
    return dict(wire.board)


def _window(wire: _Window | None, genesis: Genesis, salt: int) -> IdWindow | None:
    window_us = genesis.policies.id_window_us
    need((wire is not None) == (window_us > 0), "it remembers ids for another while than the genesis says")
    if wire is None:
        return None
    need(all(parse_lane(lane).node in genesis.by_id for lane, *_ in wire.heard), "it heard a lane of no member")
    low = low_span(wire.floor_us, window_us)
    return IdWindow(
        floor_us=wire.floor_us,
        newest_us=wire.newest_us,
        heard={lane: Heard(said_us, until_us) for lane, said_us, until_us in wire.heard},
        fills=unpack_timed(wire.fills, low, salt, WHERE),
        busts=unpack_timed(wire.busts, low, salt, WHERE),
    )


def _definitions(name: str, rivals: tuple[Instrument, ...], genesis: Genesis) -> tuple[Definition, ...]:
    for rival in rivals:
        sound = instrument_fault(rival) is None and rival.settlement in genesis.asset_decimals
        need(sound and rival.name == name, f"a definition of {name!r} cannot stand")
    digests = [instrument_digest(rival) for rival in rivals]
    need(0 < len(digests) == len(set(digests)), f"{name!r} has no definition, or one twice")
    return tuple(Definition(digest, rival) for digest, rival in zip(digests, rivals, strict=True))


def _opened_position(raw: msgspec.Raw, genesis: Genesis) -> tuple[Pair, SettledPosition]:
    # One by one, so that the few names that stay do not stand among all that was decoded, and keep its memory.
    held = _position_decoder.decode(raw)
    assets = [asset for asset, _ in held.other_fees]
    need(assets == sorted(set(assets)) and genesis.asset_decimals.keys() >= set(assets), "fees in unknown assets")
    position = SettledPosition(
        bought=amount_of(held.bought, None),
        sold=amount_of(held.sold, None),
        value_bought=amount_of(held.value_bought, None),
        value_sold=amount_of(held.value_sold, None),
        fees=amount_of(held.fees, None),
        other_fees=tuple((asset, amount_of(fee, None)) for asset, fee in held.other_fees),
        fills=held.fills,
        cost=amount_of(held.cost, None),
        realised=amount_of(held.realised, None),
    )
    return (held.account, held.instrument), position


def _reserves(wire: _Wire, genesis: Genesis) -> dict[bytes, dict[tuple[int, int], Reserved]]:
    out: dict[bytes, dict[tuple[int, int], Reserved]] = {}
    for lane, high, low, account, asset, remaining, id, expires_us in wire.reserves:
        need(asset in genesis.asset_decimals, f"a reserve of {asset!r}, which is no asset of this cluster")
        out.setdefault(lane, {})[high, low] = Reserved(account, asset, amount_of(remaining, 1), id, expires_us)
    return out


def _collateral(
    wire: _Wire,
    genesis: Genesis,
    reserves: dict[bytes, dict[tuple[int, int], Reserved]],
    margins: dict[tuple[str, str], int],
) -> dict[tuple[str, str], SettledBalance]:
    reserved: dict[tuple[str, str], int] = {}
    for held in (one for lane in reserves.values() for one in lane.values()):
        cell = (held.account, held.asset)
        reserved[cell] = reserved.get(cell, 0) + held.remaining
    out: dict[tuple[str, str], SettledBalance] = {}
    for account, asset, came, went, kept, short, rights, margin in wire.collateral:
        need(asset in genesis.asset_decimals, f"collateral in {asset!r}, which is no asset of this cluster")
        members = [member for member, _ in rights]
        need(members == sorted(set(members)) and all(0 <= m < len(genesis.nodes) for m in members), "rights of nobody")
        out[account, asset] = SettledBalance(
            deposited=amount_of(came),
            withdrawn=amount_of(went),
            reserved=amount_of(kept),
            margin=amount_of(margin),
            shortfall=amount_of(short),
            rights=tuple((member, amount_of(amount, 1)) for member, amount in rights),
        )
        need(out[account, asset].reserved == reserved.pop((account, asset), 0), "reserves do not add up")
        need(out[account, asset].margin == margins.pop((account, asset), 0), "margins do not add up")
    need(not reserved, "a reserve is of no balance")
    need(not any(margins.values()), "a margin is of no balance")
    return out


def _suspended(key: bytes, seq: int, rows: tuple[int, ...], raw: bytes) -> SuspendedFills:
    waiting = SuspendedFills(key, seq, rows, raw)
    tables = list(waiting.body.tables.values())
    need(len(tables) == 1 and len(tables[0]) == len(rows) and "scope" in (tables[0].dtype.names or ()), "no fills wait")
    return waiting
