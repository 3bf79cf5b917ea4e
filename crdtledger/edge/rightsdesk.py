"""Rights between nodes: asks others for what clients here want, and answers who asks.

What to ask of whom, and how much to give, is the rights manager's; this part has it sent, recorded and asked again in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from crdtledger.edge.messages import RightsAsk, RightsDenied
from crdtledger.errors import CallerError, InsufficientRights
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.facts import Fact, Grant, Reserve, Transfer, Withdrawal
from crdtledger.ledger.recorder import Recorder
from crdtledger.ledger.rightsmanager import RightsManager
from gossip.effects import StartTimer
from gossip.protocol import GossipEngine, Output

RIGHTS_TIMER = "rights"
RIGHTS_INTERVAL_US = 100_000

_encode = msgspec.msgpack.Encoder().encode


class RightsDesk:
    """The desk of the node that writes with ``recorder``. ``note`` takes batches recorded here; ``silent``: whether none may be."""

    def __init__(
        self,
        recorder: Recorder,
        engine: GossipEngine,
        manager: RightsManager,
        note: Callable[[Sequence[Batch]], None],
        silent: Callable[[], bool],
    ) -> None:
        self._recorder = recorder
        self._engine = engine
        self._manager = manager
        self._note = note
        self._silent = silent
        self._waiting = False  # for the timer

    def spent(self, facts: Sequence[Fact], now_us: int) -> None:
        """Clients spent; remember how much is asked for."""
        for fact in facts:
            if isinstance(fact, Withdrawal | Transfer | Reserve | Grant):
                cell = (fact.account, fact.asset)
                self._manager.spent(cell, fact.amount, self._recorder.spendable(*cell), now_us)

    def refused(self, error: InsufficientRights, now_us: int) -> list[Output]:
        """A client was refused for want of rights: fetch some."""
        self._manager.refused((error.account, error.asset), int(error.requested), now_us)
        return self._ask(now_us)

    def arrived(self, now_us: int) -> list[Output]:
        """Batches came in, perhaps with what was asked for."""
        if not self._manager.wanted:
            return []
        for cell in self._manager.wanted:
            self._manager.held(cell, self._recorder.spendable(*cell))
        return self._ask(now_us)

    def timer(self, now_us: int) -> list[Output]:
        """``RIGHTS_TIMER`` is due."""
        self._waiting = False
        return self._ask(now_us)

    def received(self, peer: str, message: RightsAsk | RightsDenied, now_us: int) -> list[Output]:
        """``peer`` asks, or has nothing to give."""
        cell = (message.account, message.asset)
        if isinstance(message, RightsDenied):
            self._manager.denied(peer, cell)
            return self._ask(now_us)
        if not self._silent() and self._gives(peer, message, now_us):
            return []
        return self._engine.send_app(peer, "rights", _encode(RightsDenied(message.account, message.asset)))

    def _gives(self, peer: str, ask: RightsAsk, now_us: int) -> bool:
        recorder, replica = self._recorder, self._recorder.replica
        cell = (ask.account, ask.asset)
        if ask.account not in replica.view.catalog.labels or ask.asset not in recorder.genesis.asset_decimals:
            return False
        amount = self._manager.gift(cell, ask.amount, ask.demand, recorder.spendable(*cell), now_us)
        if not amount:
            return False
        lane = recorder.lane
        name = f"{recorder.genesis.by_id[lane.node].name}/{lane.epoch}/{replica.head(lane.key).seq + 1}"
        grant = Grant(id=name, account=ask.account, asset=ask.asset, amount=amount, node=peer)
        try:
            self._note(recorder.record([grant], now_us).batches)
        except CallerError:
            return False  # not this node's account to move: the genesis says so
        return True

    def _ask(self, now_us: int) -> list[Output]:
        wanted = self._manager.wanted
        if not wanted:
            return []
        view = self._recorder.replica.view
        holders = {cell: view.collateral.rights_of(view.rights.cell(*cell)) for cell in wanted}
        reachable = [name for name, peer in self._engine.peers.items() if peer.connected and peer.greeted]
        available = {cell: self._recorder.spendable(*cell) for cell in wanted}
        out: list[Output] = []
        for ask in self._manager.asks(available, holders, reachable, now_us):
            body = _encode(RightsAsk(ask.account, ask.asset, ask.amount, ask.demand))
            out += self._engine.send_app(ask.peer, "rights", body)
        if self._manager.wanted and not self._waiting:
            self._waiting = True
            out.append(StartTimer(RIGHTS_TIMER, RIGHTS_INTERVAL_US))
        return out
