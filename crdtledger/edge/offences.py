"""What validators are proven to have done: evidence of contradictions, journaled and kept for people. It changes no figure."""

from __future__ import annotations

from crdtledger.edge.journaling import Journaling
from crdtledger.ledger.journalrecord import KIND_META, JournalRecord
from gossip.effects import Notify
from reconcile.evidence import Evidence, decode_evidence, encode_evidence
from reconcile.quorum import Committee
from reconcile.votes import Malformed

EVIDENCE_RECORD = b"vote-evidence"


class Offences:
    """The evidence that one node holds against members of ``committee``."""

    def __init__(self, committee: Committee, journaling: Journaling) -> None:
        self._committee = committee
        self._journaling = journaling
        self._held: dict[bytes, Evidence] = {}

    def __len__(self) -> int:
        return len(self._held)

    def remembered(self, raw: bytes) -> None:
        """Evidence is read from the journal."""
        evidence = decode_evidence(raw, self._committee)
        if not isinstance(evidence, Malformed):
            self._held[raw] = evidence

    def found(self, evidence: Evidence) -> list[Notify]:
        """Evidence came up: keep it and say so, once."""
        raw = encode_evidence(evidence)
        if raw in self._held:
            return []
        self._held[raw] = evidence
        self._journaling.put(JournalRecord(KIND_META, b"", 0, EVIDENCE_RECORD, raw))
        return [Notify("checkpoint.evidence", {"validator": self._name(evidence), "offence": _words(evidence)})]

    def by_name(self) -> dict[str, list[str]]:
        """What each accused validator did, in words, sorted."""
        told: dict[str, set[str]] = {}
        for evidence in self._held.values():
            told.setdefault(self._name(evidence), set()).add(_words(evidence))
        return {name: sorted(words) for name, words in told.items()}

    def _name(self, evidence: Evidence) -> str:
        return self._committee.validators[evidence.voter].name


def _words(evidence: Evidence) -> str:
    return f"{evidence.offence.value if evidence.offence else 'nothing'} at height {evidence.first.height}"
