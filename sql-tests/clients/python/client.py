"""psycopg, asyncpg and SQLAlchemy against a server: types both ways, introspection, cancelling, fifty connections.

Usage: client.py DRIVER URL. Prints a line for each part that went well; the first that does not is an exception.
"""

import asyncio
import datetime
import decimal
import json
import sys
import threading
import time
import uuid

UTC = datetime.timezone.utc
POOL = 50

# Columns of the table, with values that show what a format can lose.
TYPES = [
    ("b", "BOOLEAN", [True, False, None]),
    ("i2", "SMALLINT", [-32768, 32767, None]),
    ("i4", "INTEGER", [-(2**31), 2**31 - 1, None]),
    ("i8", "BIGINT", [-(2**63), 2**63 - 1, None]),
    ("f8", "DOUBLE PRECISION", [0.1, -1e308, None]),
    ("n", "NUMERIC(30,10)", [decimal.Decimal("-12345678901234567890.0123456789"), decimal.Decimal("0.0000000001"), None]),
    ("t", "TEXT", ["", "it's \\ \"quoted\"\n\u00e9\u4e16\U0001f600", None]),
    ("ba", "BYTEA", [b"", bytes(range(256)), None]),
    ("d", "DATE", [datetime.date(1969, 12, 31), datetime.date(9999, 12, 30), None]),
    ("tm", "TIME", [datetime.time(0, 0), datetime.time(23, 59, 59, 999999), None]),
    ("ts", "TIMESTAMP", [datetime.datetime(1969, 12, 31, 23, 59, 59, 999999), datetime.datetime(2262, 4, 12), None]),
    ("tz", "TIMESTAMPTZ", [datetime.datetime(1600, 1, 1, tzinfo=UTC), datetime.datetime(2026, 7, 1, 12, 30, 0, 1, tzinfo=UTC), None]),
    ("iv", "INTERVAL", [datetime.timedelta(days=-3, seconds=5, microseconds=7), datetime.timedelta(0), None]),
    ("u", "UUID", [uuid.UUID(int=0), uuid.UUID("6e47bc22-84ad-4303-8e7b-8ab08ac91cf1"), None]),
    ("js", "JSONB", [{"a": [1, None, "x"]}, [], None]),
    ("ia", "INTEGER[]", [[], [1, None, -3], None]),
    ("ta", "TEXT[]", [["a,b", "", 'q"x', None], ["{}"], None]),
]
NAMES = ", ".join(name for name, _, _ in TYPES)
DEFINITION = "CREATE TABLE client_types (id INT PRIMARY KEY, " + ", ".join(f"{n} {t}" for n, t, _ in TYPES) + ")"
ROWS = [[values[i] for _, _, values in TYPES] for i in range(3)]
SLOW = "SELECT count(*) FROM generate_series(1, 100000) AS a CROSS JOIN generate_series(1, 100000) AS b"


def check(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} is not {expected!r}")


def with_psycopg(url):
    import psycopg
    from psycopg.types.json import Jsonb

    def adapted(row):
        return [Jsonb(v) if name == "js" and v is not None else v for (name, _, _), v in zip(TYPES, row)]

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS client_types CASCADE")
        connection.execute(DEFINITION)
        connection.execute(f"CREATE MATERIALIZED VIEW client_view AS SELECT id, {NAMES} FROM client_types")
        marks = ", ".join(["%s"] * (len(TYPES) + 1))
        connection.cursor().executemany(f"INSERT INTO client_types VALUES ({marks})", [[i] + adapted(row) for i, row in enumerate(ROWS)])
        binary_marks = ", ".join(["%b"] * (len(TYPES) + 1))
        for i, row in enumerate(ROWS):
            values = [None if name == "iv" else v for (name, _, _), v in zip(TYPES, adapted(row))]
            connection.execute(f"INSERT INTO client_types VALUES ({binary_marks})", [i + 10] + values)
        for relation in ("client_types", "client_view"):
            for is_binary in (False, True):
                cursor = connection.cursor(binary=is_binary)
                rows = cursor.execute(f"SELECT {NAMES} FROM {relation} WHERE id < 10 ORDER BY id").fetchall()
                check([list(row) for row in rows], ROWS, f"{relation}, binary {is_binary}")
        rows = connection.execute(f"SELECT {NAMES} FROM client_types WHERE id >= 10 ORDER BY id").fetchall()
        without = [[None if name == "iv" else v for (name, _, _), v in zip(TYPES, row)] for row in ROWS]
        check([list(row) for row in rows], without, "sent in binary")
        print("ok types")
        found = {}
        with connection.cursor().copy("COPY (SUBSCRIBE client_view WITH (PROGRESS)) TO STDOUT") as copy:
            for row in copy.rows():
                if row[1] == "0":
                    break
                found[row[2]] = row[1]
            connection.cancel()
            try:
                for _ in copy.rows():
                    pass
            except psycopg.errors.QueryCanceled:
                pass
        check(len(found), 6, "rows of the subscription")
        print("ok subscribe")
        with connection.transaction():
            connection.execute("INSERT INTO client_types (id) VALUES (100)")
            try:
                with connection.transaction():
                    connection.execute("INSERT INTO client_types (id) VALUES (100)")
            except psycopg.errors.UniqueViolation:
                pass
            connection.execute("INSERT INTO client_types (id) VALUES (101)")
        check(connection.execute("SELECT count(*) FROM client_types WHERE id >= 100").fetchone(), (2,), "savepoints")
        print("ok savepoints")
        info = psycopg.types.TypeInfo.fetch(connection, "int4")
        check((info.oid, info.array_oid), (23, 1007), "TypeInfo")
        print("ok introspection")
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        started = time.monotonic()
        try:
            connection.execute(SLOW)
            raise AssertionError("not cancelled")
        except psycopg.errors.QueryCanceled:
            check(time.monotonic() - started < 10, True, "cancelled in time")
        print("ok cancel")
    connections = [psycopg.connect(url) for _ in range(POOL)]
    answers = [c.execute("SELECT %s::int + 1", [i]).fetchone()[0] for i, c in enumerate(connections)]
    check(answers, list(range(1, POOL + 1)), "pool")
    for c in connections:
        c.close()
    print("ok pool")


def with_asyncpg(url):
    import asyncpg

    async def run():
        connection = await asyncpg.connect(url)
        await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        await connection.execute("DROP TABLE IF EXISTS client_types CASCADE")
        await connection.execute(DEFINITION)
        marks = ", ".join(f"${i}" for i in range(1, len(TYPES) + 2))
        await connection.executemany(f"INSERT INTO client_types VALUES ({marks})", [[i] + row for i, row in enumerate(ROWS)])
        rows = await connection.fetch(f"SELECT {NAMES} FROM client_types ORDER BY id")
        check([list(row) for row in rows], ROWS, "types")
        print("ok types")
        statement = await connection.prepare("SELECT id, t FROM client_types WHERE id = $1 AND tz > $2")
        check([t.name for t in statement.get_parameters()], ["int4", "timestamptz"], "parameters")
        check([a.type.name for a in statement.get_attributes()], ["int4", "text"], "attributes")
        async with connection.transaction():
            cursor = connection.cursor("SELECT * FROM generate_series(1, 1000) AS n", prefetch=100)
            check(len([row async for row in cursor]), 1000, "cursor")
        print("ok introspection")
        heard = asyncio.Queue()
        await connection.add_listener("client_types", lambda *args: heard.put_nowait(args[-1]))
        await asyncio.sleep(0.2)
        other = await asyncpg.connect(url)
        await other.execute("INSERT INTO client_types (id) VALUES (50)")
        check((await asyncio.wait_for(heard.get(), 5)).isdigit(), True, "notification")
        await connection.reset()
        print("ok listen")
        try:
            await connection.fetch(SLOW, timeout=0.3)
            raise AssertionError("not cancelled")
        except (asyncio.TimeoutError, TimeoutError):
            pass
        check(await connection.fetchval("SELECT 1"), 1, "after the cancel")
        print("ok cancel")
        await connection.close()
        await other.close()
        async with asyncpg.create_pool(url, min_size=POOL, max_size=POOL) as pool:
            answers = await asyncio.gather(*(pool.fetchval("SELECT $1::int + 1", i) for i in range(POOL)))
        check(answers, list(range(1, POOL + 1)), "pool")
        print("ok pool")

    asyncio.run(run())


def with_sqlalchemy(url):
    import sqlalchemy as sa

    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), pool_size=POOL)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT 1"))
    metadata = sa.MetaData()
    table = sa.Table(
        "client_orm", metadata,
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(20), nullable=False),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("at", sa.DateTime(timezone=True)),
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS client_orm CASCADE"))
        metadata.create_all(connection)
        connection.execute(sa.text("CREATE INDEX client_orm_name ON client_orm (name)"))
        connection.execute(sa.text("CREATE MATERIALIZED VIEW client_sums AS SELECT name, sum(price) AS total FROM client_orm GROUP BY name"))
        connection.execute(sa.text("CREATE VIEW client_names AS SELECT name FROM client_orm"))
    row = {"id": 1, "name": "a", "price": decimal.Decimal("1.50"), "at": datetime.datetime(2026, 1, 1, tzinfo=UTC)}
    with engine.begin() as connection:
        connection.execute(table.insert(), [row, {**row, "id": 2}])
        found = connection.execute(sa.select(table).where(table.c.id == 1)).mappings().one()
        check(dict(found), row, "row")
    print("ok types")
    inspector = sa.inspect(engine)
    check({"client_orm"} <= set(inspector.get_table_names()), True, "tables")
    check("client_names" in inspector.get_view_names(), True, "views")
    check("client_sums" in inspector.get_materialized_view_names(), True, "materialized views")
    columns = {c["name"]: (str(c["type"]), c["nullable"]) for c in inspector.get_columns("client_orm")}
    expected = {"id": ("BIGINT", False), "name": ("VARCHAR(20)", False), "price": ("NUMERIC(10, 2)", True), "at": ("TIMESTAMP", True)}
    check(columns, expected, "columns")
    check(inspector.get_pk_constraint("client_orm")["constrained_columns"], ["id"], "primary key")
    indexes = [(i["name"], i["column_names"], i["unique"]) for i in inspector.get_indexes("client_orm")]
    check(indexes, [("client_orm_name", ["name"], False)], "indexes")
    check("FROM" in inspector.get_view_definition("client_names"), True, "definition")
    check(inspector.get_foreign_keys("client_orm"), [], "foreign keys")
    reflected = sa.MetaData()
    reflected.reflect(engine, only=["client_orm"])
    check([c.name for c in reflected.tables["client_orm"].columns], ["id", "name", "price", "at"], "reflection")
    print("ok introspection")
    connections = [engine.connect() for _ in range(POOL)]
    check([c.execute(sa.text("SELECT 1")).scalar() for c in connections], [1] * POOL, "pool")
    for c in connections:
        c.close()
    print("ok pool")
    engine.dispose()


if __name__ == "__main__":
    {"psycopg": with_psycopg, "asyncpg": with_asyncpg, "sqlalchemy": with_sqlalchemy}[sys.argv[1]](sys.argv[2])
