"""The engine on the real transport: replicas of two processes' worth of sockets come to hold the same."""

from __future__ import annotations

from contextlib import ExitStack
from time import monotonic

from gossip.config import Config
from gossip.effects import Received, Send, TimerFired
from gossip.protocol import HEADS_TIMER, GossipEngine, Output
from gossip.transport import Incoming
from tests.gossip.test_transport import PATIENCE_S, Lan
from tests.gossip.toy import CLUSTER, ToyReplica, chain


def test_two_engines_agree_over_encrypted_sockets_and_again_after_a_partition() -> None:
    with ExitStack() as stack:
        lan = Lan(stack)
        one, _ = lan.pair()
        replicas = {"one": ToyReplica(), "two": ToyReplica()}
        engines = {
            name: GossipEngine(Config(CLUSTER), replica, {"one", "two"} - {name}, len(name) + at)
            for at, (name, replica) in enumerate(replicas.items())
        }

        def record(count: int) -> None:
            for name, replica in replicas.items():
                for raw in chain(name.encode(), count, size=300):
                    replica.admit(raw, "own")

        def perform(name: str, outputs: list[Output]) -> None:
            for output in outputs:
                if isinstance(output, Send):
                    lan.transports[name].send(output.peer, output.frame)

        def run_until_agreed(count: int) -> None:
            end, beat = monotonic() + PATIENCE_S, 0.0
            while not all(
                replica.admitted(lane) == count for replica in replicas.values() for lane in (b"one", b"two")
            ):
                now = monotonic()
                assert now < end
                due = now - beat > 0.05
                beat = now if due else beat
                lan.turn()
                for name, engine in engines.items():
                    replicas[name].all_synced()
                    events, lan.seen[name] = lan.seen[name], []
                    for event in events:
                        heard = Received(event.name, event.frame) if isinstance(event, Incoming) else event
                        perform(name, engine.step(heard, int(now * 1e6)))  # type: ignore[arg-type]
                    if due:
                        perform(name, engine.step(TimerFired(HEADS_TIMER), int(now * 1e6)))

        record(300)
        run_until_agreed(300)
        one.block(["two"])
        record(900)
        assert lan.until(lambda: not lan.links("one", "two"))
        one.unblock()
        run_until_agreed(900)
        assert replicas["one"].lanes == replicas["two"].lanes
