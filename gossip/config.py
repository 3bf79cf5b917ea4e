"""The engine's settings, each with the trade-off it makes, and whether two nodes' settings can work
together.
"""

from __future__ import annotations

import msgspec

from gossip import wire
from gossip.catchup import CatchupLimits
from gossip.peers import PeerLimits
from gossip.ranges import ServeLimits
from gossip.tree import TreeLimits


class Config(msgspec.Struct, frozen=True):
    """``cluster``: the 32-byte hash of the genesis. Only nodes that agree on it talk.

    ``heads_interval_us``: how soon a lost push is noticed; every round costs each peer about 80 bytes.
    ``complete_every``: rounds between two complete tellings to a peer that differs. Insurance only: a peer
    that notices asks by itself. ``capabilities``: a bit set of what this node can do beyond the version's
    minimum.
    """

    cluster: bytes
    heads_interval_us: int = 1_000_000
    complete_every: int = 30
    capabilities: int = 0
    version: int = wire.VERSION
    min_version: int = wire.MIN_VERSION
    peer: PeerLimits = PeerLimits()
    serve: ServeLimits = ServeLimits()
    catchup: CatchupLimits = CatchupLimits()
    tree: TreeLimits = TreeLimits()

    def relaying(self) -> Config:
        """The settings of a node that passes batches on: it says that it can be pruned."""
        return msgspec.structs.replace(self, capabilities=self.capabilities | wire.CAN_PRUNE)

    def hello(self, nonce: int, seen: int) -> wire.Hello:
        """Our greeting: ``nonce`` is ours, ``seen`` the peer's as far as we heard (0: not yet)."""
        return wire.Hello(self.version, self.min_version, self.cluster, self.capabilities, nonce, seen)

    def objection(self, hello: wire.Hello) -> str:
        """Why we cannot talk to whoever sent ``hello``; empty when we can."""
        if hello.cluster != self.cluster:
            return f"another cluster: {hello.cluster.hex()}, this one is {self.cluster.hex()}"
        if hello.version < self.min_version or hello.min_version > self.version:
            spoken = f"{hello.min_version}..{hello.version}"
            return f"no common version: {spoken} is spoken there, {self.min_version}..{self.version} here"
        return ""
