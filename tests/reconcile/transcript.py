"""Transcripts: one validator's story as a text that a person reads, played against the core.

A transcript is a file of events, each with the effects that follow it:

    # what this story is about
    me node-1 of 4                       who plays; weights may follow: of 4 weighing 3,2,2,3
    > prevote node-2,node-3 0 A          an event
    persist precommit 1/0 A              what the core did about it, in order

Values are named by one capital letter; times are milliseconds; 1/0 is height 1, round 0. Events:

    > start H                            everything below H is settled
    > propose R V [vr N]                 the proposer of round R proposes V; ``as node-3`` names another signer
    > prevote NODES R V|nil [vr N]       precommit likewise; ``at H`` names another height than the present one
    > proposed V / valid V / invalid V   the driver's answers, for the present height and round
    > timeout KIND R / repair
    > polka R V NODES                    a bundle: a quorum of prevotes whole, and the value; ``commits R V NODES`` likewise
    > crash [lost]                       the validator starts again from what it persisted; ``lost``: its last record was not synced
    > restored H                         it starts again with no record, and may vote from height H on
    > frame HEX                          any bytes, from node-2
    > wait MS                            time passes

``UPDATE_TRANSCRIPTS=1`` writes what the core does now into the files: read the difference before you keep it.
"""

from __future__ import annotations

import functools

from crdtledger.ledger.identity import Identity
from reconcile.agreement import (
    Answer,
    Broadcast,
    Decided,
    DecisionWanted,
    Disputed,
    Effect,
    Event,
    EvidenceFound,
    PersistVote,
    Proposed,
    ProposeWanted,
    Received,
    Refused,
    Relay,
    RepairDue,
    ScheduleTimeout,
    StartHeight,
    TimedOut,
    Timeouts,
    Validated,
    ValidateWanted,
)
from reconcile.evidence import decode_evidence, encode_evidence
from reconcile.quorum import Committee
from reconcile.tendermint import Tendermint
from reconcile.votejournal import read_records
from reconcile.votes import NIL, Bundle, Kind, Message, Proposal, Summary, Vote, encode, sign, value_id
from tests.reconcile.agreement_simulation import committee_of_weights, identity_of

TIMEOUTS = Timeouts(propose_us=3_000_000, prevote_us=1_000_000, precommit_us=1_000_000, growth_us=500_000)
KINDS = {"prevote": Kind.PREVOTE, "precommit": Kind.PRECOMMIT}


def value_of(letter: str) -> bytes:
    return b"value " + letter.encode()


NAMES = {value_id(value_of(chr(code))): chr(code) for code in range(ord("A"), ord("Z") + 1)}


class Player:
    """Plays a transcript's events on one core and writes what it does."""

    def __init__(self, header: list[str]) -> None:
        self.me = int(header[1].removeprefix("node-")) - 1
        weights = tuple(map(int, header[5].split(","))) if len(header) > 4 else (1,) * int(header[3])
        self.committee: Committee = committee_of_weights(weights)
        self.records: list[bytes] = []
        self.now_us = 0
        self.core = self.fresh()

    def fresh(self, votes_from: int = 1) -> Tendermint:
        return Tendermint(
            self.committee,
            self.key(self.me),
            timeouts=TIMEOUTS,
            records=self.records,
            votes_from=votes_from,
            position=len(self.records),
        )

    def key(self, place: int) -> Identity:
        return identity_of(place)

    def play(self, line: str) -> list[str]:
        """The lines that follow the event ``line``."""
        words = line.split()
        verb, rest = words[0], words[1:]
        if verb in ("crash", "restored"):
            height = self.core.height
            if rest == ["lost"]:
                self.records.pop()
            if verb == "restored":
                self.records = []
            self.core = self.fresh(int(rest[0]) if verb == "restored" else 1)
            return self.tell([StartHeight(height)])
        if verb == "wait":
            self.now_us += int(rest[0]) * 1_000
            return []
        return self.tell(self.events(verb, rest))

    def tell(self, events: list[Event]) -> list[str]:
        lines = []
        for event in events:
            for effect in self.core.step(event, self.now_us):
                if isinstance(effect, PersistVote):
                    self.records.append(effect.record)
                lines.append(self.text(effect))
        return lines

    def events(self, verb: str, rest: list[str]) -> list[Event]:
        core = self.core
        options = {key: take_option(rest, key) for key in ("vr", "at", "as")}
        height = int(options["at"] or core.height)
        match verb:
            case "start":
                return [StartHeight(int(rest[0]))]
            case "propose":
                round, letter = int(rest[0]), rest[1]
                place = self.committee.proposer(height, round) if options["as"] is None else place_of(options["as"])
                vote = self.vote(Kind.PROPOSAL, height, round, letter, place, int(options["vr"] or -1))
                return [self.received(place, Proposal(vote, value_of(letter)))]
            case "prevote" | "precommit":
                places = [place_of(name) for name in rest[0].split(",")]
                kind, round, vr = KINDS[verb], int(rest[1]), int(options["vr"] or -1)
                return [self.received(p, self.vote(kind, height, round, rest[2], p, vr)) for p in places]
            case "polka" | "commits":
                kind = Kind.PREVOTE if verb == "polka" else Kind.PRECOMMIT
                places = [place_of(name) for name in rest[2].split(",")]
                votes = tuple(self.vote(kind, height, int(rest[0]), rest[1], place, -1) for place in places)
                return [self.received(places[0], Bundle(votes, value_of(rest[1])))]
            case "proposed":
                return [Proposed(core.height, core.round, value_of(rest[0]))]
            case "valid" | "invalid":
                return [Validated(core.height, value_id(value_of(rest[0])), verb == "valid")]
            case "timeout":
                return [TimedOut(rest[0], core.height, int(rest[1]))]  # type: ignore[arg-type]
            case "repair":
                return [RepairDue()]
            case "summary":
                return [self.received(place_of(rest[0]), Summary(int(rest[1]), int(rest[2])))]
            case "frame":
                return [Received("node-2", bytes.fromhex(rest[0]))]
        raise ValueError(f"no such event: {verb}")

    def vote(self, kind: Kind, height: int, round: int, letter: str, place: int, vr: int) -> Vote:
        id = NIL if letter == "nil" else value_id(value_of(letter))
        return signed(self.committee, (kind, height, round, id, vr, place))

    def received(self, place: int, message: Message) -> Received:
        return Received(self.committee.validators[place].name, encode(message))

    # -- effects as text -----------------------------------------------------------------------------------

    def text(self, effect: Effect) -> str:
        match effect:
            case PersistVote(position, record):
                (read,) = read_records([record], self.committee, self.me)
                polka = f" and the polka of {self.names(read.polka)}" if read.polka else ""
                value = f" with value {chr(read.value[-1])}" if read.value else ""
                return f"persist {position}: {self.say(read.vote)}{value}{polka}"
            case Broadcast(message, after):
                return f"broadcast {self.say(message)}" + (f", after {after}" if after else "")
            case Relay(message):
                return f"relay {self.say(message)}"
            case Answer(peer, messages, after):
                return f"answer {peer}, after {after}: " + "; ".join(map(self.say, messages))
            case ScheduleTimeout(kind, height, round, delay_us):
                return f"schedule timeout {kind} {height}/{round} in {delay_us // 1_000} ms"
            case ProposeWanted(height, round):
                return f"wanted: a proposal for {height}/{round}"
            case ValidateWanted(height, id, _):
                return f"wanted: is {NAMES[id]} valid at {height}?"
            case Decided(height, round, id, _, precommits, after):
                return f"DECIDED {NAMES[id]} at {height}/{round} by {self.names(precommits)}, after {after}"
            case EvidenceFound(evidence):
                assert decode_evidence(encode_evidence(evidence), self.committee) == evidence
                assert evidence.offence is not None
                first, second = self.say(evidence.first), self.say(evidence.second)
                return f"EVIDENCE of {evidence.offence.value}: {first} | {second}"
            case DecisionWanted(peer, height):
                return f"wanted: the checkpoint of {height} for {peer}"
            case Disputed(height, round, id):
                return f"DISPUTED {NAMES[id]} at {height}/{round}"
            case Refused(peer, what, where, why):
                return f"refused from {peer}: {what}, {where}: {why}"

    def say(self, message: Message) -> str:
        if isinstance(message, Summary):
            rows = [
                f"round {row.round}: {len(row.proposals)} proposed, "
                f"prevotes {bits(row.prevotes)}, precommits {bits(row.precommits)}, "
                f"polkas {letters(row.polkas)}, commits {letters(row.commits)}"
                for row in message.rows
            ]
            return f"summary of {message.height}/{message.round} [{' | '.join(rows)}]"
        if isinstance(message, Bundle):
            first = message.votes[0]
            value = " with its value" if message.value else ""
            return (
                f"bundle of {first.kind.name.lower()}s {first.height}/{first.round} {name_of(first.value_id)} "
                f"by {self.names(message.votes)}{value}"
            )
        vote = message.vote if isinstance(message, Proposal) else message
        vr = f" vr {vote.vr}" if vote.vr >= 0 else ""
        who = self.committee.validators[vote.voter].name
        return f"{vote.kind.name.lower()} {vote.height}/{vote.round} {name_of(vote.value_id)}{vr} by {who}"

    def names(self, votes: tuple[Vote, ...]) -> str:
        return ",".join(self.committee.validators[vote.voter].name for vote in votes)


@functools.lru_cache(maxsize=4096)
def signed(committee: Committee, statement: tuple[Kind, int, int, bytes, int, int]) -> Vote:
    return sign(identity_of(statement[5]), committee, statement)


def take_option(words: list[str], key: str) -> str | None:
    if key not in words:
        return None
    at = words.index(key)
    word = words[at + 1]
    del words[at : at + 2]
    return word


def place_of(name: str) -> int:
    return int(name.removeprefix("node-")) - 1


def name_of(id: bytes) -> str:
    return NAMES[id] if id else "nil"


def letters(ids: tuple[bytes, ...]) -> str:
    return "".join(NAMES[id] for id in ids) or "-"


def bits(mask: bytes) -> str:
    number = int.from_bytes(mask, "little")
    return "".join(str(place + 1) for place in range(number.bit_length()) if number >> place & 1) or "-"


def replay(text: str) -> str:
    """The transcript ``text`` with the effects that its events have now."""
    lines: list[str] = []
    player: Player | None = None
    for line in text.splitlines():
        if line.startswith("me "):
            player = Player(line.split())
            lines.append(line)
        elif line.startswith("> "):
            assert player is not None, "a transcript starts with: me node-1 of 4"
            lines.append(line)
            lines.extend(player.play(line.removeprefix("> ").split("  #")[0]))
        elif line.startswith("#") or not line.strip():
            lines.append(line)
    return "\n".join(lines) + "\n"
