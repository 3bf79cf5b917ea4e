"""The asking side of repair: which batches to fetch, from whom, and when to try somebody else.

It works from *claims* ("peer P holds lane L up to seq N with hash H", out of heads and of batches that wait
for others) and from *suspicions* ("P holds another batch at a place that we hold too": a fork, if true).

Rules.

* At most ``outstanding`` requests at once, one per lane; small gaps first, so that a big lane starves nobody
  (of a peer that claims more lanes than ``_LOOKED_AT``, among as many at a time).
* A request asks for the whole gap and takes what one answer carries; the next starts where that one ended. So
  progress is never lost, and nothing needs to be resumed: the gap itself is the state.
* No answer in time: ask another holder, and wait longer for this one. A peer that failed last time, or had
  not what it claimed, gets one request at a time, so that a few dead or lying peers cannot hold every slot.
* An answer that brought nothing (batches that wait for other lanes, a branch that is not ours) backs off,
  doubling.
* Suspicions come first: they are one batch each, and a fork is worth knowing early. Each is fetched once.

What it is not: a judge of claims. A peer may claim a head that does not exist; that costs requests to this
peer, nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import msgspec

from gossip import wire
from gossip.replica import Head

_LONGEST_BACKOFF_US: Final = 30_000_000
_COMPARED: Final = 4096
_REST_US: Final = 50_000
_LOOKED_AT: Final = 256
_AVOIDED: Final = 1024
_SUSPICIONS_PER_PEER: Final = 64

_Place: TypeAlias = tuple[bytes, int, bytes]  # lane, seq, hash


class CatchupLimits(msgspec.Struct, frozen=True):
    """``outstanding`` requests at once, for ``chunk_bytes`` each; ``timeout_us`` to the first doubt;
    ``backoff_us`` after an answer that brought nothing; claims for at most ``lanes`` lanes of
    each peer, so that one that claims everything crowds out nobody."""

    outstanding: int = 3
    chunk_bytes: int = 1024 * 1024
    timeout_us: int = 2_000_000
    backoff_us: int = 200_000
    lanes: int = 65_536


class Request(msgspec.Struct, frozen=True):
    """One request under way. ``suspicion``: it asks for one named batch, to be compared with ours."""

    request: int
    peer: str
    lane: bytes
    first: int
    last: int
    head: bytes
    deadline_us: int
    suspicion: bool


class Progress(msgspec.Struct, frozen=True):
    """``have`` of ``target`` batches in the ``lanes`` that have a gap, for a progress bar; requests
    ``outstanding``.
    """

    have: int
    target: int
    lanes: int
    outstanding: int


class _Backoff(msgspec.Struct):
    until_us: int
    gap_us: int


class Catchup:
    """The planner. It sends nothing: ``plan`` says what to ask, the other methods say what became of it."""

    def __init__(self, limits: CatchupLimits) -> None:
        self._limits = limits
        self._claims: dict[bytes, dict[str, Head]] = {}
        self._suspicions: dict[_Place, set[str]] = {}
        self._compared: dict[_Place, None] = {}  # in order of age
        self._requests: dict[int, Request] = {}
        self._next_request = 1
        self._avoid: dict[tuple[str, bytes], _Backoff] = {}
        self._hold: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._fruitless: set[str] = set()  # what they claimed last, they did not have
        self._lanes_of: dict[str, dict[bytes, None]] = {}  # what each claims beyond us, the next to look at first
        self._dirty = False
        self._wake_us: int | None = None
        self._rest_us = 0

    # What the engine learns -----------------------------------------------------------------------------

    def claim(self, peer: str, lane: bytes, head: Head) -> None:
        """``peer`` holds ``lane`` up to ``head``, which is beyond what we admitted."""
        holders = self._claims.get(lane, {})
        known = holders.get(peer)
        if known is None:
            lanes = self._lanes_of.setdefault(peer, {})
            if len(lanes) >= self._limits.lanes:
                return
            lanes[lane] = None
            self._claims[lane] = holders
        if known is None or head.seq > known.seq or (head.seq == known.seq and not known.hash):
            holders[peer] = head
            self._dirty = True

    def suspect(self, peer: str, lane: bytes, head: Head) -> None:
        """``peer`` holds a batch at ``head.seq`` whose hash is not the one that we hold there."""
        place = (lane, head.seq, head.hash)
        if place in self._compared or peer in self._suspicions.get(place, ()):
            return
        if sum(peer in suspects for suspects in self._suspicions.values()) < _SUSPICIONS_PER_PEER:
            self._suspicions.setdefault(place, set()).add(peer)
            self._dirty = True

    def look_again(self, lane: bytes, head: Head) -> None:
        """The batch at ``head`` was compared with ours perhaps, but is needed itself: it may be fetched once more."""
        self._compared.pop((lane, head.seq, head.hash), None)

    def advanced(self, lane: bytes, admitted: int) -> None:
        """``lane`` was admitted up to ``admitted``: claims at or below it are met."""
        holders = self._claims.get(lane)
        if holders is None:
            return
        for peer in [peer for peer, head in holders.items() if head.seq <= admitted]:
            del holders[peer]
            del self._lanes_of[peer][lane]
            self._avoid.pop((peer, lane), None)
        if not holders:
            del self._claims[lane]

    def drop(self, peer: str) -> None:
        """``peer`` is gone, or is a new incarnation: forget what it claimed and what it was asked."""
        for holders in self._claims.values():
            holders.pop(peer, None)
        self._claims = {lane: holders for lane, holders in self._claims.items() if holders}
        suspected = {place: suspects - {peer} for place, suspects in self._suspicions.items()}
        self._suspicions = {place: suspects for place, suspects in suspected.items() if suspects}
        self._avoid = {key: backoff for key, backoff in self._avoid.items() if key[0] != peer}
        self._requests = {number: r for number, r in self._requests.items() if r.peer != peer}
        self._hold.pop(peer, None)
        self._failures.pop(peer, None)
        self._fruitless.discard(peer)
        self._lanes_of.pop(peer, None)
        self._dirty = True

    # What became of a request ---------------------------------------------------------------------------

    def answered(self, peer: str, number: int) -> Request | None:
        """Close a request that ``peer`` answered in some way; None when it was not asked (any more)."""
        request = self._requests.get(number)
        if request is None or request.peer != peer:
            return None
        del self._requests[number]
        self._failures.pop(peer, None)
        self._dirty = True
        return request

    def served(self, request: Request, now_us: int, *, progress: bool) -> None:
        """The answer was a range. ``progress``: it made our lane longer."""
        if request.suspicion:
            place = (request.lane, request.last, request.head)
            self._suspicions.pop(place, None)
            self._compared[place] = None
            if len(self._compared) > _COMPARED:
                del self._compared[next(iter(self._compared))]
        elif progress:
            self._avoid.pop((request.peer, request.lane), None)
            self._fruitless.discard(request.peer)
        else:
            self._in_vain(request, now_us)

    def refused(self, request: Request, now_us: int) -> None:
        """The answer was no: this peer will not serve this, at least not now."""
        if request.suspicion:
            self._unsuspect(request)
        else:
            self._in_vain(request, now_us)

    def hold(self, peer: str, until_us: int) -> None:
        """Ask ``peer`` nothing before ``until_us``: it is busy, or we are, with what it sent."""
        self._hold[peer] = max(until_us, self._hold.get(peer, 0))
        self._dirty = True

    def rest(self, until_us: int) -> None:
        """Ask nobody anything before ``until_us``: what is missing may come in another way."""
        self._rest_us = until_us
        self._dirty = True

    # What to do -----------------------------------------------------------------------------------------

    def plan(self, now_us: int, admitted: Callable[[bytes], int]) -> list[tuple[str, wire.Want]]:
        """Requests to send now, with their peers. ``admitted``: the highest seq that we hold of a lane."""
        if now_us < self._rest_us:
            self._wake_us = self._rest_us
            return []
        if not self._dirty and (self._wake_us is None or now_us < self._wake_us):
            return []
        self._dirty = False
        self._expire(now_us)
        wants: list[tuple[str, wire.Want]] = []
        full = len(self._requests) >= self._limits.outstanding  # then nobody needs to know what is missing
        for lane, first, holders, suspicion in self._gaps(admitted) if not full else ():
            if len(self._requests) >= self._limits.outstanding:
                break
            peer = self._choose(holders, lane, now_us)
            if peer is not None:
                wants.append((peer, self._ask(peer, lane, first, holders[peer], now_us, suspicion)))
        self._wake_us = self._next_wake_us(now_us)
        return wants

    @property
    def wake_us(self) -> int | None:
        """When ``plan`` should be called even if nothing happens; None: not before something does."""
        return self._wake_us

    def progress(self, admitted: Callable[[bytes], int]) -> Progress:
        """How far the lanes with a gap have come."""
        have = target = 0
        for lane, holders in self._claims.items():
            end = max(head.seq for head in holders.values())
            have += min(admitted(lane), end)
            target += end
        most = wire.MAX_COUNT  # a peer may claim anything
        return Progress(min(have, most), min(target, most), len(self._claims), len(self._requests))

    # How ------------------------------------------------------------------------------------------------

    def _gaps(self, admitted: Callable[[bytes], int]) -> Iterator[tuple[bytes, int, dict[str, Head], bool]]:
        """(lane, first seq, holders, is a suspicion): suspicions, then gaps from the smallest on."""
        compared = {(r.lane, r.last, r.head) for r in self._requests.values() if r.suspicion}
        for place in sorted(self._suspicions):
            if place not in compared:
                lane, seq, hash_ = place
                yield lane, seq, dict.fromkeys(self._suspicions[place], Head(seq, hash_)), True
        asked = {request.lane for request in self._requests.values() if not request.suspicion}
        sized: list[tuple[int, bytes, int]] = []
        for lane in self._worth_a_look():
            have = admitted(lane)
            self.advanced(lane, have)
            holders = self._claims.get(lane)
            if holders and lane not in asked:
                sized.append((max(head.seq for head in holders.values()) - have, lane, have + 1))
        for _, lane, first in sorted(sized):
            yield lane, first, self._claims[lane], False

    def _worth_a_look(self) -> dict[bytes, None]:
        """Lanes claimed by peers that may be asked, so many of each: whoever claims very many gets them looked at in turns,
        and while it may not be asked they cost nothing."""
        load = self._load()
        seen: dict[bytes, None] = {}
        for peer, lanes in self._lanes_of.items():
            if peer in self._hold or (load.get(peer, 0) and self._is_doubtful(peer)):
                continue
            if len(lanes) <= _LOOKED_AT:
                seen |= lanes
                continue
            for lane in list(itertools.islice(lanes, _LOOKED_AT)):
                seen[lane] = lanes[lane] = lanes.pop(lane)
        return seen

    def _load(self) -> dict[str, int]:
        load: dict[str, int] = {}
        for request in self._requests.values():
            load[request.peer] = load.get(request.peer, 0) + 1
        return load

    def _is_doubtful(self, peer: str) -> bool:
        return peer in self._fruitless or self._failures.get(peer, 0) > 0

    def _choose(self, holders: dict[str, Head], lane: bytes, now_us: int) -> str | None:
        load = self._load()
        willing: list[tuple[int, int, int, str]] = []
        for peer, head in holders.items():
            failures, busy = self._failures.get(peer, 0), load.get(peer, 0)
            backoff = self._avoid.get((peer, lane))
            if peer in self._hold or (backoff and backoff.until_us > now_us):
                continue
            if busy and self._is_doubtful(peer):
                continue
            willing.append((failures, busy, -head.seq, peer))
        return min(willing)[3] if willing else None

    def _ask(self, peer: str, lane: bytes, first: int, head: Head, now_us: int, suspicion: bool) -> wire.Want:
        number, self._next_request = self._next_request, self._next_request + 1
        patience = self._limits.timeout_us << min(self._failures.get(peer, 0), 4)
        deadline = now_us + patience
        self._requests[number] = Request(number, peer, lane, first, head.seq, head.hash, deadline, suspicion)
        return wire.Want(number, lane, first, head.seq, head.hash, self._limits.chunk_bytes)

    def _expire(self, now_us: int) -> None:
        for request in [r for r in self._requests.values() if r.deadline_us <= now_us]:
            del self._requests[request.request]
            self._failures[request.peer] = self._failures.get(request.peer, 0) + 1
            self._back_off(request, now_us)
        for peer in [peer for peer, until_us in self._hold.items() if until_us <= now_us]:
            del self._hold[peer]
        if (
            len(self._avoid) > _AVOIDED
        ):  # how often a lane was asked for in vain is forgotten once it may be asked again
            self._avoid = {key: backoff for key, backoff in self._avoid.items() if backoff.until_us > now_us}

    def _in_vain(self, request: Request, now_us: int) -> None:
        if request.peer in self._fruitless:
            self.hold(request.peer, now_us + _REST_US)
        self._fruitless.add(request.peer)
        self._back_off(request, now_us)

    def _back_off(self, request: Request, now_us: int) -> None:
        key = (request.peer, request.lane)
        before = self._avoid.get(key)
        gap_us = min(before.gap_us * 2, _LONGEST_BACKOFF_US) if before else self._limits.backoff_us
        self._avoid[key] = _Backoff(now_us + gap_us, gap_us)
        self._dirty = True

    def _unsuspect(self, request: Request) -> None:
        place = (request.lane, request.last, request.head)
        suspects = self._suspicions.get(place, set()) - {request.peer}
        if suspects:
            self._suspicions[place] = suspects
        else:
            self._suspicions.pop(place, None)

    def _next_wake_us(self, now_us: int) -> int | None:
        if not (self._requests or self._claims or self._suspicions):
            return None
        times = [request.deadline_us for request in self._requests.values()]
        times += self._hold.values()
        times += [backoff.until_us for backoff in self._avoid.values() if backoff.until_us > now_us]
        if len(self._requests) < self._limits.outstanding:
            idle = (
                peer for peer, lanes in self._lanes_of.items() if len(lanes) > _LOOKED_AT and peer not in self._hold
            )
            load = self._load()
            if any(not (load.get(peer, 0) and self._is_doubtful(peer)) for peer in idle):
                times.append(now_us + _REST_US)  # to look at the next lanes
        return min(times, default=None)
