"""The same fills put into stores that people use instead: a transaction a request, ids refused a second time, positions summed, synced.

Each store gets the rows of a request in the form that it takes in fastest; to make that form is part of its work, as packing columns is of
ours. None of them replicates anything.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import numpy as np

from bench import servers
from bench.join import ACCOUNTS, NAMES, Fills
from bench.measured import Run, Wrong, timed

COLUMNS = ("venue", "instrument", "trade_id", "account", "side", "qty", "price", "fee", "ts_us")
FILLS = (
    "CREATE TABLE fills (venue TEXT NOT NULL, instrument TEXT NOT NULL, trade_id BIGINT NOT NULL, account TEXT NOT NULL,"
    " side INT NOT NULL, qty BIGINT NOT NULL, price BIGINT NOT NULL, fee BIGINT NOT NULL, ts_us BIGINT NOT NULL"
)
IDS = ", PRIMARY KEY (venue, instrument, trade_id))"
POSITIONS = (
    "CREATE TABLE positions (account TEXT NOT NULL, instrument TEXT NOT NULL, bought BIGINT NOT NULL, sold BIGINT NOT NULL,"
    " value_bought {wide} NOT NULL, value_sold {wide} NOT NULL, fees BIGINT NOT NULL, fills BIGINT NOT NULL,"
    " PRIMARY KEY (account, instrument))"
)
SIDES = "CASE WHEN side > 0 THEN {what} ELSE 0 END", "CASE WHEN side < 0 THEN {what} ELSE 0 END"
SUMMED = ("bought", "sold", "value_bought", "value_sold", "fees", "fills")
TERMS = (*(side.format(what=what) for what in ("qty", "qty * price") for side in SIDES), "fee")
ADD = " ON CONFLICT (account, instrument) DO UPDATE SET " + ", ".join(
    f"{name} = positions.{name} + excluded.{name}" for name in SUMMED
)
FOLD = (
    f"INSERT INTO positions SELECT account, instrument, {', '.join(f'sum({term})' for term in TERMS)}, count(*)"
    f" FROM {{fresh}} GROUP BY account, instrument{ADD}"
)
ONE_BY_ONE = (
    "CREATE TRIGGER counted AFTER INSERT ON fills BEGIN INSERT INTO positions"
    f" SELECT new.account, new.instrument, {', '.join(TERMS)}, 1 FROM (SELECT new.side AS side, new.qty AS qty,"
    f" new.price AS price, new.fee AS fee) WHERE true{ADD}; END"
)
TOTALS = "SELECT sum(fills), sum(bought) - sum(sold), sum(value_bought) - sum(value_sold) FROM positions"
INSERT = f"INSERT INTO fills ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT DO NOTHING"

SQLITE = "SQLite upserts, fill by fill"
SUMMED_FIRST = "SQLite upserts, summed by request"
REDIS_PART = 5

Totals = tuple[int, int, int]
"""How many different fills there are, the sum of their signed quantities, and that of their values."""


def totals(distinct: Sequence[Fills]) -> Totals:
    """What every store must come to. A value overflows in none of them."""
    counted = [(len(f.ids), int((f.qty * f.side).sum()), int((f.qty * f.price * f.side).sum())) for f in distinct]
    return tuple(map(sum, zip(*counted, strict=True)))  # type: ignore[return-value]


def stores(work: Sequence[Fills], once: Sequence[Fills]) -> tuple[dict[str, Run], list[str]]:
    """The stores that are here, each by name, and the names of those that are not installed. ``once``: the work without what is told
    again. Redis gets a part of it, and its time is multiplied: it takes long."""
    expected = totals(once)
    here: dict[str, Run] = {
        SQLITE: lambda: sqlite(work, expected),
        SUMMED_FIRST: lambda: sqlite(work, expected, by_request=True),
    }
    missing: list[str] = []
    servers_here = (("PostgreSQL", servers.postgres(), "pg8000"), ("Redis", servers.redis(), "redis"))
    missing += [name for name, program, library in servers_here if not program or not importlib.util.find_spec(library)]
    if "PostgreSQL" not in missing:
        here["PostgreSQL, COPY and upsert"] = lambda: postgres(servers.postgres(), work, expected)
    if "Redis" not in missing:
        part = max(1, len(work) // REDIS_PART)
        scale = sum(len(fills.ids) for fills in work) / sum(len(fills.ids) for fills in work[:part])
        here[f"Redis, 1/{REDIS_PART} of it"] = lambda: scale * redis(servers.redis(), work[:part], totals(once[:part]))
    return here, missing


def sqlite(work: Sequence[Fills], expected: Totals, by_request: bool = False) -> float:
    """SQLite through apsw: write-ahead log, every commit synced. A trigger upserts the position of each fill that was new; ``by_request``:
    those of a request at once, from the rows beyond those before it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        connection = apsw.Connection(f"{directory}/fills.db")
        connection.pragma("journal_mode", "WAL")
        connection.pragma("synchronous", "FULL")
        connection.execute(FILLS + (IDS if by_request else f"{IDS} WITHOUT ROWID"))
        connection.execute(POSITIONS.format(wide="BIGINT"))
        if not by_request:
            connection.execute(ONE_BY_ONE)
        fold = FOLD.format(fresh="fills WHERE rowid > ?")

        def put() -> None:
            for fills in work:
                with connection:
                    before = connection.execute("SELECT max(rowid) FROM fills").get if by_request else 0
                    connection.executemany(INSERT, rows(fills))
                    if by_request:
                        connection.execute(fold, (before or 0,))

        seconds = timed(put)
        _check("SQLite", connection.execute(TOTALS).get, expected)
        connection.close()
    return seconds


def postgres(programs: Any, work: Sequence[Fills], expected: Totals) -> float:
    """PostgreSQL: a block is copied into a temporary table in its binary form, and from there upserted."""
    from pg8000.native import Connection

    with servers.running_postgres(programs) as socket:
        connection = Connection("bench", database="postgres", unix_sock=str(socket))
        for statement in (FILLS + IDS, POSITIONS.format(wide="NUMERIC"), "CREATE TEMP TABLE staged (LIKE fills)"):
            connection.run(statement)
        copy = "COPY staged FROM STDIN WITH (FORMAT binary)"
        upsert = (
            "WITH fresh AS (INSERT INTO fills SELECT * FROM staged ON CONFLICT DO NOTHING RETURNING *) "
            + FOLD.format(fresh="fresh")
        )

        def put() -> None:
            for fills in work:
                connection.run("BEGIN")
                connection.run("TRUNCATE staged")
                connection.run(copy, stream=io.BytesIO(_copied(fills)))
                connection.run(upsert)
                connection.run("COMMIT")

        seconds = timed(put)
        _check("PostgreSQL", connection.run(TOTALS)[0], expected)
        connection.close()
    return seconds


def _copied(fills: Fills) -> bytes:
    """A block in the binary form of COPY: a header, of each row the number of its fields and of each field its length, a trailer."""
    columns = [(name.encode(), f"S{len(name)}") for name in ("V", f"I{fills.instrument}")]
    names = np.array([name.encode() for name in NAMES])
    zeros = np.zeros_like(fills.qty)
    numbers = ((fills.side, ">i4"), (fills.qty, ">i8"), (fills.price, ">i8"), (zeros, ">i8"), (zeros, ">i8"))
    columns += [(fills.ids, ">i8"), (names[fills.account], names.dtype.str), *numbers]
    kinds = [part for at, (_, kind) in enumerate(columns) for part in ((f"n{at}", ">i4"), (f"v{at}", kind))]
    table = np.zeros(len(fills.ids), np.dtype([("count", ">i2"), *kinds]))
    table["count"] = len(columns)
    for at, (column, kind) in enumerate(columns):
        table[f"n{at}"], table[f"v{at}"] = np.dtype(kind).itemsize, column
    return b"PGCOPY\n\xff\r\n\x00" + bytes(8) + table.tobytes() + b"\xff\xff"


def redis(program: Any, work: Sequence[Fills], expected: Totals) -> float:
    """Redis: a pipeline that sets each fill unless it is there, then one that adds up those that were not. The two are not one
    transaction."""
    from redis import Redis

    with servers.running_redis(program) as socket, Redis(unix_socket_path=str(socket)) as connection:
        connection.ping()

        def put() -> None:
            for fills in work:
                _put(connection, fills)

        seconds = timed(put)
        held = connection.hgetall("positions")
        sums = {what: sum(int(v) for key, v in held.items() if key.endswith(what)) for what in (b"f", b"q", b"v")}
        _check("Redis", [sums[b"f"], sums[b"q"], sums[b"v"]], expected)
    return seconds


def _put(connection: Any, fills: Fills) -> None:
    name, packed = f"fills:{fills.instrument}", np.stack([fills.qty, fills.price, fills.account], 1).tobytes()
    setting = connection.pipeline(transaction=False)
    for at, id in enumerate(fills.ids.tolist()):
        setting.hsetnx(name, id, packed[at * 24 : at * 24 + 24])
    fresh = np.array(setting.execute(), np.bool_)
    sums = np.zeros((3, ACCOUNTS), np.int64)
    signed = fills.qty * fills.side
    for row, values in enumerate((np.ones_like(signed), signed, signed * fills.price)):
        np.add.at(sums[row], fills.account[fresh], values[fresh])
    adding = connection.pipeline(transaction=False)
    for account in np.flatnonzero(sums[0]).tolist():
        for what, row in zip("fqv", sums, strict=True):
            adding.hincrby("positions", f"{account}/{fills.instrument}/{what}", int(row[account]))
    adding.execute()


def rows(fills: Fills) -> Iterator[tuple[Any, ...]]:
    """A block as rows of the table of fills. Those of the bench have no fee and no time."""
    count = len(fills.ids)
    accounts = [NAMES[number] for number in fills.account.tolist()]
    numbers = [column.tolist() for column in (fills.side, fills.qty, fills.price)]
    same = (["V"] * count, [f"I{fills.instrument}"] * count)
    return zip(*same, fills.ids.tolist(), accounts, *numbers, [0] * count, [0] * count, strict=True)


def _check(name: str, got: Any, expected: Totals) -> None:
    if tuple(map(int, got)) != expected:
        raise Wrong(f"{name} holds {got}, not {expected}: fills, quantity, value")
