"""What importers read and what they hand on: the words every format shares.

An importer is a pure machine from bytes to columns. It knows no ledger, no socket and no file: the caller feeds it
chunks of any size and gets blocks of trades, one numpy array per column. Rules for all of them:

1. A line either becomes exactly one trade, or is skipped and counted under a kind, or is refused and counted with
   file, line, column and reason. Nothing is dropped silently, nothing is guessed.
2. How the bytes are cut into chunks changes where blocks end, never what they hold.
3. ``position`` names the end of the last whole line (or array element) consumed; an importer resumed there and fed
   the bytes behind it yields the rest.
4. A file that is not in the format at all is one ``crdtledger.errors.BadInput``, raised from ``feed`` or ``finish``.
   Bytes raise nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Unsigned: TypeAlias = NDArray[np.uint64]
Integers: TypeAlias = NDArray[np.int64]
Signs: TypeAlias = NDArray[np.int8]

MAX_TRADE_ID: Final = (1 << 64) - 1
MAX_ID_CHARACTERS: Final = 128
MAX_KINDS: Final = 64
MAX_REFUSALS_KEPT: Final = 100
MAX_EXCERPT_CHARACTERS: Final = 120


class Trades(msgspec.Struct, frozen=True, eq=False):
    """A block of ``n`` trades in file order; every array and list has length ``n``.

    ``trade_id``   uint64. The venue's ids where all of the block's ids are canonical decimal numbers; otherwise
                   0..n-1, an index into ``text_ids``.
    ``text_ids``   None, or the venue's ids as text. A block may mix both kinds; whoever derives an identity
                   must start from ``id_texts()``, which does not depend on where blocks end.
    ``price``      int64 > 0, minor units at the instrument's price decimals.
    ``qty``        int64 > 0, minor units at the instrument's quantity decimals.
    ``side``       int8, +1 bought, -1 sold: of the taker in public feeds, of the account in account statements.
    ``ts_us``      int64, the venue's trade time, microseconds since the Unix epoch.
    ``fee``        int64 minor units of ``fee_asset``; negative is a rebate; 0 where there is none.
    ``line``       int64, 1-based line number in the file.
    ``fee_asset``  None when no trade of the block has a fee, else an asset name per trade, ``""`` where none.
    ``account``    None when the format names no accounts, else one per trade.
    """

    trade_id: Unsigned
    text_ids: list[str] | None
    price: Integers
    qty: Integers
    side: Signs
    ts_us: Integers
    fee: Integers
    line: Integers
    fee_asset: list[str] | None = None
    account: list[str] | None = None

    def __len__(self) -> int:
        return len(self.trade_id)

    def id_texts(self) -> list[str]:
        """The venue's trade ids as text, whichever way the block carries them."""
        return self.text_ids if self.text_ids is not None else [str(i) for i in self.trade_id.tolist()]


class Refusal(msgspec.Struct, frozen=True):
    """A line that does not fit. ``column``: a field's name or a 1-based character column, ``""`` if it is the whole
    line. ``excerpt``: the start of the line, bounded. ``line`` 0 means the file itself."""

    file: str
    line: int
    column: str
    reason: str
    excerpt: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.column + ': ' if self.column else ''}{self.reason}"


class Summary(msgspec.Struct, frozen=True):
    """What an import has come to so far. ``bytes_read`` counts decompressed bytes fed, ``lines`` whole lines.

    ``skipped``: event kind -> count (at most ``MAX_KINDS`` kinds, the rest under ``"other"``).
    ``refusals``: the first ``MAX_REFUSALS_KEPT`` and, last, damage to the file; ``refused`` counts all.
    ``symbol``: the one symbol imported, if known.
    """

    file: str
    lines: int
    bytes_read: int
    trades: int
    skipped: Mapping[str, int]
    refused: int
    refusals: tuple[Refusal, ...]
    symbol: str = ""


class Position(msgspec.Struct, frozen=True):
    """Where an import can be taken up again: ``offset`` decompressed bytes and ``line`` whole lines are consumed.

    ``opening`` is what the file's beginning said and its rest depends on (a CSV header, an array's bracket);
    ``symbol`` the symbol that the rest must have.
    """

    offset: int = 0
    line: int = 0
    opening: str = ""
    symbol: str = ""


class ImportSpec(msgspec.Struct, frozen=True):
    """What the importer must be told. ``file`` is only a name for messages.

    ``symbol``: import this symbol, skip and count the others; None: the file must hold a single symbol, and lines of
    a second one are refused, because two instruments must never be added up as one.
    ``asset_decimals``: decimals of every asset that fees may be in. ``mapping``: for the ``csv`` format only.
    """

    file: str
    price_decimals: int
    qty_decimals: int
    symbol: str | None = None
    asset_decimals: Mapping[str, int] = {}
    mapping: Mapping[str, str] = {}


class Importer(Protocol):
    """Bytes in, columns out. ``id_space`` says what the trade ids number: ``"trade"`` or ``"aggtrade"``."""

    @property
    def name(self) -> str: ...

    @property
    def id_space(self) -> str: ...

    @property
    def summary(self) -> Summary: ...

    @property
    def position(self) -> Position: ...

    def resume(self, position: Position) -> None:
        """Go on at ``position``; the next chunk fed starts at its offset. Only before the first chunk."""
        ...

    def feed(self, chunk: bytes) -> list[Trades]:
        """Take in the next bytes; the blocks that they complete. Raises ``BadInput`` for another format altogether."""
        ...

    def finish(self) -> list[Trades]:
        """The file ends here, with or without a line end. Raises ``BadInput`` like ``feed``."""
        ...

    def cut_short(self, column: str, reason: str) -> None:
        """The file is damaged here: what is left of the last line is dropped, and the reason becomes a refusal."""
        ...


class UnfitError(ValueError):
    """A line does not fit: which field, and why. Raised and caught inside the importers only."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


def is_canonical(text: str) -> bool:
    """Whether an id is a decimal number as a counter prints it, within 64 bits: then it is kept as a number."""
    return (
        text.isascii()
        and text.isdigit()
        and len(text) <= 20
        and (text[0] != "0" or text == "0")
        and int(text) <= MAX_TRADE_ID
    )


def concatenate(blocks: Sequence[Trades]) -> Trades:
    """One block from many, in order. No blocks give an empty one."""
    numeric = all(block.text_ids is None for block in blocks)
    count = sum(map(len, blocks))

    def column(name: str, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *(getattr(block, name) for block in blocks)])

    def texts(name: str) -> list[str] | None:
        if all(getattr(block, name) is None for block in blocks):
            return None
        return [text for block in blocks for text in (getattr(block, name) or [""] * len(block))]

    return Trades(
        trade_id=column("trade_id", np.uint64) if numeric else np.arange(count, dtype=np.uint64),
        text_ids=None if numeric else [text for block in blocks for text in block.id_texts()],
        price=column("price", np.int64),
        qty=column("qty", np.int64),
        side=column("side", np.int8),
        ts_us=column("ts_us", np.int64),
        fee=column("fee", np.int64),
        line=column("line", np.int64),
        fee_asset=texts("fee_asset"),
        account=texts("account"),
    )
