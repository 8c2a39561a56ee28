//! psql as a person has it: at a terminal, typed into key by key. `script` gives it the terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long the terminal may take to show what is expected.
const PATIENCE: Duration = Duration::from_secs(20);

/// psql at its terminal.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of what was shown has been looked at.
    seen: usize,
}

impl Terminal {
    /// Starts psql and waits for its prompt.
    pub fn open(connection_string: &str) -> Result<Terminal> {
        let command = format!("psql -X -P pager=off -d \"{connection_string}\"");
        let mut child = Command::new("script")
            .args(["-qfec", &command, "/dev/null"])
            .env("TERM", "dumb")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("script cannot be started (apt-get install bsdutils)")?;
        let keys = child.stdin.take().context("a terminal takes keys")?;
        let mut screen = child.stdout.take().context("a terminal shows something")?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let reader = shown.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                let mut shown = reader.lock().unwrap_or_else(|error| error.into_inner());
                shown.extend_from_slice(&piece[..count]);
            }
        });
        let mut terminal = Terminal {
            child,
            keys,
            shown,
            seen: 0,
        };
        terminal.until("=# ")?;
        Ok(terminal)
    }

    /// Presses keys: `\n` is Enter, `\t` Tab, `\x03` Ctrl-C.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes())?;
        Ok(self.keys.flush()?)
    }

    /// Waits until this is shown; everything that came since the last time, up to its end.
    pub fn until(&mut self, expected: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.unseen();
            if let Some(at) = text.find(expected) {
                let end = at + expected.len();
                self.seen += end;
                return Ok(text[..end].replace('\r', ""));
            }
            if Instant::now() > deadline {
                bail!("the terminal does not show {expected:?} but: {text}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types a line; what is shown until the next prompt.
    pub fn line(&mut self, line: &str) -> Result<String> {
        self.press(&format!("{line}\n"))?;
        self.until("=# ").with_context(|| line.to_string())
    }

    fn unseen(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(|error| error.into_inner());
        // positions are those of bytes, since all that the tests let it show is ASCII
        String::from_utf8_lossy(&shown[self.seen..]).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its psql ends with its terminal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
