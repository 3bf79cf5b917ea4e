"""From a journal's records to where the node stood: the newest snapshot, then everything else in the order in which it was written.

What a snapshot stands for is not even opened again, but for the newest batches of each lane, which go back to the shelf: the rest
stays where it is, in the journal, from which peers that are far behind are served.
Heights after it are settled again from the journal's own batches, and must come to the same roots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from crdtledger.edge.checkpointing import Checkpointer
from crdtledger.edge.checkpointrecords import Snapshot
from crdtledger.edge.epochs import EPOCH_RECORD, Epochs, EpochState
from crdtledger.edge.setup import Setup
from crdtledger.errors import BadInput, InvalidBatch
from crdtledger.ledger.batch import Batch, open_batch
from crdtledger.ledger.clock import HybridClock
from crdtledger.ledger.journalrecord import (
    KIND_BATCH,
    KIND_CHECKPOINT,
    KIND_EVIDENCE,
    KIND_META,
    JournalRecord,
    UnreadableRecord,
    decode_record,
)
from crdtledger.ledger.outcome import Rejected, Settled
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.retention import Retention
from crdtledger.ledger.settled import decode_state
from crdtledger.ledger.shelf import Shelf

RESHELVED: Final = 2_048
"""Settled batches that are opened again at a start: opening one costs about as much as admitting it."""


def read_records(raw: Iterable[bytes]) -> list[JournalRecord]:
    """The records of a journal. Raises BadInput at one that is none."""
    records: list[JournalRecord] = []
    for one in raw:
        record = decode_record(one)
        if isinstance(record, UnreadableRecord):
            raise BadInput(what="record", where="journal", why=record.reason)
        records.append(record)
    return records


def open_replica(setup: Setup, salt: int, snapshot: Snapshot | None) -> Replica:
    """The replica that a node starts from."""
    genesis = setup.genesis
    kept: dict[str, Any] = {"shelf": Shelf(setup.shelf_heights), "retention": Retention(setup.journal_bytes)}
    if snapshot is None:
        return Replica(genesis, salt, setup.documents, **kept)
    state = decode_state(snapshot.state, genesis, salt)
    bases = dict(enumerate(snapshot.leaf_hashes(), 1))
    return Replica(genesis, salt, setup.documents, state, (snapshot.height, snapshot.digest), bases, **kept)


def replay(
    records: list[JournalRecord],
    replica: Replica,
    checkpoints: Checkpointer | None,
    epochs: Epochs,
    clock: HybridClock,
    node: bytes,
) -> None:
    """Do again what the records of ``node`` say was done, and take each out of the list: what comes of them takes no more than they do.
    Raises BadInput at the first that does not hold."""
    shelved: list[Batch] = []
    for record in _above_the_base(records, replica):
        if record.kind == KIND_BATCH:
            batch = _admitted(record, replica, shelved)
            # Others' clocks do not count: unclamped, one wrong machine's would be this node's from now on.
            if batch.lane.node == node:
                clock.last = max(clock.last, batch.header.clock)
        elif record.kind == KIND_EVIDENCE:
            replica.admit_evidence(record.body)
        elif record.kind == KIND_META and record.hash == EPOCH_RECORD:
            epochs.resume(msgspec.msgpack.decode(record.body, type=EpochState))
        elif checkpoints:
            checkpoints.replay(record)
        elif record.kind == KIND_CHECKPOINT:
            why = "the cluster's secret for salts is missing, without which its roots cannot be compared"
            raise BadInput(what=f"checkpoint {record.seq}", where="journal", why=why)
    replica.shelve(shelved)


def _above_the_base(records: list[JournalRecord], replica: Replica) -> Iterator[JournalRecord]:
    """The records without the batches that the base stands for, but for the newest ``RESHELVED`` and each lane's newest: whoever
    looks for the others finds them in the journal. Each is taken out of the list."""
    lanes = replica.state.lanes
    settled = [
        number
        for number, record in enumerate(records)
        if record.kind == KIND_BATCH and record.lane in lanes and record.seq <= lanes[record.lane].seq
    ]
    replica.retention.settled(
        {lane: one.seq for lane, one in lanes.items() if one.seq}, sum(len(records[number].body) for number in settled)
    )
    let_be = {number for number in settled[:-RESHELVED] if records[number].seq < lanes[records[number].lane].seq}
    return _taken_out(records, let_be)


def _taken_out(records: list[JournalRecord], let_be: set[int]) -> Iterator[JournalRecord]:
    """The records, but for those that are let be, by their numbers. None is left in the list."""
    records.reverse()
    for number in range(len(records)):
        record = records.pop()
        if number not in let_be:
            yield record


def _admitted(record: JournalRecord, replica: Replica, shelved: list[Batch]) -> Batch:
    try:
        batch = open_batch(record.body, replica.genesis, check_signature=False)
    except InvalidBatch as error:
        raise BadInput(what=f"batch {record.seq}", where="journal", why=str(error)) from None
    # One that waits, or comes twice, was written down for a checkpoint that settles it while no lane held it.
    outcome = replica.admit_batch(batch)
    if isinstance(outcome, Rejected):
        raise BadInput(what=f"batch {record.seq}", where="journal", why=f"does not apply again: {outcome}")
    if isinstance(outcome, Settled):
        shelved.append(batch)
    return batch
