//! The store: opening, commits through the log and through files, snapshots, reopening.

use super::super::arena::Keys;
use super::super::cache::CacheHandle;
use super::super::scan::KeyRange;
use super::super::table::StateTable;
use super::*;

const TABLE: (Family, TableId) = (Family::State, TableId(7));

fn options(path: &std::path::Path) -> StoreOptions {
    let memory = MemoryPlan {
        block_cache_bytes: 4 << 20,
        write_buffer_bytes: 4 << 20,
    };
    StoreOptions::new(path, memory)
}

fn read_all(snapshot: &StoreSnapshot) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut scan = snapshot.scan(TABLE.0, TABLE.1, &KeyRange::all());
    let mut all = Vec::new();
    // Two at a time, to cross the borders of chunks.
    while let Some(chunk) = scan.next_chunk(2, usize::MAX).unwrap() {
        all.extend(
            chunk
                .keys
                .iter()
                .zip(chunk.values.iter())
                .map(|(key, value)| (key.to_vec(), value.to_vec())),
        );
    }
    all
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

#[test]
fn commits_are_seen_by_later_snapshots_only() {
    for ingest_threshold_bytes in [0, usize::MAX] {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            ingest_threshold_bytes,
            ..options(directory.path())
        };
        let store = Store::open(&options).unwrap();
        let mut writes = WriteSet::new();
        for key in ["a", "b", "c", "d"] {
            writes.put(TABLE.0, TABLE.1, key.as_bytes(), b"1");
        }
        writes.put(Family::Views, TABLE.1, b"a", b"another family");
        writes.put(TABLE.0, TableId(8), b"a", b"another table");
        writes.put_meta(b"epoch", b"1");
        let stats = store.commit(&writes, false).unwrap();
        assert_eq!(
            (stats.entries, stats.was_ingested),
            (7, ingest_threshold_bytes == 0)
        );
        let first = store.snapshot();
        let mut writes = WriteSet::new();
        writes.delete_range(TABLE.0, TABLE.1, &KeyRange::new(*b"a", Some(b"c".to_vec())));
        writes.put(TABLE.0, TABLE.1, b"b", b"2");
        writes.delete(TABLE.0, TABLE.1, b"d");
        writes.put_meta(b"epoch", b"2");
        store.commit(&writes, true).unwrap();
        assert_eq!(
            read_all(&first),
            pairs(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")])
        );
        assert_eq!(
            read_all(&store.snapshot()),
            pairs(&[("b", "2"), ("c", "1")])
        );
        assert_eq!(first.get_meta(b"epoch").unwrap().unwrap(), b"1");
        assert_eq!(store.get_meta(b"epoch").unwrap().unwrap(), b"2");
        let keys: Keys = [&b"d"[..], b"c", b"c", b"x"].into_iter().collect();
        let values = store.snapshot().get_many(TABLE.0, TABLE.1, &keys).unwrap();
        assert_eq!(
            values.iter().collect::<Vec<_>>(),
            [None, Some(&b"1"[..]), Some(b"1"), None]
        );
        let mut writes = WriteSet::new();
        writes.delete_table(TABLE.0, TABLE.1);
        store.commit(&writes, false).unwrap();
        assert!(read_all(&store.snapshot()).is_empty());
        drop((store, first));
        let store = Store::open(&options).unwrap();
        assert_eq!(store.get_meta(b"epoch").unwrap().unwrap(), b"2");
        assert!(read_all(&store.snapshot()).is_empty());
    }
}

#[test]
fn neighbours_of_a_dropped_table_see_nothing_of_it() {
    for ingest_above in [usize::MAX, 0] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path());
        options.ingest_threshold_bytes = ingest_above;
        let store = Store::open(&options).unwrap();
        let ids = [1, 2, 3].map(TableId);
        let mut writes = WriteSet::new();
        for id in ids {
            writes.put(Family::State, id, b"", b"empty key");
            writes.put(Family::State, id, b"\xFF\xFF", b"last key");
        }
        store.commit(&writes, true).unwrap();
        let mut writes = WriteSet::new();
        writes.delete_table(Family::State, ids[1]);
        store.commit(&writes, true).unwrap();
        let cache = CacheHandle::new(1 << 20);
        for (id, keys) in ids.into_iter().zip([2, 0, 2]) {
            let table = StateTable::new(id, Family::State, store.clone(), cache.clone());
            let forwards = table.scan(&KeyRange::all()).unwrap();
            assert_eq!(forwards.count(), keys, "{id:?}");
            let backwards = table.scan_reverse(&KeyRange::all()).unwrap();
            assert_eq!(backwards.count(), keys, "{id:?}");
        }
        let db = store.db().unwrap();
        for guard in guards(ids[1]) {
            let found = db.db().get_cf(db.family(Family::State), guard).unwrap();
            assert!(found.is_some(), "ingestion above {ingest_above} bytes");
        }
    }
}

#[test]
fn meta_entries_scan_by_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&options(directory.path())).unwrap();
    let mut writes = WriteSet::new();
    for name in ["object/1", "object/2", "offset/1"] {
        writes.put_meta(name.as_bytes(), b"x");
    }
    store.commit(&writes, false).unwrap();
    let chunk = store
        .snapshot()
        .scan_meta(b"object/")
        .next_chunk(10, usize::MAX)
        .unwrap()
        .unwrap();
    assert_eq!(
        chunk.keys.iter().collect::<Vec<_>>(),
        [&b"object/1"[..], b"object/2"]
    );
}

#[test]
fn a_second_server_and_another_format_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let store = Store::open(&options).unwrap();
    let error = Store::open(&options).err().unwrap();
    assert!(
        matches!(&error, StateError::Locked(path) if path == directory.path()),
        "{error}"
    );
    let mut writes = WriteSet::new();
    writes.put_meta(meta_key::FORMAT, b"99");
    store.commit(&writes, true).unwrap();
    drop(store);
    let error = Store::open(&options).err().unwrap();
    assert!(
        matches!(&error, StateError::Format { found, .. } if found == "99"),
        "{error}"
    );
    assert!(error.to_string().contains("--data-dir") && !error.is_retryable());
}

#[test]
fn reopening_revokes_snapshots_and_keeps_commits() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&options(directory.path())).unwrap();
    let mut writes = WriteSet::new();
    writes.put(TABLE.0, TABLE.1, b"k", b"v");
    store.commit(&writes, false).unwrap();
    let snapshot = store.snapshot();
    let mut scan = snapshot.scan(TABLE.0, TABLE.1, &KeyRange::all());
    scan.next_chunk(1, 1).unwrap().unwrap();
    store.reopen().unwrap();
    assert!(matches!(snapshot.get_meta(b"x"), Err(StateError::Reopened)));
    assert!(matches!(scan.next_chunk(1, 1), Err(StateError::Reopened)));
    assert_eq!(read_all(&store.snapshot()), pairs(&[("k", "v")]));
    store.commit(&writes, true).unwrap();
}

#[test]
fn usage_counts_memory_and_tables() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreOptions {
        ingest_threshold_bytes: 0,
        ..options(directory.path())
    })
    .unwrap();
    let mut writes = WriteSet::new();
    for n in 0..20_000u32 {
        writes.put(
            TABLE.0,
            TABLE.1,
            &n.to_be_bytes(),
            &n.wrapping_mul(2_654_435_761).to_be_bytes().repeat(8),
        );
    }
    store.commit(&writes, false).unwrap();
    let usage = store.usage().unwrap();
    assert!(usage.disk_bytes > 200_000, "{usage:?}");
    assert!(usage.memory_bytes < 10 << 20, "{usage:?}");
    assert!(store.table_bytes(TABLE.0, TABLE.1).unwrap() > 200_000);
    assert_eq!(store.table_bytes(TABLE.0, TableId(6)).unwrap(), 0);
}

#[test]
fn keys_near_one_another_are_found_as_single_ones_are() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&options(directory.path())).unwrap();
    // The neighbours have keys right before and behind the table's.
    for id in [TABLE.1.0 - 1, TABLE.1.0, TABLE.1.0 + 1].map(TableId) {
        let cache = CacheHandle::new(1 << 20);
        let mut table = StateTable::new(id, TABLE.0, store.clone(), cache);
        for n in 0u32..20_000 {
            let is_there = n % 10 != 3 && !(5000..6000).contains(&n);
            if is_there {
                table.put(
                    &n.to_be_bytes(),
                    &[n.to_le_bytes(), id.0.to_le_bytes()].concat(),
                );
            }
        }
        let mut writes = WriteSet::new();
        table.drain_into(&mut writes);
        store.commit(&writes, false).unwrap();
        table.committed();
    }
    let snapshot = store.snapshot();
    let wanted: [Vec<u32>; 7] = [
        (100..400).collect(),
        (4900..6100).collect(),
        (0..20_100).step_by(7).collect(),
        (0..20_100).step_by(97).collect(),
        (0..300).map(|n| n * 7919 % 20_011).collect(),
        (0..500).map(|n| 19_000 + n / 3 * 9).collect(),
        (30_000..30_100).collect(),
    ];
    for wanted in wanted {
        let keys: Vec<[u8; 4]> = wanted.iter().map(|n| n.to_be_bytes()).collect();
        let keys: Keys = keys.iter().map(|key| &key[..]).collect();
        let near = snapshot.get_near(TABLE.0, TABLE.1, &keys).unwrap();
        let single = snapshot.get_many(TABLE.0, TABLE.1, &keys).unwrap();
        assert!(near.iter().eq(single.iter()), "{:?} …", &wanted[..3]);
    }
}
