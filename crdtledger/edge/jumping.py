"""Catch-up by a settled state: giving and taking it, up to where it is durable here and may be stood on.

Serving: the newest certified height that is a multiple of ``MARK_HEIGHTS`` is kept, so that honest peers offer one image; where that is no
help, the newest certified height itself. An image is made when somebody asks, and let go of when nobody did for ``KEPT_US``.

Taking: asked for when this node is ``Setup.jump_heights`` behind, or when what the next height settles could not be had for ``STUCK_US``.
While pieces come, ranges rest. A whole image is verified, written down as a snapshot, and only when that is durable does
``ready`` hand it out: a power cut before leaves the old state, one after it starts from the new.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from crdtledger.edge import checkpointmessages as messages
from crdtledger.edge.checkpointrecords import Snapshot, snapshot_records
from crdtledger.edge.heightbook import SettledHeight
from crdtledger.edge.journaling import Journaling
from crdtledger.edge.setup import Setup
from crdtledger.edge.stateimage import Image, OpenedImage, image_of, open_image
from crdtledger.edge.transfer import Transfer
from crdtledger.errors import InvalidProof
from gossip.effects import Notify
from gossip.meters import TokenBucket
from gossip.protocol import GossipEngine, Output
from reconcile.log import MerkleLog
from reconcile.salts import Salts

CHANNEL: Final = "checkpoint"
MARK_HEIGHTS: Final = 16
KEPT_US: Final = 30_000_000
STUCK_US: Final = 10_000_000
RESTS_US: Final = 3_000_000
SERVED_BYTES_PER_S: Final = 8 << 20
SERVED_BYTES_BURST: Final = 32 << 20


class Installing(NamedTuple):
    """A verified state on its way to the disk, where it is at ``position``."""

    opened: OpenedImage
    snapshot: Snapshot
    position: int


class Jumping:
    """Both sides of it at one node."""

    def __init__(
        self, setup: Setup, salts: Salts, engine: GossipEngine, journaling: Journaling, hash_salt: int
    ) -> None:
        self._genesis = setup.genesis
        self._salts, self._hash_salt = salts, hash_salt
        self._heights = setup.jump_heights
        self._engine = engine
        self._journaling = journaling
        self._transfer = Transfer(setup.genesis)
        self._served = {peer: TokenBucket(SERVED_BYTES_PER_S, SERVED_BYTES_BURST) for peer in engine.peers}
        self._mark: tuple[SettledHeight, bytes] | None = None
        self._newest: tuple[SettledHeight, bytes] | None = None
        self._images: dict[int, tuple[Image, int]] = {}  # by height; asked for last at
        self._stuck: tuple[int, int] = (0, 0)  # at which height, since when
        self.installing: Installing | None = None

    # -- giving ---------------------------------------------------------------------------------------------

    def certified(self, settled: SettledHeight, certificate: bytes) -> None:
        """A height that this node stands on, or stood on, is certified."""
        self._newest = (settled, certificate)
        if settled.checkpoint.height % MARK_HEIGHTS == 0:
            self._mark = self._newest

    def _offer(self, peer: str, above: int, log: MerkleLog, now_us: int) -> list[Output]:
        for settled, certificate in filter(None, (self._mark, self._newest)):
            height = settled.checkpoint.height
            if height <= above:
                continue
            if height not in self._images:
                image = image_of(settled, certificate, log)
                if len(image.pieces) > messages.MAX_PIECES:
                    return []
                while len(self._images) >= 2:
                    del self._images[min(self._images)]
                self._images[height] = (image, now_us)
            offer = self._images[height][0].offer
            self._images[height] = (self._images[height][0], now_us)
            size = len(offer.value) + len(offer.certificate) + 32 * len(offer.pieces)
            return self._say(peer, offer) if self._served[peer].take(size, now_us) else []
        return []

    def _piece(self, peer: str, ask: messages.PieceAsk, now_us: int) -> list[Output]:
        image, _ = self._images.get(ask.height, (None, 0))
        if image is None or ask.number >= len(image.pieces):
            return []
        content = image.pieces[ask.number]
        if not self._served[peer].take(len(content), now_us):
            return []
        self._images[ask.height] = (image, now_us)
        return self._say(peer, messages.PieceTell(ask.height, ask.number, content))

    # -- taking ---------------------------------------------------------------------------------------------

    def stuck(self, height: int, now_us: int) -> None:
        """What ``height``, the next one, settles is not all here."""
        if self._stuck[0] != height:
            self._stuck = (height, now_us)

    def tick(self, height: int, standings: dict[str, messages.Standing], now_us: int) -> list[Output]:
        """Time passes, and this node stands on ``height``: ask for what is wanted."""
        self._images = {at: one for at, one in self._images.items() if now_us - one[1] < KEPT_US}
        behind = max((one.certified for one in standings.values()), default=0) - height
        stuck = self._stuck[0] == height + 1 and now_us - self._stuck[1] >= STUCK_US
        if self.installing or not self._heights:
            return []
        if (behind < self._heights and not stuck) or (self._transfer.offer and self._transfer.height <= height):
            self._transfer.stop()
            return []
        return self._ask(height, standings, now_us)

    def _ask(self, height: int, standings: dict[str, messages.Standing], now_us: int) -> list[Output]:
        asks = self._transfer.ask(height, standings, now_us)
        if self._transfer.offer:
            self._engine.rest(now_us + RESTS_US)
        return [out for peer, ask in asks for out in self._say(peer, ask)]

    def gone(self, peer: str) -> None:
        """The link to ``peer`` is gone."""
        self._transfer.gone(peer)

    def heard(
        self,
        peer: str,
        message: messages.Transferring,
        log: MerkleLog,
        standings: dict[str, messages.Standing],
        counts: dict[str, int],
        now_us: int,
    ) -> list[Output]:
        """A message about states from ``peer``. ``log``: of the heights settled here; ``counts``: facts adjusted in them."""
        match message:
            case messages.StateAsk(above):
                return self._offer(peer, above, log, now_us)
            case messages.PieceAsk():
                return self._piece(peer, message, now_us)
            case messages.StateOffer():
                fault = self._transfer.offered(peer, message, log.size)
            case messages.PieceTell():
                fault = self._transfer.told(peer, message)
        out = self._refuse([peer], fault, now_us) if fault else []
        if self.installing is None:
            out += self._verify(log, counts, now_us)
        if self.installing is None and self._transfer.offer:
            out += self._ask(log.size, standings, now_us)
        return out

    def _verify(self, log: MerkleLog, counts: dict[str, int], now_us: int) -> list[Output]:
        """Once all pieces are here: a state that holds is written down, whoever offered another is refused."""
        offer, pieces = self._transfer.offer, self._transfer.whole
        if offer is None or pieces is None:
            return []
        try:
            opened = open_image(offer, pieces, self._genesis, self._salts, self._hash_salt)
        except InvalidProof as fault:
            return self._refuse(self._transfer.refuse(), str(fault), now_us)
        self._transfer.stop()
        height = opened.checkpoint.height
        if height <= log.size:
            return []
        leaves = b"".join(opened.log.leaf_hashes())
        digest = opened.checkpoint.digest
        snapshot = Snapshot(height, digest, offer.value, offer.certificate, leaves, dict(counts), opened.raw)
        position = [self._journaling.put(record) for record in snapshot_records(snapshot)][-1]
        self.installing = Installing(opened, snapshot, position)
        return [Notify("checkpoint.state", {"height": height, "bytes": len(opened.raw), "from": log.size})]

    def ready(self, now_us: int) -> Installing | None:
        """A state that is durable here, once."""
        installing = self.installing
        if installing is None or self._journaling.durable < installing.position:
            return None
        self.installing, self._stuck = None, (0, 0)
        self._engine.rest(now_us)
        return installing

    # -- how ------------------------------------------------------------------------------------------------

    def _say(self, peer: str, message: messages.Transferring) -> list[Output]:
        return [
            *self._engine.send_app(peer, CHANNEL, messages.encode_checkpoint_message(message), self._journaling.needed)
        ]

    def _refuse(self, peers: Iterable[str], why: str, now_us: int) -> list[Output]:
        return [o for p in peers for o in self._engine.refuse(p, f"state: {why}", now_us, "checkpoint.refused")]
