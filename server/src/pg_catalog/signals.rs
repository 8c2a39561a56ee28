//! `pg_cancel_backend` and `pg_terminate_backend`: a session reaches another one.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;

use super::function_registry::Registry;
use crate::pg_error::PgError;
use crate::session_api::Reach;
use crate::sessions::SessionShared;
use crate::sqlstate::SqlState;

/// A function, what it does, and what it says to who may not do it.
struct Signal {
    name: &'static str,
    /// `pg_terminate_backend` also takes a time to wait, which is not needed: the connection ends at once.
    arguments: &'static [usize],
    act: fn(&Reach),
    to_superuser: &'static str,
    to_others: &'static str,
}

const SIGNALS: [Signal; 2] = [
    Signal {
        name: "pg_cancel_backend",
        arguments: &[1],
        act: Reach::cancel_statement,
        to_superuser: "must be a superuser to cancel superuser query",
        to_others: "must be the role whose query is being canceled",
    },
    Signal {
        name: "pg_terminate_backend",
        arguments: &[1, 2],
        act: Reach::end_connection,
        to_superuser: "must be a superuser to terminate superuser process",
        to_others: "must be the role whose process is being terminated",
    },
];

/// They give true if there is such a session.
pub fn signal_functions(registry: &mut Registry, session: &Arc<SessionShared>) {
    for signal in SIGNALS {
        let shared = session.clone();
        registry.add(signal.name, signal.arguments, DataType::Boolean, move |a| {
            let Some(pid) = a.int(0) else {
                return Ok(None::<bool>.into());
            };
            let target = i32::try_from(pid)
                .ok()
                .and_then(|pid| shared.peers.get(pid));
            let Some(target) = target else {
                return Ok(false.into());
            };
            refusal(&signal, &shared, &target)
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
            if let Some(reach) = &target.reach {
                (signal.act)(reach);
            }
            Ok(target.reach.is_some().into())
        });
    }
}

/// An error unless the session may signal the other one: superusers may all, others those of their own role.
fn refusal(signal: &Signal, own: &SessionShared, target: &SessionShared) -> Result<(), PgError> {
    let catalog = own.catalog.read().clone();
    let (role, of_target) = (own.role(&catalog), target.login_role(&catalog));
    if catalog.security.is_superuser(&role) {
        return Ok(());
    }
    let message = match catalog.security.is_superuser(&of_target) {
        true => signal.to_superuser,
        false if of_target == role => return Ok(()),
        false => signal.to_others,
    };
    Err(PgError::new(SqlState::InsufficientPrivilege, message))
}
