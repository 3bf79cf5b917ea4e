"""A validator whose disk is an old one abstains: it may have voted already where it remembers nothing.

It asks the other validators which height they work at, with a nonce drawn for the question, so that no answer from before counts.
When those who answered make a quorum together with it, ``first_height_after_restore`` says from where on it may vote again. What it
learnt is journaled; until then its journal says that it does not know.

A cluster of fewer than four validators tolerates no faulty one, and a validator that lost its votes is one: it then waits for ever,
unless it is the only one, which asks all members instead: what nobody holds, nobody can miss.
"""

from __future__ import annotations

from crdtledger.edge.checkpointmessages import WorkingTell
from crdtledger.ledger.journalrecord import KIND_META, JournalRecord
from reconcile.quorum import Committee
from reconcile.votejournal import first_height_after_restore
from reconcile.votes import MAX_HEIGHT

VOTES_FROM_RECORD = b"votes-from"
UNKNOWN = 0
NEVER = MAX_HEIGHT + 1


class Abstaining:
    """The validator at ``place``. ``votes_from``: the first height at which it may vote; ``UNKNOWN`` while it has to ask."""

    def __init__(self, committee: Committee, place: int, others: list[str]) -> None:
        self.votes_from = 1
        self._committee = committee
        self._place = place
        self._others = others
        self._nonce = b""
        self._heard: dict[str, int] = {}

    def begin(self, nonce: bytes) -> None:
        """Ask, from now on, with a ``nonce`` of 8 bytes."""
        self.votes_from = UNKNOWN
        self._nonce = nonce
        self._heard.clear()

    @property
    def question(self) -> bytes:
        """The nonce to ask with; empty when there is nothing to ask."""
        return self._nonce if self.votes_from == UNKNOWN else b""

    def told(self, peer: str, tell: WorkingTell) -> bool:
        """``peer`` answers; whether that settles from where on to vote."""
        if not self.question or tell.nonce != self._nonce or peer not in self._others:
            return False
        self._heard[peer] = tell.height
        if len(self._committee.validators) == 1:
            if len(self._heard) == len(self._others):
                self.votes_from = max(self._heard.values())
        else:
            places = [at for at, one in enumerate(self._committee.validators) if one.name in self._heard]
            if self._committee.is_quorum(self._committee.weigh([self._place, *places])):
                working = [self._heard[self._committee.validators[at].name] for at in places]
                self.votes_from = first_height_after_restore(working)
        return self.votes_from != UNKNOWN


def votes_from_record(height: int) -> JournalRecord:
    """What the journal is told: the first height at which this validator may vote, or ``UNKNOWN``."""
    return JournalRecord(KIND_META, b"", 0, VOTES_FROM_RECORD, height.to_bytes(8, "big"))
