//! What an `.slt` file may say besides SQL. Lines of this kind stand where a statement stands and never reach the
//! server:
//!
//! ```text
//! KAFKA CREATE TOPIC readings_$RUN [PARTITIONS 4]
//! KAFKA PRODUCE readings_$RUN [PARTITION 1] [KEY k]
//! {"one": "message per line"}
//! KAFKA PARTITIONS readings_$RUN 6
//! KAFKA DELETE TOPIC readings_$RUN
//! SERVER RESTART
//! CLOCK +90 minutes
//! ```
//!
//! The clock is the one by which rows leave temporal filters and partitions fall silent; the next statement that writes
//! something sees it.
//!
//! The data of a `COPY … FROM STDIN` stands in the lines behind it; an empty line ends it.
//!
//! In every statement `$KAFKA` is the broker's `host:port` and `$RUN` a suffix that only this run of the file uses.
//! In a message `\x80` stands for that byte, and `<null>` alone for a message without a payload.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::kafka::{Kafka, Message};

/// A line for the harness and not for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// Create a topic with so many partitions.
    CreateTopic { topic: String, partitions: i32 },
    /// Delete a topic.
    DeleteTopic { topic: String },
    /// Raise a topic's number of partitions.
    SetPartitions { topic: String, partitions: usize },
    /// Produce messages; `None` is a message without a payload.
    Produce {
        topic: String,
        partition: Option<i32>,
        key: Option<String>,
        payloads: Vec<Option<Vec<u8>>>,
    },
    /// Stop the server cleanly and start it again.
    RestartServer,
    /// Let so much time pass.
    Wait(Duration),
}

impl Directive {
    /// Reads a statement; `None` if it is SQL.
    pub fn parse(text: &str) -> Result<Option<Directive>> {
        let (head, body) = text.split_once('\n').unwrap_or((text, ""));
        let words: Vec<&str> = head.split_whitespace().collect();
        let directive = match words.as_slice() {
            ["SERVER", "RESTART"] => Directive::RestartServer,
            ["CLOCK", count, unit] => Directive::Wait(duration(count, unit)?),
            ["KAFKA", "CREATE", "TOPIC", topic] => Directive::CreateTopic {
                topic: (*topic).into(),
                partitions: 1,
            },
            ["KAFKA", "CREATE", "TOPIC", topic, "PARTITIONS", n] => Directive::CreateTopic {
                topic: (*topic).into(),
                partitions: n.parse()?,
            },
            ["KAFKA", "DELETE", "TOPIC", topic] => Directive::DeleteTopic {
                topic: (*topic).into(),
            },
            ["KAFKA", "PARTITIONS", topic, n] => Directive::SetPartitions {
                topic: (*topic).into(),
                partitions: n.parse()?,
            },
            ["KAFKA", "PRODUCE", topic, options @ ..] => {
                let (partition, key) = produce_options(options)?;
                let payloads = body
                    .lines()
                    .filter(|l| !l.is_empty())
                    .map(payload)
                    .collect();
                Directive::Produce {
                    topic: (*topic).into(),
                    partition,
                    key,
                    payloads,
                }
            }
            ["KAFKA", ..] => bail!("unknown directive: {head}"),
            _ => return Ok(None),
        };
        Ok(Some(directive))
    }

    /// Does what a directive about Kafka says.
    pub fn apply(&self, kafka: &Kafka) -> Result<()> {
        match self {
            Directive::CreateTopic { topic, partitions } => kafka.create_topic(topic, *partitions),
            Directive::DeleteTopic { topic } => kafka.delete_topic(topic),
            Directive::SetPartitions { topic, partitions } => {
                kafka.set_partitions(topic, *partitions)
            }
            Directive::Produce {
                topic,
                partition,
                key,
                payloads,
            } => {
                let messages = payloads.iter().map(|payload| Message {
                    partition: *partition,
                    key: key.as_ref().map(|k| k.clone().into_bytes()),
                    payload: payload.clone(),
                    timestamp_ms: None,
                });
                kafka.produce(topic, messages)
            }
            Directive::RestartServer | Directive::Wait(_) => {
                bail!("this is done by whoever owns the server: {self:?}")
            }
        }
    }
}

/// `+90 minutes`.
fn duration(count: &str, unit: &str) -> Result<Duration> {
    let count: u64 = count.trim_start_matches('+').parse()?;
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        _ => bail!("unknown unit of CLOCK: {unit}"),
    };
    Ok(Duration::from_secs(count * seconds))
}

fn produce_options(mut options: &[&str]) -> Result<(Option<i32>, Option<String>)> {
    let (mut partition, mut key) = (None, None);
    while let [name, value, rest @ ..] = options {
        match *name {
            "PARTITION" => partition = Some(value.parse()?),
            "KEY" => key = Some(value.to_string()),
            other => bail!("unknown option of KAFKA PRODUCE: {other}"),
        }
        options = rest;
    }
    options
        .is_empty()
        .then_some((partition, key))
        .context("an option of KAFKA PRODUCE lacks its value")
}

fn payload(line: &str) -> Option<Vec<u8>> {
    if line == "<null>" {
        return None;
    }
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = rest
            .strip_prefix(b"\\x")
            .and_then(|r| std::str::from_utf8(r.get(..2)?).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_and_sql_is_left_alone() {
        assert_eq!(Directive::parse("SELECT 1").unwrap(), None);
        assert_eq!(
            Directive::parse("SERVER RESTART").unwrap(),
            Some(Directive::RestartServer)
        );
        assert_eq!(
            Directive::parse("KAFKA CREATE TOPIC t PARTITIONS 4").unwrap(),
            Some(Directive::CreateTopic {
                topic: "t".into(),
                partitions: 4
            })
        );
        assert_eq!(
            Directive::parse("KAFKA PRODUCE t PARTITION 1 KEY k\n{\"a\": 1}\n<null>\n\\xff!")
                .unwrap(),
            Some(Directive::Produce {
                topic: "t".into(),
                partition: Some(1),
                key: Some("k".into()),
                payloads: vec![Some(b"{\"a\": 1}".to_vec()), None, Some(b"\xff!".to_vec())],
            })
        );
        assert!(Directive::parse("KAFKA EXPLODE t").is_err());
    }
}
