//! What is read for a change does not depend on how many rows the key has. (What is joined: `watermark/asof_tests.rs`.)

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use rivermark_planner::plan::{JoinKey, NearestTimes, PlanNode, PlanOp, Properties};
use tempfile::TempDir;

use super::{LEFT, Nearest, RIGHT};
use crate::delta::Delta;
use crate::operator::{EpochContext, Operator};
use crate::operators::property_bench::{column, schema};
use crate::state::{
    CacheHandle, Family, MemoryPlan, StateTable, Store, StoreOptions, TableId, WriteSet,
};

const MEMORY: MemoryPlan = MemoryPlan {
    block_cache_bytes: 8 << 20,
    write_buffer_bytes: 16 << 20,
};

struct Bench {
    _directory: TempDir,
    store: Store,
    operator: Nearest,
    epoch: u64,
}

impl Bench {
    fn new(is_latest: bool, is_strict: bool) -> Bench {
        let directory = TempDir::new().unwrap();
        let store = Store::open(&StoreOptions::new(directory.path(), MEMORY)).unwrap();
        let input = || PlanNode {
            op: PlanOp::UnionAll,
            inputs: Vec::new(),
            schema: schema(),
            properties: Properties::default(),
        };
        let key = JoinKey {
            left: column("g"),
            right: column("g"),
            matches_null: false,
        };
        let times = NearestTimes {
            left: column("o"),
            right: column("o"),
            is_latest,
            is_strict,
        };
        let both = [schema(), schema()];
        let fields = both.iter().flat_map(|side| side.fields().iter());
        let fields: Vec<Field> = fields.map(|field| field.as_ref().clone()).collect();
        let table = |id| {
            StateTable::new(
                TableId(id),
                Family::State,
                store.clone(),
                CacheHandle::new(1 << 20),
            )
        };
        let operator = Nearest::new(
            1,
            (&[key], &times),
            (true, None),
            None,
            &[input(), input()],
            Arc::new(Schema::new(fields)),
            vec![table(1), table(2)],
        );
        Bench {
            _directory: directory,
            operator: operator.unwrap(),
            store,
            epoch: 0,
        }
    }

    /// Rows of one key with these times; how many stored rows are read, and how many rows are given.
    fn change(
        &mut self,
        side: usize,
        times: impl Iterator<Item = i64>,
        weight: i64,
    ) -> (u64, usize) {
        let times: Vec<i64> = times.collect();
        let count = times.len();
        let batch = RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(Int64Array::from(vec![7; count])),
                Arc::new(Int64Array::from(times)),
                Arc::new(Float64Array::from(vec![0.5; count])),
                Arc::new(StringArray::from(vec!["text"; count])),
            ],
        );
        let delta = Delta::new(batch.unwrap(), Some(vec![weight; count].into()));
        self.epoch += 1;
        let mut context = EpochContext {
            epoch: self.epoch,
            shards: 1,
            held_limit: usize::MAX,
            now_us: 0,
            failures: Vec::new(),
        };
        let before = self.operator.read;
        self.operator.push(side, delta, &mut context).unwrap();
        let mut given = 0;
        let mut emit = |delta: Delta, _: &mut EpochContext| {
            given += delta.num_rows();
            Ok(())
        };
        self.operator.finish_into(&mut context, &mut emit).unwrap();
        let mut writes = WriteSet::default();
        self.operator.drain_into(&mut writes);
        self.store.commit(&writes, false).unwrap();
        self.operator.committed();
        (self.operator.read - before, given)
    }
}

#[test]
fn reads_follow_the_change() {
    for (is_latest, is_strict) in [(true, false), (true, true), (false, false), (false, true)] {
        for count in [100, 10_000] {
            let mut bench = Bench::new(is_latest, is_strict);
            // Two left rows between every two right ones.
            bench.change(RIGHT, (0..count).map(|time| 4 * time), 1);
            let (_, given) = bench.change(LEFT, (0..count).flat_map(|t| [4 * t + 1, 4 * t + 3]), 1);
            assert_eq!(given as i64, 2 * count);
            let middle = 4 * (count / 2);
            let changes = [
                (LEFT, middle + 2, 1, 1),
                (LEFT, middle + 2, -1, 1),
                // Takes over what lies between it and the next, each a retraction and an insertion.
                (RIGHT, middle + 2, 1, 2),
                (RIGHT, middle + 2, -1, 2),
                (RIGHT, middle, -1, 4),
                (RIGHT, middle, 1, 4),
            ];
            for (side, time, weight, expected) in changes {
                let (read, given) = bench.change(side, [time].into_iter(), weight);
                let label =
                    format!("{is_latest} {is_strict}: {count} rows, {side} {time} {weight}");
                assert_eq!(given, expected, "{label}");
                assert!(read <= 10, "{label}: reads {read}");
            }
        }
    }
}
