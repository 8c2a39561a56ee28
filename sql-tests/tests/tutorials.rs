//! Runs the SQL of every page below `docs/tutorials` as a reader would: block by block, in a fresh server. A block of kind
//! `text` is what the block of SQL before it answers in psql. It may take some seconds to become true, as time is what
//! many tutorials are about. Backslash commands (`\copy`) are psql's, started where the sensor data are.

use std::path::Path;
use std::time::{Duration, Instant};

use rivermark_sql_tests::psql::psql_in;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::{Row, Session};
use rivermark_sql_tests::{repository, sensor_data};

/// How long an answer may take to become the one that the page shows.
const PATIENCE: Duration = Duration::from_secs(20);

/// A fenced block of a page: its kind, its text, and the line where it begins.
struct Block {
    kind: String,
    text: String,
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for (number, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), is_inside) {
            (Some(_), true) => is_inside = false,
            (Some(kind), false) => {
                is_inside = true;
                blocks.push(Block {
                    kind: kind.to_string(),
                    text: String::new(),
                    line: number + 1,
                });
            }
            (None, true) => {
                if let Some(block) = blocks.last_mut() {
                    block.text += line;
                    block.text.push('\n');
                }
            }
            (None, false) => {}
        }
    }
    assert!(!is_inside, "a block is not closed");
    blocks
}

/// The statements of a block; a backslash command is a line. No text or comment of a tutorial has a semicolon at a line's
/// end.
fn statements(sql: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    for line in sql.lines() {
        let is_command = line.starts_with('\\');
        if let Some(last) = statements.last_mut() {
            *last += line.strip_suffix(';').unwrap_or(line);
            last.push('\n');
        }
        if is_command || line.ends_with(';') {
            statements.push(String::new());
        }
    }
    statements
        .iter()
        .map(|statement| statement.trim().to_string())
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// The rows of a table as psql prints it.
fn table(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip(2).filter(|line| {
        let is_count = line.starts_with('(') && line.trim_end().ends_with(')');
        !is_count && !line.trim().is_empty()
    });
    rows.map(|line| {
        line.split('|')
            .map(|cell| cell.trim().to_string())
            .collect()
    })
    .collect()
}

fn shown(rows: &[Row]) -> Vec<Vec<String>> {
    rows.iter()
        .map(|row| {
            row.iter()
                .map(|cell| cell.clone().unwrap_or_default())
                .collect()
        })
        .collect()
}

fn run_page(path: &Path) {
    let page = std::fs::read_to_string(path).expect("a readable page");
    let data = match page.contains("\n\\copy ") {
        true => match sensor_data() {
            Some(data) => data,
            None => return,
        },
        false => repository(),
    };
    let server = Server::options().start().expect("a server");
    let session: Session = server.connect();
    let mut last = String::new();
    let mut answers = 0;
    for block in blocks(&page) {
        let place = format!("{}:{}", path.display(), block.line);
        match block.kind.as_str() {
            "sql" => {
                for statement in statements(&block.text) {
                    if statement.starts_with('\\') {
                        psql_in(&server.connection_string(), &data, &statement)
                            .unwrap_or_else(|error| panic!("{place}: {error:#}"));
                    } else if let Err(error) = session.run(&statement) {
                        panic!("{place}: {statement}: {error}");
                    }
                    last = statement;
                }
            }
            "text" => {
                let expected = table(&block.text);
                let begin = Instant::now();
                loop {
                    let found = shown(&session.rows(&last));
                    if found == expected {
                        break;
                    }
                    assert!(
                        begin.elapsed() < PATIENCE,
                        "{place}: {last}\nfound {found:?}\nnot   {expected:?}"
                    );
                    std::thread::sleep(Duration::from_millis(100));
                }
                answers += 1;
            }
            _ => {}
        }
    }
    assert!(answers > 0, "{}: the page shows no answer", path.display());
}

#[test]
fn tutorials_do_what_they_say() {
    let mut pages: Vec<_> = std::fs::read_dir(repository().join("docs/tutorials"))
        .expect("docs/tutorials")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    assert!(!pages.is_empty());
    for page in pages {
        run_page(&page);
    }
}
