"""A seeded world for the agreement core: validators, some of them liars, a network that loses and cuts, disks that forget.

One ``World(seed, plan)`` is one run; the same seed and plan give the same run. Everything is virtual time in microseconds. Until
``heal_us`` the network loses, delays and is cut, nodes crash without warning (what is not synced is lost, what waits for it is never
sent) and judging values may take for ever. After it the network is merely slow. Liars lie to the end.

The world checks, as it goes and at the end: agreement, validity, decisions that prove themselves, no honest validator that ever signs
two things for a slot or is accused, and every contradiction that reaches one honest node in time being reported there.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import random
from collections.abc import Callable, Iterator

import msgspec
import pytest

import reconcile.votes
from crdtledger.ledger.identity import Identity, verify
from reconcile.agreement import (
    Answer,
    Broadcast,
    Decided,
    DecisionWanted,
    Effect,
    Event,
    EvidenceFound,
    PersistVote,
    Proposed,
    ProposeWanted,
    Received,
    Relay,
    RepairDue,
    ScheduleTimeout,
    StartHeight,
    TimedOut,
    Timeouts,
    Validated,
    ValidateWanted,
)
from reconcile.evidence import Evidence, decode_evidence, encode_evidence
from reconcile.quorum import Committee, Validator
from reconcile.tendermint import Tendermint
from reconcile.votejournal import first_height_after_restore
from reconcile.votekeeper import ROUND_WINDOW
from reconcile.votes import (
    NIL,
    Bundle,
    Kind,
    Message,
    Proposal,
    Summary,
    Vote,
    bundle_fault,
    decode,
    encode,
    sign,
    value_id,
    vote_fault,
)

SECOND_US = 1_000_000
TIMEOUTS = Timeouts(propose_us=400_000, prevote_us=200_000, precommit_us=200_000, growth_us=100_000)
LIES = ("equivocate", "withhold", "forget", "replay", "garbage", "split")


class Disagreement(AssertionError):
    """Two decisions for one height."""


class NoProgress(AssertionError):
    """The run did not end in time."""


class Plan(msgspec.Struct, frozen=True):
    """How hard a run is. ``liars``: how many of the last validators lie, each with one of ``lies``."""

    weights: tuple[int, ...] = (1, 1, 1, 1)
    liars: int = 0
    lies: tuple[str, ...] = LIES
    heights: int = 2
    heal_us: int = 5 * SECOND_US
    end_us: int = 240 * SECOND_US
    loss: float = 0.1
    crashes: int = 2
    cuts: int = 2
    restored: bool = False


def identity_of(place: int) -> Identity:
    return Identity(hashlib.sha256(b"validator %d" % place).digest())


@functools.cache
def committee_of_weights(weights: tuple[int, ...]) -> Committee:
    members = (
        Validator(f"node-{place + 1}", identity_of(place).public_key, weight) for place, weight in enumerate(weights)
    )
    return Committee(hashlib.sha256(b"cluster").digest(), tuple(members))


@pytest.fixture
def quick_signatures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each signature is checked once per test, not once per node."""
    cached = functools.lru_cache(maxsize=1 << 16)(verify)
    monkeypatch.setattr(reconcile.votes, "verify", cached)
    yield
    cached.cache_clear()


class Node:
    """An honest validator: a core and the disk under it."""

    def __init__(self, world: World, place: int) -> None:
        self.world, self.place = world, place
        self.name = world.committee.validators[place].name
        self.disk: list[bytes] = []
        self.archive: dict[int, Bundle] = {}
        self.settled = 0
        self.votes_from = 1
        self.life = 0
        self.up = False
        self.core: Tendermint
        self.heard: dict[tuple[int, int, int, int], set[tuple[int, int, int, bytes, int, int]]] = {}
        self.accused: set[tuple[int, int]] = set()
        self.owed: set[tuple[int, int]] = set()

    def start(self) -> None:
        self.up = True
        self.life += 1
        self.unsynced: list[bytes] = []
        self.waiting: list[tuple[int, Callable[[], None]]] = []
        self.heard, self.accused, self.owed = {}, set(), set()
        self.core = Tendermint(
            self.world.committee,
            identity_of(self.place),
            timeouts=TIMEOUTS,
            records=self.disk,
            votes_from=self.votes_from,
            position=len(self.disk),
        )
        self.later(0, StartHeight(self.settled + 1))
        self.repair(self.life)

    def crash(self) -> None:
        self.up = False

    def repair(self, life: int) -> None:
        if self.up and self.life == life:
            self.take(RepairDue())
            self.world.at(self.world.rng.randrange(400_000, 600_000), lambda: self.repair(life))

    def later(self, delay_us: int, event: Event) -> None:
        life = self.life

        def deliver() -> None:
            if self.up and self.life == life:
                self.take(event)

        self.world.at(delay_us, deliver)

    def take(self, event: Event) -> None:
        if isinstance(event, Received):
            self.note_heard(event.frame)
        for effect in self.core.step(event, self.world.now_us):
            self.obey(effect)
        assert self.owed <= self.accused, f"{self.name} overlooked a contradiction: {self.owed - self.accused}"

    def obey(self, effect: Effect) -> None:
        world, rng = self.world, self.world.rng
        match effect:
            case PersistVote(position, record):
                self.unsynced.append(record)
                assert position == len(self.disk) + len(self.unsynced)
                self.sync_soon()
            case Broadcast(message, after):
                self.once_durable(after, lambda: self.say(message, None))
            case Answer(peer, messages, after):
                self.once_durable(after, lambda: self.say_all(messages, peer))
            case Relay(message):
                self.say(message, None)
            case ScheduleTimeout(kind, height, round, delay_us):
                self.later(delay_us, TimedOut(kind, height, round))
            case ProposeWanted(height, round):
                value = b"good %d by %s in %d, %d" % (height, self.name.encode(), round, rng.randrange(100))
                self.later(rng.randrange(20_000), Proposed(height, round, value))
            case ValidateWanted(height, id, value):
                slow = not world.healed and rng.random() < 0.3
                delay_us = max(0, world.plan.heal_us - world.now_us) if slow else 0
                self.later(delay_us + rng.randrange(30_000), Validated(height, id, value.startswith(b"good")))
            case Decided(after=after):
                world.decided(self, effect)
                self.archive[effect.height] = Bundle(effect.precommits, effect.value)
                self.once_durable(after, lambda: self.settle(effect.height))
            case DecisionWanted(peer, height):
                if height in self.archive:
                    self.say(self.archive[height], peer)
            case EvidenceFound(evidence):
                self.accused.add((evidence.voter, evidence.first.height))
                world.accuse(evidence)

    def settle(self, height: int) -> None:
        self.settled = max(self.settled, height)
        if height < self.world.plan.heights + 2:
            self.later(self.world.rng.randrange(100_000), StartHeight(height + 1))

    def sync_soon(self) -> None:
        life = self.life

        def sync() -> None:
            if self.up and self.life == life and self.unsynced:
                self.disk.append(self.unsynced.pop(0))
                ready = [send for after, send in self.waiting if after <= len(self.disk)]
                self.waiting = [row for row in self.waiting if row[0] > len(self.disk)]
                for send in ready:
                    send()

        self.world.at(self.world.rng.randrange(1_000, 30_000), sync)

    def once_durable(self, after: int, act: Callable[[], None]) -> None:
        if after <= len(self.disk):
            act()
        else:
            self.waiting.append((after, act))

    def say(self, message: Message, peer: str | None) -> None:
        self.world.sent(self, message)
        self.world.post(self.place, encode(message), peer)

    def say_all(self, messages: tuple[Message, ...], peer: str) -> None:
        for message in messages:
            self.say(message, peer)

    def note_heard(self, frame: bytes) -> None:
        """Two statements for one slot, both in the window when they came: this node now owes a report."""
        message = decode(frame)
        votes: tuple[Vote, ...] = ()
        if isinstance(message, Proposal):
            votes = (message.vote,) if value_id(message.value) == message.vote.value_id else ()
        elif isinstance(message, Vote):
            votes = (message,) if message.kind is not Kind.PROPOSAL else ()
        if not self.core.height:
            return
        for vote in votes:
            near = abs(vote.round - self.core.round) <= ROUND_WINDOW // 2
            if near and abs(vote.height - self.core.height) <= 1 and not vote_fault(vote, self.world.committee):
                said = self.heard.setdefault(vote.slot, set())
                said.add(vote.statement)
                if len(said) > 1:
                    self.owed.add((vote.voter, vote.height))


class Liar:
    """A validator that hears all and says what its ``lie`` makes it say."""

    def __init__(self, world: World, place: int, lie: str) -> None:
        self.world, self.place, self.lie = world, place, lie
        self.name = world.committee.validators[place].name
        self.identity = identity_of(place)
        self.seen: list[bytes] = []
        self.ids: list[bytes] = [NIL]
        self.done: set[tuple[int, int, int]] = set()

    def take(self, frame: bytes) -> None:
        rng = self.world.rng
        if len(self.seen) < 400:
            self.seen.append(frame)
        message = decode(frame)
        if isinstance(message, Proposal) and message.vote.value_id not in self.ids:
            self.ids.append(message.vote.value_id)
            del self.ids[1:-6]
        if self.lie == "replay" and rng.random() < 0.2:
            self.post(rng.choice(self.seen), rng.randrange(len(self.world.committee.validators)))
        if self.lie == "garbage" and rng.random() < 0.2:
            self.post(self.garble(rng.choice(self.seen)), None)
        if isinstance(message, (Vote, Proposal)):
            vote = message.vote if isinstance(message, Proposal) else message
            self.act(vote.height, vote.round, vote)
        elif isinstance(message, Summary):
            self.act(message.height, message.round, None)

    def act(self, height: int, round: int, heard: Vote | None) -> None:
        """Say the worst about (height, round), once per slot; sometimes about the next round as well."""
        rng = self.world.rng
        if self.lie == "withhold":
            if rng.random() < 0.9:
                return
        elif rng.random() < 0.1:
            round += 1
        if self.world.committee.proposer(height, round) == self.place and (height, round, -1) not in self.done:
            self.done.add((height, round, -1))
            self.propose(height, round)
        for kind in (Kind.PREVOTE, Kind.PRECOMMIT):
            if (height, round, kind) in self.done or (heard is not None and heard.kind + 1 < kind):
                continue
            self.done.add((height, round, kind))
            self.vote(kind, height, round, heard.value_id if heard else NIL)

    def propose(self, height: int, round: int) -> None:
        rng = self.world.rng
        values = [b"good %d by a liar in %d, %d" % (height, round, side) for side in range(2)]
        if self.lie == "garbage":
            values[1] = b"bad"
        vr = rng.randrange(-1, round) if self.lie in ("forget", "equivocate") else -1
        for side, value in enumerate(values[: 1 if self.lie in ("forget", "replay", "withhold") else 2]):
            vote = self.sign(Kind.PROPOSAL, height, round, value_id(value), vr)
            self.ids.append(value_id(value))
            self.tell(encode(Proposal(vote, value)), side if self.lie in ("equivocate", "split") else None)
        if self.lie == "split":
            for kind in (Kind.PREVOTE, Kind.PRECOMMIT):
                for liar in self.world.liars.values():
                    liar.done.add((height, round, kind))
                    for side, value in enumerate(values):
                        vote = liar.sign(kind, height, round, value_id(value), -1)
                        liar.tell(encode(vote), side)

    def vote(self, kind: Kind, height: int, round: int, heard: bytes) -> None:
        rng = self.world.rng
        if self.lie in ("equivocate", "split"):
            for side in range(2 if self.lie == "split" else rng.choice((2, 3))):
                vr = rng.randrange(-1, round) if kind is Kind.PREVOTE else -1
                id = rng.choice(self.ids)
                self.tell(encode(self.sign(kind, height, round, id, vr if id else -1)), side % 2)
            return
        id = rng.choice(self.ids) if self.lie == "forget" else rng.choice((heard, heard, NIL))
        self.tell(encode(self.sign(kind, height, round, id, -1)), None if rng.random() < 0.8 else rng.randrange(2))

    def sign(self, kind: Kind, height: int, round: int, id: bytes, vr: int) -> Vote:
        return sign(self.identity, self.world.committee, (kind, height, round, id, vr, self.place))

    def garble(self, frame: bytes) -> bytes:
        rng = self.world.rng
        raw = bytearray(frame)
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        return bytes(raw) if rng.random() < 0.7 else rng.randbytes(rng.randrange(200))

    def tell(self, frame: bytes, side: int | None) -> None:
        """To all, or to the honest of one side."""
        for place in self.world.nodes:
            if side is None or place % 2 == side:
                self.post(frame, place)

    def post(self, frame: bytes, place: int | None) -> None:
        peer = None if place is None else self.world.committee.validators[place].name
        self.world.post(self.place, frame, peer)


class World:
    """One run."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.rng = random.Random(seed)
        self.plan = plan
        self.committee = committee_of_weights(plan.weights)
        self.now_us = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        size = len(plan.weights)
        self.liars = {p: Liar(self, p, self.rng.choice(plan.lies)) for p in range(size - plan.liars, size)}
        self.nodes = {p: Node(self, p) for p in range(size - plan.liars)}
        self.by_name = {validator.name: p for p, validator in enumerate(self.committee.validators)}
        self.island: set[int] = set()
        self.decisions: dict[int, bytes] = {}
        self.signed: dict[tuple[int, int, int, int], Vote] = {}
        self.evidence: list[Evidence] = []
        self.forgetful: set[int] = set()
        self.rounds = 0

    @property
    def healed(self) -> bool:
        return self.now_us >= self.plan.heal_us

    def at(self, delay_us: int, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._count, act))

    def post(self, sender: int, frame: bytes, peer: str | None) -> None:
        for place in (self.by_name[peer],) if peer else range(len(self.committee.validators)):
            if place == sender or (not self.healed and self.rng.random() < self.plan.loss):
                continue
            delay_us = self.rng.randrange(1_000, 30_000 if self.healed or self.rng.random() < 0.8 else 900_000)
            self.at(delay_us, functools.partial(self.arrive, sender, place, frame))

    def arrive(self, sender: int, place: int, frame: bytes) -> None:
        if not self.healed and (sender in self.island) != (place in self.island):
            return
        if place in self.liars:
            self.liars[place].take(frame)
        elif self.nodes[place].up:
            self.nodes[place].take(Received(self.committee.validators[sender].name, frame))

    def run(self) -> None:
        """Until every honest node has settled ``heights``; AssertionError where the run breaks a law or does not end."""
        plan, rng = self.plan, self.rng
        for node in self.nodes.values():
            self.at(rng.randrange(300_000), node.start)
        for _ in range(plan.crashes):
            self.at(rng.randrange(300_000, plan.heal_us), self.crash_one)
        for _ in range(plan.cuts):
            self.at(rng.randrange(plan.heal_us), self.cut)
        if plan.restored:
            self.at(rng.randrange(300_000, plan.heal_us), self.lose_one)
        while self._queue and any(node.settled < plan.heights for node in self.nodes.values()):
            self.now_us, _, act = heapq.heappop(self._queue)
            if self.now_us >= plan.end_us:
                raise NoProgress(f": {[node.core.summary() for node in self.nodes.values()]}")
            act()

    def crash_one(self) -> None:
        node = self.rng.choice(list(self.nodes.values()))
        if node.up:
            node.crash()
            self.at(self.rng.randrange(100_000, 3 * SECOND_US), node.start)

    def lose_one(self) -> None:
        """A disk is lost and the node comes back with an older one, knowing that it is older."""
        node = self.rng.choice(list(self.nodes.values()))
        if not node.up or not all(other.up and other.core.height for other in self.nodes.values()):
            self.at(200_000, self.lose_one)
            return
        node.crash()
        self.forgetful.add(node.place)
        node.disk = []
        node.settled = self.rng.randrange(node.settled + 1)
        others = [other.core.height for other in self.nodes.values() if other is not node]
        node.votes_from = first_height_after_restore(others)
        self.at(self.rng.randrange(100_000, SECOND_US), node.start)

    def cut(self) -> None:
        size = len(self.committee.validators)
        self.island = set(self.rng.sample(range(size), self.rng.randrange(1, size)))
        if self.rng.random() < 0.3:
            self.island = set()

    # -- the laws ----------------------------------------------------------------------------------------

    def sent(self, node: Node, message: Message) -> None:
        """Votes that leave an honest node in its own name are durable, and one per slot, across all its lives."""
        votes = message.votes if isinstance(message, Bundle) else ()
        votes = (message.vote,) if isinstance(message, Proposal) else votes
        votes = (message,) if isinstance(message, Vote) else votes
        for vote in votes:
            self.rounds = max(self.rounds, vote.round)
            if vote.voter == node.place:
                first = self.signed.setdefault(vote.slot, vote)
                assert first == vote, f"{node.name} contradicted itself: {first} {vote}"
                if node.place not in self.forgetful:
                    assert any(vote.signature in record for record in node.disk), f"{node.name} sent before it synced"

    def decided(self, node: Node, decision: Decided) -> None:
        assert value_id(decision.value) == decision.value_id
        assert not bundle_fault(Bundle(decision.precommits, decision.value), self.committee)
        assert decision.precommits[0].slot[:3] == (decision.height, decision.round, Kind.PRECOMMIT)
        assert decision.value.startswith(b"good %d " % decision.height), f"{node.name} decided {decision.value!r}"
        first = self.decisions.setdefault(decision.height, decision.value_id)
        if first != decision.value_id:
            raise Disagreement(f"{node.name} decided otherwise at {decision.height}")

    def accuse(self, evidence: Evidence) -> None:
        """Evidence holds for a stranger, and names a liar."""
        assert decode_evidence(encode_evidence(evidence), self.committee) == evidence
        assert evidence.voter in self.liars, f"an honest validator is framed: {evidence}"
        assert evidence.offence is not None
        self.evidence.append(evidence)
