//! The one list of connectors, and the checks a source's definition passes before it exists.

use std::sync::Arc;

use rivermark_executor::source::{ConnectorFactory, Source, SourceError};
use rivermark_planner::catalog::{ColumnDef, Include, SourceDef};
use rivermark_planner::types::SqlType;
use rivermark_planner::watermark::WatermarkOptions;

use crate::options::{OptionSet, invalid};
use crate::{datagen, kafka};

type BuildSource = fn(&str, &SourceDef) -> Result<Arc<dyn Source>, SourceError>;

/// A kind of source.
struct Connector {
    name: &'static str,
    options: OptionSet,
    /// Checks what is particular to the connector and makes the source.
    build: BuildSource,
    /// The message metadata it has.
    supports: fn(&Include) -> bool,
}

const CONNECTORS: &[Connector] = &[
    Connector {
        name: "kafka",
        options: kafka::config::WITH_OPTIONS,
        build: kafka::source::build,
        supports: |_| true,
    },
    Connector {
        name: "datagen",
        options: datagen::WITH_OPTIONS,
        build: datagen::build,
        supports: |include| match include {
            Include::Partition | Include::Offset | Include::Timestamp => true,
            Include::Key | Include::Headers | Include::Header(_) | Include::Payload => false,
        },
    },
];

/// Makes sources of every connector that Rivermark has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Registry;

impl ConnectorFactory for Registry {
    fn source(&self, name: &str, def: &SourceDef) -> Result<Arc<dyn Source>, SourceError> {
        let connector = find_connector(def)?;
        connector.options.check(&def.options)?;
        WatermarkOptions::of(&def.options).map_err(|error| invalid(error.to_string()))?;
        for column in def.physical_columns() {
            if let Some(include) = &column.include {
                if !(connector.supports)(include) {
                    return Err(invalid(format!(
                        "INCLUDE {} is not available with connector = '{}'",
                        include_name(include),
                        connector.name
                    )));
                }
                check_include(column, include)?;
            }
        }
        (connector.build)(name, def)
    }
}

fn find_connector(def: &SourceDef) -> Result<&'static Connector, SourceError> {
    let names = || {
        CONNECTORS
            .iter()
            .map(|c| format!("'{}'", c.name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(wanted) = def.options.get("connector") else {
        return Err(invalid(format!(
            "option \"connector\" is missing in WITH; allowed are: {}",
            names()
        )));
    };
    CONNECTORS.iter().find(|c| c.name == wanted).ok_or_else(|| {
        invalid(format!(
            "option \"connector\": '{wanted}' is unknown; allowed are: {}",
            names()
        ))
    })
}

/// An INCLUDE column has a type that its metadata fits.
fn check_include(column: &ColumnDef, include: &Include) -> Result<(), SourceError> {
    let t = &column.data_type;
    let (is_suitable, suitable) = match include {
        Include::Key | Include::Payload => (
            matches!(t, SqlType::Text { .. } | SqlType::Bytea),
            "text or bytea",
        ),
        Include::Header(_) => (
            matches!(t, SqlType::Text { .. } | SqlType::Bytea),
            "bytea or text",
        ),
        Include::Partition => (
            matches!(t, SqlType::Integer | SqlType::BigInt),
            "integer or bigint",
        ),
        Include::Offset => (*t == SqlType::BigInt, "bigint"),
        Include::Timestamp => (
            matches!(t, SqlType::Timestamptz | SqlType::Timestamp),
            "timestamp with time zone",
        ),
        Include::Headers => (is_header_list(t), "struct<key text, value bytea>[]"),
    };
    if is_suitable {
        return Ok(());
    }
    Err(invalid(format!(
        "INCLUDE {} AS \"{}\" takes a column of type {suitable}, not {t}",
        include_name(include),
        column.name
    )))
}

fn is_header_list(t: &SqlType) -> bool {
    let SqlType::Array(element) = t else {
        return false;
    };
    let SqlType::Struct(fields) = element.as_ref() else {
        return false;
    };
    matches!(
        fields.as_slice(),
        [(_, SqlType::Text { .. }), (_, SqlType::Bytea)]
    )
}

fn include_name(include: &Include) -> &'static str {
    match include {
        Include::Key => "key",
        Include::Partition => "partition",
        Include::Offset => "offset",
        Include::Timestamp => "timestamp",
        Include::Headers | Include::Header(_) => "header",
        Include::Payload => "payload",
    }
}
