"""Hypothesis strategies for everything that a ledger is made of.

    @given(lanes(GENESIS))
    def test_mine(lane): ...

Each takes the genesis that it is for; where none is named it is ``GENESIS``, that of simulated clusters. Hypothesis' ``from_type`` finds
them without an import: ``st.from_type(Fill)``, ``st.from_type(Genesis)``, ``st.from_type(Batch)``.
"""

from crdtledger.edge.simulate.cluster import identity
from crdtledger.testing.reference import GENESIS, instruments, names
from crdtledger.testing.strategies.batches import batches, lanes, ledgers
from crdtledger.testing.strategies.facts import as_client, client_facts, facts
from crdtledger.testing.strategies.genesis import geneses, policies
from crdtledger.testing.strategies.markets import markets
from crdtledger.testing.strategies.schedules import Schedule, schedules

__all__ = [
    "GENESIS",
    "Schedule",
    "as_client",
    "batches",
    "client_facts",
    "facts",
    "geneses",
    "identity",
    "instruments",
    "lanes",
    "ledgers",
    "markets",
    "names",
    "policies",
    "schedules",
]
