"""Policies: whose cosignatures make a certificate, as a file that stock tools read.

Source: C2SP tlog-policy. Lines are ``log VKEY [URL]``, ``witness NAME VKEY [URL]``, ``group NAME k|any|all MEMBER...``
and one ``quorum NAME|none``; items are separated by spaces and tabs only; ``#`` starts a comment line; names are
octets, whatever they spell.

- The file is octets: tab, newline, 20..7E and 80..FF. A name stands before it is used, is defined once and is a
  member of one group at most, so a witness counts in one way only. No public key stands twice among the witnesses,
  or among the logs.
- A checkpoint is good when a listed log signed it (if any log is listed) and the quorum holds.
- ``quorum_of`` writes a cluster's rule: of n validators more than two thirds, 3w > 2n, which is ``2n // 3 + 1`` of one group.

Comments and URLs are read past and not kept: this ledger needs neither to check a proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from crdtledger.errors import BadInput, InvalidProof

from .notes import COSIGNATURE, VerifierKey, parse_vkey

MAX_POLICY_BYTES: Final = 1 << 18
MAX_ENTRIES: Final = 1024
NO_QUORUM: Final = "none"
_FORBIDDEN = re.compile(rb"[^\x09\x0a\x20-\x7e\x80-\xff]")
_ITEM = re.compile(rb"[^ \t]+")
_COUNT = re.compile(r"[1-9][0-9]{0,5}")


class Group(msgspec.Struct, frozen=True):
    """Witnesses a checkpoint when at least ``threshold`` of ``members`` (witnesses or groups) do."""

    name: str
    threshold: int
    members: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True):
    """Known logs, known witnesses by their name in the policy, groups in order of definition, and the quorum's name."""

    witnesses: tuple[tuple[str, VerifierKey], ...]
    groups: tuple[Group, ...]
    quorum: str
    logs: tuple[VerifierKey, ...] = ()

    def known_keys(self) -> tuple[VerifierKey, ...]:
        """Every key whose line in a note means something under this policy."""
        return (*self.logs, *(key for _, key in self.witnesses))

    def holds(self, keys: Iterable[VerifierKey]) -> bool:
        """Whether the witnesses among ``keys`` (verified signers) make the quorum."""
        signed = set(keys)
        count = {NO_QUORUM: True}
        count.update((name, key in signed) for name, key in self.witnesses)
        for group in self.groups:
            count[group.name] = sum(count[member] for member in group.members) >= group.threshold
        return count[self.quorum]

    def require(self, keys: Iterable[VerifierKey], origin: str) -> None:
        """Raises InvalidProof unless ``keys`` (verified signers) make a checkpoint of the log ``origin`` good."""
        signed = set(keys)
        if self.logs and not any(key in signed and key.name == origin for key in self.logs):
            raise InvalidProof("policy", f"no listed log signed as {origin!r}")
        if not self.holds(signed):
            present = sorted(name for name, key in self.witnesses if key in signed)
            raise InvalidProof(
                "policy",
                f"the quorum {self.quorum!r} is missed: {len(present)} of {len(self.witnesses)} witnesses cosigned"
                f" ({', '.join(present) or 'none'})",
            )

    def encode(self) -> bytes:
        """The policy as a file; ``parse_policy`` gives this very policy back."""
        lines = [f"log {key.vkey()}" for key in self.logs]
        lines += [f"witness {name} {key.vkey()}" for name, key in self.witnesses]
        lines += [f"group {group.name} {group.threshold} {' '.join(group.members)}" for group in self.groups]
        lines.append(f"quorum {self.quorum}")
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def quorum_threshold(count: int) -> int:
    """The least w with 3w > 2 * ``count``: how many of ``count`` equal validators certify."""
    return 2 * count // 3 + 1


def quorum_of(validators: Mapping[str, VerifierKey], logs: Iterable[VerifierKey] = ()) -> Policy:
    """The policy of a cluster: more than two thirds of ``validators`` (node name to cosigner key), equal weights.

    Raises BadInput for no validator, for a name that cannot stand in a policy, or for a key that stands twice.
    """
    if not validators:
        raise BadInput(what="no validators", where="policy", why="nobody could certify")
    names = sorted(validators)
    group = "validators"
    while group in validators:
        group += "-"
    policy = Policy(
        tuple((name, validators[name]) for name in names),
        (Group(group, quorum_threshold(len(names)), tuple(names)),),
        group,
        tuple(logs),
    )
    try:
        if parse_policy(policy.encode()) != policy:
            raise InvalidProof("policy", "a validator's name does not survive being written")
    except InvalidProof as fault:
        raise BadInput(what="validators", where=fault.where, why=fault.why) from None
    return policy


def parse_policy(raw: bytes) -> Policy:
    """A policy from its file. Raises InvalidProof, naming the line, for anything the specification does not allow."""
    if len(raw) > MAX_POLICY_BYTES:
        raise InvalidProof("policy", f"{len(raw)} bytes are more than {MAX_POLICY_BYTES}")
    bad = _FORBIDDEN.search(raw)
    if bad:
        raise InvalidProof("policy", f"byte {bad.start()} is a control character")
    if raw and not raw.endswith(b"\n"):
        raise InvalidProof("policy", "the last line has no newline")
    reader = _Reader()
    for number, line in enumerate(raw.split(b"\n"), 1):
        items = [item.decode("utf-8", "surrogateescape") for item in _ITEM.findall(line)]
        if items and not items[0].startswith("#"):
            reader.read(items, f"policy, line {number}")
    return reader.finish()


class _Reader:
    """The names defined so far while a policy is read line by line."""

    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.witnesses: dict[str, VerifierKey] = {}
        self.groups: dict[str, Group] = {}
        self.members: set[str] = set()
        self.quorum: str | None = None

    def read(self, items: list[str], where: str) -> None:
        if len(self.logs) + len(self.witnesses) + len(self.groups) >= MAX_ENTRIES:
            raise InvalidProof(where, f"more than {MAX_ENTRIES} definitions")
        match items:
            case ["log", vkey] | ["log", vkey, _]:
                self.logs.append(self._new_key(vkey, self.logs, where))
            case ["witness", name, vkey] | ["witness", name, vkey, _]:
                key = self._new_key(vkey, self.witnesses.values(), where)
                if key.type != COSIGNATURE:
                    raise InvalidProof(where, "a witness cosigns: its key has type 0x04")
                self.witnesses[self._new_name(name, where)] = key
            case ["group", name, count, *members] if members:
                self._group(name, count, members, where)
            case ["quorum", name]:
                if self.quorum is not None:
                    raise InvalidProof(where, "a second quorum")
                if name != NO_QUORUM:
                    self._known(name, where)
                self.quorum = name
            case _:
                raise InvalidProof(where, f"it is not a log, witness, group or quorum line: {items[0][:24]!r}")

    def finish(self) -> Policy:
        if self.quorum is None:
            raise InvalidProof("policy", "no quorum line")
        return Policy(tuple(self.witnesses.items()), tuple(self.groups.values()), self.quorum, tuple(self.logs))

    def _group(self, name: str, count: str, members: list[str], where: str) -> None:
        for member in members:
            self._known(member, where)
            if member in self.members:
                raise InvalidProof(where, f"{member!r} is a member already")
            self.members.add(member)
        if count in ("any", "all"):
            threshold = 1 if count == "any" else len(members)
        elif _COUNT.fullmatch(count) and int(count) <= len(members):
            threshold = int(count)
        else:
            raise InvalidProof(where, f"the threshold {count[:24]!r} is not any, all or 1..{len(members)}")
        self.groups[self._new_name(name, where)] = Group(name, threshold, tuple(members))

    def _new_key(self, vkey: str, others: Iterable[VerifierKey], where: str) -> VerifierKey:
        try:
            key = parse_vkey(vkey)
        except InvalidProof as fault:
            raise InvalidProof(where, fault.why) from None
        if any(key.public_key == other.public_key for other in others):
            raise InvalidProof(where, "its public key stands on an earlier line")
        return key

    def _new_name(self, name: str, where: str) -> str:
        if name == NO_QUORUM or name in self.witnesses or name in self.groups:
            raise InvalidProof(where, f"the name {name!r} is taken")
        return name

    def _known(self, name: str, where: str) -> None:
        if name not in self.witnesses and name not in self.groups:
            raise InvalidProof(where, f"{name!r} is not defined on an earlier line")
