//! Cancel requests: which connection a process number and its secret belong to, and the signal that reaches it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use pgwire::messages::ProtocolVersion;
use pgwire::messages::startup::SecretKey;
use tokio::sync::Notify;

/// Length of the secret of clients that speak protocol 3.2; before it is 4 bytes by definition.
const LONG_SECRET_BYTES: usize = 32;

/// The signal of one connection.
#[derive(Debug, Default)]
pub struct CancelSignal {
    is_requested: AtomicBool,
    wake: Notify,
}

impl CancelSignal {
    pub fn request(&self) {
        self.is_requested.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Forgets a request: it was meant for a statement that is over.
    pub fn clear(&self) {
        self.is_requested.store(false, Ordering::Release);
    }

    /// Completes when a cancel is requested, and takes the request.
    pub async fn requested(&self) {
        loop {
            if self.is_requested.swap(false, Ordering::AcqRel) {
                return;
            }
            self.wake.notified().await;
        }
    }
}

/// All connections that can be cancelled, by process number.
#[derive(Debug, Default)]
pub struct CancelRegistry {
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    last_pid: i32,
    by_pid: HashMap<i32, (Bytes, Arc<CancelSignal>)>,
}

/// A connection's entry; it leaves the registry when this is dropped.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<CancelRegistry>,
    pub pid: i32,
    pub secret: SecretKey,
    pub signal: Arc<CancelSignal>,
}

impl CancelRegistry {
    /// Gives a connection a process number that no other living one has, and a secret.
    pub fn register(self: &Arc<Self>, version: ProtocolVersion) -> Registration {
        let secret = match version {
            ProtocolVersion::PROTOCOL3_0 => SecretKey::I32(rand::random()),
            ProtocolVersion::PROTOCOL3_2 | ProtocolVersion::PROTOCOL3_9999 => {
                SecretKey::Bytes(Bytes::copy_from_slice(&rand::random::<
                    [u8; LONG_SECRET_BYTES],
                >()))
            }
        };
        let signal = Arc::new(CancelSignal::default());
        let mut connections = self.connections.lock();
        let pid = loop {
            connections.last_pid = connections.last_pid.checked_add(1).unwrap_or(1);
            if !connections.by_pid.contains_key(&connections.last_pid) {
                break connections.last_pid;
            }
        };
        connections
            .by_pid
            .insert(pid, (secret.to_bytes(), signal.clone()));
        Registration {
            registry: self.clone(),
            pid,
            secret,
            signal,
        }
    }

    /// Signals the connection if the secret is its own. Says nothing about success, as the protocol wants it.
    pub fn cancel(&self, pid: i32, secret: &SecretKey) {
        let signal = self
            .connections
            .lock()
            .by_pid
            .get(&pid)
            .filter(|(own, _)| *own == secret.to_bytes())
            .map(|(_, signal)| signal.clone());
        if let Some(signal) = signal {
            signal.request();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.connections.lock().by_pid.remove(&self.pid);
    }
}
