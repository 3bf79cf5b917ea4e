"""What a genesis fixes about the log of checkpoints: its name, who cosigns it, and how many of them are enough.

- The log is called ``crdtledger/<cluster>-<first 16 hex digits of the genesis' hash>``. The hash keeps clusters of one name
  apart, so that nobody can pass one's certificates off as the other's.
- Every validator of the genesis cosigns it with its node key, named ``<log>/<node>``; more than two thirds make a certificate.

So the genesis file is all that a stranger needs to check certificates and proofs. It says nothing about who holds those keys:
that the genesis is the right one has to be learnt some other way.
"""

from __future__ import annotations

from crdtledger.ledger.genesis import Genesis

from .certificate import cosigner
from .policy import Policy, quorum_of
from .quorum import committee_of

_HASH_DIGITS = 16


def log_origin(genesis: Genesis) -> str:
    """The name of the cluster's log: the first line of every certificate."""
    return f"crdtledger/{genesis.cluster}-{genesis.hash.hex()[:_HASH_DIGITS]}"


def policy_of(genesis: Genesis) -> Policy:
    """Whose cosignatures make a certificate. Raises BadInput when the genesis names no validator."""
    origin = log_origin(genesis)
    validators = committee_of(genesis).validators
    return quorum_of({each.name: cosigner(origin, each.name, each.key) for each in validators})


def policy_text(genesis: Genesis) -> str:
    """``policy_of`` as a tlog-policy file, which stock tools read; the first line says whose it is. Raises BadInput likewise."""
    return f"# validators of the log {log_origin(genesis)}\n{policy_of(genesis).encode().decode()}"
