"""Watches an honest validator's mouth: no vote leaves it before it is on its way to the disk under a position that the frame waits
for, and no slot is ever filled in two ways, in all its lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from crdtledger.edge.core import NodeCore
from crdtledger.errors import InvariantBroken
from crdtledger.ledger.journalrecord import KIND_VOTE, JournalRecord, decode_record
from gossip import wire
from gossip.effects import Persist, Send
from reconcile.quorum import committee_of
from reconcile.votejournal import VoteRecord
from reconcile.votes import Bundle, Proposal, Vote, decode

Slots = dict[tuple[int, int, int, int], Any]


class Witness:
    """Passes for the core that it wraps. ``slots``: what each slot was filled with, by anybody, ever."""

    def __init__(self, core: NodeCore, records: Sequence[bytes], slots: Slots) -> None:
        self._core = core
        self._slots = slots
        self._written = dict.fromkeys(_votes(records), 0)
        self._leaving: list[tuple[int, Vote]] = []  # votes that wait for a position: a crash may still undo them
        keys = committee_of(core.genesis).validators
        self._place = next((at for at, one in enumerate(keys) if one.name == core.name), -1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def start(self, now_us: int) -> list[Any]:
        return self._hear(self._core.start(now_us))

    def step(self, event: Any, now_us: int) -> list[Any]:
        return self._hear(self._core.step(event, now_us))

    def _hear(self, effects: list[Any]) -> list[Any]:
        for effect in effects:
            if isinstance(effect, Persist):
                self._written |= dict.fromkeys(_votes(effect.records), effect.position)
        for effect in effects:
            message = wire.decode(effect.frame) if isinstance(effect, Send) else None
            if isinstance(message, wire.App) and message.channel == "vote":
                self._judge(effect, decode(message.body))
        for position, vote in self._leaving:
            if position <= self._core.durable:
                said = self._slots.setdefault(vote.slot, vote.statement)
                if said != vote.statement:
                    raise self._broken("it voted twice in one place")
        self._leaving = [(position, vote) for position, vote in self._leaving if position > self._core.durable]
        return effects

    def _judge(self, send: Send, said: Any) -> None:
        vote = said.vote if isinstance(said, Proposal) else said
        if isinstance(said, Bundle) or not isinstance(vote, Vote) or vote.voter != self._place:
            return
        position = self._written.get(vote.signature)
        if position is None and vote.statement == self._slots.get(vote.slot):
            return  # its own from before its disk was replaced, which it heard from others and passes on
        if position is None:
            raise self._broken("it sends a vote that is not written down")
        if position > max(send.after, self._core.durable):
            raise self._broken("it sends a vote before it is durable")
        self._leaving.append((position, vote))

    def _broken(self, detail: str) -> InvariantBroken:
        return InvariantBroken(invariant="single history", node=self._core.name, detail=detail)


def _votes(records: Iterable[bytes]) -> list[bytes]:
    decoded = [decode_record(raw) for raw in records]
    votes = [one.body for one in decoded if isinstance(one, JournalRecord) and one.kind == KIND_VOTE]
    return [msgspec.msgpack.decode(raw, type=VoteRecord).vote.signature for raw in votes]
