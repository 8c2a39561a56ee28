//! A state table agrees with a `BTreeMap` under random epochs: puts, runs of puts, deletes, range deletes, reads, scans both ways,
//! commits through the log and through files, spilling, discards, restarts, and a cache that is always too small.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

use super::test_values::rng;
use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn random_key(rng: &mut StdRng) -> Vec<u8> {
    (0..rng.random_range(0..4))
        .map(|_| [0, b'a', b'b', 0xFF][rng.random_range(0..4)])
        .collect()
}

fn random_range(rng: &mut StdRng) -> KeyRange {
    match rng.random_range(0..4) {
        0 => KeyRange::all(),
        1 => KeyRange::prefix(&random_key(rng)),
        2 => KeyRange::new(random_key(rng), None),
        _ => KeyRange::new(random_key(rng), Some(random_key(rng))),
    }
}

fn is_in(range: &KeyRange, key: &[u8]) -> bool {
    key >= range.from.as_slice() && range.to.as_ref().is_none_or(|to| key < to.as_slice())
}

fn change(table: &mut StateTable, model: &mut Model, rng: &mut StdRng) {
    match rng.random_range(0..20) {
        0 => {
            let range = random_range(rng);
            table.delete_range(&range).unwrap();
            model.retain(|key, _| !is_in(&range, key));
        }
        1..6 => {
            let key = random_key(rng);
            table.delete(&key);
            model.remove(&key);
        }
        6 | 7 => {
            let keys = (0..rng.random_range(0..10)).map(|_| random_key(rng));
            let run: Model = keys.map(|key| (key.clone(), key)).collect();
            let all: Keys = run.keys().map(Vec::as_slice).collect();
            table.put_ascending(all.clone(), all);
            model.extend(run);
        }
        _ => {
            let (key, value) = (random_key(rng), vec![rng.random(); rng.random_range(0..40)]);
            table.put(&key, &value);
            model.insert(key, value);
        }
    }
}

fn check(table: &mut StateTable, model: &Model, rng: &mut StdRng) {
    let keys: Keys = {
        let keys: Vec<Vec<u8>> = (0..rng.random_range(0..30))
            .map(|_| random_key(rng))
            .collect();
        keys.iter().map(Vec::as_slice).collect()
    };
    let values = table.get_many(&keys).unwrap();
    for (key, value) in keys.iter().zip(values.iter()) {
        assert_eq!(value, model.get(key).map(Vec::as_slice), "key {key:?}");
    }
    let (first, last) = (random_key(rng), random_key(rng));
    if first <= last && table.is_empty_between(&first, &last).unwrap() {
        assert_eq!(model.range(first..=last).next(), None);
    }
    let range = random_range(rng);
    let expected: Vec<_> = model
        .iter()
        .filter(|(key, _)| is_in(&range, key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let forward: Vec<_> = table.scan(&range).unwrap().map(Result::unwrap).collect();
    assert_eq!(forward, expected, "{range:?}");
    let mut backward: Vec<_> = table
        .scan_reverse(&range)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    backward.reverse();
    assert_eq!(backward, expected, "{range:?} backwards");
    // A scan that stops early leaves its iterator for the next one.
    let first = table.scan(&range).unwrap().next().map(Result::unwrap);
    assert_eq!(first.as_ref(), expected.first());
}

fn snapshot_model(store: &Store, id: TableId, family: Family) -> Model {
    let mut scan = store.snapshot().scan(family, id, &KeyRange::all());
    let mut model = Model::new();
    while let Some(chunk) = scan.next_chunk(3, 100).unwrap() {
        model.extend(
            chunk
                .keys
                .iter()
                .zip(chunk.values.iter())
                .map(|(key, value)| (key.to_vec(), value.to_vec())),
        );
    }
    model
}

#[test]
fn a_table_agrees_with_a_map() {
    let mut rng = rng();
    // The last spills what a few keys need.
    for (family, overlay_bytes) in [
        (Family::State, usize::MAX),
        (Family::Windowed, usize::MAX),
        (Family::State, 600),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let memory = MemoryPlan {
            block_cache_bytes: 1 << 20,
            write_buffer_bytes: 1 << 20,
        };
        let options = StoreOptions {
            ingest_threshold_bytes: 350,
            overlay_bytes,
            ..StoreOptions::new(directory.path(), memory)
        };
        let mut store = Store::open(&options).unwrap();
        let cache = CacheHandle::new(6 << 10);
        // A neighbour on either side, that must never be seen.
        let ids = [TableId(4), TableId(5), TableId(6)];
        let open =
            |store: &Store| ids.map(|id| StateTable::new(id, family, store.clone(), cache.clone()));
        let mut tables = open(&store);
        let mut committed: [Model; 3] = Default::default();
        let (mut ingested, mut spilled) = (0, 0);
        for _ in 0..150 {
            let mut models = committed.clone();
            for _ in 0..rng.random_range(0..40) {
                let n = rng.random_range(0..3);
                change(&mut tables[n], &mut models[n], &mut rng);
                if rng.random_bool(0.1) {
                    check(&mut tables[n], &models[n], &mut rng);
                }
            }
            tables
                .iter_mut()
                .zip(&models)
                .for_each(|(table, model)| check(table, model, &mut rng));
            if rng.random_bool(0.1) {
                // A view that failed and is run again in the same epoch.
                let n = rng.random_range(0..3);
                tables[n].discard();
                models[n] = committed[n].clone();
                change(&mut tables[n], &mut models[n], &mut rng);
                check(&mut tables[n], &models[n], &mut rng);
            }
            if rng.random_bool(0.1) {
                // An epoch that fails while it is computed, before anything is handed to a commit.
                tables.iter_mut().for_each(StateTable::discard);
                store.release_spill();
                continue;
            }
            let mut writes = WriteSet::new();
            tables
                .iter_mut()
                .for_each(|table| table.drain_into(&mut writes));
            if rng.random_bool(0.7) {
                ingested += u32::from(store.commit(&writes, false).unwrap().was_ingested);
                tables.iter_mut().for_each(StateTable::committed);
                committed = models;
            } else {
                tables.iter_mut().for_each(StateTable::discard);
            }
            spilled += u32::from(directory.path().join("spill/").exists());
            store.release_spill();
            for (id, model) in ids.iter().zip(&committed) {
                assert_eq!(&snapshot_model(&store, *id, family), model);
            }
            if rng.random_bool(0.1) {
                drop((tables, store));
                store = Store::open(&options).unwrap();
                tables = open(&store);
            }
        }
        assert!(ingested > 0, "no commit was large enough for files");
        assert_eq!(spilled > 0, overlay_bytes < usize::MAX);
    }
}

#[test]
fn a_table_refuses_reads_between_drain_and_commit() {
    let directory = tempfile::tempdir().unwrap();
    let memory = MemoryPlan {
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 20,
    };
    let store = Store::open(&StoreOptions::new(directory.path(), memory)).unwrap();
    let mut table = StateTable::new(TableId(1), Family::State, store, CacheHandle::new(1 << 20));
    table.put(b"k", b"v");
    table.drain_into(&mut WriteSet::new());
    assert!(matches!(table.get(b"k"), Err(StateError::Bug(_))));
    table.discard();
    assert_eq!(table.get(b"k").unwrap(), None);
    let is_send = |_: &dyn Send| {};
    is_send(&table);
}
