//! How fast JSON becomes columns, on one thread: rows a second for all and for three of six fields.
//!
//! `cargo bench -p rivermark-connectors --bench decode`

use std::time::Instant;

use rivermark_connectors::format::json::{JsonDecoder, JsonField};
use rivermark_planner::types::SqlType;

const ROWS: usize = 4096;
const ROUNDS: usize = 250;

fn main() {
    let payloads: Vec<String> = (0..ROWS)
        .map(|i| {
            format!(
                "{{\"device_id\":\"device-{}\",\"ts\":\"2024-05-01T12:{:02}:{:02}.{:03}Z\",\"temperature\":{:.2},\
                 \"humidity\":{:.1},\"status\":\"ok\",\"seq\":{}}}",
                i % 1000,
                i / 60 % 60,
                i % 60,
                i % 1000,
                20.0 + (i % 700) as f64 / 100.0,
                40.0 + (i % 300) as f64 / 10.0,
                i
            )
        })
        .collect();
    let bytes: usize = payloads.iter().map(String::len).sum();
    for wanted in [
        ["device_id", "ts", "temperature"].as_slice(),
        &[
            "device_id",
            "ts",
            "temperature",
            "humidity",
            "status",
            "seq",
        ],
    ] {
        let fields = wanted.iter().map(|name| JsonField {
            name: name.to_string(),
            data_type: match *name {
                "ts" => SqlType::Timestamptz,
                "temperature" | "humidity" => SqlType::Double,
                "seq" => SqlType::BigInt,
                _ => SqlType::Text { max_length: None },
            },
            not_null: false,
            is_requested: true,
        });
        let mut decoder = JsonDecoder::new(fields.collect(), None);
        let started = Instant::now();
        for _ in 0..ROUNDS {
            for payload in &payloads {
                decoder.decode(payload.as_bytes()).expect("well formed");
            }
            std::hint::black_box(decoder.finish());
        }
        let seconds = started.elapsed().as_secs_f64();
        let rows = (ROWS * ROUNDS) as f64;
        println!(
            "{} of 6 fields, {} bytes a message: {:.2} M rows/s, {:.3} us a row, {:.0} MB/s",
            wanted.len(),
            bytes / ROWS,
            rows / seconds / 1e6,
            seconds / rows * 1e6,
            (bytes * ROUNDS) as f64 / seconds / 1e6
        );
    }
}
