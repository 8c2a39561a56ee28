//! Blocks: golden header, ordinals, projection, pruning and merging.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Field, Schema};

use super::super::store::{MemoryPlan, StoreOptions};
use super::*;

const PLACE: (Family, TableId) = (Family::Views, TableId(9));

fn schema() -> SchemaRef {
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("f", DataType::Float64, true),
    ];
    Arc::new(Schema::new(fields))
}

fn rows(from: i64, count: i64) -> RecordBatch {
    let ids = Int64Array::from_iter_values(from..from + count);
    let texts = StringArray::from_iter_values((from..from + count).map(|n| format!("row {n}")));
    let floats = Float64Array::from_iter_values((from..from + count).map(|n| n as f64 / 2.0));
    RecordBatch::try_new(
        schema(),
        vec![Arc::new(ids), Arc::new(texts), Arc::new(floats)],
    )
    .unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let memory = MemoryPlan {
        block_cache_bytes: 8 << 20,
        write_buffer_bytes: 8 << 20,
    };
    let store = Store::open(&StoreOptions::new(directory.path(), memory)).unwrap();
    (directory, store)
}

fn commit(store: &Store, table: &mut BlockTable) {
    let mut writes = WriteSet::new();
    table.drain_into(&mut writes);
    store.commit(&writes, false).unwrap();
    table.committed();
}

fn read_all(store: &Store, from: u64, keep: Option<BlockFilter>) -> Vec<(u64, Vec<i64>)> {
    let mut scan = scan_blocks(
        &store.snapshot(),
        PLACE,
        schema(),
        from,
        Some(vec![0]),
        keep,
    );
    let mut blocks = Vec::new();
    while let Some(block) = scan.next_block().unwrap() {
        assert_eq!(block.batch.num_columns(), 1);
        let ids = block
            .batch
            .column(0)
            .as_any()
            .downcast_ref::<Int64Array>()
            .unwrap();
        blocks.push((block.first_ordinal, ids.values().to_vec()));
    }
    blocks
}

#[test]
fn header_is_golden() {
    let value = encode_block(&rows(258, 3)).unwrap();
    let expected: Vec<u8> = [
        &[1, 3, 0, 0, 0, 24, 0, 0, 0, 10, 0, 0, 0][..],
        &[1, 0, 2, 1, 0, 0, 0, 0, 0, 0],
        &[1, 0, 4, 1, 0, 0, 0, 0, 0, 0],
        &[0xFF, 0xFF, 0xFF, 0xFF],
    ]
    .concat();
    assert_eq!(value[..expected.len()], expected);
    assert!(matches!(
        Header::parse(&value[..7]),
        Err(StateError::Corrupt(_))
    ));
}

#[test]
fn rows_keep_their_ordinals() {
    let (_directory, store) = store();
    let mut table = BlockTable::new(PLACE.1, PLACE.0, store.clone(), schema()).unwrap();
    assert_eq!(table.append(&rows(0, 5)).unwrap(), 0);
    commit(&store, &mut table);
    assert_eq!(table.append(&rows(100, 3)).unwrap(), 5);
    table.discard();
    assert_eq!(table.append(&rows(5, 4)).unwrap(), 5);
    let uncommitted = table.read_from(3, 1000, None).unwrap();
    assert_eq!(
        uncommitted
            .iter()
            .map(|b| (b.first_ordinal, b.batch.num_rows()))
            .collect::<Vec<_>>(),
        [(3, 2), (5, 4)]
    );
    assert_eq!(read_all(&store, 0, None), [(0, vec![0, 1, 2, 3, 4])]);
    commit(&store, &mut table);
    assert_eq!(read_all(&store, 6, None), [(6, vec![6, 7, 8])]);
    let reopened = BlockTable::new(PLACE.1, PLACE.0, store.clone(), schema()).unwrap();
    assert_eq!(reopened.next_ordinal(), 9);
    assert_eq!(
        reopened.read_from(0, 1000, Some(&[])).unwrap()[1]
            .batch
            .num_rows(),
        4
    );
    table.append(&rows(9, 70_000)).unwrap();
    assert_eq!(table.next_ordinal(), 70_009);
    commit(&store, &mut table);
    assert_eq!(
        read_all(&store, 70_000, None),
        [(70_000, (70_000..70_009).collect::<Vec<_>>())]
    );
}

#[test]
fn ranges_prune() {
    let (_directory, store) = store();
    let mut table = BlockTable::new(PLACE.1, PLACE.0, store.clone(), schema()).unwrap();
    for part in 0..4 {
        table.append(&rows(part * 10, 10)).unwrap();
    }
    table.append(&rows(0, 2).slice(0, 0)).unwrap();
    commit(&store, &mut table);
    let keep: BlockFilter = Box::new(|ranges| {
        assert_eq!(
            ranges.iter().map(|range| range.column).collect::<Vec<_>>(),
            [0]
        );
        ranges[0].min <= ScalarValue::Int64(Some(25))
            && ranges[0].max >= ScalarValue::Int64(Some(25))
    });
    assert_eq!(
        read_all(&store, 0, Some(keep)),
        [(20, (20..30).collect::<Vec<_>>())]
    );
}

#[test]
fn merging_keeps_rows_and_ordinals() {
    let (_directory, store) = store();
    let mut table = BlockTable::new(PLACE.1, PLACE.0, store.clone(), schema()).unwrap();
    for n in 0..300 {
        table.append(&rows(n, 1)).unwrap();
    }
    commit(&store, &mut table);
    let old = store.snapshot();
    let mut merges = 0;
    while let Some(merged) = prepare_merge(&store.snapshot(), PLACE, &schema(), 0).unwrap() {
        assert!(table.apply_merge(&merged).unwrap());
        commit(&store, &mut table);
        merges += 1;
        assert!(merges < 100);
    }
    let blocks = read_all(&store, 0, None);
    assert!(blocks.len() < 16, "{} blocks", blocks.len());
    assert_eq!(
        blocks
            .iter()
            .flat_map(|(_, ids)| ids.clone())
            .collect::<Vec<_>>(),
        (0..300).collect::<Vec<_>>()
    );
    assert!(
        blocks
            .iter()
            .all(|(ordinal, ids)| *ordinal as i64 == ids[0])
    );
    let stale = prepare_merge(&old, PLACE, &schema(), 0).unwrap().unwrap();
    assert!(!table.apply_merge(&stale).unwrap(), "the blocks are gone");
}

#[test]
fn retention_cuts_the_first_block() {
    let (_directory, store) = store();
    let mut table = BlockTable::new(PLACE.1, PLACE.0, store.clone(), schema()).unwrap();
    for part in 0..3 {
        table.append(&rows(part * 10, 10)).unwrap();
    }
    commit(&store, &mut table);
    table.delete_before(15).unwrap();
    commit(&store, &mut table);
    assert_eq!(
        read_all(&store, 0, None)
            .iter()
            .map(|(ordinal, _)| *ordinal)
            .collect::<Vec<_>>(),
        [15, 20]
    );
    table.delete_before(30).unwrap();
    commit(&store, &mut table);
    assert!(read_all(&store, 0, None).is_empty());
    let mut table = BlockTable::new(PLACE.1, PLACE.0, store.clone(), schema()).unwrap();
    assert_eq!(
        table.append(&rows(30, 1)).unwrap(),
        30,
        "ordinals never start again"
    );
    commit(&store, &mut table);
    assert_eq!(read_all(&store, 0, None), [(30, vec![30])]);
}
