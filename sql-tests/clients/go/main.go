// pgx and lib/pq against a server: types both ways, introspection, cancelling, fifty connections. Usage: clients URL
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"
)

const slow = "SELECT count(*) FROM generate_series(1, 100000) AS a CROSS JOIN generate_series(1, 100000) AS b"
const connections = 50

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(found, expected any, what string) {
	if !reflect.DeepEqual(found, expected) {
		must(fmt.Errorf("%s: %#v is not %#v", what, found, expected))
	}
}

type values struct {
	b  bool
	i8 int64
	f8 float64
	n  string
	t  string
	ba []byte
	tz time.Time
	ia []int32
	ta []string
	u  string
}

var row = values{true, -1 << 63, 0.1, "12345678901234567890.0123456789", "it's \\ \"quoted\"\né世", []byte{0, 1, 254, 255},
	time.Date(2026, 7, 1, 12, 30, 0, 1000, time.UTC), []int32{1, -3}, []string{"a,b", "", `q"x`}, "6e47bc22-84ad-4303-8e7b-8ab08ac91cf1"}

const definition = `CREATE TABLE client_go (id INT PRIMARY KEY, b BOOLEAN, i8 BIGINT, f8 DOUBLE PRECISION, n NUMERIC(30,10), t TEXT,
	ba BYTEA, tz TIMESTAMPTZ, ia INTEGER[], ta TEXT[], u UUID)`

func withPgx(url string, mode pgx.QueryExecMode) {
	ctx := context.Background()
	config, err := pgx.ParseConfig(url)
	must(err)
	config.DefaultQueryExecMode = mode
	c, err := pgx.ConnectConfig(ctx, config)
	must(err)
	_, err = c.Exec(ctx, "DROP TABLE IF EXISTS client_go CASCADE")
	must(err)
	_, err = c.Exec(ctx, definition)
	must(err)
	_, err = c.Exec(ctx, "INSERT INTO client_go VALUES ($1, $2, $3, $4, $5::text::numeric, $6, $7, $8, $9, $10, $11)",
		1, row.b, row.i8, row.f8, row.n, row.t, row.ba, row.tz, row.ia, row.ta, row.u)
	must(err)
	var found values
	err = c.QueryRow(ctx, "SELECT b, i8, f8, n::text, t, ba, tz, ia, ta, u::text FROM client_go WHERE id = $1", 1).
		Scan(&found.b, &found.i8, &found.f8, &found.n, &found.t, &found.ba, &found.tz, &found.ia, &found.ta, &found.u)
	must(err)
	found.tz = found.tz.UTC()
	check(found, row, "row")
	slowly, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err = c.Exec(slowly, slow)
	if err == nil {
		must(errors.New("not cancelled"))
	}
	must(c.Close(ctx))
}

func poolOfPgx(url string) {
	ctx := context.Background()
	config, err := pgxpool.ParseConfig(url)
	must(err)
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(err)
	defer pool.Close()
	var all sync.WaitGroup
	for i := 0; i < connections; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			var n int
			must(pool.QueryRow(ctx, "SELECT $1::int + 1", i).Scan(&n))
			check(n, i+1, "pool")
		}()
	}
	all.Wait()
}

func withPq(url string) {
	db, err := sql.Open("postgres", url)
	must(err)
	defer db.Close()
	db.SetMaxOpenConns(connections)
	_, err = db.Exec("DROP TABLE IF EXISTS client_go CASCADE")
	must(err)
	_, err = db.Exec(definition)
	must(err)
	_, err = db.Exec("INSERT INTO client_go VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		1, row.b, row.i8, row.f8, row.n, row.t, row.ba, row.tz, pq.Array(row.ia), pq.Array(row.ta), row.u)
	must(err)
	var found values
	err = db.QueryRow("SELECT b, i8, f8, n, t, ba, tz, ia, ta, u FROM client_go WHERE id = $1", 1).
		Scan(&found.b, &found.i8, &found.f8, &found.n, &found.t, &found.ba, &found.tz, pq.Array(&found.ia), pq.Array(&found.ta), &found.u)
	must(err)
	found.tz = found.tz.UTC()
	check(found, row, "row")
	ctx, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	_, err = db.ExecContext(ctx, slow)
	if err == nil {
		must(errors.New("not cancelled"))
	}
	_, err = db.Exec("INSERT INTO client_go (id) VALUES (1)")
	var failure *pq.Error
	if !errors.As(err, &failure) || failure.Code != "23505" {
		must(fmt.Errorf("not a unique violation: %v", err))
	}
}

func main() {
	url := os.Args[1]
	withPgx(url, pgx.QueryExecModeCacheStatement)
	withPgx(url, pgx.QueryExecModeSimpleProtocol)
	poolOfPgx(url)
	fmt.Println("ok pgx")
	withPq(url)
	fmt.Println("ok pq")
}
