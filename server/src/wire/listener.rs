//! Accepts clients: one task per connection, a limit on their number, and an orderly end when the server stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::auth::AuthMethod;
use super::cancel::CancelRegistry;
use super::connection::{ConnectionContext, serve};
use crate::session_api::SessionFactory;

/// How long connections may take to end once the server stops; then they are cut.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept (out of file descriptors): they will come back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Connections beyond the limit that are still heard, so that they get an error or can cancel; more wait unaccepted.
const SPARE_CONNECTIONS: usize = 32;

/// How clients are taken.
#[derive(Clone)]
pub struct ListenerConfig {
    pub auth: AuthMethod,
    /// Encryption for clients that ask for it; without it they are told there is none.
    pub tls: Option<pgwire::tokio::TlsAcceptor>,
    pub max_connections: usize,
    /// A larger message ends its connection with an error.
    pub max_message_bytes: usize,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        ListenerConfig {
            auth: AuthMethod::TrustLoopback,
            tls: None,
            max_connections: 1_000,
            max_message_bytes: 64 << 20,
        }
    }
}

/// A bound socket that is not accepting yet.
pub struct Listener {
    socket: TcpListener,
    config: ListenerConfig,
    cancel: Arc<CancelRegistry>,
}

impl Listener {
    pub async fn bind(address: SocketAddr, config: ListenerConfig) -> io::Result<Listener> {
        let socket = TcpListener::bind(address).await?;
        Ok(Listener {
            socket,
            config,
            cancel: Arc::default(),
        })
    }

    /// Before anyone is served.
    pub fn authenticate_with(&mut self, auth: AuthMethod) {
        self.config.auth = auth;
    }

    /// The address with the port that was chosen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves clients until `shutdown`; then waits for the connections to end.
    pub async fn run<F: SessionFactory>(self, factory: Arc<F>, shutdown: CancellationToken) {
        let Listener {
            socket,
            config,
            cancel,
        } = self;
        let active = Arc::new(AtomicUsize::new(0));
        let mut connections = JoinSet::new();
        loop {
            while let Some(ended) = connections.try_join_next() {
                log_end(ended);
            }
            let hard_limit = config.max_connections + SPARE_CONNECTIONS;
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    log_end(ended);
                    continue;
                }
                accepted = socket.accept(), if connections.len() < hard_limit => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let context = Arc::new(ConnectionContext {
                factory: factory.clone(),
                auth: config.auth.clone(),
                tls: config.tls.clone(),
                cancel: cancel.clone(),
                shutdown: shutdown.clone(),
                max_message_bytes: config.max_message_bytes,
                is_full: active.load(Ordering::Relaxed) >= config.max_connections,
            });
            connections.spawn(serve_stream(
                stream,
                peer,
                context,
                Active::new(active.clone()),
            ));
        }
        drop(socket);
        let drained = timeout(DRAIN_TIMEOUT, async {
            while let Some(ended) = connections.join_next().await {
                log_end(ended);
            }
        });
        if drained.await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "connections cut at shutdown"
            );
        }
    }
}

async fn serve_stream<F: SessionFactory>(
    stream: TcpStream,
    peer: SocketAddr,
    context: Arc<ConnectionContext<F>>,
    _active: Active,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    serve(Box::new(stream), Some(peer), context).await;
}

/// Counts a connection as long as it lives.
struct Active(Arc<AtomicUsize>);

impl Active {
    fn new(count: Arc<AtomicUsize>) -> Active {
        count.fetch_add(1, Ordering::Relaxed);
        Active(count)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn log_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task ended abnormally");
    }
}
