//! Messages that are gone before they were read: finding out which, and saying so.

use rivermark_executor::source::SourceError;

use super::client::{BEGINNING, Client, END};

/// How long the broker may take to say where a log begins and ends.
const TIMEOUT_MS: u64 = 5_000;

/// What is left of a partition whose wanted offset is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub partition: i32,
    /// The offset that was to be read next.
    pub wanted: i64,
    /// First offset that there is.
    pub first: i64,
    /// End of the log (exclusive).
    pub end: i64,
    /// The topic was deleted and created again: no offset means what it meant.
    pub is_recreated: bool,
}

impl Loss {
    /// Asks the broker what there is.
    pub fn find(
        client: &Client,
        partition: i32,
        wanted: i64,
        is_recreated: bool,
    ) -> Result<Self, SourceError> {
        let offset = |at: i64| -> Result<i64, SourceError> {
            let offsets = client.list_offsets(&[partition], at, TIMEOUT_MS)?;
            Ok(offsets.get(&partition).copied().unwrap_or(0))
        };
        Ok(Loss {
            partition,
            wanted,
            first: offset(BEGINNING)?,
            end: offset(END)?,
            is_recreated,
        })
    }

    /// What happened, for people.
    pub fn describe(&self, topic: &str) -> String {
        let Loss {
            partition,
            wanted,
            first,
            end,
            ..
        } = self;
        let what = if self.is_recreated {
            format!(
                "the topic was created anew while offset {wanted} was next; its log is now {first} to {end}"
            )
        } else if wanted < first {
            format!(
                "offsets {wanted} to {} were deleted before they were read",
                first - 1
            )
        } else {
            format!(
                "offset {wanted} was next, but the log is now {first} to {end}: it was truncated, or the topic \
                 was created anew"
            )
        };
        format!("data loss in Kafka topic \"{topic}\" partition {partition}: {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_range_is_lost() {
        let check = |wanted: i64, is_recreated: bool, expected: &str| {
            let loss = Loss {
                partition: 3,
                wanted,
                first: 20,
                end: 30,
                is_recreated,
            };
            assert_eq!(
                loss.describe("t"),
                format!("data loss in Kafka topic \"t\" partition 3: {expected}")
            );
        };
        check(
            10,
            false,
            "offsets 10 to 19 were deleted before they were read",
        );
        check(
            40,
            false,
            "offset 40 was next, but the log is now 20 to 30: it was truncated, or the topic was created anew",
        );
        check(
            25,
            true,
            "the topic was created anew while offset 25 was next; its log is now 20 to 30",
        );
    }
}
