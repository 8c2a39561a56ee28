//! Real sensor data (the Numenta Anomaly Benchmark's), produced with `kcat` into a real Kafka and read with `psql`:
//! neither client was written here. What psql prints must equal a plain computation over the files.

use std::collections::BTreeMap;

use rivermark_sql_tests::kafka::Kafka;
use rivermark_sql_tests::sensor_data;
use rivermark_sql_tests::server::Server;

const FILES: [(&str, &str); 3] = [
    ("machine", "machine_temperature_system_failure.csv"),
    ("ambient", "ambient_temperature_system_failure.csv"),
    ("speed", "speed_7578.csv"),
];

/// One measurement, its numbers as written in the file.
struct Reading {
    sensor: &'static str,
    timestamp: String,
    value: String,
}

impl Reading {
    fn json(&self) -> String {
        format!(
            "{{\"sensor\": \"{}\", \"ts\": \"{}\", \"value\": {}}}\n",
            self.sensor, self.timestamp, self.value
        )
    }

    fn seconds(&self) -> i64 {
        let number = |range: std::ops::Range<usize>| {
            self.timestamp[range].parse::<i64>().expect("a timestamp")
        };
        let days = days_from_civil(number(0..4), number(5..7), number(8..10));
        days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19)
    }
}

/// Days since 1970-01-01, by Howard Hinnant's algorithm (http://howardhinnant.github.io/date_algorithms.html).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn read(data: &std::path::Path, sensor: &'static str, file: &str) -> Vec<Reading> {
    let text = std::fs::read_to_string(data.join(file)).expect("a readable file");
    let rows = text.lines().skip(1).filter(|l| !l.is_empty());
    rows.map(|line| {
        let (timestamp, value) = line.split_once(',').expect("two columns");
        Reading {
            sensor,
            timestamp: timestamp.trim().into(),
            value: value.trim().into(),
        }
    })
    .collect()
}

/// Count, minimum, maximum, and the sum with its rounding error carried along (Neumaier), for an exact average.
#[derive(Default, Clone, Copy)]
struct Plain {
    count: u64,
    minimum: f64,
    maximum: f64,
    sum: f64,
    error: f64,
}

impl Plain {
    fn add(&mut self, value: f64) {
        (self.minimum, self.maximum) = match self.count {
            0 => (value, value),
            _ => (self.minimum.min(value), self.maximum.max(value)),
        };
        self.count += 1;
        let sum = self.sum + value;
        let (large, small) = if self.sum.abs() >= value.abs() {
            (self.sum, value)
        } else {
            (value, self.sum)
        };
        self.error += (large - sum) + small;
        self.sum = sum;
    }

    fn average(&self) -> f64 {
        (self.sum + self.error) / self.count as f64
    }
}

type Groups = BTreeMap<(String, i64), Plain>;

fn psql(server: &Server, sql: &str) -> String {
    let printed = rivermark_sql_tests::psql::psql(&server.connection_string(), sql);
    printed.unwrap_or_else(|e| panic!("{e:#}\n{}", server.log_tail()))
}

/// Compares psql's lines `sensor,second,count,min,max,avg` with the computation.
fn compare(expected: &Groups, printed: &str) {
    let mut rest = expected.clone();
    for line in printed.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let [sensor, second, count, minimum, maximum, average] = fields[..] else {
            panic!("six fields, not {line}")
        };
        let float = |text: &str| {
            text.parse::<f64>()
                .unwrap_or_else(|_| panic!("{text} is no number, in {line}"))
        };
        let key = (sensor.to_string(), float(second) as i64);
        let plain = rest
            .remove(&key)
            .unwrap_or_else(|| panic!("an unexpected window: {line}"));
        assert_eq!(count, plain.count.to_string(), "count of {line}");
        assert_eq!(float(minimum), plain.minimum, "minimum of {line}");
        assert_eq!(float(maximum), plain.maximum, "maximum of {line}");
        let error = (float(average) - plain.average()).abs() / plain.average().abs();
        assert!(
            error < 1e-14,
            "average {} expected, {line}",
            plain.average()
        );
    }
    assert!(
        rest.is_empty(),
        "{} windows are missing, the first is {:?}",
        rest.len(),
        rest.keys().next()
    );
}

fn declare(server: &Server, kafka: &Kafka, topic: &str, view: &str) {
    psql(
        server,
        &format!(
            "CREATE SOURCE readings (sensor VARCHAR, ts TIMESTAMPTZ, value DOUBLE PRECISION)
             WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{}')
             FORMAT PLAIN ENCODE JSON",
            kafka.bootstrap()
        ),
    );
    psql(
        server,
        &format!(
            "CREATE MATERIALIZED VIEW stats AS
             SELECT sensor, window_start, count(*) AS n, min(value) AS lo, max(value) AS hi, avg(value) AS mean
             FROM {view} GROUP BY sensor, window_start"
        ),
    );
}

const READ_STATS: &str = "SELECT sensor, extract(epoch FROM window_start)::bigint, n, lo, hi, mean FROM stats ORDER BY 1, 2";

#[test]
fn machine_temperature_per_hour() {
    let Some(data) = sensor_data() else { return };
    let readings = read(&data, FILES[0].0, FILES[0].1);
    let kafka = Kafka::shared();
    let topic = kafka.new_topic("machine", 1).expect("a topic");
    let lines: String = readings.iter().map(Reading::json).collect();
    let mut server = Server::options().start().expect("the server starts");

    // Half of the messages are there before the view, half come while it runs.
    let middle = lines[..lines.len() / 2].rfind('\n').expect("many lines") + 1;
    kafka
        .kcat(&topic, 0, &lines[..middle])
        .expect("kcat produces");
    declare(
        &server,
        kafka,
        &topic,
        "TUMBLE(readings, ts, INTERVAL '1 hour')",
    );
    kafka
        .kcat(&topic, 0, &lines[middle..])
        .expect("kcat produces");
    psql(&server, "FLUSH");

    let mut expected = Groups::new();
    for reading in &readings {
        let hour = reading.seconds().div_euclid(3600) * 3600;
        let value = reading.value.parse().expect("a number");
        expected
            .entry((reading.sensor.to_string(), hour))
            .or_default()
            .add(value);
    }
    assert!(expected.len() > 1000, "the file covers months");
    compare(&expected, &psql(&server, READ_STATS));
    server.restart().expect("the server restarts");
    compare(&expected, &psql(&server, READ_STATS));
    server.stop().expect("the server stops cleanly");
}

#[test]
fn three_sensors_in_four_partitions_with_hopping_windows() {
    const SLIDE: i64 = 1800;
    const SIZE: i64 = 7200;
    let Some(data) = sensor_data() else { return };
    let kafka = Kafka::shared();
    let topic = kafka.new_topic("sensors", 4).expect("a topic");
    let mut server = Server::options().start().expect("the server starts");
    declare(
        &server,
        kafka,
        &topic,
        "HOP(readings, ts, INTERVAL '30 minutes', INTERVAL '2 hours')",
    );

    let mut lines = vec![String::new(); 4];
    let mut expected = Groups::new();
    for (sensor, file) in FILES {
        for (i, reading) in read(&data, sensor, file).iter().enumerate() {
            lines[i % 4].push_str(&reading.json());
            let last = reading.seconds().div_euclid(SLIDE) * SLIDE;
            for start in (0..SIZE / SLIDE).map(|n| last - n * SLIDE) {
                let value = reading.value.parse().expect("a number");
                expected
                    .entry((sensor.to_string(), start))
                    .or_default()
                    .add(value);
            }
        }
    }
    for (partition, lines) in lines.iter().enumerate() {
        kafka
            .kcat(&topic, partition as i32, lines)
            .expect("kcat produces");
    }
    psql(&server, "FLUSH");
    compare(&expected, &psql(&server, READ_STATS));
    server.stop().expect("the server stops cleanly");
}
