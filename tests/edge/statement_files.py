"""Statements for tests: the same few trades as a venue would send them, in each format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from crdtledger.edge.statements.fix import SOH

FIRST_MS = 1_700_000_000_000
CSV_MAPPING = "id=id,time=time,price=price,qty=qty,side=side,fee=fee,fee_asset=fee_asset,unit=ms"


class Line(NamedTuple):
    """One trade of a statement."""

    id: str
    qty: str = "1"
    price: str = "100"
    fee: str = "0.1"
    side: str = "buy"
    order: str = ""


def csv_trades(path: Path, lines: Sequence[Line]) -> Path:
    """As CSV, for ``CSV_MAPPING``."""
    rows = [f"{o.id},{FIRST_MS + n},{o.price},{o.qty},{o.side},{o.fee},USDT" for n, o in enumerate(lines)]
    path.write_text("\n".join(["id,time,price,qty,side,fee,fee_asset", *rows]) + "\n")
    return path


def fix_message(line: Line, number: int = 0, execution: str = "F", reference: str = "", account: str = "A") -> str:
    """As one FIX execution report, with its checksum."""
    fields = [f"35=8|37={line.order or 'o' + line.id}|17={line.id}|150={execution}|39=2|1={account}|55=BTCUSDT"]
    fields.append(f"54={'1' if line.side == 'buy' else '2'}|32={line.qty}|31={line.price}")
    fields.append(f"60=20231114-22:13:20.{number:03d}|12={line.fee}|479=USDT")
    if reference:
        fields.append(f"19={reference}")
    body = "8=FIX.4.4|9=0|" + "|".join(fields) + "|"
    return f"{body}10={sum(body.replace('|', SOH).encode()) % 256:03d}|"


def fix(path: Path, messages: Sequence[str]) -> Path:
    """A session log."""
    path.write_text("".join(f"20231114-22:13:20 : {message}\n" for message in messages))
    return path
