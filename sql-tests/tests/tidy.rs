//! The habits of the code, kept by a test: length of files and functions, the direction of the crates, the headings of
//! operators, a SQL test for each of them, and nothing left lying about.

use std::path::{Path, PathBuf};

use rivermark_sql_tests::repository;
use rivermark_sql_tests::rust_source::{SourceFile, rust_files};

const CRATES: [&str; 5] = ["planner", "executor", "connectors", "server", "sql-tests"];
const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 120;
const LONGEST_TABLE: usize = 120;

/// What each crate must not know.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    (
        "planner",
        &[
            "rivermark-executor",
            "rivermark-connectors",
            "rivermark-server",
            "tokio",
            "rdkafka",
            "rocksdb",
            "pgwire",
        ],
    ),
    (
        "executor",
        &[
            "rivermark-connectors",
            "rivermark-server",
            "rdkafka",
            "pgwire",
            "jiter",
        ],
    ),
    ("connectors", &["rivermark-server", "rocksdb", "pgwire"]),
    ("server", &["rocksdb", "jiter"]),
];

fn sources() -> Vec<SourceFile> {
    let root = repository();
    let paths = CRATES.iter().flat_map(|c| rust_files(&root.join(c)));
    paths
        .map(|path| SourceFile::read(&root, &path).expect("a readable source file"))
        .collect()
}

/// Whether a file is compiled for unit tests only: its parent declares it under `#[cfg(test)]`.
fn is_for_tests(file: &SourceFile) -> bool {
    let path = repository().join(&file.name);
    let declaration = format!("mod {};", stem(&path));
    let is_declared_so = |text: String| {
        let mut lines = text.lines().zip(text.lines().skip(1));
        lines.any(|(before, line)| {
            before.trim() == "#[cfg(test)]" && line.trim().ends_with(&declaration)
        })
    };
    let siblings = path.parent().map(rust_files).unwrap_or_default();
    file.name.contains("/tests")
        || stem(&path).ends_with("_tests")
        || siblings
            .iter()
            .any(|p| std::fs::read_to_string(p).is_ok_and(is_declared_so))
}

/// Fails with all complaints at once.
fn check(complaints: Vec<String>) {
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn files_are_short_and_say_their_purpose() {
    let mut complaints = Vec::new();
    for file in sources() {
        let lines = file.text.lines().count();
        if lines > LONGEST_FILE {
            complaints.push(format!(
                "{}: {lines} lines, at most {LONGEST_FILE}: split off a concept",
                file.name
            ));
        }
        if !file.text.starts_with("//!") {
            complaints.push(format!(
                "{}: no //! paragraph that says what the file is for",
                file.name
            ));
        }
    }
    check(complaints);
}

#[test]
fn functions_are_short() {
    let mut complaints = Vec::new();
    for file in sources() {
        for function in file
            .functions()
            .iter()
            .filter(|f| f.lines > LONGEST_FUNCTION)
        {
            // A table of cases may be longer than a piece of logic.
            let longest = if is_for_tests(&file) {
                LONGEST_TABLE
            } else {
                LONGEST_FUNCTION
            };
            if function.lines <= longest {
                continue;
            }
            let (name, line, lines) = (&function.name, function.line, function.lines);
            complaints.push(format!(
                "{}:{line}: fn {name} has {lines} lines, at most {longest}",
                file.name
            ));
        }
    }
    check(complaints);
}

#[test]
fn crates_depend_one_way() {
    let mut complaints = Vec::new();
    let sources = sources();
    for (name, forbidden) in FORBIDDEN {
        let manifest = std::fs::read_to_string(repository().join(name).join("Cargo.toml"))
            .expect("a manifest");
        let normal = manifest
            .split("[dev-dependencies]")
            .next()
            .unwrap_or_default();
        for package in forbidden {
            let is_named = |line: &str| line.split(['.', ' ', '=']).next() == Some(package);
            if normal.lines().any(is_named) {
                complaints.push(format!("{name}/Cargo.toml depends on {package}"));
            }
            let module = format!("{}::", package.replace('-', "_"));
            let own = sources
                .iter()
                .filter(|f| f.name.starts_with(&format!("{name}/src/")));
            let uses =
                |f: &&SourceFile| uses_path(f.code_without_tests(), &module) && !is_for_tests(f);
            for file in own.filter(uses) {
                complaints.push(format!("{} uses {module}", file.name));
            }
        }
    }
    // The state store is the only door to RocksDB.
    for file in sources
        .iter()
        .filter(|f| f.name.starts_with("executor/src/") && !f.name.contains("/state/"))
    {
        if uses_path(file.code_without_tests(), "rocksdb::") && !is_for_tests(file) {
            complaints.push(format!(
                "{} uses rocksdb:: outside of the state store",
                file.name
            ));
        }
    }
    check(complaints);
}

fn uses_path(code: &str, path: &str) -> bool {
    code.match_indices(path)
        .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

/// The files that hold an operator, each with the operator's name: `filter.rs`, `aggregate/mod.rs`.
fn operator_files() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for path in rust_files(&repository().join("executor/src/operators")) {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        if !text.contains("impl Operator for ") || stem(&path).ends_with("tests") {
            continue;
        }
        let name = match stem(&path).as_str() {
            "mod" => path.parent().map(stem_of_dir).unwrap_or_default(),
            name => name.to_string(),
        };
        found.push((name, path));
    }
    assert!(!found.is_empty(), "executor/src/operators has no operators");
    found
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[test]
fn operators_say_what_they_are() {
    let mut complaints = Vec::new();
    for (_, path) in operator_files() {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let head = text.lines().take_while(|l| l.starts_with("//!"));
        let headings = ["Semantics", "State", "Output", "Watermark", "Cost"];
        let is_heading = |line: &str| {
            let words = line.strip_prefix("//! ").and_then(|l| l.split_once(": "));
            words.map(|(heading, _)| heading.to_string())
        };
        let found: Vec<String> = head
            .filter_map(is_heading)
            .filter(|heading| headings.contains(&heading.as_str()))
            .collect();
        if found != headings {
            complaints.push(format!(
                "{}: the header has {found:?} and not {headings:?}, each at the start of a line",
                path.display()
            ));
        }
    }
    check(complaints);
}

fn slt_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for feature in std::fs::read_dir(repository().join("sql-tests/slt"))
        .expect("sql-tests/slt")
        .flatten()
    {
        found.extend(
            std::fs::read_dir(feature.path())
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path()),
        );
    }
    found
}

#[test]
fn operators_have_a_sql_test() {
    let texts: Vec<String> = slt_files()
        .iter()
        .map(|f| std::fs::read_to_string(f).expect("a readable file"))
        .collect();
    let is_tested = |operator: &str| {
        let mark = format!("# operator: {operator}");
        texts
            .iter()
            .any(|text| text.lines().any(|line| line == mark))
    };
    let untested = operator_files()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !is_tested(name));
    check(
        untested
            .map(|name| format!("no file below sql-tests/slt says `# operator: {name}`"))
            .collect(),
    );
}

#[test]
fn no_file_is_orphaned() {
    let mut complaints = Vec::new();
    for path in slt_files() {
        let is_slt = path.extension().is_some_and(|e| e == "slt");
        let text = if is_slt {
            std::fs::read_to_string(&path).expect("a readable file")
        } else {
            String::new()
        };
        let has_record = text
            .lines()
            .any(|l| l.starts_with("statement") || l.starts_with("query"));
        if !has_record {
            complaints.push(format!(
                "{}: the harness never runs anything of it",
                path.display()
            ));
        }
    }
    for path in CRATES
        .iter()
        .flat_map(|c| rust_files(&repository().join(c).join("src")))
    {
        if !is_declared(&path) {
            complaints.push(format!(
                "{}: no `mod` names it, so it is never compiled",
                path.display()
            ));
        }
    }
    check(complaints);
}

/// Whether the parent module of a file declares it.
fn is_declared(path: &Path) -> bool {
    let stem = stem(path);
    if matches!(stem.as_str(), "lib" | "main") || path.components().any(|c| c.as_os_str() == "bin")
    {
        return true;
    }
    let (dir, name) = match stem.as_str() {
        "mod" => (
            path.parent().and_then(Path::parent),
            path.parent().map(stem_of_dir),
        ),
        _ => (path.parent(), Some(stem)),
    };
    let (Some(dir), Some(name)) = (dir, name) else {
        return false;
    };
    let parents = [
        dir.join("mod.rs"),
        dir.join("lib.rs"),
        dir.join("main.rs"),
        dir.with_extension("rs"),
    ];
    let declares = |text: String| {
        let words = [format!("mod {name};"), format!("mod {name} {{")];
        words.iter().any(|w| text.contains(w)) || text.contains(&format!("{name}.rs\""))
    };
    let is_declared = parents
        .iter()
        .any(|p| std::fs::read_to_string(p).is_ok_and(declares));
    // A file of unit tests may be declared by the module beside it.
    is_declared
        || rust_files(dir)
            .iter()
            .any(|p| p != path && std::fs::read_to_string(p).is_ok_and(declares))
}

fn stem_of_dir(dir: &Path) -> String {
    dir.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[test]
fn nothing_is_left_lying_about() {
    let mut complaints = Vec::new();
    let leftovers = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let vague = [
        "utils", "util", "common", "manager", "helper", "helpers", "misc",
    ];
    for file in sources() {
        for (number, line) in file.code.lines().enumerate() {
            if leftovers.iter().any(|word| line.contains(word)) {
                complaints.push(format!("{}:{}: {}", file.name, number + 1, line.trim()));
            }
        }
        for (number, line) in file
            .text
            .lines()
            .enumerate()
            .filter(|(_, l)| is_commented_code(l))
        {
            complaints.push(format!(
                "{}:{}: commented-out code: {}",
                file.name,
                number + 1,
                line.trim()
            ));
        }
        if vague
            .iter()
            .any(|name| stem(Path::new(&file.name)) == *name)
        {
            complaints.push(format!("{}: the name says nothing", file.name));
        }
    }
    check(complaints);
}

/// Prose does not end like a statement.
fn is_commented_code(line: &str) -> bool {
    let Some(rest) = line.trim().strip_prefix("//") else {
        return false;
    };
    if rest.starts_with(['/', '!']) {
        return false;
    }
    let rest = rest.trim();
    rest.ends_with(';')
        || rest.ends_with('{')
        || rest == "}"
        || rest.starts_with("let ") && rest.contains(" = ")
}

#[test]
fn no_unwrap_outside_of_tests() {
    let mut complaints = Vec::new();
    for file in sources().iter().filter(|f| f.name.contains("/src/")) {
        for (number, line) in file.code_without_tests().lines().enumerate() {
            if line.contains(".unwrap()") && !is_for_tests(file) {
                complaints.push(format!("{}:{}: {}", file.name, number + 1, line.trim()));
            }
        }
    }
    check(complaints);
}
