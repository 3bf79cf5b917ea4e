"""What a node tells when it is asked: views as rows of plain values, amounts as decimal text.

Rows are sorted, so two nodes with the same batches give the same bytes. Every figure says which state it is in:
``settled(h)`` when it is exactly what checkpoint h says, ``provisional`` while something unsettled touches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crdtledger.edge import orderreading, proving, tracing
from crdtledger.edge.api import Notes, Prove, Query, Told, Trace
from crdtledger.edge.checkpointing import Checkpointer
from crdtledger.errors import BadInput, UnknownName, decimal_text
from crdtledger.ledger.batch import LANE_BYTES, lane_text, parse_lane
from crdtledger.ledger.drafting import check_fact
from crdtledger.ledger.facts import Fill
from crdtledger.ledger.frontier import frontier_digest
from crdtledger.ledger.idwindow import ENDED
from crdtledger.ledger.positionrow import Position
from crdtledger.ledger.text import (
    balance_json,
    board_json,
    break_json,
    fact_from_json,
    instrument_json,
    noted_json,
    position_json,
)
from crdtledger.ledger.view import View

if TYPE_CHECKING:
    from crdtledger.edge.core import NodeCore

PROVISIONAL = "provisional"


def query(core: NodeCore, request: Query, now_us: int) -> Any:
    """The answer to a query; ``UnknownName`` when it narrows down to an account or instrument that does not exist."""
    view = core.replica.view
    if request.account and request.account not in view.catalog.labels:
        raise UnknownName(kind="account", name=request.account, known=view.catalog.labels)
    if request.instrument and view.catalog.standing(request.instrument) is None:
        raise UnknownName(kind="instrument", name=request.instrument, known=view.catalog.names())
    if request.view == "positions":
        wanted = view.position_rows(request.account)
        return [_position(core, row) for row in wanted if request.instrument in ("", row.instrument)]
    if request.view == "collateral":
        rows = [balance_json(row, _state(core, row.settled)) for row in view.collateral_rows()]
        return _narrow(rows, account=request.account)
    if request.view == "instruments":
        return [_instrument(view, name) for name in view.catalog.names() if request.instrument in ("", name)]
    if request.view == "accounts":
        return [{"account": name, "label": label} for name, label in sorted(view.catalog.labels.items())]
    if request.view == "marks":
        return _marks(view)
    if request.view == "board":
        return [board_json(row, _state(core, row.settled)) for row in view.board.rows()]
    if request.view == "breaks":
        return [break_json(item) for item in core.replica.breaks()]
    if request.view == "frontier":
        return frontier(core)
    if request.view == "members":
        return members(core)
    if request.view == "heard":
        return heard(core, now_us)
    if request.view == "orders":
        return orderreading.orders(core, request)
    if request.view == "matches":
        return orderreading.matches(core, request)
    if request.view == "fresh":
        return orderreading.fresh(core, now_us)
    if request.view == "digest":
        return {"frontier": frontier_digest(core.gossiped.durable_frontier()).hex(), "view": view.digest().hex()}
    return status(core)


def _state(core: NodeCore, settled: bool) -> str:
    return f"settled({core.replica.base[0]})" if settled and core.replica.base[0] else PROVISIONAL


def _position(core: NodeCore, row: Position) -> dict[str, Any]:
    definition = core.replica.view.catalog.definition(row.instrument)
    assert definition is not None, "a position has a standing definition"
    return position_json(row, _state(core, row.settled), definition)


def _narrow(rows: list[dict[str, Any]], **wanted: str) -> list[dict[str, Any]]:
    return [row for row in rows if all(not value or row[key] == value for key, value in wanted.items())]


def _instrument(view: View, name: str) -> dict[str, Any]:
    definition, standing = view.catalog.definition(name), view.catalog.standing(name)
    assert definition is not None
    assert standing is not None
    return instrument_json(definition, standing)


def _marks(view: View) -> list[dict[str, Any]]:
    rows = []
    for (name, source), mark in sorted(view.catalog.marks.items()):
        definition = view.catalog.definitions.get(mark.instrument.digest)
        price = decimal_text(mark.price, definition.price_decimals) if definition else None
        rows.append(
            {"instrument": name, "source": source, "price": price, "ts_us": mark.ts_us, "sequence": mark.sequence}
        )
    return rows


def noted(core: NodeCore, request: Notes) -> list[dict[str, Any]]:
    """What was noted about a break, and which of it stands."""
    board = core.replica.view.board
    history = board.history(request.break_id)
    standing = {one.name for field in {one.field for one in history} for one in board.standing(request.break_id, field)}
    return [noted_json(one, one.name in standing, _state(core, one.settled)) for one in history]


def frontier(core: NodeCore) -> list[dict[str, Any]]:
    """Every lane with its durable head, sorted."""
    rows = []
    for lane, head in sorted(core.gossiped.durable_frontier().items()):
        parsed = parse_lane(lane)
        rows.append(
            {
                "lane": lane.hex(),
                "name": lane_text(lane, core.genesis),
                "node": core.genesis.by_id[parsed.node].name,
                "epoch": parsed.epoch,
                "seq": head.seq,
                "hash": head.hash.hex(),
                "forks_at": head.fork_seq or None,
            }
        )
    return rows


def members(core: NodeCore) -> list[dict[str, Any]]:
    """Every member as this node sees it. ``lag``: batches that it lacks and we hold, as far as it said. ``batches``: taken from it;
    ``copies`` of them were here already."""
    peers = core.engine.peers
    offences = _offences(core)
    rows = []
    for member in core.genesis.nodes:
        peer = peers.get(member.name)
        rows.append(
            {
                "node": member.name,
                "address": member.address,
                "roles": list(member.roles),
                "self": peer is None,
                "connected": peer is None or (peer.connected and peer.greeted),
                "last_heard_us": peer.last_heard_us if peer else None,
                "lag": peer.lag if peer else 0,
                "ahead": peer.ahead if peer else 0,
                "batches": peer.batches if peer else 0,
                "copies": peer.copies if peer else 0,
                "bytes_in": peer.bytes_in if peer else 0,
                "refusals": peer.refusals if peer else 0,
                "over_rate": peer.over_rate if peer else 0,
                "refused_because": peer.refusal if peer else "",
                "offences": offences.get(member.name, []),
            }
        )
    return rows


def heard(core: NodeCore, now_us: int) -> dict[str, Any]:
    """What this node knows of who holds what: its own durable heads, and each peer's as it last told them, when, and its silences."""
    names = {lane: lane_text(lane, core.genesis) for lane in core.gossiped.heads()}
    peers = core.engine.peers
    holders = []
    for member in core.genesis.nodes:
        peer = peers.get(member.name)
        heads = peer.heads if peer else core.gossiped.heads()
        # What a peer says may be of no lane at all: only lanes of members are passed on.
        told = {
            names.get(lane) or lane_text(lane, core.genesis): heads[lane].seq
            for lane in sorted(heads)
            if len(lane) == LANE_BYTES and parse_lane(lane).node in core.genesis.by_id
        }
        holders.append(
            {
                "node": member.name,
                "self": member.name == core.name,
                "connected": member.name == core.name or bool(peer and peer.connected and peer.greeted),
                "heard_us": (peer.last_heard_us if peer else 0) if member.name != core.name else None,
                "silences": [silence._asdict() for silence in peer.silences] if peer else [],
                "heads": told,
            }
        )
    return {"now_us": now_us, "node": core.name, "holders": holders}


def traced(core: NodeCore, request: Trace) -> list[dict[str, Any]]:
    """The facts behind a figure. ``UnknownName`` for an account, instrument or asset that does not exist."""
    catalog = core.replica.view.catalog
    if not (request.account or request.subject or request.name or request.id_space):
        raise BadInput(
            what="nothing", where="trace", why="name an account, an instrument or asset, a fill, or an id space"
        )
    if request.account and request.account not in catalog.labels:
        raise UnknownName(kind="account", name=request.account, known=catalog.labels)
    subjects = [*catalog.names(), *catalog.assets]
    if request.subject and request.subject not in subjects:
        raise UnknownName(kind="instrument or asset", name=request.subject, known=subjects)
    return tracing.trace(core.replica, request)


def told(core: NodeCore, request: Told) -> list[str]:
    """Whether fills are settled. ``BadInput`` for a line that is no fill."""
    catalog = core.replica.view.catalog
    facts = [fact_from_json(item, catalog, f"line {number}") for number, item in enumerate(request.fills, 1)]
    fills = [fact for fact in facts if type(fact) is Fill]
    if len(fills) != len(facts):
        raise BadInput(what="a fact", where="told", why="only fills are asked for here")
    for number, fact in enumerate(fills, 1):
        check_fact(fact, f"line {number}")
    return tracing.settled_as(core.replica, fills)


def _offences(core: NodeCore) -> dict[str, list[str]]:
    """What each member is proven to have done, by its name: lanes that fork, and votes that contradict each other."""
    told = core.checkpoints.offences.by_name() if core.checkpoints else {}
    for lane, head in sorted(core.replica.frontier().items()):
        if head.fork_seq:
            name = core.genesis.by_id[parse_lane(lane).node].name
            told.setdefault(name, []).append(f"forked {lane_text(lane, core.genesis)} at {head.fork_seq}")
    return told


def status(core: NodeCore) -> dict[str, Any]:
    """One node at a glance."""
    progress = core.engine.progress
    state = core.epochs.state
    return {
        "node": core.name,
        "cluster": core.genesis.cluster,
        "genesis": core.genesis.hash.hex(),
        "epoch": state.epoch,
        "lane": lane_text(core.epochs.lane.key, core.genesis),
        "locked": state.locked,
        "locked_until": core.epochs.missing(),
        "base": {"height": core.replica.base[0], "digest": core.replica.base[1].hex()},
        "facts": core.replica.view.facts,
        "batches": len(core.replica),
        "waiting_batches": core.replica.waiting(),
        "breaks": core.replica.break_count(),
        "frontier": frontier_digest(core.gossiped.durable_frontier()).hex(),
        "journal": {"position": core.position, "durable": core.durable},
        "catch_up": {"have": progress.have, "target": progress.target},
        "connected": sum(1 for peer in core.engine.peers.values() if peer.connected and peer.greeted),
        "peers": len(core.engine.peers),
        "state": _state(core, not core.replica.unsettled()),
        "settled_facts": core.replica.state.facts,
        "unsettled_batches": core.replica.unsettled(),
        "open_forks": core.replica.open_forks(),
        "id_window": _id_window(core),
        "checkpoints": _checkpoints(core.checkpoints) if core.checkpoints else {"agreement": _why_off(core)},
    }


def _id_window(core: NodeCore) -> dict[str, Any] | None:
    """For how long ids of fills are remembered; None: for good. ``held_by``: the members that were heard least lately, by their own
    clocks, and so keep the floor from rising."""
    state, window = core.replica.state, core.replica.state.window
    if window is None:
        return None
    heard: dict[str, int] = {}
    for lane, one in window.heard.items():
        name = core.genesis.by_id[parse_lane(lane).node].name
        heard[name] = min(one.until_us, heard.get(name, ENDED))
    recording = {member.name: heard.get(member.name, 0) for member in core.genesis.recorders}
    least = min(recording.values(), default=0)
    return {
        "window_ms": core.genesis.policies.id_window_us // 1_000,
        "floor_us": window.floor_us,
        "newest_us": window.newest_us,
        "held_by": sorted(name for name, at_us in recording.items() if at_us == least),
        "heard_us": least,
        "remembered": len(window.fills) + len(window.busts) + len(state.fills) + len(state.busts),
    }


def _why_off(core: NodeCore) -> str:
    agrees = core.genesis.policies.agreement != "none"
    return "stopped: the cluster's secret for salts is missing here" if agrees else "off"


def prove(core: NodeCore, request: Prove) -> bytes:
    """The proof file of an account at the newest certified height. ``UnknownName`` for an account that nobody defined, unless it is
    asked for as absent; ``BadInput`` while no height is certified."""
    account = request.account
    if core.checkpoints is None:
        raise BadInput(what=f"account {account!r}", where="prove", why=f"checkpoints are {_why_off(core)}")
    if account not in core.replica.view.catalog.labels and not request.absent:
        raise UnknownName(kind="account", name=account, known=core.replica.view.catalog.labels)
    desk = core.checkpoints.desk
    settled = desk.book.get(desk.book.certified)
    if settled is None:
        raise BadInput(what=f"account {account!r}", where="prove", why="no height is certified here yet")
    parts = (core.genesis, settled, desk.certifying.log, desk.book.certificate)
    return proving.prove(*parts, account, request.liabilities)


def _checkpoints(checkpoints: Checkpointer) -> dict[str, Any]:
    """Where checkpoints stand. Seconds are of the newest heights, from when this node began to vote on one until it was settled
    here, and until its certificate was."""
    voting, desk = checkpoints.voting, checkpoints.desk
    begun = {height: timing for height, timing in checkpoints.timings.items() if timing.begun_us}
    certified = {height: desk.certified_us[height] for height in begun if height in desk.certified_us}
    return {
        "agreement": f"stopped: {checkpoints.stopped}" if checkpoints.stopped else "running",
        "height": checkpoints.height,
        "certified_height": desk.book.certified,
        "certified_by": desk.certifying.signers(desk.book.certified),
        "voting": {"height": voting.height, "round": voting.round} if voting and voting.is_open else None,
        "votes_from": voting.abstaining.votes_from if voting else None,
        "adjusted": dict(sorted(desk.book.counts.items())),
        "seconds_to_settle": [_seconds(timing.begun_us, timing.settled_us) for timing in begun.values()],
        "seconds_to_certify": [_seconds(begun[height].begun_us, at_us) for height, at_us in certified.items()],
    }


def _seconds(begun_us: int, end_us: int) -> float:
    return round((end_us - begun_us) / 1_000_000, 3)


def cursor(view: View, node: bytes, source: str) -> dict[str, int]:
    """How far the lanes of ``node`` have imported ``source``: position and line, 0 when never."""
    known = [at for (lane, name), at in view.cursors.items() if name == source and lane.startswith(node)]
    position, line = max(known, default=(0, 0))
    return {"position": position, "line": line}
