//! CREATE and DROP SECRET: values that sources' options name, and that nobody is shown again.

use rivermark_planner::catalog::ObjectKind;

use crate::pg_error::{Notice, PgError};
use crate::session::Session;
use crate::sqlstate::SqlState;

impl Session {
    pub async fn create_secret(
        &mut self,
        name: &str,
        value: &str,
        if_not_exists: bool,
    ) -> Result<(), PgError> {
        self.require_superuser("permission denied to create secret")?;
        let mut is_there = false;
        self.change_security(|_, catalog| {
            is_there = catalog.security.secret(name).is_some();
            if !is_there {
                catalog.security.put_secret(name, value);
            } else if !if_not_exists {
                let message = format!("secret \"{name}\" already exists");
                return Err(PgError::new(SqlState::DuplicateObject, message));
            }
            Ok(())
        })
        .await?;
        if is_there {
            let message = format!("secret \"{name}\" already exists, skipping");
            self.notify(Notice::new(message));
        }
        Ok(())
    }

    pub async fn drop_secrets(&mut self, names: &[String], if_exists: bool) -> Result<(), PgError> {
        self.require_superuser("permission denied to drop secret")?;
        let mut missing = Vec::new();
        self.change_security(|_, catalog| {
            missing.clear();
            for name in names {
                let user = catalog.objects().find(|object| match &object.kind {
                    ObjectKind::Source(def) => def.secrets.values().any(|used| used == name),
                    ObjectKind::Table(_)
                    | ObjectKind::View(_)
                    | ObjectKind::MaterializedView(_)
                    | ObjectKind::Index(_) => false,
                });
                if let Some(user) = user {
                    let message = format!(
                        "cannot drop secret \"{name}\" because source {} uses it",
                        user.name
                    );
                    return Err(PgError::new(SqlState::DependentObjectsStillExist, message)
                        .with_hint("Drop the source first."));
                }
                if !catalog.security.remove_secret(name) {
                    if !if_exists {
                        let message = format!("secret \"{name}\" does not exist");
                        return Err(PgError::new(SqlState::UndefinedObject, message));
                    }
                    missing.push(name.clone());
                }
            }
            Ok(())
        })
        .await?;
        for name in missing {
            let message = format!("secret \"{name}\" does not exist, skipping");
            self.notify(Notice::new(message));
        }
        Ok(())
    }
}
