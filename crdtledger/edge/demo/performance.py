"""The performance: the acts of the demo, in order, on a stage. Impure.

Progress drives the story, not the clock: an act is over when its consignments and moves have been answered, so a slow
machine tells the same story more slowly. Whatever is acknowledged goes into the driver's books at once; whatever is not
is repeated until it is, or was refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from crdtledger.edge import api
from crdtledger.edge.demo.books import Books
from crdtledger.edge.demo.feeds import SOURCES, Consignment, Feed, accounts_of, deal
from crdtledger.edge.demo.pit import HITS, Pit
from crdtledger.edge.demo.record import Record
from crdtledger.edge.demo.scene import Scene
from crdtledger.edge.demo.script import HEIST, UNIT, VAULT, Move, Script, write
from crdtledger.edge.demo.stage import Seat, Stage
from crdtledger.edge.demo.verdict import is_sealed
from crdtledger.errors import CallerError, InsufficientRights, OperatorError, decimal_text
from crdtledger.ledger.facts import Instrument

AGREEMENT_S: Final = 30.0
PAUSE_S: Final = 0.03
"""Between two moves of one spender."""
QUIET_MS: Final = 700
"""Nothing new for so long: longer than a node waits for an answer to its asking for rights."""
VIEWS: Final[tuple[api.QueryName, ...]] = (
    "positions",
    "collateral",
    "breaks",
    "digest",
    "frontier",
    "accounts",
    "instruments",
    "status",
    "matches",
)
TRIES: Final = {"trade": 4, "cut": 1, "after": 4}
GLANCE_S: Final = 0.1
"""Between two looks at whether everything is settled."""
AGAIN_S: Final = 0.15
"""Between two tries of a refused move: time for rights to be asked for and granted."""
DEAD_S: Final = 0.5
MIN_CUT_S: Final = 3.0


class NoAgreement(OperatorError):
    """The nodes did not come to hold the same in time."""

    code = "no_agreement"

    def describe(self) -> str:
        return f"no agreement {self.attributes['when']}; the nodes' logs: {self.attributes['logs']}"


class Performance:
    """One run of the story."""

    def __init__(self, stage: Stage, feeds: Sequence[Feed], seed: int, scene: Scene) -> None:
        self.stage = stage
        self.scene = scene
        self.feeds = feeds
        self.books = Books()
        self.record = Record()
        names = stage.names
        self.left, self.right = names[: (len(names) + 1) // 2], names[(len(names) + 1) // 2 :]
        self.victim = names[-1]
        self.pit = Pit(stage, self.left, self.right)
        sources = dict.fromkeys((self.left[-1], self.right[0], self.right[-1], *names))
        self.script: Script = write(seed, names, self.left)
        self.consignments: list[Consignment] = deal(feeds, list(sources)[:SOURCES])
        self._open: list[tuple[str, Move]] = []
        self._flowed = 0.0
        self._act_began = 0.0
        scene.expected = sum(len(one.fills) for one in self.consignments if not one.echo)

    async def run(self) -> dict[str, dict[str, Any]]:
        """All acts, and what every node shows at the end (node -> view -> rows). The books and the record are complete."""
        await self._found()
        await self.pit.quote("trade")
        await self._play("trade")
        await self.pit.quote("cut")
        await self._cut()
        await self._heal()
        await self._play("after")
        await self._quiet()
        await self._settle()
        self.scene.enter("check")
        self.record.surprises += self.pit.surprises
        return {name: await self._answers(seat) for name, seat in self.stage.seats.items()}

    async def _quiet(self) -> None:
        """Wait for a moment at which nothing is under way: nodes that were refused still ask each other for rights for a
        while, and grants are batches like all others."""
        began = time.monotonic()
        while time.monotonic() - began < AGREEMENT_S:
            if await self.stage.agreement(AGREEMENT_S) < 0:
                raise self._no_agreement("at the end")
            before = await self._frontiers()
            first = self.stage.seats[self.stage.names[0]]
            changed = await first.ask(api.Watch(bytes.fromhex(before[0]), QUIET_MS)) != bytes.fromhex(before[0])
            if not changed and len(set(before)) == 1 and before == await self._frontiers():
                return

    async def _settle(self) -> None:
        """Give the nodes the time that settling the rest takes. Whether they did is for the verdict."""
        self.scene.enter("settle")
        began = time.monotonic()
        while time.monotonic() - began < AGREEMENT_S:
            statuses = {name: await seat.query("status") for name, seat in self.stage.seats.items()}
            if is_sealed(statuses):
                base = statuses[self.stage.names[0]]["base"]
                self.scene.say(f"checkpoint {base['height']} holds everything, {base['digest'][:16]} at every node")
                return
            await asyncio.sleep(GLANCE_S)

    async def _answers(self, seat: Seat) -> dict[str, Any]:
        return {str(view): await seat.query(view) for view in VIEWS}

    async def _frontiers(self) -> list[str]:
        return [(await seat.query("digest"))["frontier"] for seat in self.stage.seats.values()]

    # -- acts -----------------------------------------------------------------------------------------------

    async def _found(self) -> None:
        scene, stage = self.scene, self.stage
        scene.enter("found")
        await stage.start(stage.names)
        for node in scene.nodes.values():
            node.state = "up"
        custodian = stage.seats[stage.names[0]]
        instruments = {feed.instrument.name: feed.instrument for feed in self.feeds}
        accounts = sorted({*accounts_of(self.feeds), *self.script.accounts})
        facts = [instrument_fact(one) for one in instruments.values()]
        facts += [{"kind": "account", "name": name} for name in accounts]
        await custodian.record(facts)
        self.books.defined(list(instruments.values()), accounts)
        scene.count(len(facts))
        for first in range(0, len(self.script.opening), 500):
            moves = self.script.opening[first : first + 500]
            await custodian.record([move.json() for move in moves])
            for move in moves:
                self.books.acknowledge(custodian.name, move)
            scene.count(len(moves))
        await self.pit.open()
        if await stage.agreement(AGREEMENT_S) < 0:
            raise self._no_agreement("after the start")
        scene.say(f"{len(stage.names)} nodes are up; {stage.names[0]} took deposits, the others a share")

    async def _play(self, act: str) -> None:
        """Flow and spending on every node at once, until the act's share is through."""
        self.scene.enter(act)
        self._act_began = self._flowed = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for name in self.stage.names:
                group.create_task(self._flow(name, act))
                group.create_task(self._spend(name, act))
            if act in HITS:
                group.create_task(self.pit.play(act))
        self.record.flow_s += self._flowed - self._act_began

    async def _cut(self) -> None:
        stage, scene = self.stage, self.scene
        await stage.cut(self.left, self.right)
        began = time.monotonic()
        for side, names in (("left", self.left), ("right", self.right)):
            for name in names:
                scene.nodes[name].side = side
        scene.say(f"cut: {', '.join(self.left)} | {', '.join(self.right)}")
        async with asyncio.TaskGroup() as group:  # if the killed node cannot come back, nobody waits for it for ever
            group.create_task(self._play("cut"))
            group.create_task(self._kill())
        await asyncio.sleep(MIN_CUT_S - (time.monotonic() - began))
        digests = [await stage.seats[side[0]].query("digest") for side in (self.left, self.right)]
        self.record.apart = digests[0] != digests[1]
        scene.say(f"{self._both('traded')} trades, {self._both('paid')} spends: left + right")
        self.record.cut_s = time.monotonic() - began

    def _both(self, what: str) -> str:
        sides: dict[str, int] = getattr(self.record, what)
        return " + ".join(f"{sides.get(side, 0):,}" for side in ("left", "right"))

    async def _kill(self) -> None:
        """Kill a node in the middle of its work, and start it again."""
        stage, scene, node = self.stage, self.scene, self.scene.nodes[self.victim]
        mine = [one for one in self.consignments if one.node == self.victim and one.act == "cut"]
        threshold = self.scene.nodes[self.victim].moves + len(self.script.acts["cut"][self.victim]) // 3
        done = len(self.books.consignments)
        while node.moves < threshold and len(self.books.consignments) < done + len(mine):
            await asyncio.sleep(0.005)
        before = (await stage.seats[self.victim].query("status"))["lane"]
        await stage.kill(self.victim)
        node.state = "killed"
        scene.say(f"kill -9 {self.victim}, in the middle of its work")
        await asyncio.sleep(DEAD_S)
        await stage.start([self.victim])
        node.state = "up"
        self.record.lanes = before, (await stage.seats[self.victim].query("status"))["lane"]
        scene.say(f"{self.victim} is back, with everything it had acknowledged")

    async def _heal(self) -> None:
        scene = self.scene
        scene.enter("heal")
        began = time.monotonic()
        await self.stage.heal()
        for node in scene.nodes.values():
            node.side = ""
        if await self.stage.agreement(AGREEMENT_S) < 0:
            raise self._no_agreement("after the healing")
        self.record.heal_s = time.monotonic() - began
        scene.say(
            f"all {len(self.stage.names)} nodes hold the same {self.record.heal_s:.2f} s after the cable was back"
        )

    def _no_agreement(self, when: str) -> NoAgreement:
        logs = ", ".join(str(seat.folder / "node.log") for seat in self.stage.seats.values())
        return NoAgreement(when=f"{when}, within {AGREEMENT_S:g} s", logs=logs)

    # -- actors ---------------------------------------------------------------------------------------------

    async def _flow(self, name: str, act: str) -> None:
        """One node records its consignments of an act, one after the other."""
        seat = self.stage.seats[name]
        for consignment in self.consignments:
            if consignment.node != name or consignment.act != act:
                continue
            try:
                answer = await seat.ask(api.pack_fills(consignment.fills, None))
            except CallerError as refusal:
                self.record.surprises.append(f"{name}, {len(consignment.fills)} fills: {refusal}")
                continue
            self.books.report(consignment)
            self.record.repeated += answer["duplicates"]
            self._flowed = time.monotonic()
            self.scene.count(0 if consignment.echo else len(consignment.fills))
            self._tally(self.record.traded, name, len(consignment.fills))

    async def _spend(self, name: str, act: str) -> None:
        """One node's moves of an act, one after the other; and those that the cut had refused, after it."""
        moves = list(self.script.acts[act][name])
        if act == "after":
            moves += [move for node, move in self._open if node == name and move.account != VAULT][:10]
            moves += [move for node, move in self._open if node == name and move.account == VAULT]
        for move in moves:
            if move.reserve and move.reserve not in self.books.moves:
                continue  # its reserve was refused
            await self._move(name, act, move)
            await asyncio.sleep(PAUSE_S)

    async def _move(self, name: str, act: str, move: Move) -> None:
        seat, scene = self.stage.seats[name], self.scene.nodes[name]
        for attempt in range(TRIES[act]):
            try:
                await seat.record([move.json()])
            except InsufficientRights as refusal:
                self.record.refusals += 1
                scene.refused += 1
                if attempt == 0 and (act == "cut" or move.account == VAULT):
                    self._say_refused(name, move, refusal)
                await asyncio.sleep(AGAIN_S)
                continue
            except CallerError as refusal:
                self.record.surprises.append(f"{name}, {move.kind} {move.id}: {refusal}")
                return
            if move.id not in self.books.moves:
                self.scene.count(1)
            self.books.acknowledge(name, move)
            scene.moves += 1
            if move.kind in ("withdrawal", "transfer", "reserve"):
                self._tally(self.record.paid, name, 1)
            self.record.heists += move.amount == HEIST
            self.record.twice += move.id == "twice"
            return
        if act == "cut":
            self._open.append((name, move))

    def _say_refused(self, name: str, move: Move, refusal: InsufficientRights) -> None:
        held = decimal_text(int(refusal.held_here) // UNIT, 0)
        wanted = decimal_text(move.amount // UNIT, 0)
        if move.asset == "USDT":
            self.scene.say(f"{name} refuses {move.kind} of {wanted} {move.asset} from {move.account}: may spend {held}")

    def _tally(self, tally: dict[str, int], name: str, amount: int) -> None:
        if side := self.scene.nodes[name].side:
            tally[side] = tally.get(side, 0) + amount


def instrument_fact(instrument: Instrument) -> dict[str, Any]:
    """A definition as a client hands it in."""
    fact: dict[str, Any] = msgspec.to_builtins(instrument)
    fact["contract_size"] = decimal_text(instrument.contract_size, instrument.contract_decimals)
    fact.pop("contract_decimals", None)
    return fact
