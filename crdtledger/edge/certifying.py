"""Cosignatures become certificates: each validator puts its name to the log as it stands after a height, and more than two thirds
of the names make the certificate.

A validator cosigns what it has settled itself, once that is durable here; it says so to the other validators again and again until
the certificate stands. Every node keeps the log, so a line or a certificate of another root than its own is seen at once: no honest
quorum gives one, and whoever holds one has to stop and call a person.
"""

from __future__ import annotations

from collections.abc import Iterable

from crdtledger.errors import InvalidProof
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import Identity
from reconcile.certificate import LogHead, assemble, cosign, cosigner, open_certificate
from reconcile.founding import log_origin, policy_of
from reconcile.heights import HeightRecord
from reconcile.log import MerkleLog
from reconcile.notes import SignatureLine, verify_line


class Certifying:
    """The log and its certificates at the node ``name``, which cosigns if it is a validator. ``leaves``: the log so far."""

    def __init__(self, genesis: Genesis, name: str, identity: Identity, leaves: Iterable[bytes] = ()) -> None:
        self.log = MerkleLog(leaves)
        self._origin = log_origin(genesis)
        self._policy = policy_of(genesis)
        self._keys = {
            member.name: cosigner(self._origin, member.name, member.public_key)
            for member in genesis.nodes
            if "validator" in member.roles
        }
        self._name = name
        self._identity = identity if name in self._keys else None
        self._heads: dict[int, LogHead] = {}  # of heights without a certificate
        self._lines: dict[int, dict[str, SignatureLine]] = {}
        self._early: dict[str, tuple[int, bytes]] = {}  # one line of each validator, of a height to come
        self.certificates: dict[int, bytes] = {}

    # -- the log --------------------------------------------------------------------------------------------

    def settled(self, record: HeightRecord, now_us: int) -> None:
        """The next height is settled here: append it, and cosign the log as it stands now."""
        self.log.append(record.encode())
        head = LogHead(self._origin, record.height, self.log.root())
        self._heads[record.height] = head
        lines = self._lines[record.height] = {}
        if self._identity:
            lines[self._name] = cosign(head, self._name, self._identity, now_us // 1_000_000)
        for peer, (height, blob) in list(self._early.items()):
            if height <= record.height:
                del self._early[peer]
                self.heard(peer, height, blob)

    def forget(self, below: int) -> None:
        """Let go of certificates of heights below ``below``."""
        self.certificates = {height: raw for height, raw in self.certificates.items() if height >= below}

    # -- lines ----------------------------------------------------------------------------------------------

    def own_lines(self) -> list[tuple[int, bytes]]:
        """(height, cosignature) of this node for every height that waits for its certificate, oldest first."""
        own = [(height, lines.get(self._name)) for height, lines in sorted(self._lines.items())]
        return [(height, line.blob) for height, line in own if line is not None]

    def heard(self, peer: str, height: int, blob: bytes) -> str:
        """``peer`` cosigned ``height``. Returns why that is not taken, ``""`` if it is or is not needed."""
        key = self._keys.get(peer)
        if key is None:
            return "a cosignature of one who is no validator"
        if height > self.log.size:
            self._early[peer] = max(self._early.get(peer, (0, b"")), (height, blob))
            return ""
        head = self._heads.get(height)
        if head is None:
            return ""
        line = SignatureLine(key.name, key.key_id, blob)
        try:
            verify_line(line, key, head.text())
        except InvalidProof:
            return f"a cosignature of height {height} that is not over the log as it stands here"
        self._lines[height].setdefault(peer, line)
        return ""

    def assemble(self, height: int) -> bytes:
        """The certificate of ``height`` from the lines heard so far; empty while they are too few."""
        head = self._heads.get(height)
        if head is None:
            return b""
        try:
            return assemble(head, self._lines[height].values(), self._policy)
        except InvalidProof:
            return b""

    # -- certificates ---------------------------------------------------------------------------------------

    def waits_for(self, height: int) -> bool:
        """Whether ``height`` is settled here and has no certificate yet."""
        return height in self._heads

    def certified(self, height: int, raw: bytes) -> None:
        """The certificate of ``height`` stands: keep it."""
        self._heads.pop(height, None)
        self._lines.pop(height, None)
        self.certificates[height] = raw

    def fault(self, height: int, raw: bytes) -> str:
        """Why ``raw`` is no certificate of the log at ``height``, as it stands here; ``""`` if it is one."""
        return self._fault(raw, height, self.log.root(height))

    def fault_of_next(self, record: HeightRecord, raw: bytes) -> str:
        """Why ``raw`` does not certify that ``record`` is the height after the last one here; ``""`` if it does."""
        return self._fault(raw, record.height, self.log.root_with(record.encode()))

    def _fault(self, raw: bytes, height: int, root: bytes) -> str:
        try:
            head = open_certificate(raw, self._policy, self._origin).head
        except InvalidProof as fault:
            return str(fault)
        if (head.size, head.root) != (height, root):
            return f"it certifies another log: {head.size} leaves, root {head.root.hex()}"
        return ""

    def signers(self, height: int) -> list[str]:
        """The names of those who certified ``height``, sorted; empty when there is no certificate here."""
        raw = self.certificates.get(height)
        if not raw:
            return []
        signers = open_certificate(raw, self._policy, self._origin).signers
        return sorted(signer.key.name.rpartition("/")[2] for signer in signers)
