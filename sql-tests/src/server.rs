//! The `rivermark` binary under test: started on a free port with a data directory of its own, killed, stopped and
//! restarted at will. Its output goes to a log file whose tail is printed when a test fails.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::session::{Session, SqlError};

const READY: &str = "ready to accept connections";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How a server is to be started.
#[derive(Debug, Clone)]
pub struct Options {
    data_dir: Option<PathBuf>,
    memory_limit: String,
    shards: Option<usize>,
    env: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            data_dir: None,
            memory_limit: "512MB".into(),
            shards: None,
            env: Vec::new(),
        }
    }
}

impl Options {
    /// Uses this data directory instead of a temporary one.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// Sets `--memory-limit`.
    pub fn memory_limit(mut self, limit: &str) -> Self {
        self.memory_limit = limit.into();
        self
    }

    /// Sets `--shards`.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Adds a variable to the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Divides all work into pieces of so many rows: what an operator is given at once, what threads share, what an
    /// epoch takes of a source or of a relation that a new view reads.
    pub fn small_pieces(self, rows: usize) -> Self {
        let rows = rows.to_string();
        self.env("RIVERMARK_PIECE_ROWS", &rows)
            .env("RIVERMARK_MAX_EPOCH_ROWS", &rows)
            .env("RIVERMARK_MIN_EPOCH_INTERVAL", "0ms")
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(self) -> Result<Server> {
        Server::start(self)
    }
}

/// A server process, and the directory that it owns.
pub struct Server {
    options: Options,
    own_dir: TempDir,
    data_dir: PathBuf,
    port: u16,
    log_start: usize,
    child: Option<Child>,
}

impl Server {
    /// Options for a new server.
    pub fn options() -> Options {
        Options::default()
    }

    fn start(options: Options) -> Result<Server> {
        let own_dir = tempfile::Builder::new()
            .prefix("rivermark-test-")
            .tempdir()?;
        let data_dir = options
            .data_dir
            .clone()
            .unwrap_or_else(|| own_dir.path().join("data"));
        let mut server = Server {
            options,
            own_dir,
            data_dir,
            port: 0,
            log_start: 0,
            child: None,
        };
        server.launch()?;
        server.wait_ready()?;
        Ok(server)
    }

    /// The binary under test: `RIVERMARK_BIN`, else the one beside the running test.
    pub fn binary() -> Result<PathBuf> {
        if let Ok(path) = std::env::var("RIVERMARK_BIN") {
            return Ok(path.into());
        }
        // A test binary is <target>/<profile>/deps/<name>-<hash>.
        let test = std::env::current_exe()?;
        let profile = test
            .parent()
            .and_then(Path::parent)
            .context("a test binary lies in <target>/<profile>/deps")?;
        let binary = profile.join("rivermark");
        ensure!(
            binary.is_file(),
            "{} is missing: cargo build -p rivermark-server --bin rivermark (./dev test does)",
            binary.display()
        );
        Ok(binary)
    }

    fn launch(&mut self) -> Result<()> {
        self.port = free_port();
        self.log_start = self.log().len();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = Command::new(Self::binary()?);
        command.arg("serve").arg("--data-dir").arg(&self.data_dir);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command.args(["--memory-limit", &self.options.memory_limit]);
        if let Some(shards) = self.options.shards {
            command.args(["--shards", &shards.to_string()]);
        }
        command.env("RIVERMARK_TEST_CLOCK", self.clock_path());
        command.envs(self.options.env.iter().map(|(k, v)| (k, v)));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.child = Some(
            command
                .spawn()
                .with_context(|| format!("cannot start {command:?}"))?,
        );
        Ok(())
    }

    fn clock_path(&self) -> PathBuf {
        self.own_dir.path().join("clock")
    }

    /// Sets the server's clock ahead, by so much more than it is.
    pub fn set_ahead(&mut self, time: Duration) -> Result<()> {
        let before = std::fs::read_to_string(self.clock_path()).unwrap_or_default();
        let before: u128 = before.trim().parse().unwrap_or(0);
        let ahead = before + time.as_millis();
        // Nobody must read half of the number.
        let new = self.own_dir.path().join("clock.new");
        std::fs::write(&new, ahead.to_string())?;
        std::fs::rename(&new, self.clock_path())?;
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if self.log()[self.log_start..].contains(READY) {
                return Ok(());
            }
            if let Some(status) = self.try_wait()? {
                bail!(
                    "the server ended with {status} before it was ready:\n{}",
                    self.log_tail()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "the server was not ready within {START_TIMEOUT:?}:\n{}",
                    self.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A libpq connection string.
    pub fn connection_string(&self) -> String {
        format!(
            "host=127.0.0.1 port={} user=rivermark dbname=rivermark",
            self.port
        )
    }

    /// Opens a session.
    pub fn try_connect(&self) -> Result<Session, SqlError> {
        Session::connect(&self.connection_string())
    }

    /// Opens a session.
    ///
    /// # Panics
    /// If the server does not accept it; its log is printed.
    pub fn connect(&self) -> Session {
        self.try_connect()
            .unwrap_or_else(|e| panic!("{e}\n{}", self.log_tail()))
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The process's id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Bytes of memory that the process holds, or 0 if it does not run.
    pub fn resident_bytes(&self) -> u64 {
        let Some(pid) = self.pid() else { return 0 };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .unwrap_or("0");
        line.trim()
            .trim_end_matches(" kB")
            .parse::<u64>()
            .unwrap_or(0)
            * 1024
    }

    /// Seconds of processor time that the process has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        let Some(pid) = self.pid() else { return 0.0 };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The second field is the program's name in parentheses; user and system time are the 14th and 15th.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |i: usize| {
            fields
                .get(i)
                .and_then(|f| f.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        (ticks(11) + ticks(12)) / 100.0
    }

    /// Kills it as a crash would.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to stop (SIGTERM); it must exit with code 0.
    pub fn stop(&mut self) -> Result<()> {
        let pid = self.pid().context("the server does not run")?;
        signal(pid, "TERM")?;
        let status = self.wait_exit(STOP_TIMEOUT)?;
        ensure!(
            status.success(),
            "the server ended with {status} after SIGTERM:\n{}",
            self.log_tail()
        );
        Ok(())
    }

    /// Starts it again on the same data.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the server still runs");
        self.launch()?;
        self.wait_ready()
    }

    /// Stops it cleanly and starts it again on the same data.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Replaces the variables of the environment for the next start.
    pub fn set_env(&mut self, env: &[(&str, &str)]) {
        self.options.env = env
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
    }

    /// Waits until the process has ended by itself.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!(
            "the server still ran after {timeout:?}:\n{}",
            self.log_tail()
        )
    }

    /// True while the process runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.try_wait(), Ok(None)) && self.child.is_some()
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = self.child.as_mut() else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    fn log_path(&self) -> PathBuf {
        self.own_dir.path().join("server.log")
    }

    /// Everything that the process has printed since the first start.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of [`Server::log`].
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(40)..];
        format!(
            "--- last lines of the server's log\n{}\n---",
            tail.join("\n")
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        // A test that fails has left it running; a kill that fails means it is gone already.
        let _ = self.kill9();
    }
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()?;
    ensure!(status.success(), "kill -{name} {pid} failed");
    Ok(())
}
