//! Golden plans: each file of `tests/plans` has queries and the streaming plans they get. A change of a plan has to be
//! looked at; then `RIVERMARK_UPDATE=1` writes the files anew.
//!
//! A file is made of paragraphs. A definition (`CREATE …`) extends the catalog, which begins with `schema.sql`; a query is
//! followed by `----` and its plan, or the error that refuses it. Lines that begin with `#` are remarks.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use rivermark_planner::catalog::{
    Catalog, MaterializedViewDef, Object, ObjectId, ObjectKind, QualifiedName, ViewDef,
};
use rivermark_planner::explain::explain;
use rivermark_planner::lower::{ViewQuery, bind_view, plan_view};
use rivermark_planner::parse::parse;
use rivermark_planner::statement::{ObjectName, Statement};

const SEPARATOR: &str = "----";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

fn view_query<'a>(query: &'a sqlparser::ast::Query, columns: &'a [String]) -> ViewQuery<'a> {
    ViewQuery {
        query,
        columns,
        time_zone: "UTC",
        text: None,
        emit_on_window_close: false,
    }
}

fn one_statement(sql: &str) -> Statement {
    let mut statements = parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0).statement
}

/// The catalog after a definition.
fn define(catalog: &mut Catalog, sql: &str) {
    let (name, depends_on, kind) = match one_statement(sql) {
        Statement::CreateTable { name, def, .. } => (name, vec![], ObjectKind::Table(def)),
        Statement::CreateSource { name, def, .. } => (name, vec![], ObjectKind::Source(def)),
        Statement::CreateView {
            name,
            columns,
            query,
            ..
        } => {
            let bound = bind_view(catalog, view_query(&query, &columns))
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
            let view = ViewDef {
                columns: bound.columns,
                query: bound.bound_sql,
            };
            (name, bound.depends_on, ObjectKind::View(view))
        }
        Statement::CreateMaterializedView {
            name,
            columns,
            query,
            ..
        } => {
            let planned = plan_view(catalog, view_query(&query, &columns))
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
            let properties = &planned.plan.root.properties;
            let view = MaterializedViewDef {
                stream_key: properties.stream_key.clone(),
                append_only: properties.append_only,
                watermark_columns: planned.plan.root.properties.watermark_columns.clone(),
                retention: None,
                columns: planned.view.columns,
                query: planned.view.bound_sql,
                emit_on_window_close: false,
                options: Default::default(),
                rows: catalog.allocate_tables(1),
                first_state_table: catalog.allocate_tables(planned.plan.root.state_tables()),
                state_tables: planned.plan.root.state_tables(),
                fingerprint: planned.plan.fingerprint,
            };
            let depends_on = planned.view.depends_on;
            (name, depends_on, ObjectKind::MaterializedView(view))
        }
        _ => panic!("no definition: {sql}"),
    };
    add(catalog, &name, depends_on, kind);
}

fn add(catalog: &mut Catalog, name: &ObjectName, depends_on: Vec<ObjectId>, kind: ObjectKind) {
    let id = catalog.allocate_object();
    let name: QualifiedName = name.resolve("public");
    catalog.put(Object {
        id,
        name,
        sql: String::new(),
        comment: None,
        depends_on,
        kind,
    });
}

/// What the planner makes of a query: its plan without the fingerprint, and notices; or why it is refused.
fn plan_text(catalog: &Catalog, sql: &str) -> String {
    let Statement::Query(query) = one_statement(sql) else {
        panic!("no query: {sql}");
    };
    let planned = match plan_view(catalog, view_query(&query, &[])) {
        Ok(planned) => planned,
        Err(error) => return format!("refused: {error}"),
    };
    let mut lines = explain(&planned.plan);
    // A restart must find the state where it is: nothing of a plan may depend on a hash table's order.
    for _ in 0..5 {
        let again = plan_view(catalog, view_query(&query, &[])).expect("it was planned before");
        assert_eq!(explain(&again.plan), lines, "{sql}");
    }
    lines.pop();
    lines.extend(planned.plan.notices.iter().map(|n| format!("NOTICE: {n}")));
    lines.join("\n")
}

/// A file with the plans that its queries have now, and how many queries there are.
fn planned_file(catalog: &mut Catalog, text: &str) -> (String, usize) {
    let mut output = String::new();
    let mut queries = 0;
    for paragraph in text.split("\n\n").map(str::trim).filter(|p| !p.is_empty()) {
        let body = match paragraph.split_once(&format!("\n{SEPARATOR}")) {
            Some((body, _)) => body,
            None => paragraph,
        };
        let sql: Vec<&str> = body.lines().filter(|line| !line.starts_with('#')).collect();
        let sql = sql.join("\n");
        // Writing to a String can not fail.
        let _ = if sql.is_empty() {
            write!(output, "{body}\n\n")
        } else if sql.to_uppercase().starts_with("CREATE ") {
            define(catalog, &sql);
            write!(output, "{body}\n\n")
        } else {
            queries += 1;
            let plan = plan_text(catalog, &sql);
            write!(output, "{body}\n{SEPARATOR}\n{plan}\n\n")
        };
    }
    (format!("{}\n", output.trim_end()), queries)
}

#[test]
fn plans_are_as_they_were() {
    let is_update = std::env::var("RIVERMARK_UPDATE").is_ok_and(|value| value == "1");
    let read = |path: &Path| std::fs::read_to_string(path).expect("a readable file");
    let mut schema = Catalog::new();
    planned_file(&mut schema, &read(&directory().join("schema.sql")));
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory())
        .expect("tests/plans")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|e| e == "plan"))
        .collect();
    files.sort();
    let (mut total, mut changed) = (0, Vec::new());
    for path in files {
        let golden = read(&path);
        let (found, queries) = planned_file(&mut schema.clone(), &golden);
        total += queries;
        if found == golden {
            continue;
        }
        if is_update {
            std::fs::write(&path, found).expect("a writable file");
            continue;
        }
        let difference = golden.lines().zip(found.lines()).find(|(a, b)| a != b);
        changed.push(format!("{}: {difference:#?}", path.display()));
    }
    assert!(
        changed.is_empty(),
        "plans differ; RIVERMARK_UPDATE=1 takes them over:\n{}",
        changed.join("\n")
    );
    assert!(total >= 60, "only {total} queries have golden plans");
}
