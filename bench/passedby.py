"""What a settled state costs whoever takes it over, by the history that it stands for: with a window for ids, and where they stay for good.

No bench of its own: ``catchup`` tells it. In one process, so without links and processes: the state is encoded, as by who gives it,
decoded, and its commitments made anew, as by who takes it (``stateimage.open_state``). Heights of as many facts each, a minute apart; the
window is twelve minutes. Of every size the positions must be those of a plain fold, and the root that which was settled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import msgspec
import numpy as np

from bench.join import ACCOUNTS, NAMES, SPOT, chunks, columns
from bench.measured import Curve, Wrong, slope, timed
from crdtledger.edge.stateimage import open_state
from crdtledger.ledger.facts import Account, Instrument
from crdtledger.ledger.genesis import Policies
from crdtledger.ledger.inprocess import Ledger
from crdtledger.ledger.settled import SettledState
from reconcile.checkpoint import cut_of
from reconcile.commitments import Commitments
from reconcile.salts import Salts
from reconcile.settlement import settle

MINUTE_US = 60_000_000
WINDOW_MINUTES = 12
SALTS = Salts(1, b"s" * 32)


def states(
    sizes: Sequence[int], height_facts: int, windowed: bool
) -> Iterator[tuple[Ledger, SettledState, Commitments]]:
    """The ledger, its settled state and what that commits to when ``sizes`` facts are settled."""
    clock = [MINUTE_US]
    window = {"id_window_ms": WINDOW_MINUTES * MINUTE_US // 1_000} if windowed else {}
    policies = Policies(agreement="tendermint", **window)  # type: ignore[arg-type]
    (ledger,) = Ledger.cluster("one", assets={"USDT": 2}, policies=policies, now_us=lambda: clock[0])
    state, commitments = SettledState.empty(ledger.genesis), Commitments.empty(ledger.genesis, SALTS)
    work = iter(fills for start in range(0, sizes[-1], height_facts) for fills in [chunks(height_facts, start)])
    names = [*(Account(name=name) for name in NAMES), Instrument(name="I0", **SPOT)]  # type: ignore[arg-type]
    batches, height, facts = list(ledger.record(*names).batches), 0, 0
    qty = np.zeros(ACCOUNTS, np.int64)
    for size in sizes:
        while facts < size:
            clock[0] += MINUTE_US
            for fills in next(work):
                told = msgspec.structs.replace(
                    columns(fills._replace(instrument=0)), ts_us=np.full(len(fills.ids), clock[0])
                )
                batches += ledger.record_fills(told).batches
                np.add.at(qty, fills.account, fills.qty * fills.side)
            height, facts = height + 1, facts + height_facts
            cut = cut_of({batches[-1].key: (batches[-1].seq, batches[-1].hash)})
            settlement = settle(ledger.genesis, state, bytes(32), cut, batches, (), height=height)
            state, commitments, batches = settlement.state, commitments.advance(settlement), []
        held = {NAMES.index(account): position.qty for (account, _), position in state.positions.items()}
        if any(held.get(at, 0) != int(sum_) for at, sum_ in enumerate(qty)):
            raise Wrong("the settled positions are not what a plain fold gives")
        yield ledger, state, commitments


def by_history(sizes: Sequence[int], height_facts: int, tries: int, windowed: bool) -> tuple[Curve, tuple[int, ...]]:
    """Seconds by history, and how many bytes a state has at each size."""
    points: list[tuple[float, float]] = []
    weights: list[int] = []
    for size, (ledger, state, commitments) in zip(sizes, states(sizes, height_facts, windowed), strict=True):
        weights.append(len(state.encode()))

        def taken(ledger: Ledger = ledger, state: SettledState = state, root: bytes = commitments.state_root) -> None:
            _, again = open_state(state.encode(), ledger.genesis, SALTS, 1)
            if again.state_root != root:
                raise Wrong("a state that was taken over has another root than the one that was settled")

        points.append((float(size), median(timed(taken) for _ in range(tries))))
    name = f"a state taken over, {'of ids of twelve minutes' if windowed else 'of all ids'}"
    return Curve(name, "facts", "seconds", tuple(points), slope(points)), tuple(weights)
