//! The protocol as a real driver speaks it.

use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt, pin_mut};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState as Code;
use tokio_postgres::types::Type;

use super::session::TestServer;

fn texts(messages: &[SimpleQueryMessage]) -> Vec<String> {
    messages
        .iter()
        .map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL"));
                values.collect::<Vec<_>>().join("|")
            }
            SimpleQueryMessage::CommandComplete(n) => format!("complete {n}"),
            SimpleQueryMessage::RowDescription(columns) => columns
                .iter()
                .map(|c| c.name())
                .collect::<Vec<_>>()
                .join("|"),
            _ => "?".to_string(),
        })
        .collect()
}

#[tokio::test]
async fn several_statements_in_one_simple_query() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let messages = client
        .simple_query("select 1 as a, null as b; select 'x' as c")
        .await
        .unwrap();
    assert_eq!(
        texts(&messages),
        ["a|b", "1|NULL", "complete 1", "c", "x", "complete 1"]
    );
    assert!(client.simple_query("-- ping").await.unwrap().len() <= 1);
    assert!(client.simple_query(";").await.unwrap().len() <= 1);
    let failed = client
        .simple_query("select 1; select 1/0; ENDLESS")
        .await
        .unwrap_err();
    assert_eq!(failed.code(), Some(&Code::DIVISION_BY_ZERO));
    assert_eq!(
        texts(&client.simple_query("select 2 as a").await.unwrap())[1],
        "2"
    );
}

#[tokio::test]
async fn a_commit_that_fails_replaces_the_last_tag() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let failed = client.simple_query("select 1; FAILSYNC").await.unwrap_err();
    assert_eq!(failed.code(), Some(&Code::T_R_SERIALIZATION_FAILURE));
    client.simple_query("select 1").await.unwrap();
}

#[tokio::test]
async fn parameters_and_results_in_binary() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let types = [
        Type::INT4,
        Type::TEXT,
        Type::FLOAT8,
        Type::BYTEA,
        Type::TIMESTAMPTZ,
        Type::INT4_ARRAY,
    ];
    let statement = client
        .prepare_typed("select $1, $2, $3, $4, $5, $6", &types)
        .await
        .unwrap();
    let moment = SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_000_001);
    let row = client
        .query_one(
            &statement,
            &[
                &7i32,
                &"grün",
                &1.5f64,
                &&b"\0\xff"[..],
                &moment,
                &vec![Some(1), None],
            ],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    assert_eq!(row.get::<_, &str>(1), "grün");
    assert_eq!(row.get::<_, f64>(2), 1.5);
    assert_eq!(row.get::<_, &[u8]>(3), b"\0\xff");
    assert_eq!(row.get::<_, SystemTime>(4), moment);
    assert_eq!(row.get::<_, Vec<Option<i32>>>(5), [Some(1), None]);

    let inferred = client
        .prepare("select value + $1 from generate_series(1, 3) where value > $2")
        .await
        .unwrap();
    assert_eq!(inferred.params(), [Type::INT8, Type::INT8]);
    let rows = client.query(&inferred, &[&10i64, &1i64]).await.unwrap();
    assert_eq!(
        rows.iter().map(|r| r.get::<_, i64>(0)).collect::<Vec<_>>(),
        [12, 13]
    );
    let statement = client
        .prepare_typed("select $1", &[Type::INT4])
        .await
        .unwrap();
    let nothing = client.query_one(&statement, &[&None::<i32>]).await.unwrap();
    assert_eq!(nothing.get::<_, Option<i32>>(0), None);
}

#[tokio::test]
async fn portals_with_row_limits_and_transaction_states() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let transaction = client.transaction().await.unwrap();
    let statement = transaction
        .prepare("select value from generate_series(1, 2500)")
        .await
        .unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    let mut sizes = Vec::new();
    let mut last = 0;
    loop {
        let rows = transaction.query_portal(&portal, 999).await.unwrap();
        sizes.push(rows.len());
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            last += 1;
            assert_eq!(row.get::<_, i64>(0), last);
        }
    }
    assert_eq!(sizes, [999, 999, 502, 0]);
    let failed = transaction.query("select 1/0", &[]).await.unwrap_err();
    assert_eq!(failed.code(), Some(&Code::DIVISION_BY_ZERO));
    let refused = transaction.simple_query("select 1").await.unwrap_err();
    assert_eq!(refused.code(), Some(&Code::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.unwrap();
    client.simple_query("select 1").await.unwrap();
}

#[tokio::test]
async fn pipelined_queries_answer_in_order_and_fail_alone() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let good = client
        .prepare("select value from generate_series(1, 10)")
        .await
        .unwrap();
    let bad = client
        .prepare("select 1 / (value - 5) from generate_series(1, 10)")
        .await
        .unwrap();
    let (a, b, c) = tokio::join!(
        client.query(&good, &[]),
        client.query(&bad, &[]),
        client.query(&good, &[])
    );
    assert_eq!(a.unwrap().len(), 10);
    assert_eq!(b.unwrap_err().code(), Some(&Code::DIVISION_BY_ZERO));
    assert_eq!(c.unwrap().len(), 10);
}

#[tokio::test]
async fn statements_can_be_deallocated_by_sql() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let statement = client.prepare("select 1").await.unwrap();
    client.query(&statement, &[]).await.unwrap();
    client.simple_query("DEALLOCATE ALL").await.unwrap();
    let gone = client.query(&statement, &[]).await.unwrap_err();
    assert_eq!(gone.code(), Some(&Code::INVALID_SQL_STATEMENT_NAME));
}

#[tokio::test]
async fn cancel_reaches_a_waiting_and_a_streaming_statement() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for statement in ["WAIT", "ENDLESS"] {
        let token = client.cancel_token();
        let canceller = async {
            server.probe.until(&server.probe.running, 1).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        };
        let (result, ()) = tokio::join!(
            async {
                let rows = client.simple_query_raw(statement).await.unwrap();
                pin_mut!(rows);
                loop {
                    match rows.try_next().await {
                        Ok(Some(_)) => {}
                        Ok(None) => return None,
                        Err(error) => return error.code().cloned(),
                    }
                }
            },
            canceller
        );
        assert_eq!(result, Some(Code::QUERY_CANCELED), "{statement}");
        server.probe.until(&server.probe.running, 0).await;
        client.simple_query("select 1").await.unwrap();
    }
    // A cancel request for an idle connection does not hit its next statement.
    client
        .cancel_token()
        .cancel_query(tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.simple_query("select 1").await.unwrap();
}

#[tokio::test]
async fn a_panic_ends_its_connection_only() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let error = client.simple_query("PANIC").await.unwrap_err();
    assert_eq!(error.code(), Some(&Code::INTERNAL_ERROR));
    server.probe.until(&server.probe.sessions, 1).await;
    other.simple_query("select 1").await.unwrap();
}

#[tokio::test]
async fn copy_out_in_all_formats() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let query = "select value as v, case when value = 1 then null else 'a\tb,\"\\c' end as w \
                 from generate_series(1, 2)";
    for (format, expected) in [
        ("text", "1\t\\N\n2\ta\\tb,\"\\\\c\n"),
        ("csv", "v,w\n1,\n2,\"a\tb,\"\"\\c\"\n"),
    ] {
        let rows = client
            .copy_out(&format!("COPY ({query}) TO STDOUT {format}"))
            .await
            .unwrap();
        pin_mut!(rows);
        let mut text = String::new();
        while let Some(chunk) = rows.next().await {
            text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
        assert_eq!(text, expected);
    }
    let rows = client
        .copy_out("COPY (select 7::int) TO STDOUT binary")
        .await
        .unwrap();
    let types = [Type::INT4];
    let rows = tokio_postgres::binary_copy::BinaryCopyOutStream::new(rows, &types);
    pin_mut!(rows);
    assert_eq!(rows.next().await.unwrap().unwrap().get::<i32>(0), 7);
    assert!(rows.next().await.is_none());
}

#[tokio::test]
async fn settings_that_change_are_reported_and_used() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client
        .simple_query("SET TimeZone = 'Asia/Tokyo'")
        .await
        .unwrap();
    let messages = client
        .simple_query("select timestamp '2026-01-01 00:00:00' at time zone 'UTC' as t")
        .await
        .unwrap();
    assert_eq!(texts(&messages)[1], "2026-01-01 09:00:00+09");
}

#[tokio::test]
async fn failures_before_the_session_close_the_connection() {
    let server = TestServer::start().await;
    let error = server.connect("dbname=missing").await.err().unwrap();
    assert_eq!(error.code(), Some(&Code::INVALID_CATALOG_NAME));
}
