"""The records of the step under way, in the order in which they must be read again.

Parts of a core put records in while they work and learn at once under which position they will be durable; at the end of the
step the core takes them out as one ``Persist``. So whatever depends on a record can name its position when it is made.
"""

from __future__ import annotations

from crdtledger.ledger.journalrecord import JournalRecord, encode_record
from gossip.effects import Persist


class Journaling:
    """``position``: of the last ``Persist``; ``durable``: up to where the disk has it."""

    def __init__(self) -> None:
        self.position = 0
        self.durable = 0
        self._records: list[bytes] = []

    def put(self, record: JournalRecord) -> int:
        """Have ``record`` written at the end of this step. Returns the position on which what needs it must wait."""
        self._records.append(encode_record(record))
        return self.position + 1

    @property
    def needed(self) -> int:
        """The position that covers everything put in so far."""
        return self.position + bool(self._records)

    def take(self) -> Persist | None:
        """What this step writes, if anything."""
        if not self._records:
            return None
        self.position += 1
        records, self._records = tuple(self._records), []
        return Persist(self.position, records)
