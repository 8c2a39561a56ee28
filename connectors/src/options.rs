//! `WITH` and `ENCODE` options: every connector lists its own with their types, and all are checked before anything
//! outside is contacted. An error names the option and says what is allowed.

use std::collections::BTreeMap;

use rivermark_executor::source::SourceError;
use rivermark_planner::watermark::interval_us;

/// What an option's value must look like.
#[derive(Debug, Clone, Copy)]
pub enum OptionType {
    Text,
    Choice(&'static [&'static str]),
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    /// `'30 seconds'`; days count 24 hours, months are refused.
    Interval,
}

/// One option of a connector or encoding.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    pub name: &'static str,
    pub option_type: OptionType,
    pub is_required: bool,
}

impl OptionSpec {
    pub const fn optional(name: &'static str, option_type: OptionType) -> Self {
        OptionSpec {
            name,
            option_type,
            is_required: false,
        }
    }

    pub const fn required(name: &'static str, option_type: OptionType) -> Self {
        OptionSpec {
            name,
            option_type,
            is_required: true,
        }
    }
}

/// The options that one place (`WITH`, `ENCODE JSON`) may hold.
#[derive(Debug, Clone, Copy)]
pub struct OptionSet {
    /// How errors call the place.
    pub place: &'static str,
    pub specs: &'static [OptionSpec],
    /// Families of names that are checked elsewhere (`properties.`).
    pub prefixes: &'static [&'static str],
}

impl OptionSet {
    /// Every option is known, of the right type, and none that is required is missing.
    pub fn check(&self, options: &BTreeMap<String, String>) -> Result<(), SourceError> {
        for (name, value) in options {
            if self
                .prefixes
                .iter()
                .any(|p| name.len() > p.len() && name.starts_with(p))
            {
                continue;
            }
            let Some(spec) = self.specs.iter().find(|s| s.name == name) else {
                return Err(invalid(format!(
                    "unknown option \"{name}\" in {}; allowed are: {}",
                    self.place,
                    self.allowed()
                )));
            };
            spec.option_type.check(name, value)?;
        }
        match self
            .specs
            .iter()
            .find(|s| s.is_required && !options.contains_key(s.name))
        {
            Some(missing) => Err(invalid(format!(
                "option \"{}\" is missing in {}; it takes {}",
                missing.name,
                self.place,
                missing.option_type.describe()
            ))),
            None => Ok(()),
        }
    }

    fn allowed(&self) -> String {
        let names = self.specs.iter().map(|s| s.name.to_string());
        let families = self.prefixes.iter().map(|p| format!("{p}*"));
        let all: Vec<_> = names.chain(families).collect();
        if all.is_empty() {
            "none".to_string()
        } else {
            all.join(", ")
        }
    }
}

impl OptionType {
    /// Checks a value given for the option `name`.
    pub fn check(&self, name: &str, value: &str) -> Result<(), SourceError> {
        let is_valid = match self {
            OptionType::Text => !value.is_empty(),
            OptionType::Choice(choices) => choices.contains(&value),
            OptionType::Boolean => parse_boolean(value).is_some(),
            OptionType::Integer { min, max } => value
                .parse::<i64>()
                .is_ok_and(|v| (*min..=*max).contains(&v)),
            OptionType::Interval => interval_us(value).is_some(),
        };
        if is_valid {
            return Ok(());
        }
        Err(invalid(format!(
            "option \"{name}\" takes {}, not '{value}'",
            self.describe()
        )))
    }

    fn describe(&self) -> String {
        match self {
            OptionType::Text => "a text".to_string(),
            OptionType::Choice(choices) => choices
                .iter()
                .map(|c| format!("'{c}'"))
                .collect::<Vec<_>>()
                .join(" or "),
            OptionType::Boolean => "'true' or 'false'".to_string(),
            OptionType::Integer { min, max: i64::MAX } => {
                format!("a whole number of at least {min}")
            }
            OptionType::Integer { min, max } => format!("a whole number between {min} and {max}"),
            OptionType::Interval => "an interval such as '30 seconds'".to_string(),
        }
    }
}

/// An option error with this text.
pub fn invalid(message: impl Into<String>) -> SourceError {
    SourceError::InvalidOption(message.into())
}

/// `true`/`false` and PostgreSQL's other spellings of them.
pub fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// The value of a boolean option that has been checked; absent is `default`.
pub fn boolean(options: &BTreeMap<String, String>, name: &str, default: bool) -> bool {
    options
        .get(name)
        .and_then(|v| parse_boolean(v))
        .unwrap_or(default)
}

/// The value of an integer option that has been checked.
pub fn integer(options: &BTreeMap<String, String>, name: &str) -> Option<i64> {
    options.get(name).and_then(|v| v.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: OptionSet = OptionSet {
        place: "WITH",
        specs: &[
            OptionSpec::required("topic", OptionType::Text),
            OptionSpec::optional("late", OptionType::Choice(&["drop", "include"])),
            OptionSpec::optional("idle_timeout", OptionType::Interval),
            OptionSpec::optional("allow", OptionType::Boolean),
            OptionSpec::optional(
                "rows",
                OptionType::Integer {
                    min: 1,
                    max: i64::MAX,
                },
            ),
        ],
        prefixes: &["properties."],
    };

    #[test]
    fn errors_name_the_option_and_what_is_allowed() {
        let check = |given: &[(&str, &str)], expected: &str| {
            let options = given
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            let result = SET.check(&options).map_err(|e| e.to_string());
            assert_eq!(result.err().unwrap_or_default(), expected, "{given:?}");
        };
        check(
            &[("topic", "t"), ("properties.x", "1"), ("late", "drop")],
            "",
        );
        check(
            &[
                ("topic", "t"),
                ("idle_timeout", "30 seconds"),
                ("allow", "TRUE"),
                ("rows", "5"),
            ],
            "",
        );
        check(&[], "option \"topic\" is missing in WITH; it takes a text");
        check(
            &[("topik", "t")],
            "unknown option \"topik\" in WITH; allowed are: topic, late, idle_timeout, allow, rows, properties.*",
        );
        check(
            &[("topic", "t"), ("late", "never")],
            "option \"late\" takes 'drop' or 'include', not 'never'",
        );
        check(
            &[("topic", "t"), ("idle_timeout", "soon")],
            "option \"idle_timeout\" takes an interval such as '30 seconds', not 'soon'",
        );
        check(
            &[("topic", "t"), ("rows", "0")],
            "option \"rows\" takes a whole number of at least 1, not '0'",
        );
    }
}
