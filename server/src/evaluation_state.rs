//! Which SQLSTATE an expression's failure has. Functions and kernels tell the reason by words alone, and these are
//! mostly PostgreSQL's own.

use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// An expression failed on some value.
pub fn evaluation_error(message: String) -> PgError {
    let message = match message.strip_prefix("Execution error: ") {
        Some(rest) => rest.to_string(),
        None => message,
    };
    let lower = message.to_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        return PgError::new(SqlState::DivisionByZero, "division by zero");
    }
    if lower.contains("more than one row") {
        return PgError::new(
            SqlState::CardinalityViolation,
            "more than one row returned by a subquery used as an expression",
        );
    }
    PgError::new(state_of(&lower), message)
}

/// Words of a message with what they mean; the first that occur decide.
const STATES: &[(&str, SqlState)] = &[
    ("is not supported", SqlState::FeatureNotSupported),
    ("are not supported", SqlState::FeatureNotSupported),
    ("not supported for type", SqlState::FeatureNotSupported),
    ("cannot be binned", SqlState::FeatureNotSupported),
    (
        "invalid input syntax for type date",
        SqlState::InvalidDatetimeFormat,
    ),
    (
        "invalid input syntax for type time",
        SqlState::InvalidDatetimeFormat,
    ),
    (
        "invalid input syntax for type interval",
        SqlState::InvalidDatetimeFormat,
    ),
    ("invalid input syntax", SqlState::InvalidTextRepresentation),
    (
        "malformed array literal",
        SqlState::InvalidTextRepresentation,
    ),
    (
        "date/time field value out of range",
        SqlState::DatetimeFieldOverflow,
    ),
    (
        "date field value out of range",
        SqlState::DatetimeFieldOverflow,
    ),
    (
        "time field value out of range",
        SqlState::DatetimeFieldOverflow,
    ),
    ("timestamp out of range", SqlState::DatetimeFieldOverflow),
    ("date out of range", SqlState::DatetimeFieldOverflow),
    ("interval out of range", SqlState::DatetimeFieldOverflow),
    (
        "interval field value out of range",
        SqlState::IntervalFieldOverflow,
    ),
    (
        "invalid preceding or following size",
        SqlState::InvalidPrecedingOrFollowingSize,
    ),
    ("not recognized", SqlState::InvalidParameterValue),
    (
        "cannot take logarithm",
        SqlState::InvalidArgumentForLogarithm,
    ),
    ("cannot take square root", SqlState::InvalidArgumentForPower),
    (
        "zero raised to a negative power",
        SqlState::InvalidArgumentForPower,
    ),
    ("yields a complex result", SqlState::InvalidArgumentForPower),
    (
        "count must be greater than zero",
        SqlState::InvalidArgumentForWidthBucket,
    ),
    (
        "lower bound cannot equal",
        SqlState::InvalidArgumentForWidthBucket,
    ),
    (
        "invalid regular expression option",
        SqlState::InvalidParameterValue,
    ),
    (
        "invalid regular expression",
        SqlState::InvalidRegularExpression,
    ),
    ("negative substring length", SqlState::SubstringError),
    (
        "cannot get array length of",
        SqlState::InvalidParameterValue,
    ),
    (
        "cannot extract elements from",
        SqlState::InvalidParameterValue,
    ),
    ("cannot cast jsonb", SqlState::InvalidParameterValue),
    ("cannot delete", SqlState::InvalidParameterValue),
    ("cannot set path", SqlState::InvalidParameterValue),
    (
        "cannot replace existing key",
        SqlState::InvalidParameterValue,
    ),
    ("cannot call", SqlState::InvalidParameterValue),
    ("must not be zero", SqlState::InvalidParameterValue),
    ("must not be null", SqlState::InvalidParameterValue),
    ("must have even number", SqlState::InvalidParameterValue),
    (
        "does not support the \"global\" option",
        SqlState::InvalidParameterValue,
    ),
    (
        "invalid value for parameter",
        SqlState::InvalidParameterValue,
    ),
    ("stride must be greater", SqlState::InvalidParameterValue),
    (
        "null values cannot be formatted",
        SqlState::NullValueNotAllowed,
    ),
    ("format()", SqlState::InvalidParameterValue),
    ("unrecognized encoding", SqlState::InvalidParameterValue),
    ("invalid hexadecimal", SqlState::InvalidParameterValue),
    ("base64", SqlState::InvalidParameterValue),
    ("out of valid range", SqlState::ArraySubscriptError),
    (
        "null character not permitted",
        SqlState::ProgramLimitExceeded,
    ),
    ("requested character", SqlState::ProgramLimitExceeded),
    ("requested length too large", SqlState::ProgramLimitExceeded),
    ("12-hour clock", SqlState::InvalidDatetimeFormat),
    (
        "in source string is out of range",
        SqlState::DatetimeFieldOverflow,
    ),
    ("invalid value \"", SqlState::InvalidDatetimeFormat),
    // Arrow says only `Can't cast value` where a number does not fit the type
    (
        "too large to store in a decimal",
        SqlState::NumericValueOutOfRange,
    ),
    ("overflow", SqlState::NumericValueOutOfRange),
    ("out of range", SqlState::NumericValueOutOfRange),
    ("can't cast value", SqlState::NumericValueOutOfRange),
    ("timestamp", SqlState::InvalidDatetimeFormat),
    ("date", SqlState::InvalidDatetimeFormat),
    ("interval", SqlState::InvalidDatetimeFormat),
    ("cannot cast", SqlState::InvalidTextRepresentation),
    ("parse", SqlState::InvalidTextRepresentation),
    ("invalid input", SqlState::InvalidTextRepresentation),
];

fn state_of(lower: &str) -> SqlState {
    STATES
        .iter()
        .find(|(words, _)| lower.contains(words))
        .map_or(SqlState::DataException, |(_, state)| *state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_the_state() {
        for (message, code) in [
            ("invalid input syntax for type integer: \"x\"", "22P02"),
            ("invalid input syntax for type date: \"x\"", "22007"),
            ("date/time field value out of range: \"x\"", "22008"),
            ("value \"99999\" is out of range for type smallint", "22003"),
            ("Divide by zero error", "22012"),
            ("cannot take logarithm of zero", "2201E"),
            ("unit \"hour\" not supported for type date", "0A000"),
        ] {
            assert_eq!(
                evaluation_error(message.to_string()).state.code(),
                code,
                "{message}"
            );
        }
    }
}
