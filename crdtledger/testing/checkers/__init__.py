"""What a history (``crdtledger.testing.history``) must look like if the system did what it promises: one checker a promise.

    check_bank       money moves and never comes into being: every read has the same total
    check_set        what was added is there in the end; nothing else is
    check_set_full   when each element was first seen for good: stale, lost, never read
    check_counter    every read is a sum that the additions allow
    check_register   reads, writes and compare-and-sets as if one after the other (linearizable)

Each returns a ``Verdict`` and raises nothing but BadInput, for operations that are not in its form.
"""

from crdtledger.testing.checkers.bank import check_bank
from crdtledger.testing.checkers.counter import check_counter
from crdtledger.testing.checkers.register import check_register
from crdtledger.testing.checkers.sets import check_set, check_set_full
from crdtledger.testing.checkers.verdict import Verdict

__all__ = ["Verdict", "check_bank", "check_counter", "check_register", "check_set", "check_set_full"]
