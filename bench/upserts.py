"""The same fills put into stores that people use instead: a transaction a block, ids refused a second time, positions summed, synced.

Each store gets a block in the form that it takes in fastest; to make that form is part of its work, as packing columns is of ours. None
of them replicates anything.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import apsw
import numpy as np
import numpy.typing as npt

from bench import servers
from bench.join import ACCOUNTS, Fills
from bench.measured import Run, Wrong, timed

FILLS = (
    "CREATE TABLE fills ({row} instrument INT NOT NULL, id BIGINT NOT NULL, account INT NOT NULL, qty BIGINT NOT NULL,"
    " price BIGINT NOT NULL, side INT NOT NULL, UNIQUE (instrument, id))"
)
POSITIONS = (
    "CREATE TABLE positions (account INT NOT NULL, instrument INT NOT NULL, qty BIGINT NOT NULL,"
    " value BIGINT NOT NULL, fills BIGINT NOT NULL, PRIMARY KEY (account, instrument))"
)
COLUMNS = "instrument, id, account, qty, price, side"
FOLD = (
    "INSERT INTO positions SELECT account, instrument, sum(qty * side), sum(qty * price * side), count(*) FROM {fresh}"
    " GROUP BY account, instrument ON CONFLICT (account, instrument) DO UPDATE SET qty = positions.qty + excluded.qty,"
    " value = positions.value + excluded.value, fills = positions.fills + excluded.fills"
)
TOTALS = "SELECT sum(fills), sum(qty), sum(value) FROM positions"

Totals = tuple[int, int, int]
"""How many different fills there are, the sum of their signed quantities, and that of their values."""


def totals(distinct: Sequence[Fills]) -> Totals:
    """What every store must come to. A value overflows in none of them."""
    counted = [(len(f.ids), int((f.qty * f.side).sum()), int((f.qty * f.price * f.side).sum())) for f in distinct]
    return tuple(map(sum, zip(*counted, strict=True)))  # type: ignore[return-value]


def stores(work: Sequence[Fills], expected: Totals) -> tuple[dict[str, Run], list[str]]:
    """The stores that are here, each by name, and the names of those that are not installed."""
    here: dict[str, Run] = {"SQLite upserts (apsw)": lambda: sqlite(work, expected)}
    missing: list[str] = []
    for name, program, library, run in (
        ("PostgreSQL", servers.postgres(), "pg8000", postgres),
        ("Redis", servers.redis(), "redis", redis),
    ):
        if program is not None and importlib.util.find_spec(library) is not None:
            here[name] = _bound(run, program, work, expected)
        else:
            missing.append(name)
    return here, missing


def _bound(run: Callable[..., float], *arguments: object) -> Run:
    return lambda: run(*arguments)


def sqlite(work: Sequence[Fills], expected: Totals) -> float:
    """SQLite through apsw: write-ahead log, every commit synced. What a block added are the rows beyond those before it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        connection = apsw.Connection(f"{directory}/fills.db")
        connection.pragma("journal_mode", "WAL")
        connection.pragma("synchronous", "FULL")
        connection.execute(FILLS.format(row="row INTEGER PRIMARY KEY,"))
        connection.execute(POSITIONS)
        insert = f"INSERT INTO fills ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        fold = FOLD.format(fresh="fills WHERE row > ?")

        def put() -> None:
            for fills in work:
                with connection:
                    before = connection.execute("SELECT coalesce(max(row), 0) FROM fills").get
                    connection.executemany(insert, zip(*(column.tolist() for column in columns(fills)), strict=True))
                    connection.execute(fold, (before,))

        seconds = timed(put)
        _check("SQLite", connection.execute(TOTALS).get, expected)
        connection.close()
    return seconds


def postgres(programs: Any, work: Sequence[Fills], expected: Totals) -> float:
    """PostgreSQL: a block is copied into a temporary table in its binary form, and from there upserted."""
    from pg8000.native import Connection

    with servers.running_postgres(programs) as socket:
        connection = Connection("bench", database="postgres", unix_sock=str(socket))
        for statement in (FILLS.format(row=""), POSITIONS, "CREATE TEMP TABLE staged (LIKE fills)"):
            connection.run(statement)
        copy = "COPY staged FROM STDIN WITH (FORMAT binary)"
        upsert = (
            f"WITH fresh AS (INSERT INTO fills SELECT {COLUMNS} FROM staged ON CONFLICT DO NOTHING RETURNING *) "
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
    widths = (4, 8, 4, 8, 8, 4)
    fields = [part for at, width in enumerate(widths) for part in ((f"n{at}", ">i4"), (f"v{at}", f">i{width}"))]
    rows = np.zeros(len(fills.ids), np.dtype([("count", ">i2"), *fields]))
    rows["count"] = len(widths)
    for at, (width, column) in enumerate(zip(widths, columns(fills), strict=True)):
        rows[f"n{at}"], rows[f"v{at}"] = width, column
    return b"PGCOPY\n\xff\r\n\x00" + bytes(8) + rows.tobytes() + b"\xff\xff"


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


def columns(fills: Fills) -> tuple[npt.NDArray[Any], ...]:
    """A block as the columns of the table of fills."""
    instrument = np.full(len(fills.ids), fills.instrument)
    return instrument, fills.ids, fills.account, fills.qty, fills.price, fills.side


def _check(name: str, got: Any, expected: Totals) -> None:
    if tuple(map(int, got)) != expected:
        raise Wrong(f"{name} holds {got}, not {expected}: fills, quantity, value")
