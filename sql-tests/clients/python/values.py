"""Random values of each type, sent and read back by psycopg (text and binary) and asyncpg, and printed as PostgreSQL
prints them.

Usage: values.py SEED COUNT URL POSTGRES_URL. Leaves the table random_values on both servers for the Java client.
"""

import asyncio
import datetime
import decimal
import json
import math
import random
import string
import struct
import sys
import uuid

UTC = datetime.timezone.utc
DAY_MICROSECONDS = 86_400_000_000


def integer(bits):
    def make(r):
        edge = 1 << (bits - 1)
        return r.choice([r.randrange(-edge, edge), r.randrange(-100, 100), -edge, edge - 1, 0])
    return make


def double(r):
    kind = r.randrange(10)
    if kind == 0:
        return r.choice([math.nan, math.inf, -math.inf, 0.0, 5e-324, 1.7976931348623157e308, 1e15, 1e16, 123456789012345.0])
    if kind < 5:
        return round(r.uniform(-1e6, 1e6), r.randrange(6))
    value = struct.unpack("<d", r.randbytes(8))[0]
    return value if math.isfinite(value) else 1.0


def single(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def real(r):
    if r.randrange(3) == 0:
        return single(r.uniform(-1e6, 1e6))
    value = struct.unpack("<f", r.randbytes(4))[0]
    return value if math.isfinite(value) else 1.0


def numeric(r):
    digits = r.randrange(10 ** r.randrange(1, 31))
    return decimal.Decimal(r.choice([1, -1]) * digits).scaleb(-10, decimal.Context(prec=40))


def text(r):
    alphabets = [string.printable, "\\'\"{},()NULL \t\n\r", "\u00e4\u00df\u0416\u4e16\u754c\U0001f600\u200d\ufffd\u0301", string.ascii_letters]
    return "".join(r.choice(r.choice(alphabets)) for _ in range(r.choice([0, 1, 3, 20, 200])))


def date(r):
    return datetime.date.fromordinal(r.randrange(1, datetime.date.max.toordinal() + 1))


def timestamp(r):
    whole = datetime.datetime.combine(date(r), datetime.time())
    return whole + datetime.timedelta(microseconds=r.choice([0, r.randrange(DAY_MICROSECONDS), r.randrange(86400) * 1_000_000]))


def zoned(r):
    # not so near to the ends that a zone leads beyond them
    return min(max(timestamp(r), datetime.datetime(2, 1, 1)), datetime.datetime(9998, 12, 31)).replace(tzinfo=UTC)


def interval(r):
    return datetime.timedelta(
        days=r.choice([0, r.randrange(-1_000_000, 1_000_000)]),
        microseconds=r.choice([0, r.randrange(-DAY_MICROSECONDS, DAY_MICROSECONDS), r.randrange(-3600, 3600) * 1_000_000]),
    )


def document(r, depth=0):
    kind = r.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return None
    if kind == 1:
        return r.choice([True, False])
    if kind == 2:
        return r.randrange(-(10**12), 10**12)
    if kind == 3:
        return round(r.uniform(-1000, 1000), r.randrange(5))
    if kind == 4:
        return text(r)
    if kind < 7:
        return {text(r)[:10]: document(r, depth + 1) for _ in range(r.randrange(4))}
    return [document(r, depth + 1) for _ in range(r.randrange(4))]


def array_of(make):
    return lambda r: [None if r.randrange(5) == 0 else make(r) for _ in range(r.randrange(6))]


TYPES = [
    ("b", "BOOLEAN", lambda r: r.choice([True, False])),
    ("i2", "SMALLINT", integer(16)),
    ("i4", "INTEGER", integer(32)),
    ("i8", "BIGINT", integer(64)),
    ("f4", "REAL", real),
    ("f8", "DOUBLE PRECISION", double),
    ("n", "NUMERIC(30,10)", numeric),
    ("t", "TEXT", text),
    ("ba", "BYTEA", lambda r: r.randbytes(r.choice([0, 1, 16, 300]))),
    ("d", "DATE", date),
    ("tm", "TIME", lambda r: timestamp(r).time()),
    ("ts", "TIMESTAMP", timestamp),
    ("tz", "TIMESTAMPTZ", zoned),
    ("iv", "INTERVAL", interval),
    ("u", "UUID", lambda r: uuid.UUID(bytes=r.randbytes(16))),
    ("js", "JSONB", document),
    ("ia", "INTEGER[]", array_of(integer(32))),
    ("ta", "TEXT[]", array_of(text)),
    ("da", "DOUBLE PRECISION[]", array_of(double)),
    ("na", "NUMERIC(30,10)[]", array_of(numeric)),
    ("tza", "TIMESTAMPTZ[]", array_of(zoned)),
]
NAMES = [name for name, _, _ in TYPES]
DEFINITION = "(id INT PRIMARY KEY, " + ", ".join(f"{n} {t}" for n, t, _ in TYPES) + ")"


def same(found, expected):
    if isinstance(expected, float) and isinstance(found, float):
        return found == expected or (math.isnan(found) and math.isnan(expected))
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        return isinstance(found, dict) and found.keys() == expected.keys() and all(same(found[k], v) for k, v in expected.items())
    return found == expected


def check_rows(found, expected, what):
    if len(found) != len(expected):
        raise AssertionError(f"{what}: {len(found)} rows are not {len(expected)}")
    for row, wanted in zip(found, expected):
        for name, value, want in zip(NAMES, row, wanted):
            # in text it has as many digits as tell it from other REALs
            value = single(value) if name == "f4" and value is not None else value
            if not same(value, want):
                raise AssertionError(f"{what}: {name}: {value!r} is not {want!r}")


def with_psycopg(url, rows, first, is_binary):
    import psycopg
    from psycopg.types.json import Jsonb

    def adapted(row):
        return [Jsonb(value) if name == "js" else value for name, value in zip(NAMES, row)]

    # psycopg sends no timedelta in binary
    marks = ["%t" if name == "iv" or not is_binary else "%b" for name in NAMES]
    casts = [f"{mark}::{kind}" for mark, (_, kind, _) in zip(marks, TYPES)]
    insert = "INSERT INTO random_values VALUES (%s::int, " + ", ".join(casts) + ")"
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.transaction():
            connection.cursor().executemany(insert, [[first + i] + adapted(row) for i, row in enumerate(rows)])
        for reads_binary in (False, True):
            cursor = connection.cursor(binary=reads_binary)
            query = f"SELECT {', '.join(NAMES)} FROM random_values WHERE id >= %s AND id < %s ORDER BY id"
            found = cursor.execute(query, [first, first + len(rows)]).fetchall()
            check_rows([list(row) for row in found], rows, f"psycopg, sent binary {is_binary}, read binary {reads_binary}")


async def with_asyncpg(url, rows, first):
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    kinds = ["int"] + [kind for _, kind, _ in TYPES]
    marks = ", ".join(f"${i + 1}::{kind}" for i, kind in enumerate(kinds))
    insert = f"INSERT INTO random_values VALUES ({marks})"
    await connection.executemany(insert, [[first + i] + row for i, row in enumerate(rows)])
    query = f"SELECT {', '.join(NAMES)} FROM random_values WHERE id >= $1 AND id < $2 ORDER BY id"
    found = await connection.fetch(query, first, first + len(rows))
    check_rows([list(row) for row in found], rows, "asyncpg")
    await connection.close()


def printed(url):
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        texts = ", ".join(f"{name}::text" for name in NAMES)
        rows = connection.execute(f"SELECT {texts} FROM random_values ORDER BY id").fetchall()
        # what zones will do after the years that their rules are published for, PostgreSQL guesses
        connection.execute("SET TimeZone TO 'Europe/Berlin'")
        zoned = connection.execute("SELECT tz::text FROM random_values WHERE tz < '2037-01-01' ORDER BY id").fetchall()
        return rows, zoned


def main(seed, count, url, postgres_url):
    import psycopg

    r = random.Random(seed)
    rows = [[make(r) if r.randrange(20) else None for _, _, make in TYPES] for _ in range(count)]
    # None in a column of documents is SQL's NULL and not JSON's null
    for address in (url, postgres_url):
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS random_values")
            connection.execute("CREATE TABLE random_values " + DEFINITION)
    js = NAMES.index("js")
    for row in rows:
        if row[js] is None:
            row[js] = {}
    for address in (url, postgres_url):
        with_psycopg(address, rows, 0, False)
        with_psycopg(address, rows, count, True)
        asyncio.run(with_asyncpg(address, rows, 2 * count))
    print("ok values")
    (here, here_zoned), (there, there_zoned) = printed(url), printed(postgres_url)
    if here_zoned != there_zoned:
        differing = [pair for pair in zip(here_zoned, there_zoned) if pair[0] != pair[1]]
        raise AssertionError(f"printed in a zone: {differing[:1]}")
    for number, (found, expected) in enumerate(zip(here, there)):
        for name, value, want in zip(NAMES, found, expected):
            if value != want:
                raise AssertionError(f"row {number}: {name} is printed as {value!r} and not as {want!r}")
    print("ok printed")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5])
