//! LISTEN, UNLISTEN and NOTIFY: sessions that listen, by channel, and how they are told.
//!
//! A channel is a name. Sessions notify it; and if it is that of a table or view, the server itself does, once for
//! every epoch that changed the relation, with the epoch's number as payload.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
use rivermark_executor::changes::ChangedRelations;
use rivermark_planner::Catalog;
use rivermark_planner::catalog::DEFAULT_SCHEMA;
use tokio::sync::broadcast::error::RecvError;

use crate::pg_error::PgError;
use crate::serve::ServerState;
use crate::session::Session;
use crate::session_api::{Outlet, ServerMessage};
use crate::sqlstate::SqlState;

/// As in PostgreSQL.
const MAX_PAYLOAD_BYTES: usize = 7_999;
/// The number of no session: the server itself notifies.
const SERVER_PID: i32 = 0;

/// Who listens to what.
#[derive(Default)]
pub struct Channels {
    listeners: Mutex<BTreeMap<String, HashMap<i32, Outlet>>>,
}

impl Channels {
    pub fn listen(&self, channel: &str, pid: i32, outlet: &Outlet) {
        let mut listeners = self.listeners.lock();
        let of_channel = listeners.entry(channel.to_string()).or_default();
        of_channel.insert(pid, outlet.clone());
    }

    /// Without a channel: of all.
    pub fn unlisten(&self, channel: Option<&str>, pid: i32) {
        self.listeners.lock().retain(|name, of_channel| {
            if channel.is_none_or(|channel| channel == name) {
                of_channel.remove(&pid);
            }
            !of_channel.is_empty()
        });
    }

    /// Tells all who listen. Whoever does not read what it is told is cut off by its connection, not waited for.
    pub fn notify(&self, channel: &str, pid: i32, payload: &str) {
        let listeners = self.listeners.lock();
        for outlet in listeners.get(channel).into_iter().flat_map(HashMap::values) {
            outlet.send(ServerMessage::Notification {
                pid,
                channel: channel.to_string(),
                payload: payload.to_string(),
            });
        }
    }

    fn is_empty(&self) -> bool {
        self.listeners.lock().is_empty()
    }

    /// Tells those who listen to the relations that changed.
    fn notify_changes(&self, changed: &ChangedRelations, catalog: &Catalog) {
        if self.is_empty() {
            return;
        }
        let payload = changed.epoch.to_string();
        for relation in &changed.relations {
            let Some(object) = catalog.get(*relation) else {
                continue;
            };
            let name = &object.name;
            self.notify(&name.to_string(), SERVER_PID, &payload);
            if name.schema == DEFAULT_SCHEMA {
                let full = format!("{DEFAULT_SCHEMA}.{}", name.name);
                self.notify(&full, SERVER_PID, &payload);
            }
        }
    }
}

/// Passes changes on to those who listen, until the engine ends.
pub async fn pass_changes_on(server: std::sync::Arc<ServerState>) {
    let mut changes = server.engine.changed_relations();
    loop {
        let changed = match changes.recv().await {
            Ok(changed) => changed,
            // Some epochs were missed: what changed in them is not known, so everything may have.
            Err(RecvError::Lagged(_)) => {
                let snapshot = server.engine.snapshot();
                let relations = snapshot.catalog.objects().map(|object| object.id).collect();
                ChangedRelations {
                    epoch: snapshot.epoch,
                    relations,
                }
                .into()
            }
            Err(RecvError::Closed) => return,
        };
        let catalog = server.engine.snapshot().catalog.clone();
        server.channels.notify_changes(&changed, &catalog);
    }
}

/// What a transaction does to channels when it commits.
pub enum ChannelEffect {
    Listen(String),
    Unlisten(Option<String>),
    Notify { channel: String, payload: String },
}

impl Session {
    pub fn listen(&mut self, channel: &str) -> &'static str {
        self.on_channels(ChannelEffect::Listen(channel.to_string()));
        "LISTEN"
    }

    pub fn unlisten(&mut self, channel: Option<&str>) -> &'static str {
        self.on_channels(ChannelEffect::Unlisten(channel.map(str::to_string)));
        "UNLISTEN"
    }

    pub fn notify_channel(
        &mut self,
        channel: &str,
        payload: &str,
    ) -> Result<&'static str, PgError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            let message = "payload string too long";
            return Err(PgError::new(SqlState::InvalidParameterValue, message));
        }
        self.on_channels(ChannelEffect::Notify {
            channel: channel.to_string(),
            payload: payload.to_string(),
        });
        Ok("NOTIFY")
    }

    /// At once outside of a transaction, else when it commits.
    fn on_channels(&mut self, effect: ChannelEffect) {
        self.channel_effects.push(effect);
        if !self.transaction.is_open() {
            self.apply_channel_effects();
        }
    }

    /// Does what the transaction that has committed wanted; equal notifications are sent once.
    pub fn apply_channel_effects(&mut self) {
        let mut sent = BTreeSet::new();
        for effect in std::mem::take(&mut self.channel_effects) {
            let channels = &self.server.channels;
            match effect {
                ChannelEffect::Listen(channel) => {
                    if let Some(outlet) = &self.outlet {
                        channels.listen(&channel, self.shared.pid, outlet);
                    }
                }
                ChannelEffect::Unlisten(channel) => {
                    channels.unlisten(channel.as_deref(), self.shared.pid);
                }
                ChannelEffect::Notify { channel, payload } => {
                    if sent.insert((channel.clone(), payload.clone())) {
                        channels.notify(&channel, self.shared.pid, &payload);
                    }
                }
            }
        }
    }
}
