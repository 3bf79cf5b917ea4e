"""A window for ids in real node cores: the floor rises while nodes are idle, waits for who is away, and travels with a state."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from crdtledger.edge import api
from crdtledger.edge.simulate.cluster import NAMES, SECOND
from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import BelowFloor
from crdtledger.ledger.facts import Account
from crdtledger.ledger.idwindow import BY_HAND, CORRECTION, ENDED, IdWindow
from crdtledger.ledger.inprocess import Ledger as Desk
from crdtledger.ledger.view import BELOW_FLOOR
from gossip.machine import EPOCH_US
from tests.crdtledger.worlds import SPOT
from tests.edge.test_checkpointing import Ledger, agreeing
from tests.edge.test_jumping import comes_back, jumps

WINDOW_MS = 16_000
WINDOW = WINDOW_MS * 1_000
SPAN = WINDOW // 16
OTHERS = ("n0", "n1", "n2")


class Windowed(Ledger):
    """A ledger that remembers ids for 16 seconds. Whoever tells of a trade says that it happened when it was first told of."""

    def __init__(self, seed: int = 0, window_ms: int = WINDOW_MS, **options: Any) -> None:
        self.happened: dict[int, int] = {}
        super().__init__(seed, window_ms=window_ms, **options)

    def fact(self) -> Json:
        fact = super().fact()
        if "trade_id" in fact:
            fact["ts_us"] = self.happened.setdefault(fact["trade_id"], self.now_us)
        return fact

    def fill(self, number: int, **more: Any) -> Json:
        return {**self.trade(number, 0), "qty": "1.000", "ts_us": self.now_us, **more}

    @property
    def now_us(self) -> int:
        """What the nodes' clocks say."""
        return EPOCH_US + self.sim.now_us

    def window(self, name: str = "n0") -> IdWindow:
        window = self.core(name).replica.state.window
        assert window is not None
        return window

    def lags(self, name: str = "n0") -> int:
        """How far the floor is behind the present."""
        return self.now_us - self.window(name).floor_us

    def keeps_trading(self, trades: int, name: str = "n0", first: int = 1_000, pause_us: int = SECOND) -> None:
        for number in range(trades):
            self.record(name, self.fill(first + number))
            self.sim.run_for(pause_us)


def below(ledger: Ledger, name: str = "n0") -> int:
    counts = ledger.checkpoints(name).desk.book.counts
    return counts.get(BELOW_FLOOR, 0)


def test_the_floor_rises_though_only_one_node_records() -> None:
    ledger = Windowed()
    ledger.open_books()
    ledger.record("n0", ledger.fill(1))
    ledger.settles()
    assert len(ledger.window().fills) == 1
    ledger.keeps_trading(60)
    ledger.settles()
    assert WINDOW <= ledger.lags() <= WINDOW + 5 * SPAN
    assert 16 <= len(ledger.window().fills) <= 25
    with pytest.raises(BelowFloor):
        ledger.record("n2", {**ledger.fill(1), "ts_us": EPOCH_US + SECOND})
    with pytest.raises(BelowFloor, match="does not say when"):
        ledger.record("n2", ledger.trade(1, 0))
    ledger.record("n2", ledger.fill(1, id_space=BY_HAND))
    ledger.settles()
    status = ledger.ask("n1", api.Query("status"))["id_window"]
    assert status["floor_us"] == ledger.window("n1").floor_us
    assert status["remembered"] == len(ledger.window("n1").fills) + 1
    assert set(status["held_by"]) <= set(NAMES)
    assert not below(ledger)


def test_idle_nodes_write_little_and_whoever_is_cut_off_one_batch_and_no_more() -> None:
    ledger = Windowed()
    ledger.open_books()
    ledger.settles()
    lane = ledger.core("n3").recorder.lane.key
    before, height = ledger.core("n3").replica.head(lane).seq, ledger.height("n0")
    ledger.sim.run_for(32 * SECOND)
    assert 16 <= ledger.core("n3").replica.head(lane).seq - before <= 32
    assert ledger.height("n0") - height <= 32 * 4
    ledger.sim.partition([["n0", "n1"], ["n2", "n3"]])
    ledger.sim.run_for(5 * SECOND)
    before = ledger.core("n3").replica.head(lane).seq
    ledger.sim.run_for(32 * SECOND)
    assert ledger.core("n3").replica.head(lane).seq - before <= 1


def test_what_was_recorded_while_cut_off_counts_however_late_it_comes() -> None:
    ledger = Windowed(2)
    ledger.open_books()
    ledger.settles()
    ledger.sim.partition([list(OTHERS), ["n3"]])
    old = ledger.fill(1)
    ledger.record("n3", old)
    ledger.record("n0", old)
    ledger.record("n3", ledger.fill(2))
    ledger.keeps_trading(60)
    assert ledger.lags() > 60 * SECOND, "the floor waits for who is away"
    assert ledger.ask("n0", api.Query("status"))["id_window"]["held_by"] == ["n3"]
    ledger.sim.heal()
    ledger.settles()
    assert not below(ledger)
    (row,) = [row for row in ledger.ask("n0", api.Query("positions")) if row["account"] == "B"]
    assert row["fills"] == 31, "those of odd numbers, and the one that two told of once"
    ledger.keeps_trading(3, first=2_000)
    ledger.settles()
    assert ledger.lags() <= WINDOW + 5 * SPAN


def test_a_clock_that_runs_ahead_does_not_let_its_node_go_unwaited_for() -> None:
    ledger = Windowed(5, window_ms=80_000)
    ledger.open_books()
    ledger.keeps_trading(2)
    ledger.sim.skew("n3", 3_600 * SECOND)
    ledger.sim.run_for(10 * SECOND)
    with pytest.raises(BelowFloor):
        ledger.record("n3", ledger.fill(1))
    ledger.settles()
    ledger.sim.partition([list(OTHERS), ["n3"]])
    ledger.keeps_trading(60, first=2_000, pause_us=5 * SECOND)
    assert ledger.lags() > 300 * SECOND


def test_an_epoch_that_was_left_is_taken_over_and_holds_the_floor_no_longer() -> None:
    ledger = Windowed(3)
    ledger.open_books()
    ledger.keeps_trading(3)
    ledger.settles()
    left = ledger.core("n2").recorder.lane.key
    disk = ledger.sim.durable_records("n2")
    ledger.sim.crash("n2")
    ledger.restore("n2", disk)
    ledger.keeps_trading(40, first=2_000)
    ledger.settles()
    assert ledger.core("n2").recorder.lane.key != left
    assert ledger.window().heard[left].until_us == ENDED
    assert ledger.lags() <= WINDOW + 5 * SPAN


def test_a_node_that_jumps_has_the_window_that_all_have() -> None:
    ledger = Windowed(8, interval_ms=50, prunes=True, shelf_heights=1, jump_heights=20)
    ledger.open_books()
    ledger.settles()
    ledger.sim.crash("n3")
    while ledger.height("n1") < 60:
        ledger.work(1, OTHERS)
    ledger.sim.restart("n3")
    comes_back(ledger)
    assert jumps(ledger, "n3")
    ledger.keeps_trading(40)
    ledger.settles()
    assert ledger.window("n3") == ledger.window("n0")
    assert ledger.lags("n3") <= WINDOW + 5 * SPAN


@pytest.mark.parametrize("seed", range(4))
def test_every_trade_that_was_acknowledged_counts_once_through_crashes_and_partitions(seed: int) -> None:
    """Trades are told again, here and elsewhere, up to and beyond the window, while nodes are away for longer than it."""
    ledger, draw = Windowed(seed, interval_ms=200), Random(seed)
    ledger.open_books()
    recorded: dict[int, Json] = {}
    refused = 0
    for number in range(1_000, 1_220):
        if number % 20 == 0:
            ledger.sim.heal()
            for name in NAMES:
                if name not in ledger.sim.up():
                    ledger.sim.restart(name)
            match draw.randrange(3):
                case 0:
                    alone = draw.choice(NAMES)
                    ledger.sim.partition([[name for name in NAMES if name != alone], [alone]])
                case 1:
                    ledger.sim.partition([list(NAMES[:2]), list(NAMES[2:])])
                case _:
                    ledger.sim.crash(draw.choice(NAMES))
        told = [ledger.fill(number)] + [draw.choice(list(recorded.values())) for _ in range(2) if recorded]
        for fill in told:
            name = draw.choice(sorted(ledger.sim.up()))
            if refusal := ledger.try_record(name, fill):
                assert isinstance(refusal, BelowFloor)
                assert fill["trade_id"] in recorded, "what happens now is never too old"
                refused += 1
            else:
                recorded[fill["trade_id"]] = fill
        ledger.sim.run_for(draw.randrange(100_000, 700_000))
    ledger.sim.heal()
    for name in NAMES:
        if name not in ledger.sim.up():
            ledger.sim.restart(name)
    ledger.settles()
    assert refused > 20
    assert not below(ledger)
    assert sum(row["fills"] for row in ledger.ask("n0", api.Query("positions"))) == len(recorded)
    assert 0 < len(ledger.window().fills) < len(recorded) // 2


def test_a_trace_says_what_nobody_remembers_any_more() -> None:
    ledger = Windowed(4)
    ledger.open_books()
    first = ledger.fill(1)
    told = api.Told([first, {**first, "qty": "9.000"}, {**first, "id_space": CORRECTION}, {**first, "trade_id": 9}])
    ledger.record("n0", first)
    ledger.settles()
    asked = api.Trace("B", "PERP")
    assert ledger.ask("n0", told) == ["same", "other", "", ""]
    assert [row["became"] for row in ledger.ask("n0", asked)] == ["counts"]
    ledger.keeps_trading(40, first=1_000)
    ledger.settles()
    became = [row["became"] for row in ledger.ask("n0", asked)]
    assert became[-1] == "counts"
    assert set(became) <= {"counts", "forgotten"}
    assert ledger.ask("n0", told) == ["forgotten", "forgotten", "", "forgotten"]


def test_what_the_how_to_shows_is_taken() -> None:
    text = (Path(__file__).parents[2] / "docs/how-to/id-window.md").read_text()
    (window_ms,) = map(int, re.findall(r"crdtledger init .* --id-window-ms (\d+)$", text, re.MULTILINE))
    (line,) = re.findall(r'^    (\{"kind": .*\})$', text, re.MULTILINE)
    policies = agreeing(id_window_ms=window_ms)
    (desk,) = Desk.cluster("n1", assets={"USDT": 8, "BTC": 8}, policies=policies, now_us=lambda: EPOCH_US)
    desk.record(Account(name="ACME"), SPOT)
    by_hand = json.loads(line)
    with pytest.raises(BelowFloor):
        desk.record({**by_hand, "id_space": "trade", "ts_us": EPOCH_US - window_ms * 1_000 - 1})
    desk.record({**by_hand, "id_space": "trade", "trade_id": 18, "ts_us": EPOCH_US - window_ms * 1_000})
    assert desk.record(by_hand).facts == 1
    assert desk.record(by_hand).duplicates == 1
    assert [row.fills for row in desk.positions()] == [2]
