"""How nodes talk, and a network that can be made to go wrong: generic over what is replicated, and without a socket.

* ``GossipEngine`` keeps one ``Replica`` in step with its peers' replicas; ``Config`` has its settings. Events go in, effects come out
  (``gossip.effects``).
* ``Simulation`` drives cores in virtual time, ``Faults`` says how bad things are, ``draw`` makes a picture of a trace.
* ``places`` links many nodes sparsely; ``BareNode`` is the least node around an engine, to copy from.

``gossip.transport`` carries the same frames over ZeroMQ; it is not imported here.
"""

from gossip.bare import BareNode, BareReplica, Write, bare_nodes
from gossip.config import Config
from gossip.machine import Core
from gossip.network import Faults
from gossip.overlay import Place, places
from gossip.protocol import AppReceived, GossipEngine
from gossip.replica import Admission, BatchName, Head, Replica, Status
from gossip.simulation import Simulation
from gossip.spacetime import draw
from gossip.trace import Line, Trace

__all__ = [
    "Admission",
    "AppReceived",
    "BareNode",
    "BareReplica",
    "BatchName",
    "Config",
    "Core",
    "Faults",
    "GossipEngine",
    "Head",
    "Line",
    "Place",
    "Replica",
    "Simulation",
    "Status",
    "Trace",
    "Write",
    "bare_nodes",
    "draw",
    "places",
]
