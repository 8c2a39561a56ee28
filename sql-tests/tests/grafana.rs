//! Every query of `docs/grafana`, as Grafana sends it: macros and variables replaced, in the simple protocol, against
//! `rivermark demo`, whose objects the dashboards show.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rivermark_sql_tests::ports::free_port;
use rivermark_sql_tests::repository;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::{Answer, Session};
use serde_json::Value;

/// Panels that are empty as long as all is well.
const MAY_BE_EMPTY: &[&str] = &["Latest dead letters"];

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// `rivermark demo`, ended with the test.
struct Demo {
    child: Child,
    session: Session,
}

impl Demo {
    fn start() -> Demo {
        let port = free_port();
        let child = Command::new(Server::binary().expect("the binary"))
            .args(["demo", "--rate", "2000", "--port"])
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the demo starts");
        let config = format!("host=127.0.0.1 port={port} user=rivermark dbname=rivermark");
        let begin = Instant::now();
        let session = loop {
            match Session::connect(&config) {
                Ok(session) => break session,
                Err(error) if begin.elapsed() > START_TIMEOUT => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        Demo { child, session }
    }

    /// Waits until some machine has been too hot, which the fleet sees to.
    fn wait_for_alarms(&self) {
        let begin = Instant::now();
        let sql = "SELECT count(*) FROM alarms";
        while !matches!(self.session.run(sql), Ok(a) if a.rows[0][0] != Some("0".into())) {
            assert!(begin.elapsed() < START_TIMEOUT, "no alarm");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json(path: &str) -> Value {
    let path = repository().join("docs/grafana").join(path);
    let text = std::fs::read_to_string(&path).expect("a readable file");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// An instant as Grafana writes it, some time from now.
fn instant(session: &Session, from_now: &str) -> String {
    let sql = format!(
        "SELECT to_char(now() + INTERVAL '{from_now}', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
    );
    session.scalar(&sql).expect("an instant")
}

/// Replaces every call of a macro, `$__name(a, b)`, by what `expand` makes of its arguments.
fn replace_macro(sql: &str, name: &str, expand: impl Fn(&[&str]) -> String) -> String {
    let mut out = String::new();
    let mut rest = sql;
    let call = format!("$__{name}(");
    while let Some(at) = rest.find(&call) {
        out += &rest[..at];
        let arguments = &rest[at + call.len()..];
        let end = arguments.find(')').expect("a closed macro");
        let list: Vec<&str> = arguments[..end].split(',').map(str::trim).collect();
        out += &expand(&list);
        rest = &arguments[end + 1..];
    }
    out + rest
}

/// What Grafana's Postgres datasource makes of a panel's text.
fn expanded(session: &Session, sql: &str, variables: &BTreeMap<String, String>) -> String {
    let (from, to) = (
        instant(session, "-15 minutes"),
        instant(session, "5 seconds"),
    );
    let sql = sql.replace("$__interval", "30s");
    let sql = replace_macro(&sql, "timeFilter", |a| {
        format!("{} BETWEEN '{from}' AND '{to}'", a[0])
    });
    let mut sql = replace_macro(&sql, "timeGroupAlias", |a| {
        let seconds: u32 = a[1].trim_end_matches('s').parse().expect("seconds");
        format!(
            "floor(extract(epoch from {})/{seconds})*{seconds} AS \"time\"",
            a[0]
        )
    });
    for (name, value) in variables {
        sql = sql.replace(&format!("${name}"), value);
    }
    assert!(!sql.contains('$'), "a macro that this test lacks: {sql}");
    sql
}

/// The values of a variable, as Grafana writes "All" of a variable with many values: `'a','b'`.
fn variables(session: &Session, dashboard: &Value) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let list = dashboard["templating"]["list"].as_array().expect("a list");
    for variable in list {
        let sql = expanded(session, text(variable, "query"), &values);
        let rows = session.rows(&sql);
        assert!(!rows.is_empty(), "a variable without values: {sql}");
        let quoted: Vec<String> = rows
            .iter()
            .map(|r| format!("'{}'", r[0].as_deref().expect("a value")))
            .collect();
        values.insert(text(variable, "name").to_string(), quoted.join(","));
    }
    values
}

fn ask(session: &Session, title: &str, sql: &str) -> Answer {
    session
        .run(sql)
        .unwrap_or_else(|e| panic!("{title}: {e}\nin: {sql}"))
}

/// A time series is made of its column `time`, an ascending instant or number of seconds.
fn assert_ascending_time(title: &str, answer: &Answer) {
    let time = answer.columns.iter().position(|c| c == "time");
    let time = time.unwrap_or_else(|| panic!("{title}: no column time"));
    let times: Vec<&String> = answer
        .rows
        .iter()
        .map(|r| r[time].as_ref().expect("a time"))
        .collect();
    assert!(times.is_sorted(), "{title}: {times:?}");
}

fn run_dashboard(session: &Session, file: &str) {
    let dashboard = json(file);
    let variables = variables(session, &dashboard);
    let mut queries: Vec<(String, &Value)> = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = text(panel, "title");
        let targets = panel["targets"].as_array().expect("targets");
        queries.extend(targets.iter().map(|t| (title.to_string(), t)));
    }
    let annotations = dashboard["annotations"]["list"].as_array();
    for annotation in annotations.expect("annotations") {
        queries.push((
            format!("annotation {}", text(annotation, "name")),
            &annotation["target"],
        ));
    }
    for (title, target) in queries {
        let sql = expanded(session, text(target, "rawSql"), &variables);
        let answer = ask(session, &title, &sql);
        assert!(!answer.columns.is_empty(), "{title}: no result");
        let may_be_empty = MAY_BE_EMPTY.contains(&title.as_str());
        assert!(
            may_be_empty || !answer.rows.is_empty(),
            "{title}: no row from {sql}"
        );
        if text(target, "format") == "time_series" {
            assert_ascending_time(&title, &answer);
        }
    }
}

#[test]
fn every_query_of_the_dashboards_and_alerts_answers() {
    let demo = Demo::start();
    demo.wait_for_alarms();
    let session = &demo.session;
    // How the datasource finds out whether it is alive: no statement, no error.
    assert_eq!(ask(session, "health", "-- ping"), Answer::default());
    run_dashboard(session, "dashboards/fleet.json");
    run_dashboard(session, "dashboards/server.json");

    let alerts = json("provisioning/alerting/rivermark.json");
    let rules = alerts["groups"][0]["rules"].as_array().expect("rules");
    assert!(!rules.is_empty());
    for rule in rules {
        let title = text(rule, "title");
        let sql = expanded(
            session,
            text(&rule["data"][0]["model"], "rawSql"),
            &BTreeMap::default(),
        );
        let answer = ask(session, title, &sql);
        assert!(!answer.rows.is_empty(), "{title}: no row from {sql}");
        for row in &answer.rows {
            let value = row.last().cloned().flatten().expect("a number");
            value
                .parse::<f64>()
                .unwrap_or_else(|e| panic!("{title}: {value}: {e}"));
        }
    }
}
