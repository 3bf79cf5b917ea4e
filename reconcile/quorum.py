"""Who votes, what their votes weigh, how much is enough, and whose turn it is to propose.

Let F be the weight that faulty validators hold. Everything here is sound while 3F < total.

- A *quorum* weighs strictly more than two thirds: 3w > 2 total (7 of 10, not 6). Any two quorums share an honest
  validator.
- A *witness set* weighs at least one third: 3w >= total. It has an honest validator in it ("f+1" in the paper).
- The proposer goes round robin by height + round, in the order of the genesis. Weights are equal in every genesis that
  can be written today; rotation by weight comes with unequal ones.

Thresholds are compared in integers, never divided. It counts nobody twice only if its caller does not: it takes
weights of sets. Source: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus", arXiv 1807.04938, section 2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import msgspec

from crdtledger.errors import BadInput
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import DIGEST_BYTES, KEY_BYTES

MAX_WEIGHT = 1 << 32


class Validator(msgspec.Struct, frozen=True):
    """One voter: its name in the genesis, its 32-byte Ed25519 public key, and what its vote weighs (at least 1)."""

    name: str
    key: bytes
    weight: int = 1


class Committee(msgspec.Struct, frozen=True, dict=True):
    """The validators of one cluster in the order of its genesis. A voter is named by its place in this order.

    ``cluster`` is the genesis' hash: it is in everything that a validator signs. Raises BadInput for an empty
    committee, a key that stands twice, or a weight out of range.
    """

    cluster: bytes
    validators: tuple[Validator, ...]

    def __post_init__(self) -> None:
        why = ""
        if len(self.cluster) != DIGEST_BYTES:
            why = f"the cluster's hash has {len(self.cluster)} bytes, not {DIGEST_BYTES}"
        elif not self.validators:
            why = "nobody votes"
        elif len({validator.key for validator in self.validators}) != len(self.validators):
            why = "a key stands in it twice"
        elif any(len(validator.key) != KEY_BYTES for validator in self.validators):
            why = f"a key has not {KEY_BYTES} bytes"
        elif not all(1 <= validator.weight <= MAX_WEIGHT for validator in self.validators):
            why = f"a weight is outside 1..{MAX_WEIGHT}"
        if why:
            raise BadInput(what=f"{len(self.validators)} validators", where="committee", why=why)

    @functools.cached_property
    def total(self) -> int:
        """The weight of all validators together."""
        return sum(validator.weight for validator in self.validators)

    @functools.cached_property
    def places(self) -> dict[bytes, int]:
        """Public key -> place."""
        return {validator.key: place for place, validator in enumerate(self.validators)}

    @property
    def tolerated(self) -> int:
        """The greatest faulty weight under which agreement holds: the largest F with 3F < total."""
        return (self.total - 1) // 3

    def weigh(self, voters: Iterable[int]) -> int:
        """The weight of these voters, each counted once."""
        return sum(self.validators[voter].weight for voter in set(voters))

    def is_quorum(self, weight: int) -> bool:
        """Whether ``weight`` is strictly more than two thirds of all ("2f+1" in the paper)."""
        return 3 * weight > 2 * self.total

    def has_honest(self, weight: int) -> bool:
        """Whether voters of this weight cannot all be faulty ("f+1" in the paper)."""
        return 3 * weight >= self.total

    def proposer(self, height: int, round: int) -> int:
        """The place of the validator that proposes in this round of this height."""
        return (height + round) % len(self.validators)


def committee_of(genesis: Genesis) -> Committee:
    """The validators that ``genesis`` names, each of weight 1. Raises BadInput if it names none."""
    members = (member for member in genesis.nodes if "validator" in member.roles)
    return Committee(genesis.hash, tuple(Validator(member.name, member.public_key) for member in members))
