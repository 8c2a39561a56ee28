//! How one column of a made-up row follows from its offset.

use rivermark_executor::source::SourceError;
use rivermark_planner::catalog::{ColumnDef, Include, SourceDef};
use rivermark_planner::types::SqlType;

use crate::format::column::Column;
use crate::options::{OptionSpec, OptionType, invalid};

const FIELD_OPTIONS: &[OptionSpec] = &[
    OptionSpec::optional("kind", OptionType::Choice(&["sequence", "random", "now"])),
    OptionSpec::optional("start", OptionType::Text),
    OptionSpec::optional("end", OptionType::Text),
    OptionSpec::optional("min", OptionType::Text),
    OptionSpec::optional("max", OptionType::Text),
    OptionSpec::optional("length", OptionType::Integer { min: 1, max: 1000 }),
    OptionSpec::optional("prefix", OptionType::Text),
    OptionSpec::optional(
        "seed",
        OptionType::Integer {
            min: 0,
            max: i64::MAX,
        },
    ),
];

/// A column's rule.
#[derive(Debug, Clone)]
pub struct Generator {
    rule: Rule,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Rule {
    Offset,
    Partition,
    /// The row's time.
    Time,
    /// `start`, `start + 1`, ... to `end` and again.
    Sequence {
        start: i64,
        count: u64,
    },
    RandomInteger {
        min: i64,
        count: u64,
    },
    RandomFloat {
        min: f64,
        max: f64,
    },
    RandomBoolean,
    RandomText {
        length: usize,
    },
    /// An integer rule's value with a text before it.
    Labelled {
        prefix: String,
        number: Box<Rule>,
    },
}

/// Every `fields.<column>.<option>` names a column and an option that there are.
pub fn check_names(def: &SourceDef) -> Result<(), SourceError> {
    for (name, value) in &def.options {
        let Some(field) = name.strip_prefix("fields.") else {
            continue;
        };
        let Some((column, option)) = field.rsplit_once('.') else {
            return Err(invalid(format!(
                "option \"{name}\": write fields.<column>.<option>"
            )));
        };
        let is_column = def
            .physical_columns()
            .any(|c| c.name == column && c.include.is_none());
        if !is_column {
            return Err(invalid(format!(
                "option \"{name}\" names no column of the source"
            )));
        }
        let Some(spec) = FIELD_OPTIONS.iter().find(|s| s.name == option) else {
            let allowed: Vec<_> = FIELD_OPTIONS.iter().map(|s| s.name).collect();
            return Err(invalid(format!(
                "unknown option \"{name}\"; allowed are fields.{column}.* with {}",
                allowed.join(", ")
            )));
        };
        spec.option_type.check(name, value)?;
    }
    Ok(())
}

impl Generator {
    /// The rules of all physical columns.
    pub fn all(def: &SourceDef) -> Result<Vec<Generator>, SourceError> {
        let base = number(def, "seed", 0u64)?;
        def.physical_columns()
            .enumerate()
            .map(|(index, column)| {
                let seed = number(def, &option_name(column, "seed"), base)?;
                Ok(Generator {
                    rule: Rule::new(def, column)?,
                    seed: mix(seed ^ mix(index as u64)),
                })
            })
            .collect()
    }

    /// Appends the value of row `index` (counted from the source's first), which is at `offset` and `time_us`.
    pub fn push(
        &self,
        column: &mut Column,
        index: u64,
        offset: i64,
        time_us: i64,
        scratch: &mut String,
    ) {
        let random = mix(self
            .seed
            .wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        match &self.rule {
            Rule::Offset => column.push_integer(offset),
            Rule::Partition => column.push_integer(0),
            Rule::Time => column.push_integer(time_us),
            Rule::RandomFloat { min, max } => {
                let unit = (random >> 11) as f64 / (1u64 << 53) as f64;
                column.push_float(min + (max - min) * unit);
            }
            Rule::RandomBoolean => column.push_boolean(random & 1 == 1),
            Rule::RandomText { length } => {
                scratch.clear();
                let mut bits = random;
                for _ in 0..*length {
                    scratch.push(char::from(
                        b"abcdefghijklmnopqrstuvwxyz012345"[(bits & 31) as usize],
                    ));
                    bits = mix(bits);
                }
                column.push_bytes(scratch.as_bytes());
            }
            Rule::Labelled { prefix, number } => {
                use std::fmt::Write;
                scratch.clear();
                scratch.push_str(prefix);
                // Writing to a string can not fail.
                let _ = write!(scratch, "{}", number.integer(index, random));
                column.push_bytes(scratch.as_bytes());
            }
            Rule::Sequence { .. } | Rule::RandomInteger { .. } => {
                column.push_integer(self.rule.integer(index, random));
            }
        }
    }
}

impl Rule {
    fn new(def: &SourceDef, column: &ColumnDef) -> Result<Rule, SourceError> {
        match &column.include {
            Some(Include::Offset) => return Ok(Rule::Offset),
            Some(Include::Partition) => return Ok(Rule::Partition),
            Some(Include::Timestamp) => return Ok(Rule::Time),
            Some(Include::Key | Include::Headers | Include::Header(_) | Include::Payload)
            | None => {}
        }
        let option = |name: &str| {
            def.options
                .get(&option_name(column, name))
                .map(String::as_str)
        };
        let unsuitable = |kind: &str| {
            invalid(format!(
                "option \"fields.{}.kind\": '{kind}' does not fit the column's type {}",
                column.name, column.data_type
            ))
        };
        let kind = option("kind");
        match &column.data_type {
            SqlType::Timestamp | SqlType::Timestamptz => match kind {
                None | Some("now") => Ok(Rule::Time),
                Some(other) => Err(unsuitable(other)),
            },
            SqlType::SmallInt => {
                Rule::integers(def, column, i64::from(i16::MAX), kind, &unsuitable)
            }
            SqlType::Integer => Rule::integers(def, column, i64::from(i32::MAX), kind, &unsuitable),
            SqlType::BigInt => Rule::integers(def, column, i64::MAX, kind, &unsuitable),
            SqlType::Real | SqlType::Double => match kind {
                None | Some("random") => Rule::floats(def, column),
                Some("sequence") => Rule::integers(def, column, 1 << 53, kind, &unsuitable),
                Some(other) => Err(unsuitable(other)),
            },
            SqlType::Boolean => match kind {
                None | Some("random") => Ok(Rule::RandomBoolean),
                Some(other) => Err(unsuitable(other)),
            },
            SqlType::Text { .. } => Rule::texts(def, column, kind, &unsuitable),
            other => Err(invalid(format!(
                "connector = 'datagen' has no values for column \"{}\" of type {other}",
                column.name
            ))),
        }
    }

    fn integers(
        def: &SourceDef,
        column: &ColumnDef,
        limit: i64,
        kind: Option<&str>,
        unsuitable: &dyn Fn(&str) -> SourceError,
    ) -> Result<Rule, SourceError> {
        let bound = |name: &str, default: i64| number(def, &option_name(column, name), default);
        let (first, last, is_sequence) = match kind {
            None | Some("sequence") => (bound("start", 1)?, bound("end", limit)?, true),
            Some("random") => (bound("min", 0)?, bound("max", limit.min(1_000_000))?, false),
            Some(other) => return Err(unsuitable(other)),
        };
        if first > last || last > limit || first < -limit {
            return Err(invalid(format!(
                "column \"{}\": values from {first} to {last} are not possible",
                column.name
            )));
        }
        let count = (i128::from(last) - i128::from(first) + 1).min(i128::from(u64::MAX)) as u64;
        Ok(if is_sequence {
            Rule::Sequence {
                start: first,
                count,
            }
        } else {
            Rule::RandomInteger { min: first, count }
        })
    }

    fn floats(def: &SourceDef, column: &ColumnDef) -> Result<Rule, SourceError> {
        let min = number(def, &option_name(column, "min"), 0.0f64)?;
        let max = number(def, &option_name(column, "max"), 1.0f64)?;
        if min.is_nan() || max.is_nan() || min > max {
            return Err(invalid(format!(
                "column \"{}\": min {min} is above max {max}",
                column.name
            )));
        }
        Ok(Rule::RandomFloat { min, max })
    }

    fn texts(
        def: &SourceDef,
        column: &ColumnDef,
        kind: Option<&str>,
        unsuitable: &dyn Fn(&str) -> SourceError,
    ) -> Result<Rule, SourceError> {
        let option = |name: &str| def.options.get(&option_name(column, name));
        let has_numbers = ["min", "max", "start", "end", "prefix"]
            .iter()
            .any(|o| option(o).is_some());
        if kind == Some("sequence") || has_numbers {
            let number = Rule::integers(def, column, i64::MAX, kind, unsuitable)?;
            let prefix = option("prefix").cloned().unwrap_or_default();
            return Ok(Rule::Labelled {
                prefix,
                number: Box::new(number),
            });
        }
        match kind {
            None | Some("random") => {
                let length = number(def, &option_name(column, "length"), 10usize)?;
                Ok(Rule::RandomText { length })
            }
            Some(other) => Err(unsuitable(other)),
        }
    }

    fn integer(&self, index: u64, random: u64) -> i64 {
        match self {
            Rule::Sequence { start, count } => start.wrapping_add((index % count) as i64),
            Rule::RandomInteger { min, count } => {
                // The high half of a product: uniform enough, without a division.
                min.wrapping_add(((u128::from(random) * u128::from(*count)) >> 64) as i64)
            }
            other => unreachable!("{other:?} is no integer rule"),
        }
    }
}

fn option_name(column: &ColumnDef, option: &str) -> String {
    format!("fields.{}.{option}", column.name)
}

fn number<T: std::str::FromStr>(
    def: &SourceDef,
    option: &str,
    default: T,
) -> Result<T, SourceError> {
    match def.options.get(option) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| invalid(format!("option \"{option}\" takes a number, not '{text}'"))),
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators").
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
