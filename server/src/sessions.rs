//! Who is connected: what sessions share with the functions they call and show to others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use chrono::Utc;
use parking_lot::{Mutex, RwLock};
use rivermark_planner::Catalog;
use rivermark_planner::security::BOOTSTRAP;

use crate::session_api::Reach;
use crate::settings::Settings;

/// What a session's functions (`current_setting`, `pg_get_viewdef`, …) and the system views see of it.
#[derive(Debug)]
pub struct SessionShared {
    pub pid: i32,
    /// Who logged in.
    pub user: String,
    /// Users are taken at their word: whoever is no role acts as the first superuser.
    pub is_trusted: bool,
    pub peer: Option<SocketAddr>,
    /// Microseconds since 1970.
    pub connected_at_us: i64,
    pub settings: Mutex<Settings>,
    /// The catalog that the running statement sees.
    pub catalog: RwLock<Arc<Catalog>>,
    /// Of a client's connection; the server's own sessions have none.
    pub reach: Option<Reach>,
    /// All sessions of the server.
    pub peers: Arc<Sessions>,
    activity: Mutex<Activity>,
}

#[derive(Debug, Default)]
struct Activity {
    /// The running or last statement.
    statement: String,
    statement_at_us: Option<i64>,
    state: SessionState,
}

/// `pg_stat_activity.state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SessionState {
    #[default]
    Idle,
    Active,
    IdleInTransaction,
    IdleInFailedTransaction,
}

impl SessionState {
    fn as_str(self) -> &'static str {
        match self {
            SessionState::Idle => "idle",
            SessionState::Active => "active",
            SessionState::IdleInTransaction => "idle in transaction",
            SessionState::IdleInFailedTransaction => "idle in transaction (aborted)",
        }
    }
}

/// Longest statement text that is shown to others, in bytes.
const SHOWN_STATEMENT: usize = 1024;

impl SessionShared {
    pub fn new(
        pid: i32,
        user: String,
        is_trusted: bool,
        peer: Option<SocketAddr>,
        settings: Settings,
        catalog: Arc<Catalog>,
    ) -> Self {
        SessionShared {
            pid,
            user,
            is_trusted,
            peer,
            connected_at_us: now_us(),
            settings: Mutex::new(settings),
            catalog: RwLock::new(catalog),
            reach: None,
            peers: Arc::default(),
            activity: Mutex::default(),
        }
    }

    /// The role in whose name statements run: who logged in, or for a superuser what `SET ROLE` says.
    pub fn role(&self, catalog: &Catalog) -> String {
        let login = self.login_role(catalog);
        match self.settings.lock().role() {
            Some(role) if catalog.security.is_superuser(&login) => role,
            _ => login,
        }
    }

    /// The role of who logged in.
    pub fn login_role(&self, catalog: &Catalog) -> String {
        match catalog.security.role(&self.user) {
            None if self.is_trusted => BOOTSTRAP.to_string(),
            _ => self.user.clone(),
        }
    }

    /// As [`Self::role`], by the name that the session knows it by.
    pub fn shown_role(&self) -> String {
        let catalog = self.catalog.read().clone();
        match self.role(&catalog) {
            role if role == BOOTSTRAP && self.settings.lock().role().is_none() => self.user.clone(),
            role => role,
        }
    }

    /// A statement begins.
    pub fn statement_begins(&self, text: &str) {
        let end = text.floor_char_boundary(SHOWN_STATEMENT);
        *self.activity.lock() = Activity {
            statement: text[..end].to_string(),
            statement_at_us: Some(now_us()),
            state: SessionState::Active,
        };
    }

    /// All statements are answered.
    pub fn rests(&self, state: SessionState) {
        self.activity.lock().state = state;
    }

    fn row(&self) -> SessionRow {
        let activity = self.activity.lock();
        SessionRow {
            pid: self.pid,
            user: self.user.clone(),
            peer: self.peer,
            application_name: self.settings.lock().application_name().to_string(),
            connected_at_us: self.connected_at_us,
            statement: activity.statement.clone(),
            statement_at_us: activity.statement_at_us,
            state: activity.state.as_str(),
        }
    }
}

/// Microseconds since 1970.
pub fn now_us() -> i64 {
    Utc::now().timestamp_micros()
}

/// A session as `rivermark.sessions`, `pg_stat_activity` and SHOW PROCESSLIST print it.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub pid: i32,
    pub user: String,
    pub peer: Option<SocketAddr>,
    pub application_name: String,
    pub connected_at_us: i64,
    pub statement: String,
    pub statement_at_us: Option<i64>,
    pub state: &'static str,
}

/// All sessions of the server.
#[derive(Debug, Default)]
pub struct Sessions {
    by_pid: Mutex<BTreeMap<i32, Weak<SessionShared>>>,
}

impl Sessions {
    /// Adds a session, unless its user has as many as the limit.
    pub fn add(&self, session: &Arc<SessionShared>, limit: Option<u32>) -> bool {
        let mut by_pid = self.by_pid.lock();
        by_pid.retain(|_, s| s.strong_count() > 0);
        if let Some(limit) = limit {
            let sessions = by_pid.values().filter_map(Weak::upgrade);
            let of_user = sessions.filter(|other| other.user == session.user).count();
            if of_user >= limit as usize {
                return false;
            }
        }
        by_pid.insert(session.pid, Arc::downgrade(session));
        true
    }

    /// The session with this process number.
    pub fn get(&self, pid: i32) -> Option<Arc<SessionShared>> {
        self.by_pid.lock().get(&pid).and_then(Weak::upgrade)
    }

    pub fn remove(&self, pid: i32) {
        self.by_pid.lock().remove(&pid);
    }

    pub fn rows(&self) -> Vec<SessionRow> {
        let sessions: Vec<_> = self
            .by_pid
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        sessions.iter().map(|s| s.row()).collect()
    }
}
