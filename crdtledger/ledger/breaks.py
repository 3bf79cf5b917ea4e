"""A break: a recorded fact that does not simply count, in words that are the same at every replica."""

from __future__ import annotations

import msgspec


class Break(msgspec.Struct, frozen=True, order=True):
    """A recorded fact that does not simply count. ``type``: conflict, void_batch, void_fact, suspended, definitions, bust,
    overdraft, fork. ``subject`` names it, ``detail`` tells the whole story, the same at every replica."""

    type: str
    subject: str
    detail: str
