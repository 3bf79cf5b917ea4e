"""What a node records goes to its peers when it is durable, once and in order; what shared a sync shares a frame."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.edge import api
from crdtledger.edge.effects import ClientRequest, Effect
from gossip import wire
from gossip.effects import Durable, Persist, Send
from tests.edge.test_folding import TERMS, looked_at
from tests.edge.test_hostile import NAMES

PEERS = NAMES[1:]


def pushed(effects: Sequence[Effect]) -> dict[str, list[tuple[bytes, ...]]]:
    """The batches of each push, by peer."""
    found: dict[str, list[tuple[bytes, ...]]] = {name: [] for name in PEERS}
    for effect in effects:
        if isinstance(effect, Send) and isinstance(push := wire.decode(effect.frame), wire.Push):
            found[effect.peer].append(push.batches)
    return found


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=6))
@settings(max_examples=30)
def test_what_is_recorded_is_pushed_when_it_is_durable_once_and_in_one_frame_for_each_sync(
    rounds: list[tuple[int, int, bool]],
) -> None:
    """Some facts, then a sync of all but the last few of them; a driver in haste asks for the pushes before it tells of the sync."""
    node, _ = looked_at()
    core, waiting, number = node.core, list[tuple[int, bytes]](), 0
    for count, late, hasty in rounds:
        for _ in range(count):
            number += 1
            body = api.encode_request(api.Record([{"kind": "fill", "venue": "v", "trade_id": number, **TERMS}]))
            effects = core.step(ClientRequest(number, body), node.now_us)
            assert pushed(effects) == {name: [] for name in PEERS}
            (position,) = [effect.position for effect in effects if isinstance(effect, Persist)]
            head = core.replica.head(core.recorder.lane.key)
            batch = core.replica.batch(core.recorder.lane.key, head.seq)
            assert batch is not None
            waiting.append((position, batch.raw))
        synced = waiting[: len(waiting) - late] if late else list(waiting)
        if not synced:
            continue
        waiting = waiting[len(synced) :]
        durable = synced[-1][0]
        told = [*(core.push(durable) if hasty else []), *core.step(Durable(durable), node.now_us)]
        assert pushed(told) == {name: [tuple(raw for _, raw in synced)] for name in PEERS}
        assert all(effect.after <= durable for effect in told if isinstance(effect, Send))
    core.check_invariants()
