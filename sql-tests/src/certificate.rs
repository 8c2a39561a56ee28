//! A certificate for this machine that signs itself, made with openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::server::Options;

/// A certificate for `localhost` and 127.0.0.1; clients take it as its own authority.
pub struct Certificate {
    pub file: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    /// Makes one in a directory.
    pub fn make(directory: &Path) -> Result<Certificate> {
        let (file, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
                       -addext subjectAltName=DNS:localhost,IP:127.0.0.1";
        let made = Command::new("openssl")
            .args(request.split_whitespace())
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&file)
            .output()
            .context("openssl cannot be run")?;
        ensure!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(Certificate { file, key })
    }

    /// Lets a server have it.
    pub fn serve(&self, options: Options) -> Options {
        options
            .env("RIVERMARK_TLS_CERT", &self.file.to_string_lossy())
            .env("RIVERMARK_TLS_KEY", &self.key.to_string_lossy())
    }
}
