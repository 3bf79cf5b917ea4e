"""The settled state: everything that the next height depends on, and that a view starts from.

A checkpoint fixes how far every lane is settled; this is what the facts up to there have come to. It is a value: settlement
makes the next one, nobody changes one, so views, proofs and proposals may share it. What is large is shared between heights: ids that
were seen, which are append-only (``seenids``) or go with their time (``timedids``, where the genesis sets a window: ``idwindow``),
positions (``settledpositions``), and what else is held by account, by instrument or by order (``sharedmap``).

* Nothing is in transit and nothing is refundable in it: credits have landed, refunds are given.
* A definition, once it stands, stands; a label, once told, stays; of marks the greatest stays.
* A fill under a definition that is not known waits here with its terms, by name. Its id is taken, so it is among the ids too. It
  counts at the height at which its definition stands. A fill that was told under a definition that had lost its name is not
  here, and its id is free.
* Every replica that settled the same checkpoints has the same bytes (``encode``), and saving, loading and saving gives them
  again.

It says nothing about how it came to be: ``reconcile.settlement`` does. Its encoding is in ``settledcodec``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from crdtledger.errors import InvalidProof
from crdtledger.ledger import settledcodec
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.facts import Instrument
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.idwindow import IdWindow
from crdtledger.ledger.orderfacts import Name
from crdtledger.ledger.reference import MarkEntry
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settledparts import (
    Carried,
    Definition,
    PendingMatch,
    Reserved,
    SettledBalance,
    SettledLane,
    SettledNote,
    SettledOrder,
    SuspendedFills,
)
from crdtledger.ledger.settledpositions import SettledPositions
from crdtledger.ledger.sharedmap import PairMap, SharedMap

MAX_BREAKS: Final = 4_096
"""Breaks that a state remembers; the oldest are forgotten first."""

Key: TypeAlias = tuple[int, int]
"""The two halves of one 128-bit id."""

_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})
_SHARED: Final[tuple[tuple[tuple[str, ...], type[SharedMap[Any, Any]]], ...]] = (
    (("collateral",), PairMap),
    (("labels", "marks", "cursors", "orders", "pending", "carried"), SharedMap),
)


class SettledState(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Everything settled. Mappings are immutable by convention and may be shared with other heights' states.

    ``definitions``: by name, the standing one first. ``labels``: by account. ``marks``: by (instrument's name, source).
    ``cursors``: (lane, source) -> (position, line). ``positions``: by (account, instrument's name). ``collateral``: by
    (account, asset). ``reserves``: lane -> key of the reserve -> what is left. ``fills``, ``busts``: ids that are taken.
    ``used``: member's index -> ids of facts that move rights or are about orders, used in any lane of that node. ``orders``: those that
    are not done, by (home, id); ``pending``: matches that their makers' homes have not answered, by (writer's node, id). ``carried``: by
    (account, derivative's name); ``prices``: derivative's name -> its settlement price. ``shared``: ids that the whole
    cluster shares (deposits, withdrawals, transfers), each with what the statement that counts says. ``board``: by lane, everything that
    was noted in it. ``window``: where the genesis sets one, what is remembered for a while alone; ``fills`` and ``busts`` then have the ids
    of what was booked by hand.
    """

    cluster: bytes
    facts: int = 0
    batches: int = 0
    lanes: Mapping[bytes, SettledLane] = _NOTHING
    definitions: Mapping[str, tuple[Definition, ...]] = _NOTHING
    labels: SharedMap[str, str] = SharedMap({})
    marks: SharedMap[tuple[str, str], MarkEntry] = SharedMap({})
    cursors: SharedMap[tuple[bytes, str], tuple[int, int]] = SharedMap({})
    positions: SettledPositions = SettledPositions()
    collateral: PairMap[SettledBalance] = PairMap({})
    reserves: Mapping[bytes, Mapping[Key, Reserved]] = _NOTHING
    fills: SeenIds
    busts: SeenIds
    used: Mapping[int, SeenIds] = _NOTHING
    shared: SeenIds
    orders: SharedMap[Name, SettledOrder] = SharedMap({})
    pending: SharedMap[Name, PendingMatch] = SharedMap({})
    carried: SharedMap[tuple[str, str], Carried] = SharedMap({})
    prices: Mapping[str, int] = _NOTHING
    suspended: tuple[SuspendedFills, ...] = ()
    breaks: tuple[Break, ...] = ()
    board: Mapping[bytes, tuple[SettledNote, ...]] = _NOTHING
    window: IdWindow | None = None

    def __post_init__(self) -> None:
        for fields, kind in _SHARED:
            for field in fields:
                held = getattr(self, field)
                if not isinstance(held, kind):
                    msgspec.structs.force_setattr(self, field, kind(held))
        positions: object = self.positions
        if isinstance(positions, Mapping) and not isinstance(positions, SettledPositions):
            msgspec.structs.force_setattr(self, "positions", SettledPositions.of(positions.items()))

    @classmethod
    def empty(cls, genesis: Genesis, salt: int = 0) -> SettledState:
        """Nothing settled yet: the state at height 0. ``salt`` only places hash-table slots."""
        return cls(
            cluster=genesis.hash,
            positions=SettledPositions(salt),
            fills=SeenIds(salt),
            busts=SeenIds(salt),
            shared=SeenIds(salt),
            window=IdWindow.empty(salt) if genesis.policies.id_window_us else None,
        )

    @functools.cached_property
    def by_digest(self) -> Mapping[bytes, Instrument]:
        """Every settled definition by its digest, standing or not."""
        return {rival.digest: rival.instrument for rivals in self.definitions.values() for rival in rivals}

    def standing(self, name: str) -> bytes | None:
        """The digest of the definition that stands under ``name``, for ever, or None."""
        rivals = self.definitions.get(name)
        return rivals[0].digest if rivals else None

    @functools.cached_property
    def sums(self) -> Mapping[str, tuple[int, int, int, int]]:
        """(deposited, held, withdrawn, shortfall) per asset, over all accounts."""
        out: dict[str, tuple[int, int, int, int]] = {}
        for (_, asset), balance in self.collateral.items():
            a, b, c, d = out.get(asset, (0, 0, 0, 0))
            out[asset] = (
                a + balance.deposited,
                b + balance.held,
                c + balance.withdrawn,
                d + balance.shortfall,
            )
        return out

    def imbalance(self) -> dict[str, int]:
        """in - held - out per asset, where it is not zero. Empty, always: conservation is an invariant. A shortfall was taken from nobody
        and paid to nobody, so it stands beside the sum."""
        gaps = {asset: came - held - out for asset, (came, held, out, _) in self.sums.items()}
        return {asset: gap for asset, gap in gaps.items() if gap}

    def encode(self) -> bytes:
        """The state's one encoding."""
        return settledcodec.encode(self)


def decode_state(raw: bytes, genesis: Genesis, salt: int = 0) -> SettledState:
    """A state of this cluster from its bytes. InvalidProof unless they are its one encoding and everything in it can stand.

    Whether it is *the* state of a height is for who knows that height's state root.
    """
    state = SettledState(**settledcodec.decode(raw, genesis, salt))
    if state.imbalance():
        raise InvalidProof("settled state", f"in - held - out is {state.imbalance()}")
    if state.encode() != raw:
        raise InvalidProof("settled state", "it is not in its one encoding")
    return state
