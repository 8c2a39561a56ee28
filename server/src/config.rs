//! How the server is told what to do: command line, `RIVERMARK_…` variables, a TOML file, defaults — in that order.
//!
//! Every option is read as text whatever its origin, so that a wrong value gives the same one-sentence error everywhere.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser, Subcommand};
use rivermark_executor::api::EngineConfig;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "rivermark",
    version,
    about = "A SQL streaming database",
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the server
    Serve(Box<ServeArgs>),
    /// Runs a broker, a simulated fleet of machines and the server, all in one process and a temporary directory
    Demo {
        /// Port of the SQL server
        #[arg(long, env = "RIVERMARK_PORT", default_value_t = 4566)]
        port: u16,
        /// JSON messages a second that the fleet publishes
        #[arg(long, default_value_t = 1000)]
        rate: u32,
    },
    /// Prints the version
    Version,
}

/// Options of `rivermark serve`; see [`ServerConfig`] for their meaning and defaults.
#[derive(Debug, Default, Clone, Args)]
pub struct ServeArgs {
    /// Where state is kept [default: ./rivermark-data]
    #[arg(long, env = "RIVERMARK_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Address to listen on; port 0 picks a free one [default: 127.0.0.1:4566]
    #[arg(long, env = "RIVERMARK_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Memory for caches, queues and queries together, e.g. 1GB [default: a quarter of the machine]
    #[arg(long, env = "RIVERMARK_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<String>,
    /// Threads that share the work of one operator [default: cores]
    #[arg(long, env = "RIVERMARK_SHARDS", value_name = "N")]
    pub shards: Option<String>,
    /// TOML file with the same options (data_dir = "…")
    #[arg(long, env = "RIVERMARK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Longest time until a committed epoch is fsynced [default: 1s]
    #[arg(long, env = "RIVERMARK_WAL_SYNC_INTERVAL", value_name = "TIME")]
    pub wal_sync_interval: Option<String>,
    /// Shortest time between two epochs that only sources caused [default: 10ms]
    #[arg(long, env = "RIVERMARK_MIN_EPOCH_INTERVAL", value_name = "TIME")]
    pub min_epoch_interval: Option<String>,
    /// Rows one epoch takes from sources at most [default: 262144]
    #[arg(long, env = "RIVERMARK_MAX_EPOCH_ROWS", value_name = "N")]
    pub max_epoch_rows: Option<String>,
    /// A larger write set is ingested as files instead of one write batch [default: 64MB]
    #[arg(long, env = "RIVERMARK_INGEST_THRESHOLD", value_name = "SIZE")]
    pub ingest_threshold: Option<String>,
    /// Bytes of dead letters kept; the oldest go first [default: 64MB]
    #[arg(long, env = "RIVERMARK_DEAD_LETTER_LIMIT", value_name = "SIZE")]
    pub dead_letter_limit: Option<String>,
    /// How long changes are kept for SUBSCRIBE AS OF; 0s: not at all [default: 60s]
    #[arg(long, env = "RIVERMARK_CHANGE_LOG_RETENTION", value_name = "TIME")]
    pub change_log_retention: Option<String>,
    /// How clients prove who they are: trust or scram [default: trust on a loopback address, else scram]
    #[arg(long, env = "RIVERMARK_AUTH", value_name = "METHOD")]
    pub auth: Option<String>,
    /// PEM file with the server's certificate; clients that ask for it are encrypted
    #[arg(long, env = "RIVERMARK_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// PEM file with the certificate's key
    #[arg(long, env = "RIVERMARK_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Clients at a time [default: 1000]
    #[arg(long, env = "RIVERMARK_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<String>,
    /// Allows listening beyond this machine although clients are not authenticated
    #[arg(long, env = "RIVERMARK_INSECURE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub insecure: Option<String>,
}

impl ServeArgs {
    /// What was given on the command line or in the environment, by option name.
    fn given(self) -> BTreeMap<&'static str, String> {
        let options = [
            ("data_dir", self.data_dir),
            ("listen", self.listen),
            ("memory_limit", self.memory_limit),
            ("shards", self.shards),
            ("wal_sync_interval", self.wal_sync_interval),
            ("min_epoch_interval", self.min_epoch_interval),
            ("max_epoch_rows", self.max_epoch_rows),
            ("ingest_threshold", self.ingest_threshold),
            ("dead_letter_limit", self.dead_letter_limit),
            ("change_log_retention", self.change_log_retention),
            ("auth", self.auth),
            ("tls_cert", self.tls_cert),
            ("tls_key", self.tls_key),
            ("max_connections", self.max_connections),
            ("insecure", self.insecure),
        ];
        options
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

/// Names that a configuration file may use.
const FILE_OPTIONS: &[&str] = &[
    "data_dir",
    "listen",
    "memory_limit",
    "shards",
    "wal_sync_interval",
    "min_epoch_interval",
    "max_epoch_rows",
    "ingest_threshold",
    "dead_letter_limit",
    "change_log_retention",
    "auth",
    "tls_cert",
    "tls_key",
    "max_connections",
    "insecure",
];

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    Trust,
    /// By a password, with SCRAM-SHA-256.
    Scram,
}

/// The server's configuration, every option resolved and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// Bytes.
    pub memory_limit: usize,
    pub shards: usize,
    pub wal_sync_interval: Duration,
    pub min_epoch_interval: Duration,
    pub max_epoch_rows: usize,
    /// Bytes.
    pub ingest_threshold: usize,
    /// Bytes.
    pub dead_letter_limit: u64,
    pub change_log_retention: Duration,
    pub auth: Auth,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub max_connections: usize,
    /// Whether unauthenticated clients from other machines are allowed.
    pub is_insecure: bool,
}

impl ServerConfig {
    /// Resolves the options: arguments and environment, then the file they name, then defaults.
    pub fn resolve(args: ServeArgs) -> Result<ServerConfig> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => BTreeMap::new(),
        };
        let given = args.given();
        let option = |name: &'static str| given.get(name).or_else(|| file.get(name)).cloned();
        let or =
            |name: &'static str, default: &str| option(name).unwrap_or_else(|| default.to_string());
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());

        let listen = parse_address(&or("listen", "127.0.0.1:4566"))?;
        let is_insecure = parse_bool("insecure", &or("insecure", "false"))?;
        let config = ServerConfig {
            data_dir: PathBuf::from(or("data_dir", "./rivermark-data")),
            listen,
            memory_limit: match option("memory_limit") {
                Some(text) => parse_size("memory_limit", &text)?,
                None => machine_memory() / 4,
            },
            shards: match option("shards") {
                Some(text) => parse_count("shards", &text)?,
                None => cores,
            },
            wal_sync_interval: parse_duration("wal_sync_interval", &or("wal_sync_interval", "1s"))?,
            min_epoch_interval: parse_duration(
                "min_epoch_interval",
                &or("min_epoch_interval", "10ms"),
            )?,
            max_epoch_rows: parse_count("max_epoch_rows", &or("max_epoch_rows", "262144"))?,
            ingest_threshold: parse_size("ingest_threshold", &or("ingest_threshold", "64MB"))?,
            dead_letter_limit: parse_size("dead_letter_limit", &or("dead_letter_limit", "64MB"))?
                as u64,
            change_log_retention: parse_duration(
                "change_log_retention",
                &or("change_log_retention", "60s"),
            )?,
            auth: match option("auth").as_deref() {
                Some("trust") => Auth::Trust,
                Some("scram") => Auth::Scram,
                Some(other) => bail!("auth: \"{other}\" is not trust or scram"),
                None if listen.ip().is_loopback() || is_insecure => Auth::Trust,
                None => Auth::Scram,
            },
            tls: match (option("tls_cert"), option("tls_key")) {
                (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
                (None, None) => None,
                _ => bail!("tls_cert and tls_key go together"),
            },
            max_connections: parse_count("max_connections", &or("max_connections", "1000"))?,
            is_insecure,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if !self.listen.ip().is_loopback() && self.auth == Auth::Trust && !self.is_insecure {
            bail!(
                "refusing to listen on {} without authentication: use --auth scram, listen on 127.0.0.1, \
                 or add --insecure if the network is trusted",
                self.listen
            );
        }
        if self.memory_limit < 64 << 20 {
            bail!("memory_limit must be at least 64MB");
        }
        if self.shards > 1024 {
            bail!("shards must be at most 1024");
        }
        Ok(())
    }

    /// The engine's part of the configuration.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            data_dir: self.data_dir.clone(),
            memory_limit: self.memory_limit,
            shards: self.shards,
            min_epoch_interval: self.min_epoch_interval,
            wal_sync_interval: self.wal_sync_interval,
            max_epoch_rows: self.max_epoch_rows,
            ingest_threshold: self.ingest_threshold,
            dead_letter_bytes: self.dead_letter_limit,
            change_log_retention: self.change_log_retention,
        }
    }
}

/// How the memory limit is split. The engine takes its three parts itself, by the same shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Block cache and memtables.
    pub storage: usize,
    /// Caches of operators.
    pub operators: usize,
    /// Messages fetched and decoded ahead.
    pub source_queues: usize,
    /// The pool of ad-hoc queries.
    pub queries: usize,
}

impl MemoryPlan {
    /// Splits `limit` bytes: 50 % storage, 15 % operators, 10 % source queues, 25 % queries.
    pub fn split(limit: usize) -> MemoryPlan {
        let share = |percent: usize| limit / 100 * percent;
        let plan = MemoryPlan {
            storage: share(50),
            operators: share(15),
            source_queues: share(10),
            queries: share(25),
        };
        debug_assert!(plan.storage + plan.operators + plan.source_queues + plan.queries <= limit);
        plan
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<&'static str, String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        anyhow!("{} is not valid TOML: {}", path.display(), e.message())
    })?;
    let mut options = BTreeMap::new();
    for (key, value) in table {
        let name = key.replace('-', "_");
        let Some(known) = FILE_OPTIONS.iter().find(|o| **o == name) else {
            bail!(
                "unknown option \"{key}\" in {}; allowed are: {}",
                path.display(),
                FILE_OPTIONS.join(", ")
            );
        };
        let text = match value {
            toml::Value::String(s) => s,
            toml::Value::Integer(n) => n.to_string(),
            toml::Value::Boolean(b) => b.to_string(),
            other => bail!(
                "option \"{key}\" in {} must not be a {}",
                path.display(),
                other.type_str()
            ),
        };
        options.insert(*known, text);
    }
    Ok(options)
}

fn parse_address(text: &str) -> Result<SocketAddr> {
    text.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| {
            anyhow!("listen: \"{text}\" is not an address with a port, such as 127.0.0.1:4566")
        })
}

fn parse_count(name: &str, text: &str) -> Result<usize> {
    match text.trim().parse::<usize>() {
        Ok(n) if n > 0 => Ok(n),
        _ => bail!("{name}: \"{text}\" is not a positive number"),
    }
}

fn parse_bool(name: &str, text: &str) -> Result<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" | "" => Ok(false),
        _ => bail!("{name}: \"{text}\" is not true or false"),
    }
}

/// Splits `12.5 MB` into its number and unit.
fn number_and_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

/// A size in bytes; units are powers of 1024, as in PostgreSQL's configuration.
pub fn parse_size(name: &str, text: &str) -> Result<usize> {
    let parsed = number_and_unit(text).and_then(|(number, unit)| {
        let factor: u64 = match unit.as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            _ => return None,
        };
        Some((number * factor as f64) as usize)
    });
    parsed.ok_or_else(|| anyhow!("{name}: \"{text}\" is not a size, such as 512MB or 2GB"))
}

/// The longest time that can be asked for: what PostgreSQL's settings hold in milliseconds.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// A time; a bare number is in milliseconds, as in PostgreSQL's configuration.
pub fn parse_duration(name: &str, text: &str) -> Result<Duration> {
    let parsed = number_and_unit(text).and_then(|(number, unit)| {
        let ms = match unit.as_str() {
            "us" => 0.001,
            "" | "ms" => 1.0,
            "s" => 1000.0,
            "min" | "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return None,
        };
        Some(number * ms / 1000.0)
    });
    let seconds =
        parsed.ok_or_else(|| anyhow!("{name}: \"{text}\" is not a time, such as 10ms or 1s"))?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| *time <= LONGEST)
        .ok_or_else(|| anyhow!("{name}: {text} is too long, the most is 24 days"))
}

/// Bytes of memory that this process may use: the machine's, or its control group's if that is less.
fn machine_memory() -> usize {
    const UNKNOWN: usize = 4 << 30;
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            line.split_whitespace()
                .nth(1)?
                .parse::<usize>()
                .ok()
                .map(|kb| kb << 10)
        });
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<usize>()
            .ok()
    });
    let machine = machine.unwrap_or(UNKNOWN);
    group.map_or(machine, |limit| limit.min(machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        for (text, bytes) in [
            ("1GB", 1usize << 30),
            ("512 MB", 512 << 20),
            ("1.5kB", 1536),
            ("42", 42),
        ] {
            assert_eq!(parse_size("x", text).unwrap(), bytes, "{text}");
        }
        for (text, ms) in [("10ms", 10), ("1s", 1000), ("250", 250), ("2min", 120_000)] {
            assert_eq!(
                parse_duration("x", text).unwrap(),
                Duration::from_millis(ms),
                "{text}"
            );
        }
        for text in ["", "GB", "1 parsec", "-3"] {
            assert!(parse_size("x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn arguments_win_over_the_file_and_the_file_over_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "listen = \"127.0.0.1:1\"\nmemory-limit = \"200MB\"\nshards = 3\n",
        )
        .unwrap();
        let args = ServeArgs {
            config: Some(file.path().to_path_buf()),
            listen: Some("127.0.0.1:2".into()),
            ..ServeArgs::default()
        };
        let config = ServerConfig::resolve(args).unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.memory_limit, 200 << 20);
        assert_eq!(config.shards, 3);
        assert_eq!(config.wal_sync_interval, Duration::from_secs(1));
    }

    #[test]
    fn mistakes_are_one_sentence() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "memry = 1").unwrap();
        let cases = [
            (
                ServeArgs {
                    listen: Some("0.0.0.0:1".into()),
                    auth: Some("trust".into()),
                    ..Default::default()
                },
                "without authentication",
            ),
            (
                ServeArgs {
                    auth: Some("md5".into()),
                    ..Default::default()
                },
                "not trust or scram",
            ),
            (
                ServeArgs {
                    tls_cert: Some("server.pem".into()),
                    ..Default::default()
                },
                "go together",
            ),
            (
                ServeArgs {
                    listen: Some("nonsense".into()),
                    ..Default::default()
                },
                "not an address",
            ),
            (
                ServeArgs {
                    memory_limit: Some("lots".into()),
                    ..Default::default()
                },
                "not a size",
            ),
            (
                ServeArgs {
                    shards: Some("0".into()),
                    ..Default::default()
                },
                "not a positive number",
            ),
            (
                ServeArgs {
                    config: Some(file.path().into()),
                    ..Default::default()
                },
                "unknown option \"memry\"",
            ),
        ];
        for (args, expected) in cases {
            let error = ServerConfig::resolve(args).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let listening = |address: &str, insecure: &str| {
            let args = ServeArgs {
                listen: Some(address.into()),
                insecure: Some(insecure.into()),
                ..Default::default()
            };
            ServerConfig::resolve(args).unwrap().auth
        };
        assert_eq!(listening("127.0.0.1:1", "false"), Auth::Trust);
        assert_eq!(listening("0.0.0.0:1", "false"), Auth::Scram);
        assert_eq!(listening("0.0.0.0:1", "true"), Auth::Trust);
        let allowed = ServeArgs {
            listen: Some("0.0.0.0:1".into()),
            insecure: Some("true".into()),
            ..Default::default()
        };
        assert!(ServerConfig::resolve(allowed).is_ok());
    }

    #[test]
    fn the_memory_plan_stays_within_the_limit() {
        let plan = MemoryPlan::split(1 << 30);
        assert!(plan.storage + plan.operators + plan.source_queues + plan.queries <= 1 << 30);
        assert!(plan.queries > 200 << 20);
    }
}
