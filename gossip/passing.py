"""Passing batches of others on along the tree: what was applied and is durable here, to eager peers that are not known to hold it."""

from __future__ import annotations

from collections.abc import Collection

from gossip import wire
from gossip.effects import Send
from gossip.peers import Peer
from gossip.replica import BatchName, Replica
from gossip.tree import Tree


def pass_on(tree: Tree, replica: Replica, eager: Collection[Peer]) -> list[Send]:
    """What is due of ``tree``, in frames to the ``eager`` peers; never back to the one that it came from."""
    heads = replica.heads()
    due: list[tuple[BatchName, str, bytes]] = []
    for name, source in tree.due(lambda lane: heads[lane].seq if lane in heads else 0):
        held = replica.read(name.lane, name.seq, name.seq, wire.MAX_FRAME_BYTES)
        due += [(name, source, raw) for raw in held]
    out: list[Send] = []
    for peer in eager if due else ():
        lacking = [raw for name, source, raw in due if source != peer.name and peer.picture.seq(name.lane) < name.seq]
        out += [peer.send(wire.Push(run)) for run in wire.pack(lacking)]
    return out
