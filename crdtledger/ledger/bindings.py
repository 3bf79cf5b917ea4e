"""The dictionaries of a view's batches in the view's numbers, by the batches' local numbers.

A binding says nothing that its batch's dictionary does not say together with the catalog's numbers, which never change: so those of small
batches are kept for a while and made again when somebody asks. They take more than the batches' bytes do.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.catalog import Binding, Catalog
from crdtledger.ledger.places import ByNumber
from crdtledger.ledger.settledparts import SuspendedFills

KEPT_MOST: Final = 512
"""So many bindings of small batches are kept."""


class Bindings:
    """The bindings of ``sources``, the first ones of which are entered so far."""

    __slots__ = ("_catalog", "_entered", "_kept", "_small", "_sources")

    def __init__(self, catalog: Catalog, sources: ByNumber[Batch | SuspendedFills]) -> None:
        self._catalog, self._sources = catalog, sources
        self._entered = 0
        self._kept: dict[int, Binding] = {}
        self._small: deque[int] = deque()

    def append(self, binding: Binding) -> None:
        """Enter the next one's."""
        self._keep(self._entered, binding)
        self._entered += 1

    def __getitem__(self, number: int, /) -> Binding:
        binding = self._kept.get(number)
        if binding is None:
            binding = self._catalog.bind(self._sources[number].body)
            self._keep(number, binding)
        return binding

    def _keep(self, number: int, binding: Binding) -> None:
        self._kept[number] = binding
        source = self._sources[number]
        if isinstance(source, Batch) and source.closes:
            self._small.append(number)
            if len(self._small) > KEPT_MOST:
                del self._kept[self._small.popleft()]
