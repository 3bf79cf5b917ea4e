"""Every error a caller can see, in one tree, grouped by who must act.

``CallerError``     the request is wrong or cannot be met: change the request.
``OperatorError``   a file, a configuration or a process needs a person's hand.
``PeerError``       another node sent something that does not hold; nothing was applied.
``Unreachable``     nobody answered; trying again is safe, every request is idempotent by its facts' ids.
``InvariantBroken`` the program itself is at fault: a simulation, or a test, caught it.

Ids and amounts are attributes, so that programs need not parse messages. Amounts are integers in minor units.
``code`` is stable and travels over the client protocol; ``exit_code`` is what the command line ends with.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

MAX_COMPARED = 512
MAX_COMPARED_CHARACTERS = 128


class LedgerError(Exception):
    """Base of everything this package raises on purpose."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 2

    def __init__(self, **attributes: Any) -> None:
        self.attributes = attributes
        for name, value in attributes.items():
            setattr(self, name, value)
        super().__init__(self.describe())

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is: a process that hands an error to another one must not end by that, as by arguments that have names."""
        return _again, (type(self), self.args, self.__dict__)

    def describe(self) -> str:
        """One line: what, where, and what to do."""
        return ", ".join(f"{name} {value}" for name, value in self.attributes.items())


def _again(kind: type[LedgerError], said: tuple[Any, ...], state: Mapping[str, Any]) -> LedgerError:
    error = kind.__new__(kind, *said)
    error.__dict__.update(state)
    return error


# -- the caller must act ------------------------------------------------------------------------------------


class CallerError(LedgerError):
    """The request is wrong or cannot be met here and now."""

    code = "caller"


class BadInput(CallerError):
    """A file, line, frame or argument does not fit. ``what`` was given, ``where`` it stands, ``why`` it is refused."""

    code = "bad_input"
    what: str
    where: str
    why: str

    def __init__(self, *, what: str, where: str, why: str) -> None:
        super().__init__(what=what, where=where, why=why)

    def describe(self) -> str:
        return f"{self.where}: {self.what}: {self.why}"


class BadStatement(CallerError):
    """Lines of a statement do not fit, so nothing was compared and nothing recorded. ``refusals`` names the first of ``refused`` lines."""

    code = "bad_statement"
    file: str
    refused: int
    refusals: tuple[str, ...]

    def __init__(self, *, file: str, refused: int, refusals: tuple[str, ...]) -> None:
        super().__init__(file=file, refused=refused, refusals=refusals)

    def describe(self) -> str:
        more = f" (and {self.refused - len(self.refusals)} more)" if self.refused > len(self.refusals) else ""
        return f"{'; '.join(self.refusals)}{more}: nothing was compared and nothing recorded; mend the statement"


class UnknownName(CallerError):
    """No such account, instrument, asset, node or lane. ``nearest`` is the closest known name, or ``""``."""

    code = "unknown_name"
    kind: str
    name: str
    nearest: str

    def __init__(self, *, kind: str, name: str, known: Iterable[str] = (), nearest: str | None = None) -> None:
        if nearest is None:
            nearest = _nearest(name, known)
        super().__init__(kind=kind, name=name, nearest=nearest)

    def describe(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return f"unknown {self.kind} {self.name!r}{hint}"


class AmountOutOfRange(CallerError):
    """An amount, or a sum it would enter, leaves the range that can be carried exactly."""

    code = "amount_out_of_range"
    where: str
    amount: int
    low: int
    high: int

    def __init__(self, *, where: str, amount: int, low: int, high: int) -> None:
        super().__init__(where=where, amount=amount, low=low, high=high)

    def describe(self) -> str:
        return f"{self.where}: {self.amount} is outside {self.low}..{self.high}"


class NotAllowed(CallerError):
    """The genesis does not let this node record that."""

    code = "not_allowed"
    node: str
    action: str
    subject: str
    allowed: str

    def __init__(self, *, node: str, action: str, subject: str, allowed: str) -> None:
        super().__init__(node=node, action=action, subject=subject, allowed=allowed)

    def describe(self) -> str:
        return f"{self.node} may not {self.action} {self.subject}: the genesis leaves that to {self.allowed}"


class InsufficientRights(CallerError):
    """A spend beyond what this node may spend. Nothing was recorded.

    ``held_here``: what this node may spend of (account, asset) now. ``held_elsewhere``: the rights of each other
    node, as far as this node has seen. All in minor units of the asset; ``decimals`` says how many.
    """

    code = "insufficient_rights"
    account: str
    asset: str
    requested: int
    held_here: int
    held_elsewhere: Mapping[str, int]
    decimals: int
    note: str

    def __init__(
        self,
        *,
        account: str,
        asset: str,
        requested: int,
        held_here: int,
        held_elsewhere: Mapping[str, int],
        decimals: int = 0,
        note: str = "",
    ) -> None:
        super().__init__(
            account=account,
            asset=asset,
            requested=requested,
            held_here=held_here,
            held_elsewhere=dict(held_elsewhere),
            decimals=decimals,
            note=note,
        )

    def describe(self) -> str:
        def text(amount: int) -> str:
            return decimal_text(amount, self.decimals)

        others = ", ".join(f"{node} holds {text(n)}" for node, n in sorted(self.held_elsewhere.items()) if n)
        tail = f"; {others}" if others else "; no other node holds any"
        note = f" ({self.note})" if self.note else ""
        return (
            f"account {self.account} needs {text(self.requested)} {self.asset} but this node may spend "
            f"{text(self.held_here)}{note}{tail}"
        )


class UnknownReserve(CallerError):
    """A post or void names a reserve that this lane does not hold, or more than is left of it."""

    code = "unknown_reserve"
    reserve: str
    why: str

    def __init__(self, *, reserve: str, why: str) -> None:
        super().__init__(reserve=reserve, why=why)

    def describe(self) -> str:
        return f"reserve {self.reserve!r}: {self.why}"


class ReserveInUse(CallerError):
    """A reserve stays until every order that names it is done and settled: ``orders``. What a match may need must be there."""

    code = "reserve_in_use"
    reserve: str
    orders: tuple[str, ...]

    def __init__(self, *, reserve: str, orders: Iterable[str]) -> None:
        super().__init__(reserve=reserve, orders=tuple(orders))

    def describe(self) -> str:
        named = ", ".join(self.orders[:5]) + (" ..." if len(self.orders) > 5 else "")
        return f"reserve {self.reserve!r} is named by orders that are open or not settled ({named}): cancel them, and wait for a checkpoint"


class InsufficientReserve(CallerError):
    """The reserve that an order names does not hold what all orders on it may need. Amounts in minor units of the asset."""

    code = "insufficient_reserve"
    reserve: str
    asset: str
    needed: int
    left: int
    decimals: int

    def __init__(self, *, reserve: str, asset: str, needed: int, left: int, decimals: int = 0) -> None:
        super().__init__(reserve=reserve, asset=asset, needed=needed, left=left, decimals=decimals)

    def describe(self) -> str:
        needed, left = decimal_text(self.needed, self.decimals), decimal_text(self.left, self.decimals)
        return (
            f"reserve {self.reserve!r} holds {left} {self.asset}, the orders on it may need {needed} with this one: "
            "reserve more under another id, or cancel some"
        )


class UnknownOrder(CallerError):
    """No such order or match is known here, or it is done. ``kind`` is order or match, ``node`` its home."""

    code = "unknown_order"
    kind: str
    node: str
    id: str

    def __init__(self, *, kind: str, node: str, id: str) -> None:
        super().__init__(kind=kind, node=node, id=id)

    def describe(self) -> str:
        return f"{self.kind} {self.id!r} of {self.node} is not known here, or it is done and settled"


class InsufficientOpen(CallerError):
    """More of an order than is open where the fact is written. Nothing was recorded.

    ``held_here``: what this node may match of the order. ``held_elsewhere``: what each other node may, as far as this node has seen.
    In minor units of the instrument's quantity; ``decimals`` says how many.
    """

    code = "insufficient_open"
    order: str
    requested: int
    held_here: int
    held_elsewhere: Mapping[str, int]
    decimals: int

    def __init__(
        self, *, order: str, requested: int, held_here: int, held_elsewhere: Mapping[str, int], decimals: int = 0
    ) -> None:
        super().__init__(
            order=order,
            requested=requested,
            held_here=held_here,
            held_elsewhere=dict(held_elsewhere),
            decimals=decimals,
        )

    def describe(self) -> str:
        def text(amount: int) -> str:
            return decimal_text(amount, self.decimals)

        others = ", ".join(f"{node} holds {text(n)}" for node, n in sorted(self.held_elsewhere.items()) if n)
        tail = f"; {others}" if others else "; no other node holds any"
        return (
            f"{text(self.requested)} of order {self.order} is asked for but {text(self.held_here)} is open here{tail}"
        )


class Conflict(CallerError):
    """The same id was already recorded here with other content. The first one stands."""

    code = "conflict"
    kind: str
    id: str
    why: str

    def __init__(self, *, kind: str, id: str, why: str) -> None:
        super().__init__(kind=kind, id=id, why=why)

    def describe(self) -> str:
        return f"{self.kind} {self.id!r} is recorded already with other content: {self.why}"


class BelowFloor(CallerError):
    """A fill or bust that happened too long ago: nobody can tell any more whether it was recorded before. ``ts_us`` as it says, 0 where
    it says nothing; ``floor_us``: what happened before then is refused here. Both in microseconds since the Unix epoch."""

    code = "below_floor"
    name: str
    ts_us: int
    floor_us: int

    def __init__(self, *, name: str, ts_us: int, floor_us: int) -> None:
        super().__init__(name=name, ts_us=ts_us, floor_us=floor_us)

    def describe(self) -> str:
        when = f"happened at {self.ts_us}" if self.ts_us else "does not say when it happened"
        return (
            f"{self.name} {when} (ts_us), and before {self.floor_us} nobody remembers what was recorded already: "
            'make sure that it was not, and book it by hand, under "id_space": "by-hand"'
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    """The closest known name. Looking closely costs about 0.1 ms a name, so of many only those of about the same length and
    the same beginning or end are looked at, and of those not all: a wrong name must not cost a busy node a second."""
    if len(name) > MAX_COMPARED_CHARACTERS:
        return ""
    names = list(known)
    if len(names) > MAX_COMPARED:
        likely = (n for n in names if abs(len(n) - len(name)) <= 2 and (n[:2] == name[:2] or n[-2:] == name[-2:]))
        names = list(itertools.islice(likely, MAX_COMPARED))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return close[0] if close else ""


# -- the operator must act ----------------------------------------------------------------------------------


class OperatorError(LedgerError):
    """A file, a configuration or a process needs a person's hand."""

    code = "operator"


class BadGenesis(OperatorError):
    """A genesis or node configuration does not hold. ``path`` is precise: ``$.nodes[2].address``."""

    code = "bad_genesis"
    file: str
    path: str
    why: str

    def __init__(self, *, file: str, path: str, why: str) -> None:
        super().__init__(file=file, path=path, why=why)

    def describe(self) -> str:
        return f"{self.file}: {self.path}: {self.why}"


class JournalError(OperatorError):
    """The journal cannot be used as it stands."""

    code = "journal"


class JournalCorrupt(JournalError):
    """A record does not match its checksum or its place. ``position`` is the first bad one."""

    code = "journal_corrupt"
    path: str
    position: int
    reason: str

    def __init__(self, *, path: str, position: int, reason: str) -> None:
        super().__init__(path=path, position=position, reason=reason)

    def describe(self) -> str:
        return (
            f"{self.path}: record {self.position}: {self.reason}; "
            "stop the node and run `crdtledger doctor` on its folder to keep the good part and refill from peers"
        )


class JournalLocked(JournalError):
    """Another process has the journal open."""

    code = "journal_locked"
    path: str
    holder: str

    def __init__(self, *, path: str, holder: str) -> None:
        super().__init__(path=path, holder=holder)

    def describe(self) -> str:
        return f"{self.path}: in use by {self.holder or 'another process'}; one node, one process"


class JournalUnusable(JournalError):
    """The file is not a journal of this project, or cannot be opened at all."""

    code = "journal_unusable"
    path: str
    reason: str

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(path=path, reason=reason)

    def describe(self) -> str:
        return f"{self.path}: {self.reason}"


# -- another node is at fault -------------------------------------------------------------------------------


class PeerError(LedgerError):
    """Another node sent something that does not hold. Nothing was applied."""

    code = "peer"


class InvalidBatch(PeerError):
    """A batch's bytes, chain, signature or form do not hold. Caught at the replica's boundary, never past it."""

    code = "invalid_batch"
    where: str
    why: str

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where=where, why=why)

    def describe(self) -> str:
        return f"{self.where}: {self.why}"


class InvalidProof(PeerError):
    """A note, certificate, policy or proof from elsewhere does not hold: ``where`` it fails, ``why``. Nothing in it is proven."""

    code = "invalid_proof"
    where: str
    why: str

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where=where, why=why)

    def describe(self) -> str:
        return f"{self.where}: {self.why}"


class BadCut(PeerError):
    """A proposed checkpoint's cut does not extend what is settled, or its evidence does not fit: ``why``. Nothing is settled by it."""

    code = "bad_cut"
    why: str

    def __init__(self, *, why: str) -> None:
        super().__init__(why=why)

    def describe(self) -> str:
        return f"cut: {self.why}"


# -- the ledger itself is at fault --------------------------------------------------------------------------


class InvariantBroken(LedgerError, AssertionError):
    """What the ledger promises did not hold: a defect of the program, or one planted by a test. ``invariant`` is the word for
    it, ``node`` where it was seen (empty: between nodes), ``detail`` what was seen."""

    code = "invariant_broken"
    exit_code = 1
    invariant: str
    node: str
    detail: str

    def __init__(self, *, invariant: str, node: str = "", detail: str = "") -> None:
        super().__init__(invariant=invariant, node=node, detail=detail)

    def describe(self) -> str:
        where = f" at {self.node}" if self.node else ""
        return f"{self.invariant} broken{where}: {self.detail}"


# -- nobody answered ----------------------------------------------------------------------------------------


class Unreachable(LedgerError):
    """Nobody answered in time. Repeating the request is safe: facts are idempotent by their ids."""

    code = "unreachable"
    exit_code = 3
    target: str
    why: str

    def __init__(self, *, target: str, why: str) -> None:
        super().__init__(target=target, why=why)

    def describe(self) -> str:
        return f"{self.target}: {self.why}"


def decimal_text(amount: int, decimals: int) -> str:
    """``amount`` minor units as exact decimal text with ``decimals`` places: ``(-1500, 2)`` is ``-15.00``."""
    if decimals == 0:
        return str(amount)
    sign = "-" if amount < 0 else ""
    digits = str(abs(amount)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"
