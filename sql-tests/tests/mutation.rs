//! Whether tests notice a broken line: `mutations.txt` lists what is broken, one entry at a time.
//!
//! Building the engine once per entry would take hours, so all of them go into one build of a copy of the repository,
//! each behind a switch that an environment variable sets. The copy is below the target directory and shares what was
//! built of the dependencies; its own crates have another version, so that nothing of theirs is taken for ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rivermark_sql_tests::repository;
use rivermark_sql_tests::rust_source::rust_files;

/// Says which mutation is on.
const SWITCH: &str = "RIVERMARK_MUTATION";
/// A broken line may make a test run for ever; so long is a failure, too.
const TIMEOUT: Duration = Duration::from_secs(300);
/// The integration test that entries may name instead of a filter of unit tests.
const ENGINE: &str = "engine";

/// One entry of the list.
struct Mutation {
    number: usize,
    title: String,
    file: String,
    original: String,
    broken: String,
    /// A filter of the crate's unit tests, or [`ENGINE`].
    tests: String,
}

impl Mutation {
    fn of(number: usize, entry: &str) -> Self {
        let field = |mark: &str| {
            let line = entry.lines().find_map(|line| line.strip_prefix(mark));
            line.unwrap_or_else(|| panic!("no line begins with {mark:?} in:\n{entry}"))
                .to_string()
        };
        Mutation {
            number,
            title: entry.lines().next().unwrap_or_default().to_string(),
            file: field("in "),
            original: field("- "),
            broken: field("+ "),
            tests: field("fails "),
        }
    }

    fn crate_name(&self) -> &str {
        self.file.split('/').next().unwrap_or_default()
    }

    /// Code that does one or the other.
    fn switched(&self) -> String {
        let Mutation {
            number,
            original,
            broken,
            ..
        } = self;
        let choice =
            format!("if crate::mutation::is_on({number}) {{ {broken} }} else {{ {original} }}");
        match original.ends_with(';') {
            true => choice,
            false => format!("({choice})"),
        }
    }
}

fn mutations() -> Vec<Mutation> {
    let text = std::fs::read_to_string(repository().join("sql-tests/mutations.txt"))
        .expect("sql-tests/mutations.txt");
    let entries = text.split("\n# ").skip(1);
    (1..)
        .zip(entries)
        .map(|(number, entry)| Mutation::of(number, entry))
        .collect()
}

#[test]
fn mutations_can_be_applied() {
    let mut complaints = Vec::new();
    for mutation in mutations() {
        let Mutation {
            title,
            file,
            original,
            ..
        } = &mutation;
        let text = std::fs::read_to_string(repository().join(file)).unwrap_or_default();
        let count = text.matches(original.as_str()).count();
        if count != 1 {
            complaints.push(format!("{title}: {file} has {count} times: {original}"));
        }
    }
    assert!(
        complaints.is_empty(),
        "sql-tests/mutations.txt must say what to break now:\n{}",
        complaints.join("\n")
    );
}

#[test]
fn every_operator_and_strategy_has_a_mutation() {
    let mutations = mutations();
    let broken: BTreeSet<PathBuf> = mutations
        .iter()
        .map(|mutation| repository().join(&mutation.file))
        .collect();
    let mut missing = Vec::new();
    for path in rust_files(&repository().join("executor/src/operators")) {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let is_test = path.to_string_lossy().contains("test");
        if !text.contains("impl Operator for ") || is_test {
            continue;
        }
        // An operator in several files has a directory.
        let is_directory = path.ends_with("mod.rs");
        let place = match path.parent() {
            Some(parent) if is_directory => parent,
            _ => &path,
        };
        if !broken.iter().any(|file| file.starts_with(place)) {
            missing.push(place.display().to_string());
        }
    }
    for strategy in ["Linear", "Mergeable", "Multiset", "Overlay", "Commit"] {
        if !mutations.iter().any(|m| m.title.starts_with(strategy)) {
            missing.push(strategy.to_string());
        }
    }
    assert!(missing.is_empty(), "nothing is broken of {missing:?}");
}

/// `RIVERMARK_MUTATIONS=text` runs those whose title or file contains the text.
#[test]
#[ignore = "only with --full: it builds the engine again and runs tests for every mutation"]
fn every_mutation_is_caught() {
    let wanted = std::env::var("RIVERMARK_MUTATIONS").ok();
    let all = mutations();
    let tests = Tests::build(&all);
    let is_wanted = |m: &&Mutation| {
        let wanted = wanted.as_deref().unwrap_or_default();
        m.title.contains(wanted) || m.file.contains(wanted)
    };
    let chosen: Vec<&Mutation> = all.iter().filter(is_wanted).collect();
    let unbroken: BTreeSet<(&str, &str)> = chosen
        .iter()
        .map(|m| (m.crate_name(), m.tests.as_str()))
        .collect();
    for (crate_name, filter) in unbroken {
        let outcome = tests.run(crate_name, filter, None);
        assert_eq!(outcome, Outcome::Passed, "{crate_name} {filter}, unbroken");
    }
    let mut survivors = Vec::new();
    for mutation in chosen {
        let begin = Instant::now();
        let outcome = tests.run(mutation.crate_name(), &mutation.tests, Some(mutation));
        println!(
            "{:>3} {:?} in {:.1} s: {} ({})",
            mutation.number,
            outcome,
            begin.elapsed().as_secs_f64(),
            mutation.title,
            mutation.tests
        );
        if outcome == Outcome::Passed {
            survivors.push(mutation.title.as_str());
        }
    }
    assert!(
        survivors.is_empty(),
        "no test notices:\n{}",
        survivors.join("\n")
    );
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    TimedOut,
}

/// The test programs with all mutations built in, by crate or name.
struct Tests {
    programs: BTreeMap<String, PathBuf>,
}

impl Tests {
    fn build(mutations: &[Mutation]) -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| repository().join("target"), PathBuf::from);
        let copy = target.join("mutation");
        if copy.exists() {
            std::fs::remove_dir_all(&copy).expect("an old copy that can be removed");
        }
        copy_repository(&repository(), &copy);
        for mutation in mutations {
            let path = copy.join(&mutation.file);
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let text = text.replacen(&mutation.original, &mutation.switched(), 1);
            std::fs::write(&path, text).expect("a writable copy");
        }
        let manifest = copy.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).expect("a manifest");
        let version = "version = \"";
        let (head, tail) = text.split_once(version).expect("the version of the crates");
        let text = format!("{head}{version}0.0.0-mutation.{tail}");
        std::fs::write(&manifest, text).expect("a writable copy");
        let crates: BTreeSet<&str> = mutations.iter().map(Mutation::crate_name).collect();
        for name in crates {
            add_switch(&copy.join(name).join("src"));
        }
        let output = Command::new("cargo")
            .args(["test", "--workspace", "--lib", "--test", ENGINE])
            .args(["--no-run", "--message-format=json"])
            .current_dir(&copy)
            .env("CARGO_TARGET_DIR", &target)
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "the copy does not build:\n{}",
            errors(&stdout)
        );
        let programs: BTreeMap<String, PathBuf> = stdout.lines().filter_map(program).collect();
        assert!(programs.contains_key(ENGINE), "{programs:?}");
        Tests { programs }
    }

    fn run(&self, crate_name: &str, filter: &str, mutation: Option<&Mutation>) -> Outcome {
        let (program, filter) = match filter {
            ENGINE => (ENGINE.to_string(), None),
            filter => (format!("rivermark_{crate_name}"), Some(filter)),
        };
        let mut command = Command::new(&self.programs[&program]);
        command.args(filter).stdout(Stdio::null());
        command.stderr(Stdio::null()).env_remove(SWITCH);
        if let Some(mutation) = mutation {
            command.env(SWITCH, mutation.number.to_string());
        }
        let mut child = command.spawn().expect("a test program that runs");
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child's status") {
                return match status.success() {
                    true => Outcome::Passed,
                    false => Outcome::Failed,
                };
            }
            if begin.elapsed() > TIMEOUT {
                child.kill().expect("a child that can be stopped");
                child.wait().expect("a child's status");
                return Outcome::TimedOut;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Everything but what is built and what git keeps.
fn copy_repository(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory for the copy");
    for entry in std::fs::read_dir(from).expect("a directory").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if name == ".git" || name == "target" {
            continue;
        }
        if path.is_dir() {
            copy_repository(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).expect("a file that can be copied");
        }
    }
}

/// Adds the module that says which mutation is on.
fn add_switch(source: &Path) {
    let module = format!(
        "//! Which line is broken.\n\npub fn is_on(number: usize) -> bool {{\n    \
         static ON: std::sync::LazyLock<Option<usize>> =\n        \
         std::sync::LazyLock::new(|| std::env::var(\"{SWITCH}\").ok()?.parse().ok());\n    \
         *ON == Some(number)\n}}\n"
    );
    std::fs::write(source.join("mutation.rs"), module).expect("a writable copy");
    let root = source.join("lib.rs");
    let text = std::fs::read_to_string(&root).expect("a library");
    std::fs::write(&root, text + "\nmod mutation;\n").expect("a writable copy");
}

/// Name and path of a test program, from a line that cargo prints.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let executable = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.to_string(), PathBuf::from(executable)))
}

/// What the compiler complains about.
fn errors(stdout: &str) -> String {
    let rendered = stdout.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let message = message.get("message")?;
        let is_error = message.get("level")?.as_str()? == "error";
        is_error.then(|| message.get("rendered")?.as_str().map(str::to_string))?
    });
    rendered.collect::<Vec<_>>().join("\n")
}
