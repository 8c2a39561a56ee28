//! Where the clients of other languages are, which tests fetch and benches use.

use std::path::PathBuf;

pub const PYTHON: [&str; 3] = [
    "psycopg[binary]==3.3.*",
    "asyncpg==0.32.*",
    "sqlalchemy==2.1.*",
];
pub const NODE: &str = "pg@8";
pub const JDBC: &str = "org.postgresql:postgresql:42.7.4";

/// A directory for what is fetched; another one when what is asked for changes.
pub fn cache(language: &str) -> PathBuf {
    let home = std::env::var("XDG_CACHE_HOME").map_or_else(
        |_| PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/tmp".into())).join(".cache"),
        PathBuf::from,
    );
    let asked: String = [PYTHON.concat(), NODE.into(), JDBC.into()].concat();
    // FNV-1a
    let version = asked.bytes().fold(0x811c_9dc5_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    home.join("rivermark/clients")
        .join(format!("{}-{version:08x}", language.to_lowercase()))
}
