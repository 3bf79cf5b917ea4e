"""Which account a public trade goes to: ``A{trade id mod N:03d}``.

Public feeds name no accounts. Spreading their trades over ``N`` made-up ones by the trade id gives every node, and
whoever checks it with a script of ten lines, the same assignment, whatever the order of arrival. Ids that are not
canonical decimal numbers take the first 8 bytes of the SHA-256 of their UTF-8 text, big-endian, in place of the number.
"""

from __future__ import annotations

import hashlib

import numpy as np

from crdtledger.edge.importers.trades import Integers, Trades, is_canonical


def assign_accounts(trades: Trades, accounts: int) -> Integers:
    """For each trade an index in ``0..accounts-1`` (int64); ``account_name`` turns it into a name."""
    if accounts < 1:
        raise ValueError("at least one account is needed")
    if trades.text_ids is None:
        return (trades.trade_id % np.uint64(accounts)).astype(np.int64)
    return np.array([_number(text) % accounts for text in trades.text_ids], dtype=np.int64)


def account_name(index: int) -> str:
    """``A000``, ``A001`` ...; more digits from ``A1000`` on."""
    return f"A{index:03d}"


def _number(text: str) -> int:
    if is_canonical(text):
        return int(text)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
