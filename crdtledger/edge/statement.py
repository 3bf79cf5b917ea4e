"""What a verified proof says, in rows of plain values with decimals applied: the account's statement at one height. Pure.

Amounts in a proof are whole minor units with the number of decimals beside them, so nothing but the proof is needed to print
them. A cell of a kind that this version does not know is shown as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdtledger.errors import InvalidProof, decimal_text
from crdtledger.ledger.genesis import Genesis
from reconcile.proofs import Proven, ProvenCell
from reconcile.quorum import committee_of

MAX_DECIMALS = 64

_COLLATERAL = ("held", "free", "reserved", "shortfall", "deposited", "withdrawn")
_POSITION = {
    "qty": "qty_decimals",
    "bought": "qty_decimals",
    "sold": "qty_decimals",
    "value_bought": "value_decimals",
    "value_sold": "value_decimals",
    "cost": "value_decimals",
    "realised": "value_decimals",
    "fees": "fee_decimals",
}


def statement(proven: Proven, genesis: Genesis) -> dict[str, Any]:
    """The statement: ``collateral``, ``positions`` and ``liabilities`` are lists of rows, the rest says of when and by whom.

    Raises InvalidProof when a certified cell is not of a form that this version reads.
    """
    return {
        "account": proven.account,
        "present": proven.present,
        "cluster": genesis.cluster,
        "genesis": genesis.hash.hex(),
        "height": proven.height,
        "certified_by": sorted(signer.key.name.rpartition("/")[2] for signer in proven.signers),
        "validators": len(committee_of(genesis).validators),
        "certified_from_s": min(signer.time_s or 0 for signer in proven.signers),
        "certified_to_s": max(signer.time_s or 0 for signer in proven.signers),
        "log_size": proven.log_size,
        "state_root": proven.record.state_root.hex(),
        "collateral": [_collateral(cell) for cell in proven.cells if cell.kind == "collateral"],
        "positions": [_position(cell) for cell in proven.cells if cell.kind == "position"],
        "other": [_other(cell) for cell in proven.cells if cell.kind not in ("collateral", "position")],
        "liabilities": [
            {
                "asset": asset,
                "owed": decimal_text(owed, _asset_decimals(genesis, asset)),
                "total": decimal_text(root.total, _asset_decimals(genesis, asset)),
                "accounts": root.count,
            }
            for asset, (owed, root) in sorted(proven.liabilities.items())
        ],
    }


def _collateral(cell: ProvenCell) -> dict[str, Any]:
    margin = ("margin",) if "margin" in cell.values else ()
    return {"asset": cell.subject, **{name: _amount(cell, name, "decimals") for name in (*_COLLATERAL, *margin)}}


def _position(cell: ProvenCell) -> dict[str, Any]:
    row: dict[str, Any] = {"instrument": cell.subject}
    row |= {name: _amount(cell, name, decimals) for name, decimals in _POSITION.items()}
    row |= {"fee_asset": _field(cell, "fee_asset"), "fills": int(_whole(cell, "fills"))}
    if "other_fees" in cell.values:
        row["other_fees"] = _other_fees(cell)
    return row


def _other(cell: ProvenCell) -> dict[str, Any]:
    return {"kind": cell.kind, "subject": cell.subject, **cell.values}


def _other_fees(cell: ProvenCell) -> dict[str, str]:
    """Fees in further assets: asset to amount, from ``ASSET amount decimals, ...``."""
    parts = [part.split(" ") for part in cell.values["other_fees"].split(", ")]
    if not all(len(part) == 3 for part in parts):
        raise _unread(cell, "other_fees")
    rows = {asset: {"amount": amount, "decimals": decimals} for asset, amount, decimals in parts}
    return {asset: _decimal(cell, values, "amount", "decimals") for asset, values in rows.items()}


def _amount(cell: ProvenCell, name: str, decimals: str) -> str:
    return _decimal(cell, cell.values, name, decimals)


def _decimal(cell: ProvenCell, values: Mapping[str, str], name: str, decimals: str) -> str:
    try:
        amount, places = int(values[name]), int(values[decimals])
    except (KeyError, ValueError):
        raise _unread(cell, name) from None
    if not 0 <= places <= MAX_DECIMALS:
        raise _unread(cell, decimals)
    return decimal_text(amount, places)


def _whole(cell: ProvenCell, name: str) -> str:
    value = _field(cell, name)
    if not value.isascii() or not value.isdigit():
        raise _unread(cell, name)
    return value


def _field(cell: ProvenCell, name: str) -> str:
    if name not in cell.values:
        raise _unread(cell, name)
    return cell.values[name]


def _unread(cell: ProvenCell, name: str) -> InvalidProof:
    return InvalidProof(f"cell {cell.kind} {cell.subject}", f"its {name} is not of a form that this version reads")


def _asset_decimals(genesis: Genesis, asset: str) -> int:
    decimals = genesis.asset_decimals.get(asset)
    if decimals is None:
        raise InvalidProof("liabilities", f"the genesis has no asset {asset!r}")
    return decimals
