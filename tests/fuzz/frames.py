"""Frames of any sense from greeted peers, into a node's core: gossip, epochs and rights. It answers every question after."""

from __future__ import annotations

import functools

import msgspec

from tests.fuzz.driving import Draw, imports, run

with imports():
    from crdtledger.edge.simulate.cluster import found
    from crdtledger.ledger.drafting import draft_facts
    from crdtledger.ledger.facts import Account
    from gossip import wire
    from gossip.effects import Connected, Disconnected, Received, TimerFired
    from tests.edge.test_hostile import NAMES, SPOT, Hand, Victim

ENCODE = msgspec.msgpack.Encoder().encode
GENESIS = found(NAMES)
TIMERS = ("gossip.heads", "gossip.catchup", "epoch", "rights", "watch", "none")


@functools.cache
def pool() -> tuple[bytes, ...]:
    """Batches and evidence that a member could send: a chain, a fork of it, another lane."""
    genesis = GENESIS
    one, other = Hand("n1", genesis), Hand("n1", genesis)
    made = [one.write(Account(name=f"a{n}"), SPOT).raw for n in range(4)]
    clash = other.write(Account(name="b"))
    (body,) = draft_facts([Account(name="own")], lambda name: b"", lambda name: 0)
    stolen = Hand("n0", genesis, 7).seal(body)  # the node's own key, from a twin
    return (*made, clash.raw, stolen.raw)


def lane(draw: Draw) -> bytes:
    """A lane: held, thinkable, or none."""
    node = GENESIS.nodes[draw.integer(0, 3)].id
    return bytes(
        draw.one_of((node + bytes([0, 0, 0, draw.integer(0, 9)]) + bytes(10), node, draw.bytes(22), b"", b"x" * 129))
    )


def message(draw: Draw) -> bytes:
    """A frame of some kind with fields that may not fit."""
    tag = draw.integer(0, 10)
    digest, batch = draw.one_of((bytes(32), b"", draw.bytes(32))), draw.one_of(pool())
    number = max(-(1 << 63), min(draw.number(), (1 << 64) - 1))
    fields: dict[int, list[object]] = {
        1: [1, 1, GENESIS.hash, number, draw.integer(0, 3), number],
        2: [digest, [[lane(draw), number, digest] for _ in range(draw.integer(0, 3))], True, [digest], True],
        3: [[batch, draw.one_of(pool())]],
        4: [number, lane(draw), draw.integer(0, 5), number, digest, number],
        5: [draw.integer(0, 9), lane(draw), number, [batch], True],
        6: [draw.integer(0, 9), number],
        7: [draw.integer(0, 9), "no"],
        8: [[draw.bytes(40), batch]],
        9: [draw.one_of(("epoch", "rights", "x")), app(draw, number)],
    }
    values = fields.get(tag, [draw.text().encode(errors="replace")])
    while draw.left and draw.integer(0, 7) == 0 and values:
        values[draw.integer(0, len(values) - 1)] = number
    frame = ENCODE([tag, *values])
    return frame[: draw.integer(0, len(frame))] if draw.integer(0, 15) == 0 else frame


def app(draw: Draw, number: int) -> bytes:
    """What cores tell each other, more or less."""
    lanes = [[lane(draw), number] for _ in range(draw.integer(0, 3))]
    bodies = (
        [1, 1],
        [2, 1, lanes],
        [2, number, lanes],
        [1, "a1", "USDT", number, number],
        [2, "a1", "USDT"],
        draw.value(),
    )
    try:
        return ENCODE(draw.one_of(bodies))
    except (OverflowError, UnicodeEncodeError):
        return b""


def one(data: bytes) -> None:
    """A few events, then every question."""
    draw = Draw(data)
    victim = Victim(draw.one_of(("fresh", "restored")))
    for _ in range(draw.integer(1, 12)):
        peer = draw.one_of(NAMES)
        kind = draw.integer(0, 15)
        if kind == 0:
            victim.step(TimerFired(draw.one_of(TIMERS)), draw.integer(0, 40_000_000))
        elif kind == 1:
            victim.step(draw.one_of((Connected, Disconnected))(peer))
        elif kind == 2:
            victim.step(Received(peer, draw.bytes(40)))
        else:
            victim.step(Received(peer, message(draw)))
    victim.round()
    victim.stands()
    assert all(len(send.frame) <= wire.MAX_FRAME_BYTES for send in victim.sent)
    again = Victim("complete", victim.records)  # and what it wrote down can be read back
    assert again.core.replica.digest() == victim.core.replica.digest()


if __name__ == "__main__":
    run(one)
