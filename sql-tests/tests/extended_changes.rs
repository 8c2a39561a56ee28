//! Changes of rows in the extended protocol: types of parameters and of what RETURNING gives, portals with row limits,
//! pipelines, and COPY FROM STDIN in its binary form.

use bytes::Bytes;
use futures::{SinkExt, future};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::runtime;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

#[test]
fn parameters_and_results_of_changes_are_described() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must(
        "CREATE TABLE t (id INT PRIMARY KEY, n BIGINT DEFAULT 7, s TEXT, f DOUBLE PRECISION)",
    );
    session.must("CREATE TABLE o (id INT, w NUMERIC(6,2))");
    session.must("INSERT INTO o VALUES (1, 1.5), (1, 2.5), (2, 3.5)");
    let client = session.client();
    runtime().block_on(async {
        let put = client
            .prepare(
                "INSERT INTO t (id, n, s) VALUES ($1, $2, $3) ON CONFLICT (id)
                 DO UPDATE SET n = t.n + $4, s = $5 WHERE t.n < $6 RETURNING *, id + 1 AS next, $7::text",
            )
            .await
            .expect("it can be prepared");
        let expected = [Type::INT4, Type::INT8, Type::TEXT, Type::INT8, Type::TEXT, Type::INT8, Type::TEXT];
        assert_eq!(put.params(), expected);
        let columns: Vec<(&str, &Type)> = put.columns().iter().map(|c| (c.name(), c.type_())).collect();
        let expected = [
            ("id", &Type::INT4),
            ("n", &Type::INT8),
            ("s", &Type::TEXT),
            ("f", &Type::FLOAT8),
            ("next", &Type::INT4),
            ("text", &Type::TEXT),
        ];
        assert_eq!(columns, expected);
        let run = |id: i32, n: i64, most: i64| {
            let put = put.clone();
            async move {
                let rows = client.query(&put, &[&id, &n, &"new", &10i64, &"old", &most, &"x"]).await;
                let rows = rows.expect("it runs");
                rows.iter()
                    .map(|r| (r.get::<_, i32>(0), r.get::<_, i64>(1), r.get::<_, String>(2), r.get::<_, i32>(4)))
                    .collect::<Vec<_>>()
            }
        };
        assert_eq!(run(1, 5, 100).await, [(1, 5, "new".to_string(), 2)]);
        assert_eq!(run(1, 5, 100).await, [(1, 15, "old".to_string(), 2)]);
        assert_eq!(run(1, 5, 0).await, []);
        // three in one pipeline, each answered
        let (a, b, c) = future::join3(run(2, 1, 9), run(2, 1, 9), run(3, 1, 9)).await;
        assert_eq!((a[0].1, b[0].1, c[0].1), (1, 11, 1));

        let update = client
            .prepare("UPDATE t SET f = o.w FROM o WHERE o.id = t.id AND t.id = $1 RETURNING t.id, o.w AS w, f")
            .await
            .expect("it can be prepared");
        let types: Vec<&Type> = update.columns().iter().map(|c| c.type_()).collect();
        assert_eq!(types, [&Type::INT4, &Type::NUMERIC, &Type::FLOAT8]);
        let rows = client.query(&update, &[&2i32]).await.expect("it runs");
        assert_eq!(rows[0].get::<_, f64>(2), 3.5);
        let rows = client.execute(&update, &[&1i32]).await.expect("it runs");
        assert_eq!(rows, 1, "a row that meets two is changed once");

        let delete = client.prepare("DELETE FROM t WHERE id = $1").await.expect("it can be prepared");
        assert!(delete.columns().is_empty());
        assert_eq!(client.execute(&delete, &[&3i32]).await.expect("it runs"), 1);
    });
    server.stop().expect("the server stops cleanly");
}

#[test]
fn a_portal_gives_returned_rows_in_parts() {
    let mut server = Server::options().start().expect("the server starts");
    let mut client = runtime().block_on(async {
        let config = server.connection_string();
        let connecting = tokio_postgres::connect(&config, tokio_postgres::NoTls).await;
        let (client, connection) = connecting.expect("the server answers");
        runtime().spawn(connection);
        client
    });
    runtime().block_on(async {
        client
            .batch_execute("CREATE TABLE t (id INT)")
            .await
            .expect("it runs");
        let transaction = client.transaction().await.expect("it begins");
        let put = transaction
            .prepare("INSERT INTO t SELECT g FROM generate_series(1, 10) AS s(g) RETURNING id")
            .await
            .expect("it can be prepared");
        let portal = transaction.bind(&put, &[]).await.expect("it is bound");
        let mut found = Vec::new();
        for expected in [4, 4, 2, 0] {
            let rows = transaction
                .query_portal(&portal, 4)
                .await
                .expect("it gives rows");
            assert_eq!(rows.len(), expected);
            found.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        }
        assert_eq!(found, (1..=10).collect::<Vec<_>>());
        transaction.commit().await.expect("it commits");
        let rows = client
            .query("SELECT id FROM t", &[])
            .await
            .expect("it runs");
        assert_eq!(rows.len(), 10, "the rows were stored once");
    });
    server.stop().expect("the server stops cleanly");
}

#[test]
fn copies_in_binary_and_copies_given_up() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must(
        "CREATE TABLE t (id INT PRIMARY KEY, n BIGINT, s TEXT, f DOUBLE PRECISION, ok BOOLEAN)",
    );
    session.must("CREATE MATERIALIZED VIEW m AS SELECT count(*) AS c, sum(n) AS n FROM t");
    let client = session.client();
    runtime().block_on(async {
        let sink = client
            .copy_in("COPY t FROM STDIN BINARY")
            .await
            .expect("it begins");
        let types = [Type::INT4, Type::INT8, Type::TEXT, Type::FLOAT8, Type::BOOL];
        let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &types));
        for id in 0..10_000i32 {
            let s = (id % 2 == 0).then(|| format!("text {id}"));
            writer
                .as_mut()
                .write(&[&id, &i64::from(id), &s, &f64::from(id), &(id % 3 == 0)])
                .await
                .expect("the server takes it");
        }
        assert_eq!(writer.finish().await.expect("it is stored"), 10_000);

        // Dropped before its end, which the client tells as CopyFail.
        let sink = client
            .copy_in::<_, Bytes>("COPY t (id) FROM STDIN")
            .await
            .expect("it begins");
        let mut sink = Box::pin(sink);
        sink.send(Bytes::from_static(b"20000\n"))
            .await
            .expect("the server takes it");
        drop(sink);

        let sink = client
            .copy_in::<_, Bytes>("COPY t (id) FROM STDIN")
            .await
            .expect("it begins");
        let mut sink = Box::pin(sink);
        sink.send(Bytes::from_static(b"20001\nx\n"))
            .await
            .expect("the server takes it");
        let error = sink.as_mut().finish().await.expect_err("x is no number");
        let error = error.as_db_error().expect("the server says so");
        assert_eq!(error.code().code(), "22P02");
        assert_eq!(error.where_(), Some("COPY t, line 2, column id: \"x\""));
    });
    assert_eq!(
        session.integer("SELECT count(*) FROM t WHERE s IS NULL OR f = id"),
        10_000
    );
    assert_eq!(
        session.rows("SELECT * FROM m"),
        [[Some("10000".to_string()), Some("49995000".to_string())]]
    );
    server.stop().expect("the server stops cleanly");
}
