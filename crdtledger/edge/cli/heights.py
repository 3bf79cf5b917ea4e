"""The heights that a source holds, judged one by one: a node's folder, a checkpoint store's file, or a running node's address.

A folder or a file is read as it lies there, whether the node runs or not. Which cluster's they must be, the genesis says: the one
that is given, else the one that lies beside the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from cyclopts import Parameter

if TYPE_CHECKING:
    from crdtledger.ledger.genesis import Genesis
    from reconcile.certificate import Certificate
    from reconcile.history import CertifiedCheckpoint
    from reconcile.stores import StoredCheckpoint

Source: TypeAlias = Annotated[str, Parameter(help="A node's folder, a checkpoint store's file, or a node's address.")]
GenesisFile: TypeAlias = Annotated[
    Path | None, Parameter(name="--genesis", help="The cluster's genesis file. Default: the one beside the store.")
]


def read_genesis(path: Path) -> Genesis:
    """The genesis in a file. Raises BadGenesis, with the place in the file."""
    from crdtledger.errors import BadGenesis
    from crdtledger.ledger import genesis as founding

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadGenesis(file=str(path), path="$", why=f"cannot be read: {error.strerror}") from None
    return founding.load(raw, str(path))


def genesis_of(source: str, given: Path | None, cluster: Path | None = None) -> Genesis:
    """The genesis that judges ``source``. Raises BadInput when there is none."""
    from crdtledger.edge import folders
    from crdtledger.errors import BadInput

    if given is not None:
        return read_genesis(given)
    if "://" in source:
        known = folders.locate(source, cluster).genesis
        assert known is not None
        return known
    path = Path(source)
    beside = (path if path.is_dir() else path.parent) / folders.GENESIS
    if not beside.exists():
        why = f"no {folders.GENESIS} lies beside it: say which cluster it is of, --genesis FILE"
        raise BadInput(what="checkpoint store", where=source, why=why)
    return read_genesis(beside)


def judged(source: str, genesis: Genesis, cluster: Path | None = None) -> Iterator[CertifiedCheckpoint]:
    """Every height of ``source`` in order. Raises InvalidProof at the first that does not hold."""
    from reconcile.history import History

    history = History(genesis)
    for stored in _stored(source, cluster):
        yield history.extend(stored)


def _stored(source: str, cluster: Path | None) -> Iterator[StoredCheckpoint]:
    from crdtledger.edge import api, folders
    from crdtledger.edge.cli.reach import connect
    from reconcile.stores.sqlite import SqliteStore

    if "://" not in source:
        path = Path(source)
        with SqliteStore.open(path / folders.CHECKPOINTS if path.is_dir() else path) as store:
            yield from store.entries()
        return
    first = 1
    with connect(source, cluster) as node:
        while part := api.unpack_checkpoints(node.request(api.Checkpoints(first))):
            yield from part
            first += len(part)


def signers(certificate: Certificate) -> list[str]:
    """The names of the validators that certified, sorted. A validator's key is named ``log/node``."""
    return sorted(signer.key.name.rpartition("/")[2] for signer in certificate.signers)
