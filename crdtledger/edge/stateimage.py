"""A settled state on its way from one node to another: its image, cut in pieces, and what proves it.

    image = leaf hashes of the log up to the height, 32 bytes each, then the settled state's one encoding

All honest nodes have the same image of a height, so its pieces can come from any of them. What is believed of it is what more than two
thirds of the genesis' validators signed, and what follows from that:

- the certificate signs the log of exactly ``height`` leaves; ``path`` shows that the height's record is the last of them, before
  anything is fetched; the leaf hashes, when they are here, must give the same root;
- the record names the state root, the liabilities and the cut: the state is decoded, its commitments are built anew and compared;
- state cells stand for all of a state but for two things about its spelling, which are fixed here: batches of suspended fills are sorted,
  and no member stands among ``used`` without an id. A position without its definition, which has no cell, is refused too.

Not covered by any certificate, and therefore not carried: how many facts were adjusted by cause, and when a height was decided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from crdtledger.edge.checkpointmessages import PIECE_BYTES, StateOffer
from crdtledger.edge.heightbook import SettledHeight
from crdtledger.errors import BadInput, InvalidProof
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.settled import SettledState, decode_state
from reconcile.certificate import open_certificate
from reconcile.checkpoint import Checkpoint, cut_of, decode_checkpoint
from reconcile.commitments import Commitments
from reconcile.founding import log_origin, policy_of
from reconcile.log import HASH_BYTES, MerkleLog, verify_inclusion
from reconcile.salts import Salts


class Image(NamedTuple):
    """What a node offers, and the pieces."""

    height: int
    offer: StateOffer
    pieces: tuple[bytes, ...]

    @property
    def bytes(self) -> int:
        """What all pieces weigh together."""
        return sum(map(len, self.pieces))


class OpenedImage(NamedTuple):
    """A state that holds, the checkpoint that it is of, and the log up to there. ``raw``: the state's encoding."""

    checkpoint: Checkpoint
    offer: StateOffer
    log: MerkleLog
    state: SettledState
    commitments: Commitments
    raw: bytes


def piece_digest(content: bytes) -> bytes:
    """The 32 bytes by which an offer names a piece."""
    return hashlib.sha256(content).digest()


def image_of(settled: SettledHeight, certificate: bytes, log: MerkleLog) -> Image:
    """The image of a certified height."""
    height = settled.checkpoint.height
    body = b"".join(log.leaf_hashes()[:height]) + settled.state.encode()
    pieces = tuple(body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES))
    path = log.prove_inclusion(height - 1, height)
    return Image(height, StateOffer(settled.value, certificate, path, tuple(map(piece_digest, pieces))), pieces)


def open_offer(offer: StateOffer, genesis: Genesis) -> Checkpoint:
    """The checkpoint that an offer is of, certified by a quorum. Raises InvalidProof."""
    checkpoint = decode_checkpoint(offer.value)
    head = open_certificate(offer.certificate, policy_of(genesis), log_origin(genesis)).head
    record = checkpoint.record
    if record.cluster != genesis.hash or head.size != record.height:
        raise InvalidProof("state offer", f"it is of height {record.height}, its certificate of {head.size} heights")
    verify_inclusion(checkpoint.digest, record.index, head.size, offer.path, head.root)
    return checkpoint


def open_image(
    offer: StateOffer, pieces: Sequence[bytes], genesis: Genesis, salts: Salts, hash_salt: int
) -> OpenedImage:
    """The state in ``pieces``, if it is that of the checkpoint offered. Raises InvalidProof for anything else."""
    where = "state image"
    checkpoint = open_offer(offer, genesis)
    record = checkpoint.record
    if record.salt_version != salts.version:
        raise InvalidProof(where, f"it is salted with version {record.salt_version}, here it is {salts.version}")
    body = b"".join(pieces)
    end = record.height * HASH_BYTES
    if len(body) <= end:
        raise InvalidProof(where, f"{len(body)} bytes are too few for {record.height} heights and a state")
    log = MerkleLog(body[at : at + HASH_BYTES] for at in range(0, end, HASH_BYTES))
    head = open_certificate(offer.certificate, policy_of(genesis), log_origin(genesis)).head
    if log.root() != head.root:
        raise InvalidProof(where, "its leaf hashes are not those of the certified log")
    raw = body[end:]
    state, commitments = open_state(raw, genesis, salts, hash_salt)
    if (commitments.state_root, commitments.liabilities) != (record.state_root, record.liabilities):
        raise InvalidProof(where, "the state has other roots than those that were certified")
    if cut_of({lane: (one.seq, one.hash) for lane, one in state.lanes.items()}) != checkpoint.cut:
        raise InvalidProof(where, "the state ends elsewhere than the cut that was certified")
    return OpenedImage(checkpoint, offer, log, state, commitments, raw)


def open_state(raw: bytes, genesis: Genesis, salts: Salts, hash_salt: int) -> tuple[SettledState, Commitments]:
    """The state that ``raw`` spells, and its commitments: no two spellings have the same. Raises InvalidProof."""
    state = decode_state(raw, genesis, hash_salt)
    _need_one_spelling(state)
    try:
        return state, Commitments.rebuild(genesis, salts, state)
    except BadInput as fault:
        raise InvalidProof("state image", str(fault)) from None


def _need_one_spelling(state: SettledState) -> None:
    """What no cell stands for."""
    waiting = [(one.key, one.seq) for one in state.suspended]
    if waiting != sorted(waiting):
        raise InvalidProof("state image", "its suspended fills are not sorted")
    if not all(len(ids) for ids in state.used.values()):
        raise InvalidProof("state image", "a member used no id")
    if any(instrument not in state.definitions for _, instrument in state.positions):
        raise InvalidProof("state image", "a position is in what is not defined")
