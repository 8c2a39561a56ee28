//! Sources whose options name secrets: the values are put in where the connector is made, and nowhere else, so that no
//! definition, plan or view has them.

use std::sync::Arc;

use rivermark_planner::catalog::{Catalog, QualifiedName, SourceDef};
use rivermark_planner::definition::MASK;

use crate::error::Result;
use crate::source::{ConnectorFactory, Source, SourceError};

/// Makes the source that `def` describes; no error tells a secret.
pub fn open_source(
    connectors: &dyn ConnectorFactory,
    catalog: &Catalog,
    name: &QualifiedName,
    def: &SourceDef,
) -> Result<Arc<dyn Source>> {
    let name = &name.to_string();
    if def.secrets.is_empty() {
        return Ok(connectors.source(name, def)?);
    }
    let mut whole = def.clone();
    let mut values = Vec::new();
    for (option, secret) in &def.secrets {
        let Some(value) = catalog.security.secret(secret) else {
            let message = format!("option \"{option}\": secret \"{secret}\" does not exist");
            return Err(SourceError::InvalidOption(message).into());
        };
        values.push(value);
        whole.options.insert(option.clone(), value.to_string());
    }
    Ok(connectors
        .source(name, &whole)
        .map_err(|error| masked(error, &values))?)
}

fn masked(error: SourceError, secrets: &[&str]) -> SourceError {
    let mask = |text: String| secrets.iter().fold(text, |text, s| text.replace(s, MASK));
    match error {
        SourceError::InvalidOption(text) => SourceError::InvalidOption(mask(text)),
        SourceError::MissingTopic(text) => SourceError::MissingTopic(mask(text)),
        SourceError::Unreachable(text) => SourceError::Unreachable(mask(text)),
        SourceError::DataLoss(text) => SourceError::DataLoss(mask(text)),
        SourceError::Internal(text) => SourceError::Internal(mask(text)),
    }
}
