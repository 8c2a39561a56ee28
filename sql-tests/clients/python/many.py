"""psycopg's executemany: python many.py ROWS URL. Prints how many rows a second go into a new table."""

import sys
import time

import psycopg

count = int(sys.argv[1])
rows = [(i, f"device-{i % 1000}", "2026-01-01 10:00:00+00", i % 97 + 0.25) for i in range(count)]
with psycopg.connect(sys.argv[2], autocommit=True) as connection:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE many (id BIGINT PRIMARY KEY, device TEXT, ts TIMESTAMPTZ, v DOUBLE PRECISION)"
        )
        begin = time.monotonic()
        with connection.transaction():
            cursor.executemany("INSERT INTO many VALUES (%s, %s, %s, %s)", rows)
        seconds = time.monotonic() - begin
        cursor.execute("SELECT count(*) FROM many")
        assert cursor.fetchone() == (count,)
print(round(count / seconds))
