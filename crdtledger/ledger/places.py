"""Where the batches of a view stand in the order it folds them in, by their local numbers: a clock each, the rest is the batch's to say."""

from __future__ import annotations

from array import array
from typing import Final, Protocol, TypeVar

from crdtledger.ledger.catalog import Place

_LEAST: Final = -(1 << 32)
"""No clock is below it. The highest need all 64 bits: a lane's clocks go on rising from the highest that a header may have."""

T_co = TypeVar("T_co", covariant=True)


class ByNumber(Protocol[T_co]):
    """One thing for each of a view's batches, by its local number."""

    def __getitem__(self, number: int, /) -> T_co: ...


class Standing(Protocol):
    """A batch, or whatever has its place in a lane."""

    @property
    def key(self) -> bytes: ...
    @property
    def seq(self) -> int: ...


class Places:
    """The places of ``sources``, the first ones of which are entered so far."""

    __slots__ = ("_clocks", "_sources")

    def __init__(self, sources: ByNumber[Standing]) -> None:
        self._sources = sources
        self._clocks = array("Q")

    def append(self, place: Place) -> None:
        """Enter the next one's. Its lane and seq are its source's."""
        self._clocks.append(place.clock - _LEAST)

    def __getitem__(self, number: int, /) -> Place:
        source = self._sources[number]
        return Place(self._clocks[number] + _LEAST, source.key, source.seq)
