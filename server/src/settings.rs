//! Session settings: what `SET`, `SHOW`, `RESET` and `current_setting` know.
//!
//! The closed list of parameters is in `setting_list`; names with a dot are free for clients' own use, as in PostgreSQL.
//! Changes inside a transaction follow it: `SET LOCAL` ends with it and a rollback undoes every `SET`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::parse_duration;
use crate::pg_error::PgError;
use crate::setting_list::{Domain, LEVELS, PARAMETERS, Parameter};
use crate::sqlstate::SqlState;
use crate::wire::time_zone::SessionTimeZone;

/// Why a setting was not changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingError {
    #[error("unrecognized configuration parameter \"{0}\"")]
    Unknown(String),
    #[error("parameter \"{0}\" cannot be changed")]
    ReadOnly(&'static str),
    #[error("invalid value for parameter \"{name}\": \"{value}\"")]
    Invalid {
        name: &'static str,
        value: String,
        hint: Option<String>,
    },
}

impl From<SettingError> for PgError {
    fn from(error: SettingError) -> PgError {
        let message = error.to_string();
        match error {
            SettingError::Unknown(_) => PgError::new(SqlState::UndefinedObject, message),
            SettingError::ReadOnly(_) => PgError::new(SqlState::CantChangeRuntimeParam, message),
            SettingError::Invalid { hint, .. } => PgError {
                hint,
                ..PgError::new(SqlState::InvalidParameterValue, message)
            },
        }
    }
}

type Values = BTreeMap<String, String>;

/// The settings of one session: what differs from the defaults.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: Values,
    /// What `RESET` goes back to: the start-up parameters of the connection.
    startup: Values,
    transaction: Option<TransactionSettings>,
}

#[derive(Debug, Clone, Default)]
struct TransactionSettings {
    /// The values at BEGIN: a rollback restores them.
    at_begin: Values,
    /// What `SET LOCAL` hid, to be restored at the end.
    hidden: BTreeMap<String, Option<String>>,
}

impl Settings {
    /// Takes a connection's start-up parameters. Those that we do not know are left out.
    pub fn with_startup<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
        user: &str,
    ) -> Result<Settings, SettingError> {
        let mut settings = Settings::default();
        settings
            .values
            .insert("session_authorization".to_string(), user.to_string());
        for (name, value) in parameters {
            if find(name).is_some_and(|p| p.domain != Domain::ReadOnly) || name.contains('.') {
                settings.set(name, Some(value), false)?;
            }
        }
        settings.startup = settings.values.clone();
        Ok(settings)
    }

    /// The value of a parameter as `SHOW` prints it.
    pub fn get(&self, name: &str) -> Result<String, SettingError> {
        let key = key(name);
        match (self.values.get(&key), find(&key)) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(parameter)) => Ok(parameter.default.to_string()),
            (None, None) => Err(SettingError::Unknown(name.to_string())),
        }
    }

    /// The parameter's name as PostgreSQL spells it.
    pub fn spelling<'a>(&self, name: &'a str) -> &'a str {
        find(name).map_or(name, |p| p.name)
    }

    /// Changes a parameter (`None`: to its default) and returns its new value.
    pub fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        is_local: bool,
    ) -> Result<String, SettingError> {
        let key = key(name);
        let new = match (find(&key), value) {
            (Some(parameter), _) if parameter.domain == Domain::ReadOnly => {
                return Err(SettingError::ReadOnly(parameter.name));
            }
            (Some(parameter), Some(value)) => Some(parameter.check(value)?),
            (None, Some(value)) if key.contains('.') => Some(value.to_string()),
            (Some(_), None) => self.startup.get(&key).cloned(),
            (None, None) if key.contains('.') => None,
            (None, _) => return Err(SettingError::Unknown(name.to_string())),
        };
        match &mut self.transaction {
            Some(transaction) if is_local => {
                let before = self.values.get(&key).cloned();
                transaction.hidden.entry(key.clone()).or_insert(before);
            }
            Some(transaction) => {
                transaction.hidden.remove(&key);
            }
            // PostgreSQL warns that SET LOCAL outside a transaction has no effect.
            None if is_local => return self.get(name),
            None => {}
        }
        match new {
            Some(value) => self.values.insert(key, value),
            None => self.values.remove(&key),
        };
        self.get(name).or_else(|_| Ok(String::new()))
    }

    /// `RESET ALL`.
    pub fn reset_all(&mut self) {
        self.values = self.startup.clone();
    }

    pub fn begin(&mut self) {
        self.transaction = Some(TransactionSettings {
            at_begin: self.values.clone(),
            hidden: BTreeMap::new(),
        });
    }

    pub fn end(&mut self, is_commit: bool) {
        let Some(transaction) = self.transaction.take() else {
            return;
        };
        if !is_commit {
            self.values = transaction.at_begin;
            return;
        }
        for (key, before) in transaction.hidden {
            match before {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
    }

    /// Every known parameter with its value and description.
    pub fn all(&self) -> Vec<(&'static str, String, &'static str)> {
        PARAMETERS
            .iter()
            .map(|p| {
                let value = self
                    .values
                    .get(&key(p.name))
                    .map_or(p.default, String::as_str);
                (p.name, value.to_string(), p.description)
            })
            .collect()
    }

    /// Parameters that clients are told of, with their values.
    pub fn reported(&self) -> Vec<(&'static str, String)> {
        let values = PARAMETERS.iter().filter(|p| p.is_reported);
        values
            .map(|p| {
                (
                    p.name,
                    self.values
                        .get(&key(p.name))
                        .map_or(p.default, String::as_str)
                        .to_string(),
                )
            })
            .collect()
    }

    fn value(&self, name: &'static str) -> &str {
        match self.values.get(&key(name)) {
            Some(value) => value,
            None => find(name).map_or("", |p| p.default),
        }
    }

    pub fn is_on(&self, name: &'static str) -> bool {
        self.value(name) == "on"
    }

    pub fn time_zone(&self) -> SessionTimeZone {
        SessionTimeZone::parse(self.value("TimeZone")).unwrap_or(SessionTimeZone::UTC)
    }

    /// What `SET ROLE` says.
    pub fn role(&self) -> Option<String> {
        let role = self.value("role");
        (role != "none").then(|| role.to_string())
    }

    /// Whether the user may do everything, as clients are told.
    pub fn tell_superuser(&mut self, is_superuser: bool) {
        let shown = if is_superuser { "on" } else { "off" };
        for values in [&mut self.values, &mut self.startup] {
            values.insert("is_superuser".to_string(), shown.to_string());
        }
    }

    pub fn application_name(&self) -> &str {
        self.value("application_name")
    }

    pub fn statement_timeout(&self) -> Option<Duration> {
        let timeout = parse_duration("statement_timeout", self.value("statement_timeout")).ok()?;
        (!timeout.is_zero()).then_some(timeout)
    }

    /// Whether messages of this level ("notice", "warning") are sent.
    pub fn sends(&self, level: &str) -> bool {
        let rank = |l: &str| LEVELS.iter().position(|x| *x == l);
        rank(level) >= rank(self.value("client_min_messages"))
    }

    /// Schemas of `search_path`, without `"$user"`.
    pub fn search_path(&self) -> Vec<String> {
        split_names(self.value("search_path"))
            .into_iter()
            .filter(|s| s != "$user")
            .collect()
    }

    /// The schema in which new relations are created and unqualified names are looked up first.
    pub fn current_schema(&self) -> String {
        let path = self.search_path();
        path.into_iter()
            .find(|s| s != "pg_catalog")
            .unwrap_or_else(|| "public".to_string())
    }
}

impl Parameter {
    fn check(&self, value: &str) -> Result<String, SettingError> {
        let invalid = |hint: Option<String>| SettingError::Invalid {
            name: self.name,
            value: value.to_string(),
            hint,
        };
        let trimmed = value.trim();
        match self.domain {
            Domain::ReadOnly => Err(SettingError::ReadOnly(self.name)),
            Domain::Text | Domain::Names => Ok(value.to_string()),
            Domain::Bool => match trimmed.to_ascii_lowercase().as_str() {
                "on" | "true" | "yes" | "1" | "t" | "y" => Ok("on".into()),
                "off" | "false" | "no" | "0" | "f" | "n" => Ok("off".into()),
                _ => Err(invalid(Some("It must be on or off.".into()))),
            },
            Domain::Int { min, max } => match trimmed.parse::<i64>() {
                Ok(n) if (min..=max).contains(&n) => Ok(n.to_string()),
                _ => Err(invalid(Some(format!(
                    "It must be a number between {min} and {max}."
                )))),
            },
            Domain::Time => match parse_duration(self.name, trimmed) {
                Ok(time) => Ok(shown_duration(time)),
                Err(_) => Err(invalid(Some(
                    "It takes a number and a unit (us, ms, s, min, h, d), at most 24 days.".into(),
                ))),
            },
            Domain::OneOf(allowed) => {
                let found = allowed.iter().find(|a| a.eq_ignore_ascii_case(trimmed));
                let hint = format!("Available values: {}.", allowed.join(", "));
                found
                    .map(|a| a.to_string())
                    .ok_or_else(|| invalid(Some(hint)))
            }
            Domain::TimeZone => canonical_time_zone(trimmed).ok_or_else(|| invalid(None)),
            Domain::DateStyle => match trimmed
                .to_ascii_lowercase()
                .split(',')
                .next()
                .map(str::trim)
            {
                Some("iso" | "mdy" | "dmy" | "ymd" | "default") => Ok("ISO, MDY".into()),
                _ => Err(invalid(Some(
                    "Dates are always written in the ISO style.".into(),
                ))),
            },
            // As in PostgreSQL, only letters and digits count: asyncpg sends it in quotes.
            Domain::Encoding => match trimmed
                .to_ascii_lowercase()
                .replace(|c: char| !c.is_ascii_alphanumeric(), "")
                .as_str()
            {
                "utf8" | "unicode" | "sqlascii" => Ok("UTF8".into()),
                _ => Err(invalid(Some("Only UTF8 is supported.".into()))),
            },
        }
    }
}

/// A time as `SHOW` prints it: in the largest unit that divides it.
fn shown_duration(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1000, "s"),
    ];
    match units
        .iter()
        .find(|(size, _)| ms > 0 && ms.is_multiple_of(*size))
    {
        _ if ms == 0 => "0".to_string(),
        Some((size, unit)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

/// A time zone as `SHOW TimeZone` prints it.
fn canonical_time_zone(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "default" | "local" => Some("UTC".to_string()),
        _ => SessionTimeZone::parse(text).map(|zone| zone.name().to_string()),
    }
}

fn key(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "time zone" | "timezone" => "timezone".to_string(),
        "session characteristics as transaction isolation level" => {
            "default_transaction_isolation".to_string()
        }
        "names" => "client_encoding".to_string(),
        other => other.to_string(),
    }
}

fn find(name: &str) -> Option<&'static Parameter> {
    let name = key(name);
    PARAMETERS
        .iter()
        .find(|p| p.name.eq_ignore_ascii_case(&name))
}

/// Splits a list of identifiers, quoted or not.
fn split_names(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(
            |s| match s.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => s.trim_matches('\'').to_ascii_lowercase(),
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_printed_as_postgres_does() {
        let mut settings = Settings::default();
        let cases = [
            ("statement_timeout", "1500", Ok("1500ms")),
            ("statement_timeout", "2min", Ok("2min")),
            ("background_ddl", "true", Ok("on")),
            ("timezone", "europe/berlin", Ok("Europe/Berlin")),
            ("datestyle", "ISO", Ok("ISO, MDY")),
            ("myapp.user", "7", Ok("7")),
            ("client_encoding", "'utf-8'".trim_matches('\''), Ok("UTF8")),
            (
                "extra_float_digits",
                "9",
                Err("invalid value for parameter \"extra_float_digits\": \"9\""),
            ),
            (
                "server_version",
                "16",
                Err("parameter \"server_version\" cannot be changed"),
            ),
            (
                "nonsense",
                "1",
                Err("unrecognized configuration parameter \"nonsense\""),
            ),
            (
                "timezone",
                "Mars/Olympus",
                Err("invalid value for parameter \"TimeZone\": \"Mars/Olympus\""),
            ),
        ];
        for (name, value, expected) in cases {
            let got = settings
                .set(name, Some(value), false)
                .map_err(|e| e.to_string());
            assert_eq!(
                got,
                expected.map(str::to_string).map_err(str::to_string),
                "{name} = {value}"
            );
        }
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(120)));
    }

    #[test]
    fn settings_follow_their_transaction() {
        let mut settings = Settings::default();
        settings.set("application_name", Some("a"), false).unwrap();
        settings.begin();
        settings.set("application_name", Some("b"), true).unwrap();
        settings.set("timezone", Some("Asia/Tokyo"), false).unwrap();
        assert_eq!(settings.get("application_name").unwrap(), "b");
        settings.end(true);
        assert_eq!(settings.get("application_name").unwrap(), "a");
        assert_eq!(settings.get("timezone").unwrap(), "Asia/Tokyo");

        settings.begin();
        settings.set("timezone", Some("UTC"), false).unwrap();
        settings.end(false);
        assert_eq!(settings.get("timezone").unwrap(), "Asia/Tokyo");
    }

    #[test]
    fn search_path() {
        let mut settings = Settings::default();
        assert_eq!(settings.current_schema(), "public");
        settings
            .set("search_path", Some("Sales, \"Odd\"\"Name\", public"), false)
            .unwrap();
        assert_eq!(settings.search_path(), ["sales", "Odd\"Name", "public"]);
        assert_eq!(settings.current_schema(), "sales");
    }

    #[test]
    fn parameters_are_sorted() {
        let names: Vec<_> = PARAMETERS
            .iter()
            .map(|p| p.name.to_ascii_lowercase())
            .collect();
        assert!(names.is_sorted());
    }
}
