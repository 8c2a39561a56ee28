//! After a crash at any step of a commit the store is at exactly one epoch: a child process dies at a fail point,
//! this process opens what it left.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

const TABLES: [(Family, TableId); 3] = [
    (Family::State, TableId(1)),
    (Family::Windowed, TableId(2)),
    (Family::Views, TableId(3)),
];
const CHILD_DIRECTORY: &str = "RIVERMARK_CRASH_DIRECTORY";
const CHILD_THRESHOLD: &str = "RIVERMARK_CRASH_THRESHOLD";
const EPOCHS: u32 = 6;

type Model = BTreeMap<(usize, u32), u32>;

/// What epoch `epoch` changes: the same in the child, through `writes`, and in the model.
fn apply(epoch: u32, writes: &mut WriteSet, model: &mut Model) {
    for (table, (family, id)) in TABLES.into_iter().enumerate() {
        // The range delete comes first, as within a write set.
        let (from, to) = (epoch * 5, epoch * 5 + 8);
        let range = KeyRange::new(from.to_be_bytes(), Some(to.to_be_bytes().to_vec()));
        writes.delete_range(family, id, &range);
        model.retain(|(t, key), _| *t != table || !(from..to).contains(key));
        for key in (0..50).filter(|key| key % epoch == table as u32 % epoch) {
            if key % 7 == epoch {
                writes.delete(family, id, &key.to_be_bytes());
                model.remove(&(table, key));
            } else {
                writes.put(family, id, &key.to_be_bytes(), &epoch.to_be_bytes());
                model.insert((table, key), epoch);
            }
        }
    }
    writes.put_meta(b"epoch", &epoch.to_be_bytes());
}

fn open(directory: &Path, ingest_threshold_bytes: usize) -> Store {
    let memory = MemoryPlan {
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 20,
    };
    Store::open(&StoreOptions {
        ingest_threshold_bytes,
        ..StoreOptions::new(directory, memory)
    })
    .unwrap()
}

/// Not a test of its own: what the child process runs.
#[test]
fn crash_child() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else {
        return;
    };
    let threshold = std::env::var(CHILD_THRESHOLD).unwrap().parse().unwrap();
    let store = open(Path::new(&directory), threshold);
    for epoch in 1..=EPOCHS {
        let mut writes = WriteSet::new();
        apply(epoch, &mut writes, &mut Model::new());
        store.commit(&writes, false).unwrap();
    }
    unreachable!("the fail point was not reached");
}

fn crash(directory: &Path, threshold: usize, point: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::crash_tests::crash_child", "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .env(CHILD_THRESHOLD, threshold.to_string())
        .env("RIVERMARK_FAILPOINT", point)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("aborting"), "{point}: {text}");
}

fn check(store: &Store, epoch: u32, context: &str) {
    let found = store
        .get_meta(b"epoch")
        .unwrap()
        .map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    assert_eq!(found, epoch, "{context}");
    let mut model = Model::new();
    (1..=epoch).for_each(|epoch| apply(epoch, &mut WriteSet::new(), &mut model));
    let mut state = Model::new();
    for (table, (family, id)) in TABLES.into_iter().enumerate() {
        let mut scan = store.snapshot().scan(family, id, &KeyRange::all());
        while let Some(chunk) = scan.next_chunk(1000, usize::MAX).unwrap() {
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
            let entries = chunk.keys.iter().zip(chunk.values.iter());
            state.extend(entries.map(|(key, value)| ((table, number(key)), number(value))));
        }
    }
    assert_eq!(state, model, "{context}");
}

#[test]
fn every_step_of_a_commit_survives_a_crash() {
    // Threshold, step, and how many of the epochs up to the crash count.
    let steps = [
        (usize::MAX, failpoint::BEFORE_COMMIT, -1),
        (usize::MAX, failpoint::AFTER_WAL_WRITE, 0),
        (0, failpoint::BEFORE_COMMIT, -1),
        (0, failpoint::INGEST_FILES_WRITTEN, -1),
        (0, failpoint::INGEST_RECORDED, 0),
        (0, failpoint::INGEST_INGESTED, 0),
        (0, failpoint::INGEST_PUBLISHED, 0),
    ];
    for (threshold, step, counts) in steps {
        for pass in [1, 4] {
            let directory = tempfile::tempdir().unwrap();
            let point = format!("{step}:{pass}");
            crash(directory.path(), threshold, &point);
            let epoch = (pass + counts) as u32;
            let store = open(directory.path(), threshold);
            check(&store, epoch, &point);
            assert_eq!(
                std::fs::read_dir(directory.path().join("ingest"))
                    .unwrap()
                    .count(),
                0,
                "{point}"
            );
            // The store goes on from there, and a second opening finds the same.
            let mut writes = WriteSet::new();
            apply(epoch + 1, &mut writes, &mut Model::new());
            store.commit(&writes, true).unwrap();
            drop(store);
            check(&open(directory.path(), threshold), epoch + 1, &point);
        }
    }
}

#[test]
fn a_crash_while_completing_is_completed() {
    for step in [failpoint::INGEST_INGESTED, failpoint::INGEST_PUBLISHED] {
        let directory = tempfile::tempdir().unwrap();
        crash(
            directory.path(),
            0,
            &format!("{}:3", failpoint::INGEST_RECORDED),
        );
        // Opening completes epoch 3 and dies in it.
        crash(directory.path(), 0, step);
        check(&open(directory.path(), 0), 3, step);
    }
}
