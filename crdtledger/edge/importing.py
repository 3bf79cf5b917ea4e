"""A file of trades into a node: read, assign accounts, send in blocks, resume where an earlier run stopped.

The importers know files and no ledger; this joins them to a client. Rules:

- The file is read to its end before anything is sent: a gzip file that is cut off or damaged is refused whole, because only its
  end tells whether what was unpacked is true. Its trades are made in the same pass (``importers.wholly``).
- Every block carries a cursor: how many trades of this source it makes. The node keeps it in the very batch that
  holds the last of the block's fills, so whatever instant client or node dies at, the cursor is right. A source is the
  file's content (unpacked), the format, the symbol, the instrument and how accounts are assigned; not the file's name.
- Whatever is sent twice all the same counts once: fills are known by their venue's ids.
- A few blocks are under way at once, so that reading and recording overlap.

Impure: reads files, talks to a node.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from crdtledger.edge import api, presets
from crdtledger.edge.client import MAX_RECORD_FACTS, Client
from crdtledger.edge.importers import (
    Importer,
    ImportSpec,
    Trades,
    WholeFile,
    account_name,
    assign_accounts,
    concatenate,
    importer,
)
from crdtledger.errors import BadInput
from crdtledger.ledger.body import Cursor
from crdtledger.ledger.drafting import FillColumns

BLOCK_ROWS: Final = 16_384
WINDOW: Final = 4
PATIENCE_S: Final = 60.0
MAX_ACCOUNTS: Final = 1_000_000
_BINANCE: Final = "binance"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to import and as what. Exactly one of ``accounts`` (spread public trades over that many), ``account`` (all
    are its own) or a format that names accounts itself says whose trades they are. ``venue`` empty: see ``venue_for``."""

    file: Path
    format: str
    instrument: str
    accounts: int = 0
    account: str = ""
    venue: str = ""
    symbol: str | None = None
    mapping: Mapping[str, str] = {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an import came to. ``trades`` = ``recorded`` + ``duplicates`` unless it was interrupted; ``resumed_at``
    trades were taken as known by an earlier run (and count as duplicates). ``acknowledged``: trades that the node holds for good.
    """

    file: str
    instrument: str
    venue: str
    id_space: str
    lines: int
    trades: int
    recorded: int
    duplicates: int
    resumed_at: int
    acknowledged: int
    skipped: Mapping[str, int]
    refused: int
    refusals: tuple[str, ...]
    seconds: float
    interrupted: bool = False


Progress = Callable[[int, int | None], None]
"""Called with (bytes done, bytes in all), unpacked; None until the file was read."""


def venue_for(plan: Plan) -> str:
    """Under which venue's name trades are recorded: as told, else the preset's, else Binance's for its own formats."""
    venue = plan.venue or presets.venue_of(plan.instrument)
    if venue:
        return venue
    if plan.format.startswith(_BINANCE):
        return _BINANCE
    raise BadInput(what=f"instrument {plan.instrument!r}", where="import", why="no preset says its venue: give --venue")


def import_trades(client: Client, plan: Plan, progress: Progress = lambda done, total: None) -> Report:
    """Import the file of ``plan`` through ``client``. Repeating it is safe, and resumes.

    Raises ``BadInput`` for a file or plan that does not hold, ``UnknownName`` for an instrument that is not defined,
    and whatever the node refuses with. Ctrl-C, once the file was read, ends it with a report that says so.
    """
    return _Import(client, plan, progress).run()


class _Import:
    def __init__(self, client: Client, plan: Plan, progress: Progress) -> None:
        self._client = client
        self._plan = plan
        self._progress = progress
        self._began = time.monotonic()
        self._venue = venue_for(plan)
        _check_accounts(plan)
        self._machine = self._open()
        self._file = WholeFile(self._machine, plan.file, lambda size: progress(size, None))
        self._source = self._name_source()
        self._known_accounts: set[str] | None = None
        self._window: deque[tuple[int, int]] = deque()
        self._recorded = 0
        self._duplicates = 0
        self._sent = 0
        self._acknowledged = 0

    def _open(self) -> Importer:
        """The importer, told the decimals of the instrument as the node has it."""
        plan = self._plan
        rows = self._client.query("instruments", instrument=plan.instrument)
        genesis = self._client.endpoint.genesis
        spec = ImportSpec(
            file=str(plan.file),
            price_decimals=rows[0]["price_decimals"],
            qty_decimals=rows[0]["qty_decimals"],
            symbol=plan.symbol,
            asset_decimals=genesis.asset_decimals if genesis else {},
            mapping=plan.mapping,
        )
        return importer(plan.format, spec)

    def _name_source(self) -> str:
        plan = self._plan
        told = [plan.format, plan.instrument, self._venue, plan.symbol or "", str(plan.accounts), plan.account]
        told += [f"{role}={column}" for role, column in sorted(plan.mapping.items())]
        text = "\0".join(told).encode()
        return "import:" + hashlib.sha256(self._file.digest + text).hexdigest()[:32]

    def run(self) -> Report:
        resumed_at = int(self._client.request(api.CursorOf(self._source))["position"])
        self._sent = self._acknowledged = self._duplicates = resumed_at
        interrupted = False
        try:
            self._define([account_name(index) for index in range(self._plan.accounts)] or [self._plan.account])
            for block in self._blocks(resumed_at):
                self._send(block)
                self._show()
            while self._window:
                self._collect()
        except KeyboardInterrupt:
            interrupted = True
        return self._report(resumed_at, interrupted)

    def _show(self) -> None:
        self._progress(self._machine.summary.bytes_read, self._file.size)

    # -- reading --------------------------------------------------------------------------------------------

    def _blocks(self, skip: int) -> Iterator[Trades]:
        """The file's trades after the first ``skip``, in blocks of at most ``BLOCK_ROWS``."""
        held: list[Trades] = []
        rows = 0
        for trades in self._file.trades():
            if skip >= len(trades):
                skip -= len(trades)
                continue
            held.append(_part(trades, skip, len(trades)))
            rows += len(trades) - skip
            skip = 0
            while rows >= BLOCK_ROWS:
                whole = concatenate(held)
                yield _part(whole, 0, BLOCK_ROWS)
                held, rows = [_part(whole, BLOCK_ROWS, len(whole))], rows - BLOCK_ROWS
        if rows:
            yield concatenate(held)

    # -- sending --------------------------------------------------------------------------------------------

    def _define(self, names: list[str]) -> None:
        """Make sure that these accounts exist. Defining one again would change nothing; not asking is quicker."""
        if self._known_accounts is None:
            self._known_accounts = {row["account"] for row in self._client.query("accounts")}
        fresh = [name for name in names if name and name not in self._known_accounts]
        for start in range(0, len(fresh), MAX_RECORD_FACTS):
            part = fresh[start : start + MAX_RECORD_FACTS]
            self._client.record([{"kind": "account", "name": name} for name in part])
            self._known_accounts.update(part)

    def _send(self, block: Trades) -> None:
        while len(self._window) >= WINDOW:
            self._collect()
        self._sent += len(block)
        cursor = Cursor(self._source, self._sent, int(block.line[-1]))
        number = self._client.send(api.pack_fills(self._columns(block), cursor))
        self._window.append((number, self._sent))

    def _collect(self) -> None:
        number, sent = self._window[0]
        answer = self._client.collect(number, PATIENCE_S)
        self._window.popleft()
        self._recorded += answer["facts"]
        self._duplicates += answer["duplicates"]
        self._acknowledged = sent

    def _columns(self, block: Trades) -> FillColumns:
        plan = self._plan
        if plan.account:
            index, names = np.zeros(len(block), np.int64), [plan.account]
        elif plan.accounts:
            numbers, index = np.unique(assign_accounts(block, plan.accounts), return_inverse=True)
            names = [account_name(number) for number in numbers.tolist()]
        elif block.account is not None:
            index, names = _coded(block.account)
            self._define(names)
        else:
            raise BadInput(what="accounts", where=str(plan.file), why=_WHOSE)
        fee_asset, fee_assets = _coded(block.fee_asset) if block.fee_asset is not None else (None, [])
        if fee_asset is not None and "" in fee_assets:
            fee_asset = np.where(fee_asset == fee_assets.index(""), -1, fee_asset)
            # The empty name stays in the dictionary, so that the others keep their numbers; nothing points at it.
        return FillColumns(
            venue=self._venue,
            instrument=plan.instrument,
            id_space=self._machine.id_space,
            trade_id=block.trade_id,
            text_ids=block.text_ids,
            price=block.price,
            qty=block.qty,
            side=block.side,
            account=index.astype(np.int64),
            accounts=names,
            ts_us=block.ts_us,
            fee=block.fee if fee_asset is not None else None,
            fee_asset=fee_asset,
            fee_assets=fee_assets,
        )

    def _report(self, resumed_at: int, interrupted: bool) -> Report:
        plan, summary = self._plan, self._machine.summary
        return Report(
            file=str(plan.file),
            instrument=plan.instrument,
            venue=self._venue,
            id_space=self._machine.id_space,
            lines=summary.lines,
            trades=summary.trades,
            recorded=self._recorded,
            duplicates=self._duplicates,
            resumed_at=resumed_at,
            acknowledged=self._acknowledged,
            skipped=dict(sorted(summary.skipped.items())),
            refused=summary.refused,
            refusals=tuple(str(refusal) for refusal in summary.refusals),
            seconds=round(time.monotonic() - self._began, 3),
            interrupted=interrupted,
        )


_WHOSE: Final = "say whose trades these are: --accounts N, --account NAME, or (csv) account=COLUMN in the mapping"


def _check_accounts(plan: Plan) -> None:
    named = "account" in plan.mapping
    if not 0 <= plan.accounts <= MAX_ACCOUNTS:
        raise BadInput(what=str(plan.accounts), where="--accounts", why=f"1 to {MAX_ACCOUNTS}")
    if bool(plan.accounts) + bool(plan.account) + named != 1:
        raise BadInput(what="accounts", where="import", why=_WHOSE + "; exactly one of them")


def _coded(texts: list[str]) -> tuple[Any, list[str]]:
    """Texts as indices into the sorted list of the different ones."""
    names = sorted(set(texts))
    numbers = {name: number for number, name in enumerate(names)}
    return np.fromiter((numbers[text] for text in texts), np.int64, len(texts)), names


def _part(trades: Trades, first: int, end: int) -> Trades:
    """Rows ``first`` to ``end`` (excluded)."""
    if first == 0 and end == len(trades):
        return trades
    numeric = trades.text_ids is None
    return Trades(
        trade_id=trades.trade_id[first:end] if numeric else np.arange(end - first, dtype=np.uint64),
        text_ids=None if trades.text_ids is None else trades.text_ids[first:end],
        price=trades.price[first:end],
        qty=trades.qty[first:end],
        side=trades.side[first:end],
        ts_us=trades.ts_us[first:end],
        fee=trades.fee[first:end],
        line=trades.line[first:end],
        fee_asset=None if trades.fee_asset is None else trades.fee_asset[first:end],
        account=None if trades.account is None else trades.account[first:end],
    )
