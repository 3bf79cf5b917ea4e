"""The genesis: the file that founds a cluster.

It names the cluster, its nodes (name, Ed25519 key, CURVE key, address, roles), its assets and its policies. Its digest
is in every frame and every signature, so two clusters can never exchange a batch by accident. It is immutable: what
changes during a cluster's life is recorded as facts.

The digest is taken over the canonical encoding of the *content* (sorted keys, no white space), so that reformatting
the file does not found another cluster.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import msgspec

from crdtledger.errors import BadGenesis, UnknownName
from crdtledger.ledger.identity import KEY_BYTES, digest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,63}")
NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
NODE_ID_BYTES = 8
MAX_NODES = 5_000
MAX_DECIMALS = 18
MAX_ACCOUNT = 128
"""Characters of an account's name."""
MAX_CHECKPOINT_INTERVAL_MS = 86_400_000
MAX_ID_WINDOW_MS = 100 * 366 * 86_400_000

Role = Literal["edge", "validator", "observer"]


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One node: ``key`` is its Ed25519 public key in hex, ``curve`` its CURVE public key in Z85, ``address`` where it listens."""

    name: str
    key: str
    curve: str
    address: str
    roles: tuple[Role, ...] = ("edge", "validator")

    @functools.cached_property
    def public_key(self) -> bytes:
        return bytes.fromhex(self.key)

    @functools.cached_property
    def id(self) -> bytes:
        """The 8 bytes that name this node in lanes and on the wire."""
        return digest("node-id", self.public_key)[:NODE_ID_BYTES]


class Asset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What collateral is held in. Amounts are integers of ``10 ** -decimals``."""

    name: str
    decimals: int


class Authority(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``node`` may record facts for these accounts (names, or prefixes ending in ``*``). A node without a rule may record for all."""

    node: str
    accounts: tuple[str, ...]


class Custodian(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``node`` is the one that may record deposits of ``asset`` for ``account``. Either may be ``*`` or a prefix; first match wins."""

    node: str
    account: str = "*"
    asset: str = "*"


class Policies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``grant_finality``: when rights granted by others may be spent: once settled, or as soon as seen (members trusted, crash
    faults only). ``withdrawal``: payable once settled, or on rights. ``grant_share_ppm``: the most a node gives away of what it
    holds in answer to one request. ``shards``: how many groups accounts are mapped to. ``agreement``: how checkpoints come about:
    by the validators' votes, or not at all. ``checkpoint_interval_ms``: how long after one is decided the next may begin."""

    grant_finality: Literal["settled", "immediate"] = "immediate"
    withdrawal: Literal["settled", "rights"] = "settled"
    grant_share_ppm: int = 500_000
    shards: int = 1
    agreement: Literal["none", "tendermint"] = "none"
    checkpoint_interval_ms: int = 1_000
    authorities: tuple[Authority, ...] = ()
    custodians: tuple[Custodian, ...] = ()
    beneficiary: str | msgspec.UnsetType = msgspec.UNSET
    """The account that gets fees, and bonds that are forfeited. Left out: no fees are taken, and every bond is given back."""
    operators: tuple[str, ...] = ()
    """CURVE public keys (Z85) of people and programs that may ask any node questions and hand it facts."""
    id_window_ms: int | msgspec.UnsetType = msgspec.UNSET
    """How long the ids of settled fills and busts are remembered (``idwindow``). Left out, or 0: for good."""

    @property
    def id_window_us(self) -> int:
        """The same in microseconds, 0 where ids are remembered for good."""
        return 1_000 * self.id_window_ms if isinstance(self.id_window_ms, int) else 0


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The founding content of a cluster. Built by ``load`` or ``found``, which check it."""

    cluster: str
    nonce: str
    nodes: tuple[Member, ...]
    assets: tuple[Asset, ...]
    policies: Policies = Policies()
    version: int = 1

    @functools.cached_property
    def hash(self) -> bytes:
        """32 bytes that name this cluster everywhere."""
        return digest("genesis", msgspec.json.encode(self, order="deterministic"))

    @functools.cached_property
    def by_id(self) -> dict[bytes, Member]:
        return {member.id: member for member in self.nodes}

    @functools.cached_property
    def by_name(self) -> dict[str, Member]:
        return {member.name: member for member in self.nodes}

    @functools.cached_property
    def asset_decimals(self) -> dict[str, int]:
        return {asset.name: asset.decimals for asset in self.assets}

    def member(self, name: str) -> Member:
        """The node called ``name``; ``UnknownName`` otherwise."""
        try:
            return self.by_name[name]
        except KeyError:
            raise UnknownName(kind="node", name=name, known=self.by_name) from None

    def custodian(self, account: str, asset: str) -> str:
        """The name of the one node that may record deposits of ``asset`` for ``account``."""
        for rule in self.policies.custodians:
            if _matches(rule.account, account) and _matches(rule.asset, asset):
                return rule.node
        return self.nodes[0].name

    @functools.cached_property
    def recorders(self) -> tuple[Member, ...]:
        """The members that may record anything: edges that the authorities leave some account to."""
        ruled = {rule.node for rule in self.policies.authorities}
        left = {rule.node for rule in self.policies.authorities if rule.accounts}
        return tuple(m for m in self.nodes if "edge" in m.roles and (m.name in left or m.name not in ruled))

    def may_record(self, node: str, account: str) -> bool:
        """Whether ``node`` may record facts that concern ``account``."""
        rules = [rule for rule in self.policies.authorities if rule.node == node]
        return not rules or any(_matches(pattern, account) for rule in rules for pattern in rule.accounts)

    def encode(self) -> bytes:
        """The file's content: indented JSON, ending with a newline."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


T = TypeVar("T")


def decode_config(raw: bytes, type: type[T], file: str) -> T:
    """JSON of ``type``, or ``BadGenesis`` with the precise path of what does not fit."""
    try:
        return msgspec.json.decode(raw, type=type)
    except msgspec.ValidationError as error:
        text = str(error)
        why, _, path = text.partition(" - at `")
        raise BadGenesis(file=file, path=path.rstrip("`") or "$", why=why) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadGenesis(file=file, path="$", why=f"not JSON: {error}") from None


def load(raw: bytes, file: str = "genesis") -> Genesis:
    """Read and check a genesis file's bytes. ``BadGenesis`` names the path of the first thing that is wrong."""
    genesis = decode_config(raw, Genesis, file)
    check(genesis, file)
    return genesis


def check(genesis: Genesis, file: str = "genesis") -> None:
    """Everything that types cannot say. ``BadGenesis`` names the path of the first thing that is wrong."""

    def need(holds: bool, path: str, why: str) -> None:
        if not holds:
            raise BadGenesis(file=file, path=path, why=why)

    need(genesis.version == 1, "$.version", f"this program reads version 1, not {genesis.version}")
    need(NODE_NAME.fullmatch(genesis.cluster) is not None, "$.cluster", "1 to 32 letters, digits, - or _")
    need(re.fullmatch(r"[0-9a-f]{32}", genesis.nonce) is not None, "$.nonce", "32 lower-case hex digits")
    need(1 <= len(genesis.nodes) <= MAX_NODES, "$.nodes", f"1 to {MAX_NODES} nodes")
    seen: dict[str, set[Any]] = {"name": set(), "key": set(), "curve": set(), "address": set(), "id": set()}
    for i, node in enumerate(genesis.nodes):
        at = f"$.nodes[{i}]"
        need(NODE_NAME.fullmatch(node.name) is not None, f"{at}.name", "1 to 32 letters, digits, - or _")
        need(_is_key(node.key), f"{at}.key", "an Ed25519 public key as 64 lower-case hex digits")
        need(_is_curve_key(node.curve), f"{at}.curve", "a CURVE public key as 40 Z85 characters")
        need(
            _is_address(node.address),
            f"{at}.address",
            "tcp://HOST:PORT with a port from 1 to 65535, or inproc://NAME",
        )
        need(len(set(node.roles)) == len(node.roles) > 0, f"{at}.roles", "at least one role, none twice")
        for field, values in seen.items():
            value = getattr(node, field)
            need(value not in values, f"{at}.{field}", "another node has it already")
            values.add(value)
    need(len(genesis.assets) > 0, "$.assets", "at least one asset")
    assets: set[str] = set()
    for i, asset in enumerate(genesis.assets):
        at = f"$.assets[{i}]"
        need(NAME.fullmatch(asset.name) is not None, f"{at}.name", "1 to 64 letters, digits or . _ : / + -")
        need(asset.name not in assets, f"{at}.name", "another asset has it already")
        need(0 <= asset.decimals <= MAX_DECIMALS, f"{at}.decimals", f"0 to {MAX_DECIMALS}")
        assets.add(asset.name)
    _check_policies(genesis, need, assets)


def _check_policies(genesis: Genesis, need: Any, assets: Iterable[str]) -> None:
    policies = genesis.policies
    need(0 <= policies.grant_share_ppm <= 1_000_000, "$.policies.grant_share_ppm", "0 to 1000000")
    need(policies.shards == 1, "$.policies.shards", "this version keeps every account in one shard: 1")
    voted = policies.agreement == "none" or any("validator" in member.roles for member in genesis.nodes)
    need(voted, "$.policies.agreement", "tendermint takes at least one node with the role validator")
    paced = 0 <= policies.checkpoint_interval_ms <= MAX_CHECKPOINT_INTERVAL_MS
    need(paced, "$.policies.checkpoint_interval_ms", f"0 to {MAX_CHECKPOINT_INTERVAL_MS}")
    named = not isinstance(policies.beneficiary, str) or 0 < len(policies.beneficiary) <= MAX_ACCOUNT
    need(named, "$.policies.beneficiary", f"an account's name, at most {MAX_ACCOUNT} characters")
    windowed = not isinstance(policies.id_window_ms, int) or 0 <= policies.id_window_ms <= MAX_ID_WINDOW_MS
    need(windowed, "$.policies.id_window_ms", f"0 to {MAX_ID_WINDOW_MS}")
    settles = not policies.id_window_us or policies.agreement != "none"
    need(settles, "$.policies.id_window_ms", "ids are let go of at checkpoints, and agreement is none")
    for i, authority in enumerate(policies.authorities):
        at = f"$.policies.authorities[{i}]"
        need(authority.node in genesis.by_name, f"{at}.node", f"no node is called {authority.node!r}")
        for j, pattern in enumerate(authority.accounts):
            need("*" not in pattern[:-1], f"{at}.accounts[{j}]", "a * may only stand at the end")
    for i, custodian in enumerate(policies.custodians):
        at = f"$.policies.custodians[{i}]"
        need(custodian.node in genesis.by_name, f"{at}.node", f"no node is called {custodian.node!r}")
        for field in ("account", "asset"):
            need("*" not in getattr(custodian, field)[:-1], f"{at}.{field}", "a * may only stand at the end")
        known = custodian.asset.endswith("*") or custodian.asset in set(assets)
        need(known, f"{at}.asset", f"no asset is called {custodian.asset!r}")
    for i, key in enumerate(policies.operators):
        need(_is_curve_key(key), f"$.policies.operators[{i}]", "a CURVE public key as 40 Z85 characters")


def _is_key(text: str) -> bool:
    return len(text) == 2 * KEY_BYTES and re.fullmatch(r"[0-9a-f]+", text) is not None


def _is_curve_key(text: str) -> bool:
    return re.fullmatch(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}", text) is not None


def _is_address(text: str) -> bool:
    if re.fullmatch(r"inproc://[A-Za-z0-9._-]{1,64}", text):
        return True
    match = re.fullmatch(r"tcp://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})", text)
    return match is not None and 1 <= int(match[2]) <= 65_535
