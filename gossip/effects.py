"""What goes into a protocol engine and what comes out of it: plain data, nothing else.

Every engine in this project (the gossip engine here, the node core in ``crdtledger.edge.core``) is a
state machine with one method::

    step(event, now_us) -> list[Effect]

The engine never reads a clock, never draws randomness, never opens a socket or a file. It is told what
happened (an *event*) and what time it is, and answers with what must now be done (*effects*). The same
engine therefore runs on ZeroMQ (``crdtledger.edge.runtime``) and in the simulator (``gossip.simulation``).

The rule that makes crashes harmless is written into the types. The engine numbers what it wants persisted
(``Persist.position``, rising by any step), and every ``Send`` and ``Reply`` names the position it depends on
(``after``). Whoever drives the engine holds the frame back until everything up to that position is on disk,
then feeds ``Durable(position)`` back. So nothing can leave a node that a power cut could make it forget.
``after=0`` depends on nothing.

Times are integer microseconds: ``now_us`` since the Unix epoch (or the simulator's own zero), never going back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec


class Connected(msgspec.Struct, frozen=True):
    """A link to ``peer`` (a member's name in the genesis) is up, as far as the transport can tell."""

    peer: str


class Disconnected(msgspec.Struct, frozen=True):
    """The link to ``peer`` is gone. It may come back with another ``Connected``."""

    peer: str


class Received(msgspec.Struct, frozen=True):
    """A frame arrived from ``peer``, whose identity the transport has authenticated. The bytes are not trusted."""

    peer: str
    frame: bytes | memoryview


class TimerFired(msgspec.Struct, frozen=True):
    """The timer started under ``key`` is due."""

    key: str


class Durable(msgspec.Struct, frozen=True):
    """Everything persisted up to and including ``position`` has reached stable storage."""

    position: int


class Persist(msgspec.Struct, frozen=True):
    """Write ``records`` (opaque to the driver) in order, atomically, and report ``Durable(position)`` when synced."""

    position: int
    records: tuple[bytes, ...]


class Send(msgspec.Struct, frozen=True):
    """Hand ``frame`` to the link to ``peer`` once ``after`` is durable. Delivery is a hope, never a promise."""

    peer: str
    frame: bytes
    after: int = 0


class Reply(msgspec.Struct, frozen=True):
    """Answer the client request ``request`` (whatever the driver used to name it) once ``after`` is durable."""

    request: Any
    body: bytes
    after: int = 0


class StartTimer(msgspec.Struct, frozen=True):
    """Fire ``TimerFired(key)`` after ``delay_us``. Starting a key that is running replaces it."""

    key: str
    delay_us: int


class Notify(msgspec.Struct, frozen=True):
    """Something a person or a monitor may want to know. Drives nothing."""

    topic: str
    fields: Mapping[str, Any]


Event: TypeAlias = Connected | Disconnected | Received | TimerFired | Durable
Effect: TypeAlias = Persist | Send | Reply | StartTimer | Notify
