"""``crdtledger checkpoint``: what was settled, height by height, from files alone."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from crdtledger.edge.cli.heights import GenesisFile, Source, genesis_of, judged, read_genesis, signers
from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format, Keys
from crdtledger.edge.cli.output import emit, emit_one, say
from crdtledger.edge.cli.stamps import moment
from crdtledger.errors import BadInput, InvalidProof

if TYPE_CHECKING:
    from crdtledger.ledger.genesis import Genesis
    from reconcile.history import CertifiedCheckpoint

COLUMNS = ("height", "digest", "lanes", "batches", "evidence", "adjustments", "certified_by", "decided")
ADJUSTMENTS = ("effect", "cause", "lane", "seq", "kind", "facts", "detail")
VERIFIED = ("source", "heights", "digest", "certified_by")

app = App(
    name="checkpoint",
    help="What was settled, height by height; read and verified from files alone.",
    result_action="return_value",
)


@app.command(name="list")
def list_(
    source: Source,
    /,
    *,
    last: Annotated[int, Parameter(help="How many heights, the newest ones; 0 for all.")] = 20,
    genesis: GenesisFile = None,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """The newest checkpoints: what they took in and who certified them. All heights are verified on the way."""
    if last < 0:
        raise BadInput(what=str(last), where="--last", why="0 or more")
    founded = genesis_of(source, genesis, cluster)
    rows: deque[dict[str, Any]] = deque(maxlen=last or None)
    batches = 0
    try:
        for one in judged(source, founded, cluster):
            settled = sum(entry.seq for entry in one.checkpoint.cut)
            rows.append(_row(one, settled - batches))
            batches = settled
    except InvalidProof as fault:
        return _refused(source, fault)
    emit(list(rows), COLUMNS, format)
    if not rows:
        say(f"{source} holds no checkpoint yet")
    return GOOD


@app.command
def show(
    source: Source,
    height: Annotated[int | None, Parameter(help="Which one. Default: the newest.")] = None,
    /,
    *,
    note: Annotated[bool, Parameter(help="Print its certificate, a signed note that stock tools verify.")] = False,
    adjustments: Annotated[bool, Parameter(help="List what settling it did to recorded facts, and why.")] = False,
    genesis: GenesisFile = None,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """One checkpoint: its cut, its roots, who certified it, and what settling it did."""
    founded = genesis_of(source, genesis, cluster)
    found: CertifiedCheckpoint | None = None
    newest = 0
    try:
        for one in judged(source, founded, cluster):
            newest = one.height
            if height in (None, newest):
                found = one
            if height == newest:
                break
    except InvalidProof as fault:
        return _refused(source, fault)
    if found is None:
        why = f"the newest is {newest}" if newest else "there is no checkpoint yet"
        raise BadInput(what=f"height {height}" if height is not None else "newest height", where=source, why=why)
    if note:
        print(found.stored.certificate.decode(), end="")
    elif adjustments:
        emit(_adjustments(found, founded), ADJUSTMENTS, format)
    else:
        emit_one(_whole(found, founded), format)
    return GOOD


@app.command
def verify(
    *sources: Source,
    genesis: Annotated[Path, Parameter(name="--genesis", help="The cluster's genesis file, from whom you trust.")],
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Verify every checkpoint with nothing but the genesis, and that several sources tell one history. Exit 1 if not.

    Of each height: that it follows the one before, that its cut, evidence and adjustments are the certified ones, that the
    cut goes back on no lane, that enough validators cosigned, and that the log only ever grew.
    """
    if not sources:
        raise BadInput(what="nothing", where="checkpoint verify", why="one source or more")
    founded = read_genesis(genesis)
    digests: list[tuple[str, bytes]] = []
    rows: list[dict[str, Any]] = []
    for source in sources:
        newest: CertifiedCheckpoint | None = None
        try:
            for one in judged(source, founded, cluster):
                newest = one
                if one.height > len(digests):
                    digests.append((source, one.checkpoint.digest))
                first, digest = digests[one.height - 1]
                if digest != one.checkpoint.digest:
                    raise InvalidProof(f"height {one.height}", f"certified here and in {first}, but not the same")
        except InvalidProof as fault:
            return _refused(source, fault)
        if newest is None:
            return _refused(source, InvalidProof("height 1", "there is no checkpoint yet: nothing is verified"))
        names = signers(newest.certificate)
        rows.append(dict(zip(VERIFIED, (source, newest.height, newest.checkpoint.digest.hex(), names), strict=True)))
    emit(rows, VERIFIED, format)
    say(
        f"every height from 1 on is of cluster {founded.cluster!r} (genesis {founded.hash.hex()[:16]}): chain, cuts, evidence, "
        "adjustments and certificates hold; not shown here: that the batches settle to these roots"
    )
    return GOOD


@app.command
def copy(
    source: Source,
    file: Annotated[
        Path, Parameter(help="A store's file, new or one to go on with; or the folder of a node that lost its own.")
    ],
    /,
    *,
    genesis: GenesisFile = None,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Copy checkpoints into a store, each verified on the way. What is there already stays; exit 1 at one that does not hold."""
    from crdtledger.edge import folders
    from reconcile.stores.sqlite import SqliteStore

    founded = genesis_of(source, genesis, cluster)
    path = file / folders.CHECKPOINTS if file.is_dir() else file
    heights = copied = 0
    with SqliteStore.create(path) as store:
        try:
            for one in judged(source, founded, cluster):
                heights, copied = one.height, copied + store.append(one.stored)
        except InvalidProof as fault:
            return _refused(source, fault)
    emit_one({"file": str(path), "heights": heights, "copied": copied}, format)
    return GOOD


@app.command
def policy(
    *,
    genesis: Annotated[Path, Parameter(name="--genesis", help="The cluster's genesis file.")],
) -> int:
    """Print the cluster's tlog-policy: whose cosignatures make a certificate, for stock tools (C2SP)."""
    from reconcile.founding import policy_text

    print(policy_text(read_genesis(genesis)), end="")
    return GOOD


def _refused(source: str, fault: InvalidProof) -> int:
    say(f"{source}: does not hold: {fault}")
    return DIFFERENT


def _row(one: CertifiedCheckpoint, batches: int) -> dict[str, Any]:
    checkpoint = one.checkpoint
    values = (
        one.height,
        checkpoint.digest.hex(),
        len(checkpoint.cut),
        batches,
        len(checkpoint.evidence),
        sum(each.facts for each in one.adjustments),
        signers(one.certificate),
        moment(one.stored.decided_us),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _whole(one: CertifiedCheckpoint, genesis: Genesis) -> dict[str, Any]:
    from crdtledger.ledger.batch import lane_text, open_evidence
    from reconcile.adjustments import summary

    record, head = one.checkpoint.record, one.certificate.head
    forks = [open_evidence(raw, genesis) for raw in one.checkpoint.evidence]
    return {
        "height": one.height,
        "digest": one.checkpoint.digest.hex(),
        "previous": record.previous.hex(),
        "cluster": genesis.cluster,
        "genesis": genesis.hash.hex(),
        "cut": {lane_text(entry.lane, genesis): entry.seq for entry in one.checkpoint.cut},
        "evidence": {lane_text(fork.lane, genesis): f"forks at {fork.seq}" for fork in forks},
        "state_root": record.state_root.hex(),
        "liabilities": record.liabilities.hex(),
        "adjustments_root": record.adjustments_root.hex(),
        "adjustments": summary(one.adjustments),
        "log": head.origin,
        "log_root": head.root.hex(),
        "certified": {
            signer.key.name.rpartition("/")[2]: moment((signer.time_s or 0) * 1_000_000)
            for signer in one.certificate.signers
        },
        "decided": moment(one.stored.decided_us),
    }


def _adjustments(one: CertifiedCheckpoint, genesis: Genesis) -> list[dict[str, Any]]:
    from crdtledger.ledger.batch import lane_text

    return [
        {
            "effect": each.effect,
            "cause": each.cause,
            "lane": lane_text(each.lane, genesis) if each.lane else "",
            "seq": each.seq,
            "kind": each.kind_name,
            "facts": each.facts,
            "detail": each.detail,
        }
        for each in one.adjustments
    ]
