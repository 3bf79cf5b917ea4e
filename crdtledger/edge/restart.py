"""From a journal's records to where the node stood: the newest snapshot, then everything else in the order in which it was written.

What a snapshot stands for is not applied again: its batches go back to the shelf, from which peers that are behind are served.
Heights after it are settled again from the journal's own batches, and must come to the same roots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from crdtledger.edge.checkpointing import Checkpointer
from crdtledger.edge.checkpointrecords import Snapshot
from crdtledger.edge.epochs import EPOCH_RECORD, Epochs, EpochState
from crdtledger.errors import BadInput, InvalidBatch
from crdtledger.ledger.batch import Batch, open_batch
from crdtledger.ledger.clock import HybridClock
from crdtledger.ledger.genesis import Genesis
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
from crdtledger.ledger.settled import decode_state


def read_records(raw: Iterable[bytes]) -> list[JournalRecord]:
    """The records of a journal. Raises BadInput at one that is none."""
    records: list[JournalRecord] = []
    for one in raw:
        record = decode_record(one)
        if isinstance(record, UnreadableRecord):
            raise BadInput(what="record", where="journal", why=record.reason)
        records.append(record)
    return records


def open_replica(genesis: Genesis, salt: int, documents: bool, snapshot: Snapshot | None) -> Replica:
    """The replica that a node starts from."""
    if snapshot is None:
        return Replica(genesis, salt, documents)
    state = decode_state(snapshot.state, genesis, salt)
    bases = dict(enumerate(snapshot.leaf_hashes(), 1))
    return Replica(genesis, salt, documents, state, (snapshot.height, snapshot.digest), bases)


def replay(
    records: Sequence[JournalRecord],
    replica: Replica,
    checkpoints: Checkpointer | None,
    epochs: Epochs,
    clock: HybridClock,
    node: bytes,
) -> None:
    """Do again what the records of ``node`` say was done. Raises BadInput at the first that does not hold."""
    shelved: list[Batch] = []
    for record in records:
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
