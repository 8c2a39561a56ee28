//! The settings that are reported to clients, at the start and when they change.

use std::collections::BTreeMap;

/// What drivers parse to choose their catalog queries.
pub const SERVER_VERSION: &str = "15.0 (Rivermark 0.1)";

/// Reported settings by their exact names, with the values they have unless the client chose others at start-up.
/// `SET` of one of these is to be reported with its name as written here.
pub fn standard(user: &str, settings: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let chosen = |name: &str, default: &str| {
        let value = settings
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or(default, |(_, value)| value.as_str());
        (name.to_string(), value.to_string())
    };
    let fixed = |name: &str, value: &str| (name.to_string(), value.to_string());
    vec![
        fixed("server_version", SERVER_VERSION),
        fixed("server_encoding", "UTF8"),
        fixed("client_encoding", "UTF8"),
        chosen("application_name", ""),
        fixed("DateStyle", "ISO, MDY"),
        fixed("IntervalStyle", "postgres"),
        chosen("TimeZone", "UTC"),
        fixed("integer_datetimes", "on"),
        fixed("standard_conforming_strings", "on"),
        fixed("default_transaction_read_only", "off"),
        fixed("in_hot_standby", "off"),
        fixed("is_superuser", "on"),
        fixed("session_authorization", user),
    ]
}
