// node-postgres against a server: types both ways, introspection, cancelling, fifty connections. Usage: client.js URL
const assert = require('node:assert');
const net = require('node:net');
const { Client, Pool } = require('pg');

const url = process.argv[2];
const slow = 'SELECT count(*) FROM generate_series(1, 100000) AS a CROSS JOIN generate_series(1, 100000) AS b';
const row = {
  id: 1,
  b: true,
  i8: '9223372036854775807',
  f8: 0.1,
  n: '12345678901234567890.0123456789',
  t: 'it\'s \\ "quoted"\n\u00e9\u4e16',
  ba: Buffer.from([0, 1, 254, 255]),
  tz: new Date('2026-07-01T12:30:00.001Z'),
  js: { a: [1, null, 'x'] },
  ia: [1, null, -3],
  ta: ['a,b', '', 'q"x', null],
  u: '6e47bc22-84ad-4303-8e7b-8ab08ac91cf1',
};

(async () => {
  const client = new Client(url);
  await client.connect();
  await client.query('DROP TABLE IF EXISTS client_node CASCADE');
  await client.query(`CREATE TABLE client_node (id INT PRIMARY KEY, b BOOLEAN, i8 BIGINT, f8 DOUBLE PRECISION, n NUMERIC(30,10),
    t TEXT, ba BYTEA, tz TIMESTAMPTZ, js JSONB, ia INTEGER[], ta TEXT[], u UUID)`);
  const marks = Object.keys(row).map((_, i) => `$${i + 1}`).join(', ');
  await client.query(`INSERT INTO client_node VALUES (${marks})`, Object.values(row));
  const text = await client.query('SELECT * FROM client_node WHERE id = $1', [1]);
  assert.deepStrictEqual({ ...text.rows[0] }, row);
  const named = { name: 'by_id', text: 'SELECT b, f8, t FROM client_node WHERE id = $1', values: [1] };
  for (let i = 0; i < 3; i += 1) {
    assert.deepStrictEqual({ ...(await client.query(named)).rows[0] }, { b: row.b, f8: row.f8, t: row.t });
  }
  console.log('ok types');
  const columns = await client.query(
    `SELECT column_name, udt_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1
     ORDER BY ordinal_position`, ['client_node']);
  assert.strictEqual(columns.rows.map((c) => c.udt_name).join(' '),
    'int4 bool int8 float8 numeric text bytea timestamptz jsonb _int4 _text uuid');
  console.log('ok introspection');
  const cancelled = assert.rejects(client.query(slow), { code: '57014' });
  setTimeout(() => {
    const request = Buffer.alloc(16);
    [16, 80877102, client.processID, client.secretKey].forEach((n, i) => request.writeInt32BE(n, 4 * i));
    net.connect(client.port, client.host, function () { this.end(request); });
  }, 300);
  await cancelled;
  await client.end();
  console.log('ok cancel');
  const pool = new Pool({ connectionString: url, max: 50 });
  const clients = await Promise.all(Array.from({ length: 50 }, () => pool.connect()));
  const answers = await Promise.all(clients.map((c, i) => c.query('SELECT $1::int + 1 AS n', [i])));
  assert.deepStrictEqual(answers.map((a) => a.rows[0].n), Array.from({ length: 50 }, (_, i) => i + 1));
  clients.forEach((c) => c.release());
  await pool.end();
  console.log('ok pool');
})().catch((error) => { console.error(error); process.exit(1); });
