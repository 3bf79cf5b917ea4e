"""What other nodes say to the agreement core: checked, kept, passed on, answered.

- Votes are kept for three heights: the one being agreed on, the one before (a contradiction may come late), the one after (others may be
  quicker). Other heights' are let go: who is behind asks and is answered, who is far ahead is not our business.
- What is new is passed on once, with the second of two contradicting votes: what one honest node has seen, all will. The third
  and later ones are dropped.
- Whoever shows that it stands at a height that is decided, by a summary or by a vote of its own, gets the decision: a quorum of
  precommits and the value. Once per height, and again after ``ANSWER_INTERVAL_US``.
- Bytes that are held already are not checked again. Nothing that arrives raises.

It applies no rule of the algorithm: that is ``reconcile.tendermint``.
"""

from __future__ import annotations

from typing import Final

from .agreement import Answer, DecisionWanted, Effect, EvidenceFound, Refused, Relay
from .quorum import Committee
from .repair import missing
from .votekeeper import VoteKeeper
from .votes import (
    Bundle,
    Kind,
    Malformed,
    Message,
    Proposal,
    Summary,
    Vote,
    bundle_fault,
    decode,
    value_id,
    vote_fault,
)

KEPT_DECISIONS: Final = 8
ANSWER_INTERVAL_US: Final = 250_000


class Intake:
    """The votes of three heights and the last decisions. ``height`` is the one being agreed on; 0 before the first."""

    def __init__(self, committee: Committee) -> None:
        self.height = 0
        self._committee = committee
        self._keepers: dict[int, VoteKeeper] = {}
        self._decisions: dict[int, Bundle] = {}
        self._answered: dict[str, tuple[int, int]] = {}

    @property
    def keeper(self) -> VoteKeeper:
        """The votes of ``height``."""
        return self._keepers[self.height]

    def start(self, height: int) -> None:
        """``height`` is being agreed on from now on."""
        self.height = height
        self._keepers = {at: keeper for at, keeper in self._keepers.items() if at >= height - 1}
        self._decisions = {at: kept for at, kept in self._decisions.items() if at >= height - KEPT_DECISIONS}
        for at in (height - 1, height, height + 1):
            self._keepers.setdefault(at, VoteKeeper(self._committee, at))

    def decided(self, decision: Bundle) -> None:
        """Keep ``decision`` for those who come later."""
        self._decisions[self.height] = decision

    def receive(self, peer: str, frame: bytes, position: int, now_us: int) -> list[Effect]:
        """Take one frame. ``position``: the last position persisted, on which answers depend."""
        message = decode(frame)
        if isinstance(message, Malformed):
            return [Refused(peer, message.what, message.where, message.why)]
        if isinstance(message, Summary):
            return self._answer(peer, message, position, now_us)
        height = _vote_of(message).height
        keeper = self._keepers.get(height)
        effects = self._take(peer, message, keeper) if keeper else []
        if height < self.height and isinstance(message, Vote) and self._wrote(peer, message):
            effects += self._answer(peer, Summary(height, message.round), position, now_us)
        return effects

    def _take(self, peer: str, message: Vote | Proposal | Bundle, keeper: VoteKeeper) -> list[Effect]:
        if keeper.holds(message):
            return []
        fault = _fault(message, self._committee)
        if fault:
            return [Refused(peer, type(message).__name__.lower(), f"height {keeper.height}", fault)]
        kept = keeper.adopt(message) if isinstance(message, Bundle) else keeper.add(message)
        effects: list[Effect] = [Relay(message)] if kept.new else []
        effects += [EvidenceFound(evidence) for evidence in kept.evidence]
        return effects

    def _answer(self, peer: str, summary: Summary, position: int, now_us: int) -> list[Effect]:
        height = summary.height
        last_height, last_us = self._answered.get(peer, (0, -ANSWER_INTERVAL_US))
        if height > self.height or (height <= last_height and now_us - last_us < ANSWER_INTERVAL_US):
            return []
        decision = self._decisions.get(height)
        effects: list[Effect] = []
        if decision is not None:
            lacks = not any(decision.votes[0].value_id in row.commits for row in summary.rows)
            messages: tuple[Message, ...] = (decision,) if lacks else ()
        elif height < self.height:
            messages = ()
            effects.append(DecisionWanted(peer, height))
        else:
            messages = missing(self.keeper, summary)
        if messages:
            effects.append(Answer(peer, messages, position))
        if effects:
            self._answered[peer] = (height, now_us)
        return effects

    def _wrote(self, peer: str, vote: Vote) -> bool:
        members = self._committee.validators
        return vote.voter < len(members) and members[vote.voter].name == peer


def _vote_of(message: Vote | Proposal | Bundle) -> Vote:
    if isinstance(message, Vote):
        return message
    return message.vote if isinstance(message, Proposal) else message.votes[0]


def _fault(message: Vote | Proposal | Bundle, committee: Committee) -> str:
    """Why ``message`` is not taken; ``""`` if it is. A proposal comes with its value, and nothing else comes dressed as one."""
    if isinstance(message, Bundle):
        return bundle_fault(message, committee)
    if isinstance(message, Vote):
        return "a proposal without its value" if message.kind is Kind.PROPOSAL else vote_fault(message, committee)
    if message.vote.kind is not Kind.PROPOSAL:
        return "a vote dressed as a proposal"
    if value_id(message.value) != message.vote.value_id:
        return "its value is not the one it names"
    return vote_fault(message.vote, committee)
