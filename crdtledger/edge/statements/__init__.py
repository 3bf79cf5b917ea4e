"""Statements of venues and custodians: files that say what they hold to be true. Read here, held against the ledger in ``reconcile``.

A statement is taken whole or not at all: every line that does not fit is named with its file, line and reason, and then nothing is
compared and nothing booked. A statement with a hole in it would make every trade in the hole look like a break.
"""
