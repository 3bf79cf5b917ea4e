"""A node, its peers and statements held against each other, at the frontiers that they stand on: every row of a report. Impure.

Who cannot be asked is not left out and not taken for equal: what it holds is unknown, and a row says so. A peer that can be asked
from here but has not been heard of by the node is what a partition looks like from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from crdtledger.edge import api, folders
from crdtledger.edge.client import Client
from crdtledger.edge.report.commands import with_commands
from crdtledger.edge.report.holding import hold, reference, trade_of
from crdtledger.edge.report.sighting import BALANCE_FIELDS, POSITION_FIELDS, Sighting, exact, look, settled_cuts
from crdtledger.edge.statements.reading import StatementPlan, read_statement
from crdtledger.errors import CallerError, LedgerError
from crdtledger.ledger.breaks import Break
from reconcile.divergence.breakrow import BreakRow, Cause, Problem, handled, problems, worst_first
from reconcile.divergence.causes import Found, Holder, Rules, Touch, between
from reconcile.divergence.compare import Difference, compare
from reconcile.divergence.figures import Figures, figures
from reconcile.divergence.rows import Moment, SettledCut, action_for, totals
from reconcile.divergence.tolerance import Tolerances
from reconcile.divergence.unsettled import unsettled
from reconcile.quorum import committee_of

MAX_TRACED: Final = 200
"""So many figures, and so many breaks, are traced down to their facts; further ones are told without them."""

Connect: TypeAlias = Callable[[str, Path | None], Client]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is about. ``statements``: each with the custodian's beside it, or None; ``arguments``: of the command line, those that
    name each, for people to repeat."""

    cluster: Path | None = None
    statements: tuple[tuple[StatementPlan, StatementPlan | None], ...] = ()
    arguments: tuple[tuple[str, ...], ...] = ()
    rules: Rules = Rules()
    tolerances: Tolerances = {}
    quote: str = ""
    peers: bool = True


class Peer(msgspec.Struct, frozen=True):
    """Another node: where it is asked, and why it could not be (empty when it was)."""

    node: str
    target: str
    unreachable: str = ""
    seen: Sighting | None = None


class Gathered(msgspec.Struct, frozen=True, eq=False):
    """Everything that a report tells."""

    seen: Sighting
    peers: tuple[Peer, ...]
    cuts: tuple[SettledCut, ...]
    moment: Moment
    rows: tuple[BreakRow, ...]

    @property
    def problems(self) -> list[Problem]:
        """What went wrong, worst first."""
        return problems(self.rows)

    @property
    def at_risk(self) -> dict[str, str]:
        """What is at risk in breaks and unknowns together, by asset."""
        return totals(row for row in self.rows if row.status in ("break", "unknown"))


def gather(connect: Connect, target: str, asked: Asked) -> Gathered:
    """The rows of a report on ``target``. Raises what reaching the target raises, and ``BadStatement``; peers out of reach are told."""
    with connect(target, asked.cluster) as client:
        seen = look(client)
        cuts = tuple(settled_cuts(client, seen.genesis, seen.height))
        moment = seen.moment(asked.rules, cuts, asked.quote, asked.tolerances)
        gatherer = _Gatherer(connect, client, seen, moment, asked)
        peers = tuple(gatherer.peers()) if asked.peers else ()
        rows = [*gatherer.own(), *gatherer.statements()]
        for peer in peers:
            if peer.seen is not None:
                rows += gatherer.against(peer, peer.seen)
    return Gathered(seen, peers, cuts, moment, tuple(worst_first(handled(rows, seen.board))))


class _Gatherer:
    def __init__(self, connect: Connect, client: Client, seen: Sighting, moment: Moment, asked: Asked) -> None:
        self._connect = connect
        self._client = client
        self._seen = seen
        self._moment = moment
        self._asked = asked
        self._targets: dict[str, str] = {}

    def _done(self, row: BreakRow, statement: Sequence[str] = ()) -> BreakRow:
        return with_commands(row, self._seen.target, self._targets, statement)

    # -- the node's own word --------------------------------------------------------------------------------

    def own(self) -> Iterator[BreakRow]:
        """What the node knows by itself: what it has not heard of, what does not simply count, marks that are too old, and what no
        checkpoint settles."""
        seen, moment = self._seen, self._moment
        made = moment.of_unheard(seen.own, seen.silent(moment.rules))
        for number, item in enumerate(seen.breaks):
            told = Break(item["type"], item["subject"], item["detail"])
            made.append(self._finding(told, number < MAX_TRACED))
        made += moment.of_marks(seen.told_marks(), seen.open_quantities())
        made += self._offences()
        made += self._unsettled()
        yield from (self._done(row) for row in made)

    def _finding(self, item: Break, traced: bool) -> BreakRow:
        rows: list[dict[str, Any]] = []
        if traced and item.type in ("conflict", "bust") and item.subject.partition(" ")[0] in ("fill", "bust"):
            rows = self._client.request(api.Trace(name=item.subject))
        stated = [(trade_of(row), row["became"]) for row in rows]
        return self._moment.of_finding(item, stated, _touches(rows))

    def _offences(self) -> Iterator[BreakRow]:
        """Validators that are proven to have signed votes that contradict each other."""
        for member in self._seen.members:
            for offence in member["offences"]:
                if not offence.startswith("forked "):
                    item = Break("fork", f"votes of {member['node']}", offence)
                    yield self._moment.of_finding(item, (), ())

    def _unsettled(self) -> Iterator[BreakRow]:
        """Figures that the newest checkpoint does not have, once there are checkpoints at all."""
        seen, moment = self._seen, self._moment
        if not seen.height:
            return
        replica, checkpoint = _own_quantities(seen)
        sources = [seen.node, f"checkpoint {seen.height}"]
        committee = committee_of(seen.genesis)
        agreement = seen.status["checkpoints"]["agreement"]
        touches: list[Touch] = []
        for number, difference in enumerate(compare([replica, checkpoint], ("qty",))):
            if number < MAX_TRACED:  # of what comes after, the last one that was traced must speak
                settled = moment.height_of
                touches = [t for t in self._trace(self._client, difference) if not settled(t.lane, t.seq)]
            found = unsettled(touches, seen.height, seen.holders, committee, agreement, seen.now_us, moment.rules)
            yield moment.of_difference("replica/checkpoint", sources, difference, found, action_for(found.cause))

    def _trace(self, client: Client, difference: Difference) -> list[Touch]:
        """The batches behind a figure as far as a node holds them; none where it does not know the names, or has too many."""
        try:
            return _touches(client.request(api.Trace(difference.account, difference.subject)))
        except CallerError:
            return []

    # -- peers ----------------------------------------------------------------------------------------------

    def peers(self) -> Iterator[Peer]:
        """Every other member, asked if it can be."""
        endpoint = self._client.endpoint
        home = self._asked.cluster or (endpoint.folder.resolve().parent if endpoint.folder else None)
        for member in self._seen.genesis.nodes:
            if member.name == self._seen.node:
                continue
            folder = home / member.name if home else None
            here = folder is not None and (folder / folders.NODE).exists()
            target = str(folder) if here else member.address
            self._targets[member.name] = target
            try:
                with self._connect(target, home) as client:
                    yield Peer(member.name, target, "", look(client))
            except LedgerError as error:
                yield Peer(member.name, target, str(error))

    def against(self, peer: Peer, theirs: Sighting) -> Iterator[BreakRow]:
        """Where a peer's figures are not the node's."""
        seen, moment = self._seen, self._moment
        fields = (*POSITION_FIELDS, *BALANCE_FIELDS)
        differences = compare([seen.figures(), theirs.figures()], fields, moment.tolerances)
        if not differences:
            return
        told = next(holder for holder in seen.holders if holder.node == peer.node)
        other = Holder(peer.node, theirs.own.heads, told.heard_us, told.connected)
        moving = seen.moved or theirs.moved or seen.height != theirs.height
        forks = _forks(seen)
        with self._connect(peer.target, self._asked.cluster or Path(peer.target).parent) as client:
            for number, difference in enumerate(differences):
                touches = self._both(client, difference) if number < MAX_TRACED else []
                found = between(seen.own, other, touches, forks, seen.now_us, moment.rules)
                if moving and found.cause in (Cause.EXTERNAL, Cause.MISSING_BATCH):
                    why = "the nodes recorded or settled while they were read: look again"
                    found = Found(Cause.IN_FLIGHT, "in grace", why, found.missing, found.first_us, "in flight")
                row = moment.of_difference(
                    "replica/replica", [seen.node, peer.node], difference, found, action_for(found.cause)
                )
                yield self._done(row)

    def _both(self, client: Client, difference: Difference) -> list[Touch]:
        return sorted({*self._trace(self._client, difference), *self._trace(client, difference)})

    # -- statements -----------------------------------------------------------------------------------------

    def statements(self) -> Iterator[BreakRow]:
        """Where statements do not say what the node says."""
        known = reference(self._seen)
        for number, (plan, custodian) in enumerate(self._asked.statements):
            arguments = self._asked.arguments[number] if number < len(self._asked.arguments) else ()
            beside = read_statement(custodian, known) if custodian else None
            for row in hold(self._client, self._seen, self._moment, read_statement(plan, known), beside):
                yield self._done(row, arguments)


def _touches(rows: Sequence[Mapping[str, Any]]) -> list[Touch]:
    return sorted({Touch(row["lane"], row["seq"], row["node"], row["recorded_us"]) for row in rows})


def _forks(seen: Sighting) -> dict[str, int]:
    """Where lanes are known to fork."""
    out = {}
    for item in seen.breaks:
        if item["type"] == "fork":
            seq = item["detail"].partition("forks at seq ")[2].partition(":")[0]
            out[item["subject"]] = int(seq) if seq.isdigit() else 1
    return out


def _own_quantities(seen: Sighting) -> tuple[Figures, Figures]:
    """The node's quantities, and those of the checkpoint that it stands on."""
    sides = []
    for name, field in ((seen.node, "qty"), (f"checkpoint {seen.height}", "settled_qty")):
        told = ((row["account"], row["instrument"], {"qty": exact(row[field])}) for row in seen.positions)
        sides.append(figures(name, "replica" if field == "qty" else "checkpoint", ("qty",), told))
    return sides[0], sides[1]
