//! A materialized view (or index) whose CREATE statement is still running: it is dropped if the statement is given up.
//!
//! The change of the catalog runs in a task of its own, since it can not be taken back: a statement that is cancelled
//! while the engine applies it must still learn the id of what to drop.

use std::sync::Arc;

use rivermark_executor::ExecutorError;
use rivermark_executor::api::CatalogChange;
use rivermark_executor::engine::Engine;
use rivermark_planner::ObjectId;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::ddl::{ATTEMPTS, Turn};
use crate::session::Session;

type Registered = Result<Option<ObjectId>, ExecutorError>;

/// See the module.
pub struct HalfBuilt {
    /// The change, until its outcome is known.
    change: Option<JoinHandle<Registered>>,
    /// The view to drop, until it is kept.
    view: Option<ObjectId>,
    /// The view is built beside another, whose place it takes in the end: then it is no half-built one any more.
    is_replacement: bool,
    engine: Engine,
    ddl: Arc<Mutex<()>>,
    runtime: Handle,
}

impl HalfBuilt {
    /// Gives the change to the engine; the statement's turn ends with it.
    pub fn submit(session: &Session, turn: Turn, change: CatalogChange) -> HalfBuilt {
        let runtime = Handle::current();
        let server = &session.server;
        let engine = server.engine.clone();
        let role = session.shared.role(&turn.catalog);
        let is_replacement = matches!(change, CatalogChange::Replace { .. });
        let change = runtime.spawn({
            let engine = engine.clone();
            async move {
                let version = turn.catalog.version;
                engine.change_catalog_as(&role, version, change).await
            }
        });
        HalfBuilt {
            change: Some(change),
            view: None,
            is_replacement,
            engine,
            ddl: server.ddl.clone(),
            runtime,
        }
    }

    /// Waits until the view is registered.
    pub async fn registered(&mut self) -> Result<(), ExecutorError> {
        let Some(change) = self.change.as_mut() else {
            return Ok(());
        };
        let outcome = change.await;
        self.change = None;
        self.view = match outcome {
            Ok(registered) => registered?,
            Err(error) => return Err(ExecutorError::Internal(error.to_string())),
        };
        Ok(())
    }

    /// Waits until the view has caught up with what its inputs held when it was registered.
    pub async fn ready(&mut self) -> Result<(), ExecutorError> {
        match self.view {
            Some(view) => self.engine.wait_until_ready(view).await,
            None => Ok(()),
        }
    }

    /// The statement succeeded: the view stays.
    pub fn keep(mut self) {
        self.view = None;
    }
}

impl Drop for HalfBuilt {
    fn drop(&mut self) {
        let (change, view) = (self.change.take(), self.view.take());
        if change.is_none() && view.is_none() {
            return;
        }
        let (engine, ddl) = (self.engine.clone(), self.ddl.clone());
        let is_replacement = self.is_replacement;
        self.runtime.spawn(async move {
            let view = match change {
                Some(change) => change.await.ok().and_then(Result::ok).flatten(),
                None => view,
            };
            if let Some(view) = view {
                drop_view(&engine, &ddl, view, is_replacement).await;
            }
        });
    }
}

async fn drop_view(engine: &Engine, ddl: &Mutex<()>, view: ObjectId, is_replacement: bool) {
    for _ in 0..ATTEMPTS {
        let _turn = ddl.lock().await;
        let catalog = engine.snapshot().catalog.clone();
        let change = match is_replacement {
            true => CatalogChange::GiveUpReplacement { first: view },
            false if catalog.get(view).is_none() => return,
            false => CatalogChange::Drop {
                objects: vec![view],
            },
        };
        match engine.change_catalog(catalog.version, change).await {
            Err(ExecutorError::CatalogChanged) => {}
            Err(error) => {
                tracing::warn!(%error, view = view.0, "a half-built view could not be dropped");
                return;
            }
            Ok(_) => return,
        }
    }
}
