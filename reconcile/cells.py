"""Cells: the unit in which settled state is committed, named by (kind, account, subject).

- A cell's *key* is a digest of its name, so that a proof's neighbours show no names. Names can be guessed and their
  digests compared: what a tree holds is hidden, that a guessed name exists is not.
- A cell's *value*, where people are to read it, is a JSON object of text by text, keys sorted, no spaces; amounts are
  decimal text of minor units. One value has one spelling.
- An account's *manifest* is a cell of its own (kind ``account``, no subject) that counts and digests the names of
  the account's other cells. A proof that shows them beside it cannot leave out the one with the debt.

It does not say which cells there are: settlement does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from crdtledger.errors import BadInput, InvalidProof
from crdtledger.ledger.identity import digest, digest_each, sized

MANIFEST: Final = "account"
MAX_VALUE_BYTES: Final = 4096
MAX_TEXT_BYTES: Final = 255


class CellName(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """Names one cell: ``kind`` ("collateral", "position" ...), ``account`` and ``subject`` (an asset, an instrument ...)."""

    kind: str
    account: str
    subject: str = ""

    def key(self) -> bytes:
        """The 32 bytes that stand for this name in the state tree."""
        (key,) = cell_keys([self])
        return key

    def fault(self) -> str:
        """Why no cell can be so named, or ``""``."""
        for part, text in (("kind", self.kind), ("account", self.account), ("subject", self.subject)):
            if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES or not text.isprintable():
                return f"its {part} is longer than {MAX_TEXT_BYTES} bytes or not printable"
        return "" if self.kind else "it has no kind"


def cell_keys(names: Iterable[CellName]) -> list[bytes]:
    """The key of each name. Most names of a height share their kind, and many an account or a subject."""
    told = _Told()
    return digest_each("cell", [told[name.kind] + told[name.account] + told[name.subject] for name in names])


class _Told(dict[str, bytes]):
    """Texts as a key's digest takes them."""

    def __missing__(self, text: str) -> bytes:
        told = self[text] = sized(text.encode())
        return told


def encode_value(fields: Mapping[str, str | int]) -> bytes:
    """A cell's value from named texts and whole numbers. BadInput for anything else, and beyond ``MAX_VALUE_BYTES``."""
    plain: dict[str, str] = {}
    for name in sorted(fields):
        field = fields[name]
        if isinstance(field, bool) or not isinstance(field, int | str):
            raise BadInput(what=f"{name} {field!r}", where="cell", why="a value is text or a whole number")
        plain[name] = str(field)
        if not (name.isprintable() and plain[name].isprintable()):
            raise BadInput(what=name, where="cell", why="names and texts are printable")
    raw = msgspec.json.encode(plain)
    if len(raw) > MAX_VALUE_BYTES:
        raise BadInput(what=f"{len(raw)} bytes", where="cell", why=f"a value has at most {MAX_VALUE_BYTES}")
    return raw


class ValueForm:
    """``encode_value`` for many values that differ in some whole numbers only: ``texts`` are said once, ``numbers`` name the others."""

    __slots__ = ("_form",)

    def __init__(self, texts: Mapping[str, str | int], numbers: Iterable[str]) -> None:
        said = {name: str(text).replace("%", "%%") for name, text in texts.items()}
        self._form = encode_value(said | dict.fromkeys(numbers, "%d"))

    def encode(self, *numbers: int) -> bytes:
        """The value with these numbers, in the order of their names. BadInput beyond ``MAX_VALUE_BYTES``."""
        raw = self._form % numbers
        if len(raw) > MAX_VALUE_BYTES:
            raise BadInput(what=f"{len(raw)} bytes", where="cell", why=f"a value has at most {MAX_VALUE_BYTES}")
        return raw


def decode_value(raw: bytes) -> dict[str, str]:
    """The named texts of a cell's value. Raises InvalidProof unless ``raw`` is exactly what ``encode_value`` writes."""
    where = "cell value"
    if len(raw) > MAX_VALUE_BYTES:
        raise InvalidProof(where, f"{len(raw)} bytes are more than {MAX_VALUE_BYTES}")
    try:
        fields = msgspec.json.decode(raw, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidProof(where, "it is not a JSON object of text") from None
    try:
        same = encode_value(fields) == raw
    except BadInput as fault:
        raise InvalidProof(where, fault.why) from None
    if not same:
        raise InvalidProof(where, "it is not in its one spelling")
    return fields


def manifest_name(account: str) -> CellName:
    """The name of ``account``'s manifest."""
    return CellName(MANIFEST, account)


def manifest_value(cells: Iterable[CellName]) -> bytes:
    """The manifest over an account's ``cells`` (the manifest itself not among them)."""
    keys = sorted(cell_keys(cells))
    return encode_value({"cells": len(keys), "names": hashlib.sha256(b"".join(keys)).hexdigest()})


def plain_data(value: Any) -> Any:
    """``value`` without its types: what MessagePack writes."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))


def content_digest(kind: str, value: Any) -> bytes:
    """32 bytes over plain data. Integers beyond 64 bits, which MessagePack cannot carry, go in as text."""
    return digest(f"cell-{kind}", msgspec.msgpack.encode(_carried(plain_data(value)), order="deterministic"))


def _carried(value: Any) -> Any:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return f"{value:d}"
    if isinstance(value, dict):
        return {key: _carried(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_carried(item) for item in value]
    return value
