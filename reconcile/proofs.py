"""A proof file: what one account has at one height, who certified it, all in one text that needs no node to check.

From the top: lines for people; one line of JSON with the account's cells, their salts and their ways to the state root
(ICS-23 proofs, protobuf in base64); an empty line; a C2SP tlog-proof with the height's record and the certificate.

- The lines for people are *derived*: a file is whole only if writing what it proves gives the same bytes again. So no
  word of it can be changed, added or moved without a refusal.
- An account is shown completely: its manifest (see ``cells``) must name exactly the cells shown. An account with
  nothing has no manifest, and the file proves its absence.
- The state tree tells of nobody else. With ``--liabilities`` come the sum trees' paths, which show neighbours' totals:
  that is for auditors, and the file says so in a line of its own.
- Trust comes from outside: the policy (validators' keys and their quorum), the log's origin and the cluster's hash.
  Nothing in the file chooses any of them.

It says what the certifying validators agreed to. It does not say that no later height exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from crdtledger.errors import BadInput, InvalidProof

from . import ics23
from .cells import MANIFEST, CellName, decode_value, manifest_name, manifest_value
from .heights import HeightRecord, decode_record
from .ics23 import ExistenceProof, NonExistenceProof
from .log import MerkleLog
from .notes import Signer
from .policy import Policy
from .statetree import OpenedCell, StateTree, verify_absent, verify_cell
from .sumtree import SumNode, SumProof, liabilities_digest, verify_sum
from .tlogproof import LeafProof, parse_leaf_proof, verify_leaf_proof

VERSION: Final = "crdtledger proof v1"
MAX_FILE_BYTES: Final = 1 << 24
MAX_CELLS: Final = 4096
_BODY: Final = b"body "


class CellOpening(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One of the account's cells: value, salt, and the ICS-23 proof as protobuf."""

    kind: str
    subject: str
    value: bytes
    salt: bytes
    proof: bytes


class AssetSums(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All liabilities of one asset, and the account's part in them if it has one."""

    asset: str
    root: SumNode
    path: SumProof | None


class AccountProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON line. ``cells`` sorted by name, the manifest among them; ``absent`` stands when there are none."""

    account: str
    cells: tuple[CellOpening, ...]
    absent: bytes = b""
    liabilities: tuple[AssetSums, ...] = ()


class ProvenCell(msgspec.Struct, frozen=True):
    """A cell of the account as settled at the proven height: ``values`` by name, amounts in minor units as text."""

    kind: str
    subject: str
    values: Mapping[str, str]


class Proven(msgspec.Struct, frozen=True):
    """What a proof file proves, and nothing besides.

    ``present`` is False when the account has no cell at all. ``signers`` are the validators that certified, and when
    by their own clocks. ``liabilities`` maps an asset to what the account is owed of it and the certified total.
    """

    account: str
    present: bool
    cells: tuple[ProvenCell, ...]
    height: int
    record: HeightRecord
    log_size: int
    signers: tuple[Signer, ...]
    liabilities: Mapping[str, tuple[int, SumNode]]


def prove_account(
    account: str,
    cells: Mapping[CellName, bytes],
    state: StateTree,
    record: HeightRecord,
    log: MerkleLog,
    certificate: bytes,
    log_size: int,
    sums: Mapping[str, tuple[SumNode, SumProof | None]] | None = None,
) -> bytes:
    """The proof file of ``account`` at ``record.height``.

    ``cells``: the account's cells (name to value, without its manifest) as of ``state``, the tree of that height.
    ``log`` holds at least ``log_size`` leaves, the size that ``certificate`` certifies. ``sums``: for an auditors'
    file, every asset's root and the account's path in it. BadInput when the parts do not belong together.
    """
    if state.root != record.state_root:
        raise BadInput(what=f"height {record.height}", where="proof", why="the state tree is of another height")
    _provable(account, cells)
    openings: list[CellOpening] = []
    absent = b""
    if cells:
        whole = {**cells, manifest_name(account): manifest_value(cells)}
        for name in sorted(whole):
            cell = state.prove(name, whole[name])
            openings.append(CellOpening(name.kind, name.subject, cell.value, cell.salt, cell.proof.encode()))
    else:
        absent = state.prove_absent(manifest_name(account)).encode()
    assets = tuple(AssetSums(asset, *(sums or {})[asset]) for asset in sorted(sums or {}))
    leaf = LeafProof(record.encode(), record.index, log.prove_inclusion(record.index, log_size), certificate)
    return _file(AccountProof(account, tuple(openings), absent, assets), record, leaf)


def verify_proof(raw: bytes, policy: Policy, origin: str, cluster: bytes) -> Proven:
    """What the file ``raw`` proves to someone who trusts ``policy`` for the log ``origin`` of ``cluster`` (its hash).

    Raises InvalidProof for everything else than a whole and true proof file, saying which part does not hold.
    """
    where = "proof file"
    if len(raw) > MAX_FILE_BYTES:
        raise InvalidProof(where, f"{len(raw)} bytes are more than {MAX_FILE_BYTES}")
    head, blank, rest = raw.partition(b"\n\n")
    lines = head.split(b"\n")
    if not blank or lines[0] != VERSION.encode():
        raise InvalidProof(where, f"it does not start with {VERSION!r}, or ends too early")
    if not lines[-1].startswith(_BODY):
        raise InvalidProof(where, "no body line before the first empty line")
    try:
        body = msgspec.json.decode(lines[-1][len(_BODY) :], type=AccountProof)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise InvalidProof(f"{where}, body", str(fault)) from None
    leaf = parse_leaf_proof(rest)
    record = decode_record(leaf.leaf)
    _check_sums(body)
    if _file(body, record, leaf) != raw:
        raise InvalidProof(where, "its text is not the one that belongs to what it proves")
    certified = verify_leaf_proof(leaf, policy, origin)
    if record.cluster != cluster:
        raise InvalidProof(where, "its height is of another cluster")
    cells = _verified_cells(body, record.state_root)
    liabilities = _verified_sums(body, record.liabilities)
    return Proven(
        body.account,
        bool(cells),
        tuple(cell for cell in cells if not _is_manifest(cell)),
        record.height,
        record,
        certified.certificate.head.size,
        certified.certificate.signers,
        liabilities,
    )


def _provable(account: str, cells: Mapping[CellName, bytes]) -> None:
    """BadInput for cells that cannot stand in a proof of ``account``."""
    manifest = manifest_name(account)
    for name in (manifest, *cells):
        if not account or name.account != account or name.fault():
            raise BadInput(what=str(name), where="proof", why=name.fault() or f"it is not of account {account!r}")
    if manifest in cells or len(cells) >= MAX_CELLS:
        raise BadInput(
            what=account, where="proof", why=f"its manifest is added here, and {MAX_CELLS} cells are too many"
        )
    for name, value in cells.items():
        try:
            decode_value(value)
        except InvalidProof as fault:
            raise BadInput(what=str(name), where="proof", why=fault.why) from None


def _verified_cells(body: AccountProof, root: bytes) -> tuple[ProvenCell, ...]:
    where = f"account {body.account!r}"
    manifest = manifest_name(body.account)
    if not body.account or manifest.fault():
        raise InvalidProof(where, "no account can be so named")
    if not body.cells:
        proof = ics23.decode(body.absent)
        if not isinstance(proof, NonExistenceProof):
            raise InvalidProof(where, "it shows neither cells nor that there are none")
        verify_absent(manifest, proof, root)
        return ()
    if body.absent or len(body.cells) > MAX_CELLS:
        raise InvalidProof(where, f"it shows cells and their absence, or more than {MAX_CELLS} cells")
    names = [CellName(cell.kind, body.account, cell.subject) for cell in body.cells]
    if names != sorted(set(names)):
        raise InvalidProof(where, "its cells are not sorted, or one stands twice")
    shown: list[ProvenCell] = []
    for name, cell in zip(names, body.cells, strict=True):
        if name.fault():
            raise InvalidProof(where, f"a cell's name: {name.fault()}")
        proof = ics23.decode(cell.proof)
        if not isinstance(proof, ExistenceProof):
            raise InvalidProof(where, f"cell {name.kind} {name.subject}: its proof is one of absence")
        verify_cell(OpenedCell(name, cell.value, cell.salt, proof), root)
        shown.append(ProvenCell(name.kind, name.subject, decode_value(cell.value)))
    others = [name for name in names if name != manifest]
    listed = [cell.value for name, cell in zip(names, body.cells, strict=True) if name == manifest]
    if listed != [manifest_value(others)]:
        raise InvalidProof(where, "its manifest does not name exactly the cells shown")
    return tuple(shown)


def _check_sums(body: AccountProof) -> None:
    """The form of the liabilities, before anything is computed or written from their numbers."""
    where = "liabilities"
    assets = [sums.asset for sums in body.liabilities]
    if assets != sorted(set(assets)):
        raise InvalidProof(where, "its assets are not sorted, or one stands twice")
    for sums in body.liabilities:
        if CellName("liability", "", sums.asset).fault():
            raise InvalidProof(where, "an asset's name is not printable, or too long")
        sums.root.check(f"{where}, {sums.asset}")
        if sums.path is None:
            continue
        if (sums.path.asset, sums.path.account) != (sums.asset, body.account):
            raise InvalidProof(where, f"the path in {sums.asset} is of another account or asset")
        if not 0 <= sums.path.amount <= sums.root.total:
            raise InvalidProof(where, f"the part in {sums.asset} is below nothing or above the total")


def _verified_sums(body: AccountProof, expected: bytes) -> dict[str, tuple[int, SumNode]]:
    if not body.liabilities:
        return {}
    if liabilities_digest({sums.asset: sums.root for sums in body.liabilities}) != expected:
        raise InvalidProof("liabilities", "the assets' roots are not the certified ones")
    proven: dict[str, tuple[int, SumNode]] = {}
    for sums in body.liabilities:
        if sums.path is not None:
            verify_sum(sums.path, sums.root)
            proven[sums.asset] = (sums.path.amount, sums.root)
    return proven


def _is_manifest(cell: CellOpening | ProvenCell) -> bool:
    return cell.kind == MANIFEST and not cell.subject


def _file(body: AccountProof, record: HeightRecord, leaf: LeafProof) -> bytes:
    """The only file that shows ``body`` at ``record``'s height."""
    lines = [VERSION, f"account {body.account}", f"height {record.height}", f"state {record.state_root.hex()}"]
    if not body.cells:
        lines.append("the account has nothing at this height")
    shown = (cell for cell in body.cells if not _is_manifest(cell))
    lines.extend(f"{cell.kind} {cell.subject} {cell.value.decode(errors='replace')}" for cell in shown)
    if body.liabilities:
        lines.append("for auditors: the paths below show totals of other accounts")
    for sums in body.liabilities:
        part = "nothing" if sums.path is None else str(sums.path.amount)
        lines.append(f"liability {sums.asset} {part} of {sums.root.total} owed to {sums.root.count}")
    head = "".join(f"{line}\n" for line in lines).encode()
    return head + _BODY + msgspec.json.encode(body) + b"\n\n" + leaf.encode()
