"""Who may spend what: the bounded counter of collateral, judged lane by lane.

A bounded counter (Balegas et al., "Extending Eventually Consistent Cloud Databases for Enforcing Numeric Invariants",
SRDS 2015) splits a resource into rights that nodes hold and can hand on: R[i][j] moved from i to j (R[i][i] minted by
deposits at i), U[i] consumed at i. Row i has one writer, node i. What a batch of node i may use is what its own past
gives it:

    what the base grants i: everything settled, whoever recorded it
    + own lane: deposits and releases, less spends, reserves and grants
    + what other lanes granted to i, as far as the batch's lane has named them as deps (immediate finality only)
    + what a predecessor lane of the same node left, once the batch's lane has named it as a dep

A batch that would take any (account, asset) below zero is *void*: it has no effect, here or at any other replica. Because
everything the judgement reads lies in the batch's causal past, every replica judges every batch alike, whatever the order
in which batches arrived.

Inside a batch only the net effect counts; kinds apply in their precedence. An id already used in the lane, or settled by any lane
of its node, is a no-op. A batch is judged against the base that the view stands on, whatever base it names: settlement lowers
what i holds only by i's own batches, so what was sound at its base is sound at every later one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.batch import Batch, Dep, parse_lane
from crdtledger.ledger.body import Body
from crdtledger.ledger.catalog import UNKNOWN_ASSET, Binding, Catalog
from crdtledger.ledger.factkeys import Keys, fact_keys
from crdtledger.ledger.facts import RIGHTS_KINDS, Kind
from crdtledger.ledger.genesis import NODE_ID_BYTES, Genesis
from crdtledger.ledger.lanereserves import LaneReserves, ReserveChange
from crdtledger.ledger.lanerights import Deposits, LaneRights, Reach, Rows, Step, Totals, extended, repeated_deposits
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settledparts import Reserved
from crdtledger.ledger.wide import add_into, sum_by

SPENDS = (Kind.GRANT, Kind.RESERVE, Kind.TRANSFER, Kind.WITHDRAWAL)

OVERSPENT = "spends rights that its lane does not hold"
DIVIDED = "spends rights that another lane of its node has spent"


class Shortage(NamedTuple):
    """The first (account, asset) that a batch would overdraw: what it had, and what it needed."""

    cell: int
    available: int
    needed: int


class Verdict(NamedTuple):
    """What a batch of rights facts does, or why it does nothing.

    ``fault`` is empty for a batch that counts. ``effective``: rows per kind that do something. ``repeated``: rows whose id is used
    already. ``dropped``: rows that are void by themselves (kind, row, reason). ``net``: change of the lane's own rights;
    ``inherited``: rights that its deps bring in; ``granted``: what goes to each member (by genesis index). ``covered`` and
    ``claimed``: the lane's past with it.
    """

    fault: str
    shortage: Shortage | None
    effective: dict[Kind, Rows]
    repeated: dict[Kind, Rows]
    dropped: list[tuple[Kind, int, str]]
    net: Totals
    inherited: Totals
    granted: dict[int, Totals]
    reserves: ReserveChange
    ids: list[Keys]
    covered: Reach
    claimed: Reach


class Rights:
    """The judged rights of every lane in one view."""

    def __init__(self, catalog: Catalog, salt: int) -> None:
        self._catalog = catalog
        self._genesis: Genesis = catalog.genesis
        self._salt = salt
        self._assets = len(catalog.assets)
        self._rows: dict[bytes, LaneRights] = {}
        self._reserves: dict[bytes, LaneReserves] = {}
        self._index = {member.id: index for index, member in enumerate(self._genesis.nodes)}
        self._immediate = self._genesis.policies.grant_finality == "immediate"
        self._custody: dict[tuple[int, int], str] = {}
        self._base = catalog.base
        self._shares: dict[tuple[int, int], int] = {}

    # -- names ----------------------------------------------------------------------------------------------

    def cell(self, account: str, asset: str) -> int:
        """The local number of (account, asset)."""
        return self._catalog.account(account) * self._assets + self._catalog.asset(asset)

    def _row(self, lane: bytes) -> LaneRights:
        row = self._rows.get(lane)
        if row is None:
            row = self._rows[lane] = LaneRights(self._salt)
        return row

    def _reserves_of(self, lane: bytes) -> LaneReserves:
        reserves = self._reserves.get(lane)
        if reserves is None:
            reserves = LaneReserves(lane, self._catalog, self.settled_ids(lane), self._salt)
            self._reserves[lane] = reserves
        return reserves

    def member(self, lane: bytes) -> int:
        """The index in the genesis of a lane's node."""
        return self._index[lane[:NODE_ID_BYTES]]

    # -- the base -------------------------------------------------------------------------------------------

    def share(self, member: int, cell: int) -> int:
        """What the base grants a member of a cell. Looked up once per view."""
        key = (member, cell)
        if key not in self._shares:
            settled = self._base.collateral.get(self._catalog.cell_name(cell))
            self._shares[key] = settled.share(member) if settled else 0
        return self._shares[key]

    def settled_ids(self, lane: bytes) -> SeenIds | None:
        """The ids that the lane's node has used in settled batches, and what they say; None if there are none."""
        return self._base.used.get(self.member(lane))

    # -- reading --------------------------------------------------------------------------------------------

    def available(self, lane: bytes, cell: int) -> int:
        """What the base and the lane's judged batches leave it of a cell, without grants it has not named yet."""
        row = self._rows.get(lane)
        return self.share(self.member(lane), cell) + (row.available.get(cell, 0) if row else 0)

    def unclaimed(self, lane: bytes) -> dict[bytes, tuple[int, Totals]]:
        """Grants to this lane's node that the lane has not named as deps: by granting lane, (its last granting seq, amounts)."""
        if not self._immediate:
            return {}
        me = self._index[parse_lane(lane).node]
        claimed = self._row(lane).last.claimed
        found: dict[bytes, tuple[int, Totals]] = {}
        for giver, row in self._rows.items():
            totals: Totals = {}
            last = 0
            for seq, granted in row.granted(me, claimed.get(giver, 0), row.last.seq):
                add_into(totals, granted)
                last = seq
            if last:
                found[giver] = (last, totals)
        return found

    def reserve(self, lane: bytes, keys: Keys) -> tuple[int, int] | None:
        """(cell, remaining) of one reserve of the lane, or None."""
        return self._reserves_of(lane).get(keys)

    def used_ids(self, lane: bytes, keys: Keys, covered: Reach | None = None) -> npt.NDArray[np.bool_]:
        """Which ids the lane, a predecessor that it covers, or any settled batch of its node has used already."""
        row = self._row(lane)
        settled = self.settled_ids(lane)
        used: npt.NDArray[np.bool_] = row.ids.find(*keys) >= 0
        for predecessor, seq in (row.last.covered if covered is None else covered).items():
            used |= self._row(predecessor).used(keys, seq)
        if settled is not None:
            used |= settled.find(keys) >= 0
        return used

    def recorded(self, lane: bytes, keys: Keys) -> list[tuple[bytes, int, int] | None]:
        """Where each id was used, unsettled, by the lane or a predecessor that it covers: (lane, seq, row), or None."""
        found: list[tuple[bytes, int, int] | None] = [None] * len(keys[0])
        reach = {lane: self._row(lane).last.seq, **self._row(lane).last.covered}
        for one, upto in reach.items():
            ordinals = self._row(one).ids.find(*keys)
            for index in np.flatnonzero(self._row(one).used(keys, upto)).tolist():
                found[index] = (one, *self._row(one).told(int(ordinals[index])))
        return found

    def reserves_after(self) -> dict[bytes, dict[tuple[int, int], Reserved]]:
        """Open reserves, by lane and key, of every lane that unsettled batches made, posted or voided reserves in."""
        after = {lane: reserves.after() for lane, reserves in sorted(self._reserves.items())}
        return {lane: held for lane, held in after.items() if held is not None}

    def undivided(self, node: bytes) -> bool:
        """Whether the node's lanes follow each other: none spends before it covers all that the earlier ones ever did.

        An honest node's do. Of others, one (account, asset) may be spent by two lanes that do not know of each other; no
        replica can void either, so the node's own total goes below zero until settlement.
        """
        lanes = sorted(key for key in self._rows if key.startswith(node) and self._rows[key].steps)
        for index, lane in enumerate(lanes):
            for step in self._rows[lane].steps:
                spends = any(change < 0 for change in step.net.values())
                if spends and any(step.covered.get(one, 0) < self._rows[one].last.seq for one in lanes[:index]):
                    return False
        return True

    # -- judging --------------------------------------------------------------------------------------------

    def judge(self, lane: bytes, deps: Sequence[Dep], body: Body, binding: Binding) -> Verdict:
        """What the next batch of ``lane`` would do with these deps and this body. Changes nothing."""
        row = self._row(lane)
        covered, claimed, inherited = self._inherit(lane, deps, row)
        effective: dict[Kind, Rows] = {}
        repeated: dict[Kind, Rows] = {}
        dropped: list[tuple[Kind, int, str]] = []
        ids: list[Keys] = []
        for kind in sorted(RIGHTS_KINDS & body.tables.keys()):
            rows, refused = self._effective(lane, covered, body, binding, kind)
            dropped += refused
            idle = np.ones(len(body.tables[kind]), np.bool_)
            idle[[*rows.tolist(), *(row for _, row, _ in refused)]] = False
            repeated[kind] = np.flatnonzero(idle)
            keys = fact_keys(body, kind)
            ids.append((keys[0][rows], keys[1][rows]))
            effective[kind] = rows
        net, granted = self._net(body, binding, effective)
        reserves, fault = self._reserves_of(lane).judge(body, binding, effective)
        add_into(net, reserves.released)
        shortage = None if fault else self._shortage(lane, row, net, inherited)
        if shortage is not None:
            fault = OVERSPENT
        return Verdict(
            fault, shortage, effective, repeated, dropped, net, inherited, granted, reserves, ids, covered, claimed
        )

    def commit(self, batch: Batch, binding: Binding, verdict: Verdict) -> None:
        """Take a judged batch in. A void one changes nothing but the lane's history."""
        row = self._row(batch.key)
        if verdict.fault:
            return
        add_into(row.available, verdict.inherited)
        add_into(row.available, verdict.net)
        for keys, rows in zip(verdict.ids, verdict.effective.values(), strict=True):
            row.tell(keys, batch.seq, rows)
        deposits = None
        if Kind.DEPOSIT in verdict.effective:
            rows = verdict.effective[Kind.DEPOSIT]
            keys = fact_keys(batch.body, Kind.DEPOSIT)
            table = batch.body.tables[Kind.DEPOSIT][rows]
            deposits = Deposits((keys[0][rows], keys[1][rows]), self._catalog.cells(binding, table), table["amount"])
        step = Step(batch.seq, verdict.net, len(row.ids), verdict.covered, verdict.claimed, deposits)
        row.add(step, verdict.granted)
        self._reserves_of(batch.key).commit(verdict.reserves)

    def _effective(
        self, lane: bytes, covered: Reach, body: Body, binding: Binding, kind: Kind
    ) -> tuple[Rows, list[tuple[Kind, int, str]]]:
        """Rows that do something, and rows that are void by themselves."""
        author = parse_lane(lane).node
        node = self._genesis.by_id[author].name
        table = body.tables[kind]
        keys = fact_keys(body, kind)
        ok = ~self.used_ids(lane, keys, covered)
        dropped: list[tuple[Kind, int, str]] = []

        def drop(bad: npt.NDArray[np.bool_], reason: str) -> None:
            nonlocal ok
            dropped.extend((kind, row, reason) for row in np.flatnonzero(ok & bad).tolist())
            ok &= ~bad

        if "account" in (table.dtype.names or ()):
            accounts, assets = binding.accounts[table["account"]], binding.assets[table["asset"]]
            drop(assets == UNKNOWN_ASSET, "no such asset")
            drop(
                self._mask(accounts, assets, lambda a, _: not self._catalog.may_record(node, a)),
                "not this node's account",
            )
            if kind is Kind.DEPOSIT:
                drop(self._mask(accounts, assets, lambda a, s: self._custodian(a, s) != node), "not the custodian")
        if kind is Kind.GRANT:
            mine = self._index[author]
            drop((table["node"] >= len(self._genesis.nodes)) | (table["node"] == mine), "no other member")
        rows = np.flatnonzero(ok)  # of equal ids the first row that may stand; void ones do not compete
        pairs = np.stack((keys[0][rows], keys[1][rows]), axis=1)
        return np.sort(rows[np.unique(pairs, axis=0, return_index=True)[1]]), dropped

    def _mask(
        self, accounts: npt.NDArray[np.int64], assets: npt.NDArray[np.int64], test: Callable[[int, int], bool]
    ) -> npt.NDArray[np.bool_]:
        """``test(account, asset)`` for every row, evaluated once per distinct pair."""
        pairs = list(zip(accounts.tolist(), assets.tolist(), strict=True))
        verdicts = {(a, s): s >= 0 and test(a, s) for a, s in set(pairs)}
        return np.array([verdicts[pair] for pair in pairs], np.bool_)

    def _custodian(self, account: int, asset: int) -> str:
        key = (account, asset)
        if key not in self._custody:
            name = self._catalog.account_names[account]
            self._custody[key] = self._genesis.custodian(name, self._catalog.assets[asset])
        return self._custody[key]

    def _net(self, body: Body, binding: Binding, effective: Mapping[Kind, Rows]) -> tuple[Totals, dict[int, Totals]]:
        net: Totals = {}
        granted: dict[int, Totals] = {}
        for kind, sign in ((Kind.DEPOSIT, 1), *((spend, -1) for spend in SPENDS)):
            rows = effective.get(kind)
            if rows is None or not len(rows):
                continue
            table = body.tables[kind][rows]
            cells = self._catalog.cells(binding, table)
            add_into(net, sum_by(cells, table["amount"]), sign)
            if kind is Kind.GRANT:
                for node in np.unique(table["node"]).tolist():
                    to = table["node"] == node
                    granted[node] = sum_by(cells[to], table["amount"][to])
        return net, granted

    def _shortage(self, lane: bytes, row: LaneRights, net: Totals, inherited: Totals) -> Shortage | None:
        member = self.member(lane)
        short = []
        for cell, change in net.items():
            have = self.share(member, cell) + row.available.get(cell, 0) + inherited.get(cell, 0)
            if change < 0 and have + change < 0:
                short.append(Shortage(cell, have, -change))
        return min(short, key=lambda s: self._catalog.cell_name(s.cell)) if short else None

    # -- what deps bring in ---------------------------------------------------------------------------------

    def _inherit(self, lane: bytes, deps: Sequence[Dep], row: LaneRights) -> tuple[Reach, Reach, Totals]:
        """(covered, claimed, rights brought in) with these deps. Deps on lanes that moved no rights are covered all the same."""
        covered, claimed = row.last.covered, row.last.claimed
        inherited: Totals = {}
        if not deps:
            return covered, claimed, inherited
        author = parse_lane(lane)
        me = self._index[author.node]
        for dep in deps:
            giver = parse_lane(dep.lane)
            if giver.node == author.node:
                if giver.epoch < author.epoch:
                    past = self._row(dep.lane).at(dep.seq)
                    covered = extended(extended(covered, past.covered), {dep.lane: dep.seq})
                    claimed = extended(claimed, past.claimed)
            elif self._immediate:
                claimed = extended(claimed, {dep.lane: dep.seq})
        for predecessor, seq in covered.items():
            for step in self._row(predecessor).between(row.last.covered.get(predecessor, 0), seq):
                add_into(inherited, step.net)
        for granting, seq in claimed.items():
            for _, amounts in self._row(granting).granted(me, row.last.claimed.get(granting, 0), seq):
                add_into(inherited, amounts)
        if covered != row.last.covered:
            repeated_deposits(self._rows, lane, row.last.covered, covered, inherited)
        return covered, claimed, inherited
