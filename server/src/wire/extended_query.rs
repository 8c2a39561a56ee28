//! The extended query protocol: prepared statements, portals with row limits, and parameters and results in text or
//! binary.

use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    BindComplete, CloseComplete, ParseComplete, PortalSuspended,
};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};

use super::connection::Connection;
use super::copy_out::copy_out;
use super::decode_params::{decode, parameter_type};
use super::encode::Format;
use super::frontend::{Bind, Target};
use super::link::Fault;
use super::pg_types::PgType;
use super::row_pump::{PumpEnd, RowSource, row_description};
use crate::pg_error::PgError;
use crate::session_api::{Execution, RowTag, SqlSession, StatementShape, TransactionStatus};
use crate::sqlstate::SqlState;

/// OID of `unknown`: a parameter whose type is to be inferred, as is 0.
const UNKNOWN_OID: u32 = 705;
/// The type byte of Sync.
const SYNC: u8 = b'S';

/// A prepared statement.
pub struct Prepared<T> {
    /// `None` for a text without a statement.
    statement: Option<T>,
    shape: StatementShape,
    parameter_types: Vec<PgType>,
}

/// A statement with its parameters, about to run, running or done.
pub struct Portal<T> {
    prepared: Arc<Prepared<T>>,
    parameters: Vec<ScalarValue>,
    formats: Vec<Format>,
    state: PortalState,
}

enum PortalState {
    Ready,
    Running(Box<RowSource>),
    /// All rows were sent: running it again gives none, under the same tag.
    Exhausted(RowTag),
    /// A command can run only once.
    Done,
}

impl<S: SqlSession> Connection<S> {
    pub async fn parse(&mut self, name: String, sql: String, oids: Vec<u32>) -> Result<(), Fault> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(PgError::new(
                SqlState::DuplicatePreparedStatement,
                format!("prepared statement \"{name}\" already exists"),
            )
            .into());
        }
        self.statements.remove(&name);
        let mut statements = self.link.guard(self.session.parse(&sql)).await??;
        if statements.len() > 1 {
            return Err(PgError::new(
                SqlState::SyntaxError,
                "cannot insert multiple commands into a prepared statement",
            )
            .into());
        }
        let declared: Vec<Option<u32>> = oids
            .iter()
            .map(|oid| Some(*oid).filter(|oid| !matches!(oid, 0 | &UNKNOWN_OID)))
            .collect();
        let statement = statements.pop();
        let shape = match &statement {
            Some(statement) => {
                self.link
                    .guard(self.session.describe(statement, &declared))
                    .await??
            }
            None => StatementShape {
                parameters: Vec::new(),
                result: None,
            },
        };
        let parameter_types = shape
            .parameters
            .iter()
            .enumerate()
            .map(|(i, field)| parameter_type(declared.get(i).copied().flatten(), field))
            .collect();
        if let Some(statement) = statement.as_ref().filter(|_| !name.is_empty()) {
            self.session.statement_prepared(&name, statement, &shape);
        }
        self.statements.insert(
            name,
            Arc::new(Prepared {
                statement,
                shape,
                parameter_types,
            }),
        );
        self.put(&ParseComplete::new());
        Ok(())
    }

    pub fn bind(&mut self, bind: Bind) -> Result<(), Fault> {
        let prepared = self.prepared(&bind.statement)?.clone();
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(PgError::new(
                SqlState::DuplicateCursor,
                format!("cursor \"{}\" already exists", bind.portal),
            )
            .into());
        }
        let wanted = prepared.parameter_types.len();
        if bind.parameters.len() != wanted {
            return Err(violation(format!(
                "bind message supplies {} parameters, but prepared statement \"{}\" requires {wanted}",
                bind.parameters.len(),
                bind.statement,
            ))
            .into());
        }
        let parameter_formats =
            spread_formats(&bind.parameter_formats, wanted).ok_or_else(|| {
                violation(format!(
                    "bind message has {} parameter formats but {wanted} parameters",
                    bind.parameter_formats.len()
                ))
            })??;
        let columns = prepared
            .shape
            .result
            .as_ref()
            .map_or(0, |schema| schema.fields().len());
        // A statement without rows does not care for result formats, whatever their number.
        let result_formats = match &prepared.shape.result {
            None => &[],
            Some(_) => bind.result_formats.as_slice(),
        };
        let formats = spread_formats(result_formats, columns).ok_or_else(|| {
            violation(format!(
                "bind message has {} result formats but query has {columns} columns",
                bind.result_formats.len()
            ))
        })??;
        let zone = self.session.time_zone();
        let parameters = bind
            .parameters
            .iter()
            .enumerate()
            .map(|(i, value)| {
                let field = &prepared.shape.parameters[i];
                let pg_type = &prepared.parameter_types[i];
                decode(
                    i + 1,
                    value.as_ref(),
                    parameter_formats[i],
                    pg_type,
                    field,
                    &zone,
                )
            })
            .collect::<Result<Vec<_>, _>>()?;
        let portal = Portal {
            prepared,
            parameters,
            formats,
            state: PortalState::Ready,
        };
        self.portals.insert(bind.portal, portal);
        self.put(&BindComplete::new());
        Ok(())
    }

    pub fn describe(&mut self, target: Target) -> Result<(), Fault> {
        match target {
            Target::Statement(name) => {
                let prepared = self.prepared(&name)?.clone();
                let oids = prepared.parameter_types.iter().map(PgType::oid).collect();
                self.put(&ParameterDescription::new(oids));
                self.describe_rows(&prepared, &[]);
            }
            Target::Portal(name) => {
                let portal = self.portals.get(&name).ok_or_else(|| no_portal(&name))?;
                let (prepared, formats) = (portal.prepared.clone(), portal.formats.clone());
                self.describe_rows(&prepared, &formats);
            }
        }
        Ok(())
    }

    fn describe_rows(&mut self, prepared: &Prepared<S::Statement>, formats: &[Format]) {
        match &prepared.shape.result {
            Some(schema) => self.put(&row_description(schema, formats)),
            None => self.put(&NoData::new()),
        }
    }

    pub async fn execute(&mut self, name: &str, max_rows: u32) -> Result<(), Fault> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        // A portal that fails, or is cancelled, is gone: so is its transaction.
        let state = std::mem::replace(&mut portal.state, PortalState::Done);
        portal.state = match state {
            PortalState::Ready => self.start(&mut portal, max_rows).await?,
            PortalState::Running(rows) => self.fetch(rows, max_rows).await?,
            PortalState::Exhausted(tag) => {
                self.put(&CommandComplete::new(tag.render(0)));
                PortalState::Exhausted(tag)
            }
            PortalState::Done => {
                return Err(PgError::new(
                    SqlState::ObjectNotInPrerequisiteState,
                    format!("portal \"{name}\" cannot be run"),
                )
                .into());
            }
        };
        // A command may have ended the transaction that its own portal belonged to.
        if self.session.transaction_status() != TransactionStatus::Failed {
            self.portals.insert(name.to_string(), portal);
        }
        Ok(())
    }

    /// Runs a portal for the first time.
    async fn start(
        &mut self,
        portal: &mut Portal<S::Statement>,
        max_rows: u32,
    ) -> Result<PortalState, Fault> {
        let Some(statement) = &portal.prepared.statement else {
            self.put(&EmptyQueryResponse::new());
            return Ok(PortalState::Ready);
        };
        let is_alone = !self.has_executed && self.link.next_tag().await? == Some(SYNC);
        self.has_executed = true;
        if !is_alone {
            self.session.begin_implicit();
        }
        let execution = self
            .link
            .guard(self.session.execute(statement, &portal.parameters))
            .await??;
        match execution {
            Execution::Command { tag } => {
                self.complete(tag);
                Ok(PortalState::Done)
            }
            Execution::CopyIn { columns, is_binary } => {
                let tag = self.copy_in(columns, is_binary).await?;
                self.complete(tag);
                Ok(PortalState::Done)
            }
            Execution::CopyOut { stream, options } => {
                let tag =
                    copy_out(&mut self.link, stream, &options, &self.session.time_zone()).await?;
                self.complete(tag);
                Ok(PortalState::Done)
            }
            Execution::Rows { stream, tag } => {
                let zone = self.session.time_zone();
                let rows = RowSource::new(stream, tag, portal.formats.clone(), zone);
                check_shape(&portal.prepared.shape, &rows)?;
                self.fetch(Box::new(rows), max_rows).await
            }
        }
    }

    async fn fetch(
        &mut self,
        mut rows: Box<RowSource>,
        max_rows: u32,
    ) -> Result<PortalState, Fault> {
        let limit = Some(u64::from(max_rows)).filter(|limit| *limit > 0);
        match rows.pump(&mut self.link, limit).await? {
            PumpEnd::Complete { rows: n } => {
                self.complete(rows.tag.render(n));
                Ok(PortalState::Exhausted(rows.tag))
            }
            PumpEnd::Suspended { .. } => {
                self.put_notices();
                self.put(&PortalSuspended::new());
                Ok(PortalState::Running(rows))
            }
        }
    }

    fn complete(&mut self, tag: String) {
        self.put_notices();
        self.put(&CommandComplete::new(tag));
    }

    /// Closing what does not exist is no error.
    pub fn close_target(&mut self, target: Target) -> Result<(), Fault> {
        match target {
            Target::Statement(name) => {
                if self.statements.remove(&name).is_some() && !name.is_empty() {
                    self.session.statement_closed(&name);
                }
            }
            Target::Portal(name) => drop(self.portals.remove(&name)),
        }
        self.put(&CloseComplete::new());
        Ok(())
    }

    fn prepared(&self, name: &str) -> Result<&Arc<Prepared<S::Statement>>, PgError> {
        self.statements.get(name).ok_or_else(|| {
            let message = match name {
                "" => "unnamed prepared statement does not exist".to_string(),
                name => format!("prepared statement \"{name}\" does not exist"),
            };
            PgError::new(SqlState::InvalidSqlStatementName, message)
        })
    }
}

fn violation(message: String) -> PgError {
    PgError::new(SqlState::ProtocolViolation, message)
}

fn no_portal(name: &str) -> PgError {
    PgError::new(
        SqlState::InvalidCursorName,
        format!("portal \"{name}\" does not exist"),
    )
}

/// One format per value, from none (all text), one (for all) or as many as there are values; `None` for any other
/// number.
fn spread_formats(codes: &[i16], values: usize) -> Option<Result<Vec<Format>, PgError>> {
    let spread = match codes {
        [] => vec![0; values],
        [one] => vec![*one; values],
        codes if codes.len() == values => codes.to_vec(),
        _ => return None,
    };
    Some(spread.into_iter().map(format_of).collect())
}

fn format_of(code: i16) -> Result<Format, PgError> {
    match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(PgError::new(
            SqlState::InvalidParameterValue,
            format!("unsupported format code: {other}"),
        )),
    }
}

/// The client reads rows by the description it was given: they must not have changed since.
fn check_shape(shape: &StatementShape, rows: &RowSource) -> Result<(), PgError> {
    let schema = rows.schema();
    let types = |schema: &arrow::datatypes::Schema| -> Vec<u32> {
        schema
            .fields()
            .iter()
            .map(|f| PgType::of_field(f).oid())
            .collect()
    };
    match &shape.result {
        Some(described) if types(described) == types(&schema) => Ok(()),
        _ => Err(PgError::new(
            SqlState::FeatureNotSupported,
            "cached plan must not change result type",
        )),
    }
}
