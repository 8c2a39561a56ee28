# What the queries of all files may use.

CREATE SOURCE readings (
  device_id TEXT, temperature DOUBLE PRECISION, ts TIMESTAMPTZ, tags TEXT[],
  WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (connector = 'kafka', topic = 'readings', properties.bootstrap.server = 'localhost:9092') FORMAT PLAIN ENCODE JSON

CREATE TABLE devices (id TEXT PRIMARY KEY, site INT, weight NUMERIC(10, 2), installed TIMESTAMP)

CREATE TABLE sites (id INT PRIMARY KEY, name TEXT, parent INT)

CREATE TABLE bag (a INT, b INT, s TEXT)

CREATE TABLE events (id BIGINT, kind TEXT, amount NUMERIC(12, 2), at TIMESTAMP) WITH (append_only = 'true')

CREATE VIEW heavy AS SELECT id, site FROM devices WHERE weight > 100

CREATE MATERIALIZED VIEW per_site AS SELECT site, count(*) AS n, max(weight) AS heaviest FROM devices GROUP BY site
