"""The votes of one height: who said what in which round, what that amounts to, and who contradicted itself.

It is handed votes whose form and signatures are checked already, and answers with what is new about each. Rules.

* A voter's first statement in a slot counts. A second, different one is kept too, counts for what it is for (as in the
  paper, where messages are counted), and is a contradiction to be reported and passed on. A third is dropped. So what a voter
  can make us keep is two votes per slot; towards "anything from 2f+1" and "anything from f+1" a voter counts once.
* Rounds within ``ROUND_WINDOW`` of ours are kept. Of rounds further ahead only each voter's furthest statement is kept: enough to
  skip there once f+1 are there, and no flood takes more than one vote per voter.
* Of rounds more than ``PAST_ROUNDS`` behind ours only quorums for values are kept: an old polka can still unlock, an old
  commit quorum can still decide.
* A quorum handed over whole (a bundle) counts whatever the slots hold. At most ``MAX_QUORUMS`` ids per round and kind are kept
  so: more than one for a value already means that more than a third of the weight is faulty.
* A value is known by its id, whichever proposal or bundle brought it.

It knows no steps, no locks and no time. Source: arXiv 1807.04938, section 3.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

import msgspec

from .evidence import Evidence, Offence, contradiction
from .quorum import Committee
from .votes import NIL, Bundle, Kind, Proposal, SummaryRow, Vote

ROUND_WINDOW = 16
PAST_ROUNDS = 32
MAX_QUORUMS = 2
STATEMENTS_PER_SLOT = 2


class Kept(msgspec.Struct, frozen=True):
    """What became of a vote. ``new``: it was kept, so it is worth passing on. ``evidence``: what it proves with an older one."""

    new: bool
    evidence: tuple[Evidence, ...] = ()


class Tally:
    """The votes of one kind in one round."""

    __slots__ = ("_committee", "_quorums", "_reached", "_voters", "_weights", "votes")

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._weights: dict[bytes, int] = {}
        self._voters = 0
        self._quorums: dict[bytes, tuple[Vote, ...]] = {}
        self._reached: tuple[bytes, ...] = ()
        self.votes: dict[int, tuple[Vote, ...]] = {}

    def add(self, vote: Vote) -> bool:
        """Keep ``vote`` if it says something new and its slot has room."""
        held = self.votes.get(vote.voter, ())
        if len(held) >= STATEMENTS_PER_SLOT or any(other.statement == vote.statement for other in held):
            return False
        weight = self._committee.validators[vote.voter].weight
        if not held:
            self._voters += weight
        if all(other.value_id != vote.value_id for other in held):
            self._weights[vote.value_id] = self._weights.get(vote.value_id, 0) + weight
            if self._committee.is_quorum(self._weights[vote.value_id]):
                self._mark(vote.value_id)
        self.votes[vote.voter] = (*held, vote)
        return True

    def adopt(self, bundle: Bundle) -> None:
        """Keep a checked quorum whole, if it is news and there is room."""
        id = bundle.votes[0].value_id
        if not self.has_quorum(id) and len(self._quorums) < MAX_QUORUMS:
            self._quorums[id] = bundle.votes
            self._mark(id)

    @property
    def any_quorum(self) -> bool:
        """Whether a quorum has said anything."""
        if self._committee.is_quorum(self._voters):
            return True
        if not self._quorums:
            return False
        voters = {vote.voter for votes in self._quorums.values() for vote in votes}
        return self._committee.is_quorum(self._committee.weigh(voters | self.votes.keys()))

    def has_quorum(self, id: bytes) -> bool:
        """Whether a quorum is for ``id`` (nil: the empty id)."""
        return id in self._reached

    def quorum_ids(self) -> tuple[bytes, ...]:
        """The ids that a quorum is for, sorted. One at most, unless more than a third is faulty."""
        return self._reached

    def ids(self) -> Iterable[bytes]:
        """Every id that somebody is for."""
        return self._weights.keys()

    def quorum(self, id: bytes) -> tuple[Vote, ...]:
        """The votes of all who are for ``id``, by voter; call it when ``has_quorum``."""
        found = {vote.voter: vote for vote in self._quorums.get(id, ())}
        for voter, votes in self.votes.items():
            found.update((voter, vote) for vote in votes if vote.value_id == id and voter not in found)
        return tuple(found[voter] for voter in sorted(found))

    def condense(self) -> None:
        """Forget all but quorums for values."""
        self._quorums = {id: self.quorum(id) for id in self._reached if id != NIL}
        self._reached = tuple(self._quorums)
        self.votes, self._weights, self._voters = {}, {}, 0

    def bits(self) -> bytes:
        """One bit per voter that is heard here, little endian, without trailing zeros."""
        mask = sum(1 << voter for voter in self.votes)
        return mask.to_bytes((mask.bit_length() + 7) // 8, "little")

    def _mark(self, id: bytes) -> None:
        if id not in self._reached:
            self._reached = tuple(sorted((*self._reached, id)))


class RoundVotes:
    """What is kept of one round."""

    __slots__ = ("precommits", "prevotes", "proposals")

    def __init__(self, committee: Committee) -> None:
        self.proposals: tuple[Vote, ...] = ()
        self.prevotes = Tally(committee)
        self.precommits = Tally(committee)

    def tally(self, kind: Kind) -> Tally:
        return self.prevotes if kind is Kind.PREVOTE else self.precommits

    def voters(self) -> set[int]:
        """Everybody heard in this round, with whatever."""
        return self.prevotes.votes.keys() | self.precommits.votes.keys() | {vote.voter for vote in self.proposals}

    def votes(self) -> Iterator[Vote]:
        yield from self.proposals
        for tally in (self.prevotes, self.precommits):
            for voter in sorted(tally.votes):
                yield from tally.votes[voter]

    def summary(self, round: int, values: Container[bytes]) -> SummaryRow:
        """What is held of this round; of quorums, those whose value is known too."""
        return SummaryRow(
            round,
            tuple(vote.value_id for vote in self.proposals),
            self.prevotes.bits(),
            self.precommits.bits(),
            tuple(id for id in self.prevotes.quorum_ids() if id in values),
            tuple(id for id in self.precommits.quorum_ids() if id in values),
        )


class VoteKeeper:
    """All that is kept of one height. ``round`` is where its owner stands."""

    def __init__(self, committee: Committee, height: int) -> None:
        self.height = height
        self.values: dict[bytes, bytes] = {}
        """Value id -> value."""
        self._committee = committee
        self._round = 0
        self._rounds: dict[int, RoundVotes] = {}
        self._far: dict[int, Vote] = {}
        self._accused: set[tuple[int, Offence]] = set()

    def add(self, message: Vote | Proposal) -> Kept:
        """Keep a checked vote of this height; a vote of kind PROPOSAL only comes with its value."""
        vote = message.vote if isinstance(message, Proposal) else message
        if vote.round < self._round - PAST_ROUNDS:
            return Kept(False)
        if vote.round > self._round + ROUND_WINDOW:
            return Kept(self._add_far(vote))
        if not self._add_near(vote):
            return Kept(False)
        if isinstance(message, Proposal):
            self.values[vote.value_id] = message.value
        return Kept(True, tuple(self._contradictions(vote)))

    def adopt(self, bundle: Bundle) -> Kept:
        """Keep a checked bundle of this height: as a quorum, and vote by vote."""
        first = bundle.votes[0]
        if first.round > self._round + ROUND_WINDOW and first.kind is Kind.PREVOTE:
            kept = [self.add(vote) for vote in bundle.votes]
            return Kept(any(one.new for one in kept))
        tally = self.of(first.round, create=True).tally(first.kind)
        had = tally.has_quorum(first.value_id)
        kept = [self.add(vote) for vote in bundle.votes]
        tally.adopt(bundle)
        news = not had and tally.has_quorum(first.value_id)
        if bundle.value and tally.has_quorum(first.value_id) and first.value_id not in self.values:
            self.values[first.value_id] = bundle.value
            news = True
        return Kept(news, tuple(evidence for one in kept for evidence in one.evidence))

    def holds(self, message: Vote | Proposal | Bundle) -> bool:
        """Whether all of it is kept already, so that nobody need check it again."""
        if isinstance(message, Bundle):
            first = message.votes[0]
            known = first.kind is not Kind.PROPOSAL and self.of(first.round).tally(first.kind).has_quorum(
                first.value_id
            )
            return known and (not message.value or first.value_id in self.values)
        vote = message.vote if isinstance(message, Proposal) else message
        if self._far.get(vote.voter) == vote:
            return True
        held = self._rounds.get(vote.round)
        if held is None:
            return False
        if vote.kind is Kind.PROPOSAL:
            return vote in held.proposals
        return vote in held.tally(vote.kind).votes.get(vote.voter, ())

    def move_to(self, round: int) -> tuple[Evidence, ...]:
        """The owner stands in ``round`` now: what was far may be near, what was near may be past.

        Returns what the votes that came near prove. A far proposal came without room for its value: it is asked for again.
        """
        self._round = max(round, self._round)
        found: list[Evidence] = []
        for voter, vote in sorted(self._far.items()):
            if vote.round <= self._round + ROUND_WINDOW:
                del self._far[voter]
                if vote.kind is not Kind.PROPOSAL and self._add_near(vote):
                    found.extend(self._contradictions(vote))
        for past in [past for past in self._rounds if past < self._round - PAST_ROUNDS]:
            held = self._rounds[past]
            held.proposals = ()
            held.prevotes.condense()
            held.precommits.condense()
            if not held.prevotes.quorum_ids() and not held.precommits.quorum_ids():
                del self._rounds[past]
        wanted = {vote.value_id for held in self._rounds.values() for vote in held.proposals}
        for held in self._rounds.values():
            wanted.update(held.prevotes.quorum_ids(), held.precommits.quorum_ids(), held.precommits.ids())
        self.values = {id: value for id, value in self.values.items() if id in wanted}
        return tuple(found)

    def of(self, round: int, *, create: bool = False) -> RoundVotes:
        """What is kept of ``round``; an empty one if nothing is."""
        held = self._rounds.get(round)
        if held is None:
            held = RoundVotes(self._committee)
            if create:
                self._rounds[round] = held
        return held

    def rounds(self) -> list[int]:
        """The rounds of which anything is kept, ascending; rounds far ahead not among them."""
        return sorted(self._rounds)

    def polka(self, round: int, id: bytes) -> bool:
        """Whether a quorum prevoted ``id`` in ``round``."""
        held = self._rounds.get(round)
        return held is not None and held.prevotes.has_quorum(id)

    def commits(self) -> list[tuple[int, bytes]]:
        """(round, value id) of every quorum of precommits for a value."""
        rows = ((round, id) for round in self.rounds() for id in self._rounds[round].precommits.quorum_ids())
        return [(round, id) for round, id in rows if id != NIL]

    def reached(self, after: int) -> int | None:
        """The latest round beyond ``after`` in which voters are heard who cannot all be faulty; None if there is none."""
        voters: dict[int, set[int]] = {}
        for round, held in self._rounds.items():
            if round > after:
                voters[round] = held.voters()
        for voter, vote in self._far.items():
            voters.setdefault(vote.round, set()).add(voter)
        enough = (round for round, who in voters.items() if self._committee.has_honest(self._committee.weigh(who)))
        return max(enough, default=None)

    def size(self) -> int:
        """How many votes are kept."""
        return len(self._far) + sum(sum(1 for _ in held.votes()) for held in self._rounds.values())

    def _add_far(self, vote: Vote) -> bool:
        held = self._far.get(vote.voter)
        if held is not None and held.round >= vote.round:
            return False
        self._far[vote.voter] = vote
        return True

    def _add_near(self, vote: Vote) -> bool:
        held = self.of(vote.round, create=True)
        if vote.kind is not Kind.PROPOSAL:
            return held.tally(vote.kind).add(vote)
        if len(held.proposals) >= STATEMENTS_PER_SLOT or any(old.statement == vote.statement for old in held.proposals):
            return False
        held.proposals = (*held.proposals, vote)
        return True

    def _contradictions(self, vote: Vote) -> Iterator[Evidence]:
        """What ``vote`` proves with what the same voter said before; one piece per voter and offence is enough."""
        for other in self._said_by(vote.voter):
            evidence = contradiction(vote, other)
            if evidence is None or evidence.offence is None:
                continue
            charge = (vote.voter, evidence.offence)
            if charge not in self._accused:
                self._accused.add(charge)
                yield evidence

    def _said_by(self, voter: int) -> Iterable[Vote]:
        for round in self.rounds():
            held = self._rounds[round]
            yield from (vote for vote in held.proposals if vote.voter == voter)
            yield from held.prevotes.votes.get(voter, ())
            yield from held.precommits.votes.get(voter, ())
