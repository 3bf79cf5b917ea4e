"""Catch-up by a settled state: giving and taking it, up to where it is durable here and may be stood on.

Serving: the newest certified height that is a multiple of ``MARK_HEIGHTS`` is kept, so that honest peers offer one image; where that is no
help, the newest certified height itself. An image is made when somebody asks, one in ``MADE_US`` at most, large ones more rarely, and let
go of when nobody did for ``KEPT_US``; who asks meanwhile gets one that is there.

Taking: asked for when this node is ``Setup.jump_heights`` behind, or half as many while it has hardly any history, beside which no state
is large; or when what the next height settles could not be had for ``STUCK_US``. It has to lead over half of what it takes to ask: a
peer that lies about its height must not have a node jump from one height to the next. What was begun is brought to its end.
While pieces come, ranges rest. A whole image is verified, written down as a snapshot, and only when that is durable does
``ready`` hand it out: a power cut before leaves the old state, one after it starts from the new. Nothing is settled in between.
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
from reconcile.log import HASH_BYTES, MerkleLog
from reconcile.salts import Salts

CHANNEL: Final = "checkpoint"
MARK_HEIGHTS: Final = 16
KEPT_US: Final = 30_000_000
STUCK_US: Final = 10_000_000
RESTS_US: Final = 3_000_000
SECOND_US: Final = 1_000_000
MADE_US: Final = 1_000_000
IMAGES: Final = 2
SERVED_BYTES_PER_S: Final = 8 << 20
SERVED_BYTES_BURST: Final = messages.MAX_PIECES * messages.PIECE_BYTES
"""One image whole, of any size: whoever takes it asks as fast as pieces come."""


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
        self._next_us = 0  # when another one may be made
        self._stuck: tuple[int, int] = (0, 0)  # at which height, since when
        self._above = 0
        self.installing: Installing | None = None
        self.disputed = ""
        """Why what is certified elsewhere does not follow what is settled here."""

    # -- giving ---------------------------------------------------------------------------------------------

    def certified(self, settled: SettledHeight, certificate: bytes) -> None:
        """A height that this node stands on, or stood on, is certified."""
        self._newest = (settled, certificate)
        if settled.checkpoint.height % MARK_HEIGHTS == 0:
            self._mark = self._newest

    def _offer(self, peer: str, above: int, log: MerkleLog, now_us: int) -> list[Output]:
        image = self._image(above, log, now_us)
        if image is None or len(image.pieces) > messages.MAX_PIECES:
            return []
        offer = image.offer
        self._images[image.height] = (image, now_us)
        size = len(offer.value) + len(offer.certificate) + HASH_BYTES * len(offer.pieces)
        return self._say(peer, offer) if self._served[peer].take(size, now_us) else []

    def _image(self, above: int, log: MerkleLog, now_us: int) -> Image | None:
        """An image of a height above ``above``: the next one's, the one that all nodes keep, or else the newest that can be had."""
        kept = [one for one in (self._mark, self._newest) if one and one[0].checkpoint.height > above]
        here = [height for height in self._images if height > above]
        if above + 1 in here or not kept:
            return self._images[above + 1][0] if above + 1 in here else None
        if kept[0][0].checkpoint.height not in here and self._may_make(now_us):
            image = image_of(*kept[0], log)
            self._images[image.height] = (image, now_us)
            self._next_us = now_us + max(MADE_US, image.bytes * SECOND_US // SERVED_BYTES_PER_S)
            return image
        return self._images[max(here)][0] if here else None

    def _may_make(self, now_us: int) -> bool:
        """Whether an image may be made now: none was a moment ago, and there is room beside those that are being taken."""
        if now_us < self._next_us:
            return False
        taken = {height: one for height, one in self._images.items() if now_us - one[1] < RESTS_US}
        if len(taken) >= IMAGES:
            return False
        if len(self._images) >= IMAGES:
            self._images = taken
        return True

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
        if self.installing or self.disputed or not self._heights:
            return []
        if self._transfer.offer and self._transfer.height <= height:
            self._transfer.stop()
        behind = max((one.certified for one in standings.values()), default=0) - height
        stuck = self._stuck[0] == height + 1 and now_us - self._stuck[1] >= STUCK_US
        least = self._heights if height >= self._heights else self._heights // 2
        if behind < least and not stuck and not self._transfer.offer:
            self._transfer.stop()
            return []
        self._above = height if stuck else height + least // 2
        return self._ask(standings, now_us)

    def _ask(self, standings: dict[str, messages.Standing], now_us: int) -> list[Output]:
        asks = self._transfer.ask(self._above, standings, now_us)
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
                fault = self._transfer.offered(peer, message, max(log.size, self._above))
            case messages.PieceTell():
                fault = self._transfer.told(peer, message)
        out = self._refuse([peer], fault, now_us) if fault else []
        out += self._verify(log, counts, now_us)
        return out + (self._ask(standings, now_us) if self._transfer.offer else [])

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
        if log.size and opened.log.root(log.size) != log.root():
            self.disputed = f"height {height} is certified, and does not follow what is settled here"
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
