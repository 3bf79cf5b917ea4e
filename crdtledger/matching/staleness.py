"""How stale what one reads may be: k-staleness, t-visibility and both together, and what a node can say of its own figures.

The first part is PBS (Bailis et al., "Probabilistically Bounded Staleness for Practical Partial Quorums", VLDB 2012) for a store of ``n``
replicas that waits for ``w`` of them to write and ``r`` to read: closed forms (sections 3.1 to 3.3) and the WARS model (section 5.1),
which needs measured delays. WARS is evaluated by quantiles: a read ``t`` after a write sees it exactly if t is at least a number that one
draw of the delays determines, so t-visibility at a probability is a quantile of these numbers, and needs no sweep over t.

The second part is this ledger's own question. Every replica reads alone (r = 1, w = 1), but from peers whose lanes it follows: of each it
knows up to when it has everything. ``fresh(p)`` says: with probability ``p``, this figure misses nothing older than ``t``.

Times are in one unit throughout, whichever the delays have. Pure: draws come in as arrays.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


# -- PBS: closed forms --------------------------------------------------------------------------------------


def miss(n: int, r: int, w: int) -> float:
    """The chance that a read quorum drawn at random shares no replica with the newest write's: C(n-w, r) / C(n, r)."""
    if not (1 <= r <= n and 1 <= w <= n):
        raise ValueError(f"quorums of {r} and {w} do not fit {n} replicas")
    return math.comb(n - w, r) / math.comb(n, r)


def k_fresh(n: int, r: int, w: int, k: int) -> float:
    """The chance that a read returns one of the ``k`` newest versions (k-staleness)."""
    return 1.0 - math.pow(miss(n, r, w), k)


def monotonic(n: int, r: int, w: int, writes_per_read: float) -> float:
    """The chance that a client never reads older than it has read before, where so many writes fall between two of its reads."""
    return 1.0 - math.pow(miss(n, r, w), 1.0 + writes_per_read)


# -- PBS: WARS ----------------------------------------------------------------------------------------------


class Delays(msgspec.Struct, frozen=True):
    """Draws of the four delays, each an array of shape (draws, replicas): ``write`` to the replica, its ``ack`` back, ``read`` to it, its
    ``response`` back."""

    write: Floats
    ack: Floats
    read: Floats
    response: Floats


def visible_after(delays: Delays, r: int, w: int) -> Floats:
    """For each draw: how long after a write returns a read must begin to see it; negative if even an earlier one would.

    The write returns with the ``w``-th acknowledgement. The read takes the first ``r`` answers; a replica's answer holds the write if its
    read request came after the write did.
    """
    returned = np.partition(delays.write + delays.ack, w - 1, axis=1)[:, w - 1]
    first = np.argpartition(delays.read + delays.response, r - 1, axis=1)[:, :r]
    gap = np.take_along_axis(delays.write - delays.read, first, axis=1)
    least: Floats = gap.min(axis=1) - returned
    return least


def t_visibility(delays: Delays, r: int, w: int, probability: float) -> float:
    """How long after a write a read sees it with this probability; 0 if it always does at once."""
    return max(0.0, float(np.quantile(visible_after(delays, r, w), probability, method="higher")))


def visible(delays: Delays, r: int, w: int, t: float) -> float:
    """The chance that a read ``t`` after a write sees it."""
    return float(np.mean(visible_after(delays, r, w) <= t))


def k_t_fresh(delays: Delays, r: int, w: int, k: int, t: float) -> float:
    """The chance that a read ``t`` after the newest of ``k`` writes returns one of them, if all were made at that time (<k, t>-staleness,
    section 3.5: an upper bound of what is missed, for earlier writes have had longer)."""
    return float(1.0 - (1.0 - visible(delays, r, w, t)) ** k)


# -- figures of this ledger ---------------------------------------------------------------------------------


class PeerAge(msgspec.Struct, frozen=True):
    """What a node knows of one peer: everything that it recorded until ``age`` ago is here. ``delays``: rising samples of how long its
    facts take to get here; empty if it is cut off or nothing is known, and then nothing newer is expected. ``rate``: its facts per unit
    of time."""

    age: float
    delays: Sequence[float]
    rate: float


def expected_missing(peer: PeerAge, t: float) -> float:
    """How many facts older than ``t`` are still on their way from a peer, on average: each recorded ``x`` ago is, if it takes longer than
    x."""
    if t >= peer.age:
        return 0.0
    if not peer.delays:
        return peer.rate * (peer.age - t)
    total, position = 0.0, t
    count = len(peer.delays)
    for number in range(bisect_right(peer.delays, t), count):
        until = min(peer.delays[number], peer.age)
        total += (until - position) * (count - number) / count
        position = until
        if position >= peer.age:
            break
    return peer.rate * total


def complete(peers: Iterable[PeerAge], t: float) -> float:
    """The chance that a figure misses nothing older than ``t``: facts are taken to be recorded at random times, at their peers' rates."""
    return math.exp(-sum(expected_missing(peer, t) for peer in peers))


def fresh(peers: Sequence[PeerAge], probability: float) -> float:
    """The least ``t`` for which a figure misses nothing older than ``t`` with this probability. Never beyond the greatest age: what is
    older than that is here for certain."""
    low, high = 0.0, max((peer.age for peer in peers), default=0.0)
    if complete(peers, low) >= probability:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if complete(peers, middle) >= probability:
            high = middle
        else:
            low = middle
    return high
