"""Real sockets: who gets in, who does not, and what happens when the other end comes and goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic

import pytest
import zmq

from gossip.effects import Connected, Disconnected
from gossip.transport import LONG_FRAME_BYTES, Happening, Incoming, Readable, Transport, Tuning

Keys = tuple[bytes, bytes]
PATIENCE_S = 15.0


def new_keys() -> Keys:
    public, secret = zmq.curve_keypair()
    return bytes(public), bytes(secret)


class Lan:
    """Transports by name; ``until`` polls them all in turn."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.keys: dict[str, Keys] = {}
        self.transports: dict[str, Transport] = {}
        self.seen: dict[str, list[Happening]] = {}
        self.denied: list[str] = []

    def add(
        self,
        name: str,
        members: dict[str, str],
        *,
        clients: dict[bytes, str] | None = None,
        address: str = "tcp://127.0.0.1:0",
        tuning: Tuning | None = None,
    ) -> Transport:
        """``members``: name -> address of peers whose keys were made before."""
        keys = self.keys.setdefault(name, new_keys())
        dialled = {peer: (where, self.keys[peer][0]) for peer, where in members.items()}
        quick = tuning or Tuning(redial_ms=20, redial_most_ms=100)
        made = Transport(address, *keys, dialled, clients or {}, quick, self.denied.append)
        self.stack.callback(made.close)
        self.transports[name] = made
        self.seen.setdefault(name, [])
        return made

    def pair(
        self, clients: dict[bytes, str] | None = None, tuning: Tuning | None = None
    ) -> tuple[Transport, Transport]:
        """Two members, both links up. Addresses must be known before either dials: the first is bound twice."""
        self.keys = {name: new_keys() for name in ("one", "two")}
        first = self.add("one", {"two": "tcp://127.0.0.1:1"})
        where = first.address
        second = self.add("two", {"one": where}, clients=clients)
        first.close()
        first = self.add("one", {"two": second.address}, address=where, tuning=tuning)
        assert self.until(lambda: self.links("one", "two") and self.links("two", "one"))
        return first, second

    def turn(self) -> None:
        for name, transport in self.transports.items():
            self.seen[name] += transport.poll(2)

    def until(self, holds: Callable[[], bool]) -> bool:
        end = monotonic() + PATIENCE_S
        while not holds():
            if monotonic() > end:
                return False
            self.turn()
        return True

    def links(self, name: str, peer: str) -> bool:
        last = [e for e in self.seen[name] if isinstance(e, Connected | Disconnected) and e.peer == peer]
        return bool(last) and isinstance(last[-1], Connected)

    def frames(self, name: str) -> list[bytes]:
        return [e.frame for e in self.seen[name] if isinstance(e, Incoming)]

    def client(self, server: Transport, server_key: bytes, keys: Keys | None) -> zmq.Socket[bytes]:
        """A bare DEALER that dials ``server``: with ``keys``, or without any encryption."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        socket = context.socket(zmq.DEALER)
        self.stack.callback(context.destroy, linger=0)
        self.stack.callback(socket.close, linger=0)
        if keys is not None:
            socket.curve_publickey, socket.curve_secretkey = keys
            socket.curve_serverkey = server_key
        socket.connect(server.address)
        return socket


@pytest.fixture
def lan() -> Iterator[Lan]:
    with ExitStack() as stack:
        yield Lan(stack)


def test_a_frame_arrives_under_the_name_of_the_key_that_sent_it(lan: Lan) -> None:
    one, two = lan.pair()
    assert one.send("two", b"to two")
    assert two.send("one", b"I am three, says two")
    assert lan.until(lambda: bool(lan.frames("one") and lan.frames("two")))
    [arrived] = [event for event in lan.seen["one"] if isinstance(event, Incoming)]
    assert (arrived.kind, arrived.name, arrived.frame) == ("member", "two", b"I am three, says two")


def test_a_long_frame_arrives_whole_and_stays_what_it_was(lan: Lan) -> None:
    one, _ = lan.pair()
    sent = [os.urandom(LONG_FRAME_BYTES + number) for number in (-1, 0, 1)]
    assert all(one.send("two", frame) for frame in sent)
    assert lan.until(lambda: len(lan.frames("two")) == len(sent))
    assert lan.frames("two") == sent


def test_a_stranger_s_key_is_refused_and_named(lan: Lan) -> None:
    one, _ = lan.pair()
    stranger = new_keys()
    socket = lan.client(one, lan.keys["one"][0], stranger)
    socket.send(b"let me in")
    assert lan.until(lambda: bool(lan.denied))
    for _ in range(50):
        lan.turn()
    assert lan.frames("one") == []
    assert one.counters.denied >= 1
    assert "unknown key" in lan.denied[0]


def test_an_unencrypted_peer_is_refused(lan: Lan) -> None:
    one, two = lan.pair()
    socket = lan.client(one, b"", None)
    monitor = socket.get_monitor_socket(
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED
    )
    socket.send(b"no need for keys")
    assert lan.until(lambda: bool(monitor.poll(0)))
    socket.disable_monitor()
    monitor.close(linger=0)
    assert two.send("one", b"behind it")
    assert lan.until(lambda: bool(lan.frames("one")))
    assert lan.frames("one") == [b"behind it"]


def test_without_the_authenticator_s_domain_a_stranger_would_be_let_in() -> None:
    """The trap that the rules guard against, so that nobody tidies the guard away."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server_keys, stranger = new_keys(), new_keys()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    try:
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = server_keys
        port = router.bind_to_random_port("tcp://127.0.0.1")
        dealer.curve_publickey, dealer.curve_secretkey = stranger
        dealer.curve_serverkey = server_keys[0]
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.send(b"hello")
        assert router.poll(int(PATIENCE_S * 1000))
    finally:
        context.destroy(linger=0)


def test_a_client_on_the_list_is_answered_and_is_no_member(lan: Lan) -> None:
    console = new_keys()
    _, two = lan.pair(clients={console[0]: "console"})
    socket = lan.client(two, lan.keys["two"][0], console)
    socket.send(b"positions?")
    assert lan.until(lambda: bool(lan.frames("two")))
    [asked] = [event for event in lan.seen["two"] if isinstance(event, Incoming)]
    assert (asked.kind, asked.name) == ("client", "console")
    assert two.answer(asked.identity, b"flat")
    assert lan.until(lambda: bool(socket.poll(0)))
    assert socket.recv() == b"flat"


def test_an_answer_to_a_client_that_left_is_dropped_and_counted(lan: Lan) -> None:
    one, _ = lan.pair()
    assert not one.answer(b"nobody", b"flat")
    assert one.counters.dropped == 1


def test_two_thousand_frames_are_drained_in_order(lan: Lan) -> None:
    one, two = lan.pair()
    frames = [b"%d" % number for number in range(2_000)]
    todo = iter(frames)
    waiting = next(todo, None)
    while waiting is not None:
        if one.send("two", waiting):
            waiting = next(todo, None)
        else:
            lan.turn()
    assert lan.until(lambda: len(lan.frames("two")) >= len(frames))
    assert lan.frames("two") == frames
    assert two.counters.unnamed == 0


def test_one_call_takes_a_bounded_number_of_frames(lan: Lan) -> None:
    one, two = lan.pair()
    two._tuning = Tuning(drain=10)
    for number in range(100):
        assert one.send("two", b"%d" % number)
    calls: list[int] = []
    while sum(calls) < 100:
        calls.append(len(two.poll(1000)))
    assert max(calls) <= 10


def test_a_blocked_peer_is_cut_off_both_ways_and_comes_back(lan: Lan) -> None:
    one, two = lan.pair()
    one.block(["two"])
    assert lan.until(lambda: not lan.links("one", "two"))
    assert not one.send("two", b"lost")
    assert two.send("one", b"lost too")
    assert lan.until(lambda: one.counters.blocked >= 2)
    one.unblock()
    assert lan.until(lambda: lan.links("one", "two"))
    assert one.send("two", b"back")
    assert two.send("one", b"back too")
    assert lan.until(lambda: bool(lan.frames("one") and lan.frames("two")))
    assert (lan.frames("one"), lan.frames("two")) == ([b"back too"], [b"back"])


def test_a_link_comes_back_when_the_peer_restarts(lan: Lan) -> None:
    one, two = lan.pair()
    where = two.address
    two.close()
    del lan.transports["two"]
    assert lan.until(lambda: not lan.links("one", "two"))
    assert not one.send("two", b"nobody there"), "a frame for a peer that is away must not be queued"
    lan.add("two", {"one": one.address}, address=where)
    assert lan.until(lambda: lan.links("one", "two"))
    assert one.send("two", b"after the restart")
    assert lan.until(lambda: bool(lan.frames("two")))
    assert lan.frames("two") == [b"after the restart"]


def test_a_link_that_is_told_down_takes_nothing_even_while_its_socket_does(lan: Lan) -> None:
    one, _ = lan.pair()
    one._links["two"].up = False  # the monitor told so; the socket has not got round to it
    assert not one.send("two", b"nobody there")
    assert one.counters.dropped == 1


def test_whoever_dials_in_after_it_was_away_is_redialled_at_once(lan: Lan) -> None:
    _, second = lan.pair(tuning=Tuning(redial_ms=60_000, redial_most_ms=60_000))
    where = second.address
    del lan.transports["two"]
    second.close()
    assert lan.until(lambda: not lan.links("one", "two"))
    lan.seen["two"].clear()
    lan.add("two", {"one": lan.transports["one"].address}, address=where)
    assert lan.until(lambda: lan.links("one", "two") and lan.links("two", "one")), "long before the next redial"


def test_a_full_queue_drops_and_says_so(lan: Lan) -> None:
    one, _ = lan.pair(tuning=Tuning(high_water_mark=2))
    sent = [one.send("two", bytes(1_000_000)) for _ in range(100)]
    assert not all(sent)
    assert one.counters.dropped == sent.count(False)


def test_a_frame_above_the_limit_closes_the_link_unread(lan: Lan) -> None:
    lan.keys = {"one": new_keys(), "two": new_keys()}
    two = lan.add("two", {}, tuning=Tuning(max_frame_bytes=1_000))
    two._names[zmq.utils.z85.decode(lan.keys["one"][0])] = "member:one"
    one = lan.add("one", {"two": two.address})
    assert lan.until(lambda: lan.links("one", "two"))
    assert one.send("two", bytes(2_000))
    assert lan.until(lambda: not lan.links("one", "two"))
    assert lan.frames("two") == []


def test_the_caller_s_own_descriptors_wake_the_poll(lan: Lan) -> None:
    one, _ = lan.pair()
    reading, writing = os.pipe()
    try:
        os.write(writing, b"!")
        assert lan.until(lambda: Readable(reading) in one.poll(1000, [reading]))
        os.read(reading, 1)
        assert Readable(reading) not in one.poll(0, [reading])
        one.poll(0)
    finally:
        os.close(reading)
        os.close(writing)


def test_an_address_in_use_is_refused_at_once(lan: Lan) -> None:
    one, _ = lan.pair()
    with pytest.raises(zmq.ZMQError):
        lan.add("three", {}, address=one.address)


def test_a_key_of_the_wrong_length_is_refused(lan: Lan) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Transport("tcp://127.0.0.1:0", b"short", b"short", {}, {})


def test_a_member_that_was_refused_gets_in_once_the_list_names_it(lan: Lan) -> None:
    """Redialling never ends: a node that was set up too early must not have to be restarted."""
    lan.keys = {"one": new_keys(), "two": new_keys()}
    two = lan.add("two", {})
    where = two.address
    one = lan.add("one", {"two": where})
    assert lan.until(lambda: bool(lan.denied))
    for _ in range(20):
        lan.turn()
    assert not lan.links("one", "two")
    two.close()
    del lan.transports["two"]
    lan.add("two", {"one": one.address}, address=where)
    assert lan.until(lambda: lan.links("one", "two"))
