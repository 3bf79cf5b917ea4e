"""The asking side of a state's transfer: who offers what, which pieces are here, and whom to ask for the next ones.

Several offers of one image are one: its pieces come from whoever offers it, a few at a time, and stay when a peer is lost. A peer that
does not answer ``MISSED_MAX`` times in a row, sends what it did not offer, or offered what does not hold, is left out until all others
were asked; and of those that never failed each is asked in its turn. What is kept is bounded by the offer, which is bounded by its form.
What nobody asked for, or asked for too long ago, is dropped without a word: an honest answer may be late, or come twice.

It judges pieces by their digests alone: whether the image is a state is for ``stateimage``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from crdtledger.edge import checkpointmessages as messages
from crdtledger.edge.checkpointmessages import PieceAsk, PieceTell, Standing, StateAsk, StateOffer
from crdtledger.edge.stateimage import open_offer, piece_digest
from crdtledger.errors import InvalidProof
from crdtledger.ledger.genesis import Genesis

PATIENCE_US: Final = 2_000_000
PAUSE_US: Final = 250_000
"""Between two questions for an offer: whoever answers with what does not hold is not asked as fast as it answers."""
OUTSTANDING: Final = 3
MISSED_MAX: Final = 4

Asks = Sequence[tuple[str, messages.Transferring]]


class Transfer:
    """One transfer, or none: ``offer`` is None while nobody offered anything that holds."""

    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis
        self.offer: StateOffer | None = None
        self.height = 0
        self._sources: dict[str, int] = {}  # who offers it -> how many answers in a row did not come
        self._pieces: dict[int, bytes] = {}
        self._asked: dict[int, tuple[str, int]] = {}  # piece -> whom, when
        self._told: dict[str, set[int]] = {}  # peer -> pieces that it was ever asked for, and has not sent
        self._failures: dict[str, int] = {}
        self._turns: dict[str, int] = {}  # peer -> how often it was the first that was asked for an offer
        self._awaited: dict[str, tuple[int, int]] = {}  # peer -> since when its offer is, above which height
        self._compared: set[str] = set()  # who was asked whether it offers the same
        self._first = ""
        self._asked_us = -PAUSE_US

    def stop(self) -> None:
        """Give it up, or be done."""
        self.offer, self.height = None, 0
        for memory in (self._sources, self._pieces, self._asked, self._told, self._awaited, self._compared):
            memory.clear()

    def gone(self, peer: str) -> None:
        """The link to ``peer`` is gone: what it sent stays."""
        self._awaited.pop(peer, None)
        self._compared.discard(peer)
        self._leave(peer)

    # -- offers ---------------------------------------------------------------------------------------------

    def ask(self, above: int, standings: Mapping[str, Standing], now_us: int) -> Asks:
        """What to ask for now, to get the state of a height above ``above``."""
        if self.offer is not None and self._sources:
            return [*self._rivals(standings, now_us), *self._ask_pieces(now_us)]
        ahead = [peer for peer, standing in standings.items() if standing.certified > above]
        if (
            not ahead
            or now_us - self._asked_us < PAUSE_US
            or now_us - self._awaited.get(self._first, (-PATIENCE_US, 0))[0] < PATIENCE_US
        ):
            return []
        if self._first in self._awaited:
            self._fail(self._first)
        self._awaited.clear()
        self._compared.clear()
        peer = min(ahead, key=lambda name: (self._failures.get(name, 0), self._turns.get(name, 0), name))
        self._turns[peer] = self._turns.get(peer, 0) + 1
        self._first, self._asked_us = peer, now_us
        self._awaited[peer] = (now_us, above)
        return [(peer, StateAsk(above))]

    def _rivals(self, standings: Mapping[str, Standing], now_us: int) -> Asks:
        """Ask the others once whether they offer the same."""
        others = [
            peer
            for peer, one in standings.items()
            if one.certified >= self.height and peer not in self._compared and not self._failures.get(peer)
        ]
        self._compared.update(others)
        self._awaited |= dict.fromkeys(others, (now_us, self.height - 1))
        return [(peer, StateAsk(self.height - 1)) for peer in others]

    def offered(self, peer: str, offer: StateOffer, above: int) -> str:
        """``peer`` offers a state; why it is refused, ``""`` if not."""
        _, asked = self._awaited.pop(peer, (0, None))
        if asked is None:
            return ""
        try:
            of = open_offer(offer, self._genesis).height
        except InvalidProof as fault:
            self._fail(peer)
            return str(fault)
        if of <= asked:
            self._fail(peer)
            return f"it offers the state of height {of}, and was asked for one above {asked}"
        if of <= above:
            return ""  # by now this node stands there itself
        if self.offer is None or not self._sources:
            if self.offer is None or self.offer.pieces != offer.pieces:
                self._pieces.clear()
            self.offer, self.height = offer, of
            self._asked.clear()
            self._told.clear()
            self._compared = {peer}
        if (of, offer.pieces) == (self.height, self.offer.pieces):
            self._sources[peer] = 0
        return ""

    def _fail(self, peer: str) -> None:
        self._failures[peer] = self._failures.get(peer, 0) + 1
        self._leave(peer)

    def _leave(self, peer: str) -> None:
        """Ask ``peer`` for no more pieces."""
        self._sources.pop(peer, None)
        self._asked = {number: ask for number, ask in self._asked.items() if ask[0] != peer}

    # -- pieces ---------------------------------------------------------------------------------------------

    def _ask_pieces(self, now_us: int) -> Asks:
        assert self.offer is not None, "pieces are asked for of an offer"
        for number, (peer, at_us) in list(self._asked.items()):
            if now_us - at_us >= PATIENCE_US:
                del self._asked[number]
                self._sources[peer] = self._sources.get(peer, 0) + 1
                if self._sources[peer] >= MISSED_MAX:
                    self._fail(peer)
        out: list[tuple[str, messages.Transferring]] = []
        for number in range(len(self.offer.pieces)):
            if len(self._asked) >= OUTSTANDING or not self._sources:
                break
            if number in self._pieces or number in self._asked:
                continue
            busy = [peer for peer, _ in self._asked.values()]
            peer = min(self._sources, key=lambda name: (self._sources[name], busy.count(name), name))
            self._asked[number] = (peer, now_us)
            self._told.setdefault(peer, set()).add(number)
            out.append((peer, PieceAsk(self.height, number)))
        return out

    def told(self, peer: str, tell: PieceTell) -> str:
        """``peer`` sends a piece; why it is refused, ``""`` if not."""
        if self.offer is None or tell.height != self.height or tell.number not in self._told.get(peer, ()):
            return ""
        self._told[peer].discard(tell.number)
        self._asked = {number: ask for number, ask in self._asked.items() if number != tell.number}
        if piece_digest(tell.content) != self.offer.pieces[tell.number]:
            self._fail(peer)
            return f"piece {tell.number} of a state, which is not the one that it offered"
        self._sources[peer] = 0
        self._pieces[tell.number] = tell.content
        return ""

    @property
    def whole(self) -> Sequence[bytes] | None:
        """All pieces in order, once they are here."""
        if self.offer is None or len(self._pieces) < len(self.offer.pieces):
            return None
        return [self._pieces[number] for number in range(len(self.offer.pieces))]

    def refuse(self) -> list[str]:
        """The image does not hold: forget it. Returns who offered it."""
        liars = list(self._sources)
        for peer in liars:
            self._fail(peer)
        self.stop()
        return liars
