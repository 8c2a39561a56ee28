//! Sources on a broker, producers, and what a reader delivered.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rivermark_connectors::Registry;
use rivermark_executor::source::{
    ConnectorFactory, ReadRequest, ReaderState, ReaderStatus, Source, SourceBatch, SourceReader,
};
use rivermark_planner::catalog::{ColumnDef, Encode, Format, Include, Positions, SourceDef};
use rivermark_planner::types::SqlType;

pub fn column(name: &str, data_type: SqlType) -> ColumnDef {
    ColumnDef {
        name: name.to_string(),
        data_type,
        not_null: false,
        default: None,
        generated: None,
        include: None,
        comment: None,
    }
}

pub fn included(name: &str, data_type: SqlType, include: Include) -> ColumnDef {
    ColumnDef {
        include: Some(include),
        ..column(name, data_type)
    }
}

pub fn text() -> SqlType {
    SqlType::Text { max_length: None }
}

/// A JSON source with columns `id BIGINT, name TEXT`.
pub fn def(bootstrap: &str, topic: &str, options: &[(&str, &str)]) -> SourceDef {
    let mut all = BTreeMap::from([
        ("connector".to_string(), "kafka".to_string()),
        ("topic".to_string(), topic.to_string()),
        (
            "properties.bootstrap.server".to_string(),
            bootstrap.to_string(),
        ),
        (
            "properties.topic.metadata.refresh.interval.ms".to_string(),
            "200".to_string(),
        ),
    ]);
    all.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    SourceDef {
        columns: vec![column("id", SqlType::BigInt), column("name", text())],
        watermark: None,
        options: all,
        secrets: BTreeMap::new(),
        format: Format::Plain,
        encode: Encode::Json,
        encode_options: BTreeMap::new(),
        start: Positions::new(),
    }
}

pub fn source(def: &SourceDef) -> Arc<dyn Source> {
    Registry.source("s", def).expect("valid options")
}

pub fn request(columns: &[usize], start: Positions, stop_at: Option<Positions>) -> ReadRequest {
    ReadRequest {
        columns: columns.to_vec(),
        start,
        stop_at,
        prefetch_bytes: 16 << 20,
        wake: Arc::new(|| {}),
    }
}

pub fn producer(bootstrap: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("message.max.bytes", "20000000")
        .create()
        .expect("a producer")
}

pub fn send(producer: &BaseProducer, topic: &str, partition: i32, payload: &[u8]) {
    let record: BaseRecord<'_, [u8], [u8]> =
        BaseRecord::to(topic).partition(partition).payload(payload);
    producer.send(record).map_err(|(e, _)| e).expect("queued");
}

pub fn send_full(
    producer: &BaseProducer,
    topic: &str,
    key: &[u8],
    payload: Option<&[u8]>,
    header: (&str, &[u8]),
) {
    let headers = OwnedHeaders::new().insert(Header {
        key: header.0,
        value: Some(header.1),
    });
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
        .partition(0)
        .key(key)
        .timestamp(1_700_000_000_123)
        .headers(headers);
    if let Some(payload) = payload {
        record = record.payload(payload);
    }
    producer.send(record).map_err(|(e, _)| e).expect("queued");
}

pub fn flush(producer: &BaseProducer) {
    producer.flush(Duration::from_secs(10)).expect("flushed");
}

/// Takes batches until `is_enough` or twenty seconds have passed.
pub fn take_until(
    reader: &mut Box<dyn SourceReader>,
    mut is_enough: impl FnMut(&[SourceBatch], &ReaderStatus) -> bool,
) -> Vec<SourceBatch> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut batches = Vec::new();
    loop {
        while let Some(batch) = reader.take(1000) {
            batches.push(batch);
        }
        let status = reader.status();
        if is_enough(&batches, &status) {
            return batches;
        }
        assert!(
            Instant::now() < deadline,
            "gave up at {status:?} after {} batches",
            batches.len()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn take_all(reader: &mut Box<dyn SourceReader>) -> Vec<SourceBatch> {
    take_until(reader, |_, status| status.state == ReaderState::Finished)
}

pub fn rows(batches: &[SourceBatch]) -> usize {
    batches.iter().map(|b| b.rows.num_rows()).sum()
}

/// Offsets of the rows by partition, checked to be ascending.
pub fn offsets(batches: &[SourceBatch]) -> BTreeMap<i32, Vec<i64>> {
    let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for batch in batches {
        let of_partition = offsets.entry(batch.partition).or_default();
        of_partition.extend(batch.offsets.values());
        assert!(
            of_partition.is_sorted_by(|a, b| a < b),
            "partition {}",
            batch.partition
        );
        assert!(
            of_partition
                .last()
                .is_none_or(|last| *last < batch.next_offset)
        );
    }
    offsets
}

/// Rows as text, columns separated by `|`.
pub fn print(batches: &[SourceBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.rows.num_rows() {
            let cells =
                batch.rows.columns().iter().map(|c| {
                    arrow::util::display::array_value_to_string(c, row).expect("printable")
                });
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    lines
}
