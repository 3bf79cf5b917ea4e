"""Where a cluster and its nodes live on disk, and how a target is found.

    DIR/genesis.json        what founds the cluster; the same file everywhere
    DIR/operator.json       a CURVE key pair that every node lets in as a client (mode 0600)
    DIR/node-1/             one node: genesis.json, node.json (its name), secrets.json (mode 0600), journal.db
    DIR/node-1/checkpoints.db   certified checkpoints, for anybody to verify; `checkpoint copy` brings a lost file back
    DIR/node-1/unborn       until its first start: a node without a journal and without this has lost its journal
    DIR/node-1/run.json     while it runs: its process and when it started
    DIR/node-1/node.log     what it had to say, one JSON object a line

A target is a node's folder, or an address from the genesis (``tcp://10.0.0.7:4711``); for an address the keys come from
a cluster folder. Impure: reads and writes files, draws keys.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import zmq

from crdtledger.errors import BadGenesis, BadInput, UnknownName, Unreachable
from crdtledger.ledger import genesis as founding
from crdtledger.ledger.genesis import Asset, Genesis, Member, Policies, decode_config
from crdtledger.ledger.identity import SEED_BYTES, Identity
from reconcile.salts import SECRET_BYTES, Salts

GENESIS = "genesis.json"
OPERATOR = "operator.json"
NODE = "node.json"
SECRETS = "secrets.json"
JOURNAL = "journal.db"
CHECKPOINTS = "checkpoints.db"
UNBORN = "unborn"
RUN = "run.json"
LOG = "node.log"
CLUSTER_VARIABLE = "CRDTLEDGER_CLUSTER"

DEFAULT_ASSETS = (Asset("USDT", 8), Asset("USD", 8), Asset("BTC", 8), Asset("ETH", 8))


class CurveKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A CURVE key pair in Z85."""

    public: str
    secret: str


class NodeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``node.json``: which member of the genesis this folder is."""

    name: str


class SaltSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What salts are made from (``reconcile.salts``): ``secret`` is 32 bytes in hex, the same at every node of the cluster."""

    version: int
    secret: str


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``secrets.json``: the Ed25519 seed (hex) and the CURVE key pair of a node, and the cluster's secret for salts, which a
    cluster without agreement may lack."""

    seed: str
    curve: CurveKeys
    salts: SaltSecret | None = None


class RunFile(msgspec.Struct, frozen=True):
    """``run.json``: the process that runs the node now, while that holds the file locked. A killed one leaves it, and its number is
    some other process' before long."""

    pid: int
    started_us: int


class NodeFolder(msgspec.Struct, frozen=True):
    """A node's folder, read and checked."""

    path: Path
    genesis: Genesis
    name: str
    identity: Identity
    curve: CurveKeys
    salts: Salts | None = None

    @property
    def checkpoints(self) -> Path:
        """The checkpoint store's file."""
        return self.path / CHECKPOINTS

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.path / JOURNAL

    @property
    def member(self) -> Member:
        """This node in the genesis."""
        return self.genesis.member(self.name)


class Endpoint(msgspec.Struct, frozen=True):
    """How to reach a node as a client. ``target`` is what the user called it, ``genesis`` its cluster's."""

    target: str
    name: str
    address: str
    server_key: str
    keys: CurveKeys
    folder: Path | None = None
    genesis: Genesis | None = None


# -- founding -----------------------------------------------------------------------------------------------


def found(
    directory: Path,
    addresses: Sequence[str],
    cluster: str = "cluster",
    assets: Sequence[Asset] = DEFAULT_ASSETS,
    policies: Policies | None = None,
    validators: int | None = None,
) -> Genesis:
    """Found a cluster: keys for every node, the genesis, one folder per node. Refuses to overwrite one.

    All nodes record, and the first ``validators`` of them (all by default) vote on checkpoints.

    Raises ``BadInput`` when ``directory`` holds a cluster already, ``BadGenesis`` when the outcome does not hold.
    """
    if (directory / GENESIS).exists():
        raise BadInput(what=str(directory), where="init", why="holds a cluster already; choose another folder")
    operator = new_curve_keys()
    salts = SaltSecret(1, os.urandom(SECRET_BYTES).hex())
    secrets = [Secrets(os.urandom(SEED_BYTES).hex(), new_curve_keys(), salts) for _ in addresses]
    voting = len(addresses) if validators is None else validators
    members = tuple(
        Member(
            f"node-{number}",
            Identity(bytes.fromhex(secret.seed)).public_key.hex(),
            secret.curve.public,
            address,
            ("edge", "validator") if number <= voting else ("edge",),
        )
        for number, (secret, address) in enumerate(zip(secrets, addresses, strict=True), 1)
    )
    policies = msgspec.structs.replace(policies or Policies(), operators=(operator.public,))
    genesis = Genesis(cluster, os.urandom(16).hex(), members, tuple(assets), policies)
    founding.check(genesis, str(directory / GENESIS))
    directory.mkdir(parents=True, exist_ok=True)
    _write_secret(directory / OPERATOR, operator)
    for member, secret in zip(members, secrets, strict=True):
        folder = directory / member.name
        folder.mkdir(exist_ok=True)
        (folder / GENESIS).write_bytes(genesis.encode())
        (folder / NODE).write_bytes(_json(NodeFile(member.name)))
        _write_secret(folder / SECRETS, secret)
        (folder / UNBORN).touch()
    (directory / GENESIS).write_bytes(genesis.encode())  # last: a folder with a genesis is a whole cluster
    return genesis


def new_curve_keys() -> CurveKeys:
    """A fresh CURVE key pair."""
    public, secret = zmq.curve_keypair()
    return CurveKeys(public.decode(), secret.decode())


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _write_secret(path: Path, value: object) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_json(value))


# -- finding ------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadGenesis(file=str(path), path="$", why=f"cannot be read: {error.strerror}") from None


def open_node(path: Path) -> NodeFolder:
    """Read a node's folder. ``BadGenesis`` names the file and the place in it that does not hold."""
    genesis = founding.load(_read(path / GENESIS), str(path / GENESIS))
    name = decode_config(_read(path / NODE), NodeFile, str(path / NODE)).name
    if name not in genesis.by_name:
        raise BadGenesis(file=str(path / NODE), path="$.name", why=f"the genesis has no node {name!r}")
    secrets = decode_config(_read(path / SECRETS), Secrets, str(path / SECRETS))
    try:
        identity = Identity(bytes.fromhex(secrets.seed))
    except ValueError:
        raise BadGenesis(file=str(path / SECRETS), path="$.seed", why=f"{2 * SEED_BYTES} hex digits") from None
    member = genesis.by_name[name]
    if identity.public_key != member.public_key:
        raise BadGenesis(file=str(path / SECRETS), path="$.seed", why=f"is not the key that the genesis has for {name}")
    if secrets.curve.public != member.curve:
        why = f"is not the key that the genesis has for {name}"
        raise BadGenesis(file=str(path / SECRETS), path="$.curve.public", why=why)
    return NodeFolder(path, genesis, name, identity, secrets.curve, _salts(secrets.salts, path / SECRETS, genesis))


def _salts(kept: SaltSecret | None, file: Path, genesis: Genesis) -> Salts | None:
    if kept is None:
        if genesis.policies.agreement == "none":
            return None
        why = "is missing, and nodes that agree on checkpoints share one: copy it from another node's"
        raise BadGenesis(file=str(file), path="$.salts", why=why)
    try:
        return Salts(kept.version, bytes.fromhex(kept.secret))
    except (ValueError, BadInput):
        why = f"a version from 1 and {2 * SECRET_BYTES} hex digits"
        raise BadGenesis(file=str(file), path="$.salts", why=why) from None


def node_folders(directory: Path) -> list[Path]:
    """The node folders in a cluster folder, in the order of the genesis."""
    genesis = founding.load(_read(directory / GENESIS), str(directory / GENESIS))
    return [directory / member.name for member in genesis.nodes if (directory / member.name / NODE).exists()]


def locate(target: str, cluster: Path | None = None) -> Endpoint:
    """Find a node by its folder or by its address. ``cluster``: where keys for addresses are, else ``$CRDTLEDGER_CLUSTER``,
    else the current folder."""
    if "://" not in target:
        path = Path(target)
        if not (path / NODE).exists():
            hint = " (it is a cluster's folder: name one of its nodes)" if (path / GENESIS).exists() else ""
            raise Unreachable(target=target, why=f"no node's folder{hint} and no address")
        node = open_node(path)
        return Endpoint(target, node.name, node.member.address, node.member.curve, node.curve, path, node.genesis)
    home = cluster or Path(os.environ.get(CLUSTER_VARIABLE, "."))
    if not (home / GENESIS).exists():
        why = f"no cluster's folder with the keys for it at {home}: say where, --cluster DIR or ${CLUSTER_VARIABLE}"
        raise BadInput(what="address", where=target, why=why)
    genesis = founding.load(_read(home / GENESIS), str(home / GENESIS))
    operator = decode_config(_read(home / OPERATOR), CurveKeys, str(home / OPERATOR))
    for member in genesis.nodes:
        if member.address == target:
            return Endpoint(target, member.name, target, member.curve, operator, None, genesis)
    raise UnknownName(kind="address", name=target, known=[member.address for member in genesis.nodes])


# -- running ------------------------------------------------------------------------------------------------


def write_run(path: Path, run: RunFile) -> BinaryIO:
    """Say which process runs the node, as long as what is returned is open."""
    while True:
        file = (path / RUN).open("a+b")
        fcntl.flock(file, fcntl.LOCK_EX)  # somebody who reads holds it for a moment
        if (path / RUN).exists() and os.path.samestat(os.fstat(file.fileno()), (path / RUN).stat()):
            break
        file.close()  # of one that ended just now
    file.truncate(0)
    file.write(msgspec.json.encode(run))
    file.flush()
    return file


def read_run(path: Path) -> RunFile | None:
    """Which process runs the node, if one does."""
    try:
        with (path / RUN).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return msgspec.json.decode(file.read(), type=RunFile)
    except (OSError, msgspec.DecodeError):
        pass
    return None


def is_unborn(path: Path) -> bool:
    """Whether this node never had a journal."""
    return (path / UNBORN).exists()


def born(path: Path) -> None:
    """The node has a journal from now on."""
    (path / UNBORN).unlink(missing_ok=True)


def clear_run(path: Path) -> None:
    """The node stopped in good order."""
    (path / RUN).unlink(missing_ok=True)
