//! The parameters that `SET` and `SHOW` know, with their domains and defaults.

/// What a parameter's values may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Domain {
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    /// Milliseconds, with units; 0 means none.
    Time,
    /// Any of these, case-insensitively.
    OneOf(&'static [&'static str]),
    TimeZone,
    DateStyle,
    Encoding,
    Text,
    /// Comma-separated identifiers.
    Names,
    /// Can only be shown.
    ReadOnly,
}

/// One known parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Spelled as PostgreSQL reports it; matched case-insensitively.
    pub name: &'static str,
    pub default: &'static str,
    pub domain: Domain,
    pub description: &'static str,
    /// Whether clients are told of changes (ParameterStatus).
    pub is_reported: bool,
}

const fn parameter(
    name: &'static str,
    default: &'static str,
    domain: Domain,
    description: &'static str,
) -> Parameter {
    Parameter {
        name,
        default,
        domain,
        description,
        is_reported: false,
    }
}

const fn reported(
    name: &'static str,
    default: &'static str,
    domain: Domain,
    description: &'static str,
) -> Parameter {
    Parameter {
        name,
        default,
        domain,
        description,
        is_reported: true,
    }
}

/// The PostgreSQL version whose behaviour clients may expect.
pub const SERVER_VERSION: &str = "15.0";
pub const LEVELS: &[&str] = &[
    "debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error",
];
const ISOLATION: &[&str] = &[
    "serializable",
    "repeatable read",
    "read committed",
    "read uncommitted",
];
const INTERVAL_STYLES: &[&str] = &["postgres", "postgres_verbose", "sql_standard", "iso_8601"];
const BYTEA_OUTPUTS: &[&str] = &["hex"];

/// Every parameter, in alphabetical order.
pub const PARAMETERS: &[Parameter] = &[
    reported(
        "application_name",
        "",
        Domain::Text,
        "Name of the client, for rivermark.sessions",
    ),
    parameter(
        "background_ddl",
        "off",
        Domain::Bool,
        "CREATE MATERIALIZED VIEW returns before the view has caught up",
    ),
    parameter(
        "bytea_output",
        "hex",
        Domain::OneOf(BYTEA_OUTPUTS),
        "Output format of bytea",
    ),
    reported(
        "client_encoding",
        "UTF8",
        Domain::Encoding,
        "Encoding of the client; UTF8 always",
    ),
    parameter(
        "client_min_messages",
        "notice",
        Domain::OneOf(LEVELS),
        "Least level of the messages sent to the client",
    ),
    reported(
        "DateStyle",
        "ISO, MDY",
        Domain::DateStyle,
        "Output format of dates; ISO always",
    ),
    parameter(
        "default_table_access_method",
        "heap",
        Domain::OneOf(&["heap"]),
        "How tables are said to be stored",
    ),
    parameter(
        "default_transaction_isolation",
        "repeatable read",
        Domain::OneOf(ISOLATION),
        "Accepted for clients; every transaction reads one epoch",
    ),
    reported(
        "default_transaction_read_only",
        "off",
        Domain::Bool,
        "Whether transactions are read-only by default",
    ),
    parameter(
        "extra_float_digits",
        "1",
        Domain::Int { min: -15, max: 3 },
        "Accepted for clients; floats have the digits that they need",
    ),
    parameter(
        "idle_in_transaction_session_timeout",
        "0",
        Domain::Time,
        "Accepted for compatibility",
    ),
    reported(
        "in_hot_standby",
        "off",
        Domain::ReadOnly,
        "Whether the server is a standby; never",
    ),
    reported(
        "integer_datetimes",
        "on",
        Domain::ReadOnly,
        "Times are 64-bit integers",
    ),
    reported(
        "IntervalStyle",
        "postgres",
        Domain::OneOf(INTERVAL_STYLES),
        "Accepted for clients; intervals are shown as postgres shows them",
    ),
    reported(
        "is_superuser",
        "on",
        Domain::ReadOnly,
        "Whether the user may do everything",
    ),
    parameter("jit", "off", Domain::Bool, "Accepted for compatibility"),
    parameter(
        "lc_messages",
        "C",
        Domain::Text,
        "Accepted for compatibility",
    ),
    parameter(
        "lc_monetary",
        "C",
        Domain::Text,
        "Accepted for compatibility",
    ),
    parameter(
        "lock_timeout",
        "0",
        Domain::Time,
        "Accepted for compatibility",
    ),
    parameter(
        "max_identifier_length",
        "63",
        Domain::ReadOnly,
        "Longest identifier that clients should make",
    ),
    parameter(
        "password_encryption",
        "scram-sha-256",
        Domain::ReadOnly,
        "How passwords are kept",
    ),
    parameter(
        "role",
        "none",
        Domain::Text,
        "The role in whose name a superuser's statements run",
    ),
    parameter(
        "row_security",
        "on",
        Domain::Bool,
        "Accepted for compatibility",
    ),
    parameter(
        "search_path",
        "\"$user\", public",
        Domain::Names,
        "Schemas that unqualified names are looked up in",
    ),
    reported(
        "server_encoding",
        "UTF8",
        Domain::ReadOnly,
        "Encoding of the server",
    ),
    reported(
        "server_version",
        SERVER_VERSION,
        Domain::ReadOnly,
        "PostgreSQL version that clients may expect",
    ),
    parameter(
        "server_version_num",
        "150000",
        Domain::ReadOnly,
        "The same as a number",
    ),
    reported(
        "session_authorization",
        "rivermark",
        Domain::ReadOnly,
        "The session's user",
    ),
    reported(
        "standard_conforming_strings",
        "on",
        Domain::ReadOnly,
        "Backslashes in plain literals are ordinary",
    ),
    parameter(
        "statement_timeout",
        "0",
        Domain::Time,
        "Longest time a statement may take; 0 for ever",
    ),
    parameter(
        "synchronous_commit",
        "on",
        Domain::Text,
        "Accepted for compatibility",
    ),
    reported(
        "TimeZone",
        "UTC",
        Domain::TimeZone,
        "Time zone of timestamptz values without one",
    ),
    parameter(
        "transaction_isolation",
        "repeatable read",
        Domain::OneOf(ISOLATION),
        "Accepted for clients; every transaction reads one epoch",
    ),
    parameter(
        "transaction_read_only",
        "off",
        Domain::Bool,
        "Whether this transaction is read-only",
    ),
    parameter(
        "xmloption",
        "content",
        Domain::Text,
        "Accepted for compatibility",
    ),
];
