//! A Kafka source's options, and the librdkafka configuration that follows from them.

use std::collections::BTreeMap;
use std::time::Duration;

use rivermark_executor::source::SourceError;
use rivermark_planner::catalog::{Encode, Format, SourceDef};

use crate::format::json::TimestampUnit;
use crate::options::{OptionSet, OptionSpec, OptionType, boolean, integer, invalid, parse_boolean};

/// What `WITH` takes for `connector = 'kafka'`.
pub const WITH_OPTIONS: OptionSet = OptionSet {
    place: "WITH (connector = 'kafka')",
    specs: &[
        OptionSpec::required("connector", OptionType::Text),
        OptionSpec::required("topic", OptionType::Text),
        OptionSpec::optional(
            "scan.startup.mode",
            OptionType::Choice(&["earliest", "latest"]),
        ),
        OptionSpec::optional(
            "scan.startup.timestamp.millis",
            OptionType::Integer {
                min: 0,
                max: i64::MAX,
            },
        ),
        OptionSpec::optional("idle_timeout", OptionType::Interval),
        OptionSpec::optional("late", OptionType::Choice(&["drop", "include"])),
        OptionSpec::optional("max_future", OptionType::Interval),
        OptionSpec::optional(
            "watermark_on_idle",
            OptionType::Choice(&["hold", "processing_time"]),
        ),
        OptionSpec::optional("on_data_loss", OptionType::Choice(&["fail", "continue"])),
        OptionSpec::optional("allow_missing_topic", OptionType::Boolean),
    ],
    prefixes: &["properties."],
};

const JSON_OPTIONS: OptionSet = OptionSet {
    place: "ENCODE JSON",
    specs: &[OptionSpec::optional(
        "timestamp.unit",
        OptionType::Choice(&["s", "ms", "us"]),
    )],
    prefixes: &[],
};

/// librdkafka properties that the reader depends on.
const RESERVED_PROPERTIES: &[&str] = &[
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.commit.enable",
    "offset.store.method",
    "queued.max.messages.kbytes",
    "queued.min.messages",
];

/// Where a source starts if the topic has messages already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    Earliest,
    Latest,
    /// The first message at or after this many milliseconds since 1970.
    TimestampMs(i64),
}

/// What happens when messages are gone before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDataLoss {
    Fail,
    Continue,
}

/// A Kafka source's checked options.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    pub topic: String,
    /// `host:port, ...`
    pub bootstrap: String,
    pub start_mode: StartMode,
    pub on_data_loss: OnDataLoss,
    pub allow_missing_topic: bool,
    pub timestamp_unit: Option<TimestampUnit>,
    /// How often new partitions are looked for.
    pub metadata_interval: Duration,
    /// librdkafka's, without the bootstrap servers.
    properties: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// Checks everything that can be checked without contacting a broker.
    pub fn new(def: &SourceDef) -> Result<Self, SourceError> {
        check_format(def)?;
        let mut properties = properties(&def.options)?;
        let server = properties.remove("bootstrap.server");
        let Some(bootstrap) = properties.remove("bootstrap.servers").or(server) else {
            return Err(invalid(
                "option \"properties.bootstrap.server\" is missing in WITH (connector = 'kafka'); \
                 it takes the brokers' addresses as 'host:port, ...'",
            ));
        };
        let start_mode = start_mode(&def.options)?;
        let metadata_ms = properties
            .entry("topic.metadata.refresh.interval.ms".to_string())
            .or_insert_with(|| "5000".to_string());
        let metadata_interval = metadata_ms
            .parse()
            .ok()
            .filter(|ms| (10..=3_600_000).contains(ms))
            .map(Duration::from_millis)
            .ok_or_else(|| {
                invalid("option \"properties.topic.metadata.refresh.interval.ms\" takes a whole number between 10 and 3600000")
            })?;
        Ok(KafkaConfig {
            topic: def.options["topic"].clone(),
            bootstrap,
            start_mode,
            on_data_loss: match def.options.get("on_data_loss").map(String::as_str) {
                Some("continue") => OnDataLoss::Continue,
                _ => OnDataLoss::Fail,
            },
            allow_missing_topic: boolean(&def.options, "allow_missing_topic", false),
            timestamp_unit: def.encode_options.get("timestamp.unit").map(|unit| {
                match unit.as_str() {
                    "s" => TimestampUnit::Seconds,
                    "ms" => TimestampUnit::Millis,
                    _ => TimestampUnit::Micros,
                }
            }),
            metadata_interval,
            properties,
        })
    }

    /// A configuration without options: for measurements.
    pub fn bare(bootstrap: &str, topic: &str) -> Self {
        KafkaConfig {
            topic: topic.to_string(),
            bootstrap: bootstrap.to_string(),
            start_mode: StartMode::Earliest,
            on_data_loss: OnDataLoss::Fail,
            allow_missing_topic: false,
            timestamp_unit: None,
            metadata_interval: Duration::from_secs(5),
            properties: BTreeMap::new(),
        }
    }

    /// Whether the user named a consumer group to show progress in.
    pub fn has_group(&self) -> bool {
        self.properties.contains_key("group.id")
    }

    /// librdkafka's configuration for a consumer that may hold `prefetch_bytes` of messages.
    ///
    /// librdkafka counts payloads only; around each it keeps some 500 bytes. So messages are bounded in number, too.
    pub fn consumer_properties(&self, prefetch_bytes: usize) -> Vec<(String, String)> {
        let queue_kbytes = (prefetch_bytes / 4 / 1024).clamp(256, 1_000_000);
        let queue_messages = (prefetch_bytes / 4 / 500).clamp(1_000, 10_000_000);
        let fetch_bytes = (prefetch_bytes / 4).clamp(1 << 20, 50 << 20);
        let defaults = [
            ("client.id", "rivermark".to_string()),
            ("isolation.level", "read_committed".to_string()),
            ("check.crcs", "false".to_string()),
            ("receive.message.max.bytes", (1 << 30).to_string()),
            ("fetch.max.bytes", fetch_bytes.to_string()),
            ("fetch.wait.max.ms", "100".to_string()),
            // The default of a second starves a reader that empties the queue in milliseconds.
            ("fetch.queue.backoff.ms", "2".to_string()),
            ("fetch.error.backoff.ms", "100".to_string()),
            ("reconnect.backoff.ms", "50".to_string()),
            ("reconnect.backoff.max.ms", "1000".to_string()),
            ("allow.auto.create.topics", "false".to_string()),
            ("log.connection.close", "false".to_string()),
        ];
        let fixed = [
            ("bootstrap.servers", self.bootstrap.clone()),
            ("enable.partition.eof", "true".to_string()),
            ("auto.offset.reset", "error".to_string()),
            ("enable.auto.commit", "false".to_string()),
            ("enable.auto.offset.store", "false".to_string()),
            ("queued.max.messages.kbytes", queue_kbytes.to_string()),
            ("queued.min.messages", queue_messages.to_string()),
        ];
        let mut all: BTreeMap<String, String> = defaults
            .into_iter()
            .map(|(k, v)| (k.to_string(), v))
            .collect();
        all.extend(self.properties.clone());
        all.extend(fixed.into_iter().map(|(k, v)| (k.to_string(), v)));
        all.into_iter().collect()
    }
}

fn check_format(def: &SourceDef) -> Result<(), SourceError> {
    if def.format != Format::Plain {
        return Err(invalid(
            "a source takes FORMAT PLAIN; UPSERT and DEBEZIUM need a table",
        ));
    }
    if def.encode != Encode::Json {
        return Err(invalid(
            "connector = 'kafka' takes FORMAT PLAIN ENCODE JSON",
        ));
    }
    JSON_OPTIONS.check(&def.encode_options)
}

/// What is handed through to librdkafka.
fn properties(options: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, SourceError> {
    let mut properties = BTreeMap::new();
    for (option, value) in options {
        let Some(name) = option.strip_prefix("properties.") else {
            continue;
        };
        if RESERVED_PROPERTIES.contains(&name) {
            return Err(invalid(format!(
                "option \"{option}\" can not be set: Rivermark keeps offsets and queues itself"
            )));
        }
        properties.insert(name.to_string(), value.clone());
    }
    let creates_topics = properties.get("allow.auto.create.topics");
    if creates_topics.is_some_and(|value| parse_boolean(value) != Some(false)) {
        return Err(invalid(
            "option \"properties.allow.auto.create.topics\" can only be 'false': reading creates no topics",
        ));
    }
    Ok(properties)
}

fn start_mode(options: &BTreeMap<String, String>) -> Result<StartMode, SourceError> {
    let timestamp_ms = integer(options, "scan.startup.timestamp.millis");
    match (
        options.get("scan.startup.mode").map(String::as_str),
        timestamp_ms,
    ) {
        (Some(_), Some(_)) => Err(invalid(
            "options \"scan.startup.mode\" and \"scan.startup.timestamp.millis\" exclude each other",
        )),
        (_, Some(timestamp_ms)) => Ok(StartMode::TimestampMs(timestamp_ms)),
        (Some("latest"), None) => Ok(StartMode::Latest),
        (_, None) => Ok(StartMode::Earliest),
    }
}
