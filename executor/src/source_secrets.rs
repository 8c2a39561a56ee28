//! Sources whose options name secrets: the values are put in where the connector is made, and nowhere else, so that no
//! definition, plan or view has them. What the connector says is masked.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use rivermark_planner::catalog::{Catalog, Positions, QualifiedName, SourceDef};
use rivermark_planner::definition::MASK;

use crate::error::Result;
use crate::source::{
    ConnectorFactory, ReadRequest, ReaderStatus, Source, SourceBatch, SourceError, SourceReader,
};

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
    let mut values: Vec<String> = Vec::new();
    for (option, secret) in &def.secrets {
        let Some(value) = catalog.security.secret(secret) else {
            let message = format!("option \"{option}\": secret \"{secret}\" does not exist");
            return Err(SourceError::InvalidOption(message).into());
        };
        values.push(value.to_string());
        whole.options.insert(option.clone(), value.to_string());
    }
    // One can be a part of another.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    let secrets = Secrets(values.into());
    let source = connectors.source(name, &whole);
    let source = source.map_err(|error| secrets.masked(error))?;
    Ok(Arc::new(MaskedSource { source, secrets }))
}

/// What must not be shown.
#[derive(Clone)]
struct Secrets(Arc<[String]>);

impl Secrets {
    fn mask(&self, text: String) -> String {
        let secrets = self.0.iter().filter(|secret| !secret.is_empty());
        secrets.fold(text, |text, secret| text.replace(secret.as_str(), MASK))
    }

    fn masked(&self, error: SourceError) -> SourceError {
        match error {
            SourceError::InvalidOption(text) => SourceError::InvalidOption(self.mask(text)),
            SourceError::MissingTopic(text) => SourceError::MissingTopic(self.mask(text)),
            SourceError::Unreachable(text) => SourceError::Unreachable(self.mask(text)),
            SourceError::DataLoss(text) => SourceError::DataLoss(self.mask(text)),
            SourceError::Internal(text) => SourceError::Internal(self.mask(text)),
        }
    }
}

struct MaskedSource {
    source: Arc<dyn Source>,
    secrets: Secrets,
}

impl Source for MaskedSource {
    fn resolve_start(&self, timeout_ms: u64) -> Result<Positions, SourceError> {
        let start = self.source.resolve_start(timeout_ms);
        start.map_err(|error| self.secrets.masked(error))
    }

    fn end_offsets(&self, timeout_ms: u64) -> Result<Positions, SourceError> {
        let ends = self.source.end_offsets(timeout_ms);
        ends.map_err(|error| self.secrets.masked(error))
    }

    fn first_offsets(&self, timeout_ms: u64) -> Result<Positions, SourceError> {
        let first = self.source.first_offsets(timeout_ms);
        first.map_err(|error| self.secrets.masked(error))
    }

    fn reader(&self, request: ReadRequest) -> Result<Box<dyn SourceReader>, SourceError> {
        let reader = self.source.reader(request);
        Ok(Box::new(MaskedReader {
            reader: reader.map_err(|error| self.secrets.masked(error))?,
            secrets: self.secrets.clone(),
        }))
    }
}

struct MaskedReader {
    reader: Box<dyn SourceReader>,
    secrets: Secrets,
}

impl SourceReader for MaskedReader {
    fn schema(&self) -> SchemaRef {
        self.reader.schema()
    }

    fn take(&mut self, max_rows: usize) -> Option<SourceBatch> {
        self.reader.take(max_rows)
    }

    fn status(&self) -> ReaderStatus {
        let status = self.reader.status();
        ReaderStatus {
            last_error: status.last_error.map(|error| self.secrets.mask(error)),
            ..status
        }
    }

    fn durable(&mut self, positions: &Positions) {
        self.reader.durable(positions);
    }

    fn set_paused(&mut self, partition: i32, is_paused: bool) {
        self.reader.set_paused(partition, is_paused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connector_says_is_masked() {
        let secrets = Secrets(["10.1.2.3:9092".to_string(), "10.1".to_string()].into());
        let error = SourceError::Unreachable("Kafka at 10.1.2.3:9092 is away, as is 10.1".into());
        let expected = format!("Kafka at {MASK} is away, as is {MASK}");
        assert_eq!(secrets.masked(error).to_string(), expected);
        assert_eq!(Secrets([String::new()].into()).mask("abc".into()), "abc");
    }
}
