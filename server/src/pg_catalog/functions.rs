//! PostgreSQL's system functions: about the session, about objects, and those that only have to exist.
//!
//! They take arguments of any type (clients pass oids as text, numbers or untyped literals) and read them as needed.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use rivermark_planner::Catalog;
use rivermark_planner::catalog::QualifiedName;
use rivermark_planner::types::SqlType;

use super::function_registry::{Arguments, Registry, text_array};
use super::indexes::{find_index, index};
use super::{array_functions, definitions, oids, reg, roles, signals, sleep};
use crate::catalog::{DATABASE_NAME, SYSTEM_SCHEMAS, VERSION_TEXT};
use crate::pg_error::PgError;
use crate::rows::Cell;
use crate::sessions::SessionShared;
use crate::sqlstate::SqlState;

/// `pg_typeof(any)`: the argument's type as `format_type` spells it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf {
    signature: Signature,
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = match args.arg_fields.first() {
            Some(field) if *field.data_type() == DataType::Null => "unknown".to_string(),
            Some(field) => SqlType::of_field(field).base_name(),
            None => {
                return Err(DataFusionError::Internal(
                    "pg_typeof takes one argument".to_string(),
                ));
            }
        };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))))
    }
}

/// The functions of one session.
pub fn functions(session: &Arc<SessionShared>) -> Vec<ScalarUDF> {
    let mut registry = Registry {
        session: session.pid,
        functions: Vec::new(),
    };
    session_functions(&mut registry, session);
    setting_functions(&mut registry, session);
    object_functions(&mut registry, session);
    name_functions(&mut registry, session);
    reg_functions(&mut registry, session);
    presence_functions(&mut registry);
    roles::privilege_functions(&mut registry, session);
    signals::signal_functions(&mut registry, session);
    registry.functions.extend(array_functions::functions());
    let type_of = TypeOf {
        signature: Signature::any(1, Volatility::Stable),
    };
    registry.functions.push(ScalarUDF::new_from_impl(type_of));
    registry.functions.push(sleep::function());
    registry.functions
}

fn session_functions(registry: &mut Registry, session: &Arc<SessionShared>) {
    for name in ["current_user", "user", "current_role"] {
        let shared = session.clone();
        registry.text(name, &[0], move |_| Some(shared.shown_role()));
    }
    let user = session.user.clone();
    registry.text("session_user", &[0], move |_| Some(user.clone()));
    for name in ["current_database", "current_catalog"] {
        registry.text(name, &[0], |_| Some(DATABASE_NAME.to_string()));
    }
    let shared = session.clone();
    registry.text("current_schema", &[0], move |_| {
        Some(shared.settings.lock().current_schema())
    });
    registry.text("version", &[0], |_| Some(VERSION_TEXT.to_string()));
    registry.constant(
        &["pg_backend_pid"],
        &[0],
        DataType::Int32,
        session.pid.into(),
    );
    registry.constant(
        &["pg_is_in_recovery"],
        &[0],
        DataType::Boolean,
        false.into(),
    );
    registry.constant(
        &["inet_server_addr", "inet_client_addr"],
        &[0],
        DataType::Utf8,
        Cell::Null,
    );
    registry.constant(
        &["inet_server_port", "inet_client_port"],
        &[0],
        DataType::Int32,
        Cell::Null,
    );
    let shared = session.clone();
    registry.text("pg_get_userbyid", &[1], move |a| {
        let oid = a.int(0)?;
        let name = roles::name(oid, &shared.catalog.read(), &shared.user);
        Some(name.unwrap_or_else(|| format!("unknown (OID={oid})")))
    });
}

fn setting_functions(registry: &mut Registry, session: &Arc<SessionShared>) {
    let shared = session.clone();
    registry.add("current_setting", &[1, 2], DataType::Utf8, move |a| {
        let Some(name) = a.text(0) else {
            return Ok(Cell::Null);
        };
        let missing_is_ok = a.len() == 2 && a.text(1).is_some_and(|t| t == "true");
        match shared.settings.lock().get(&name) {
            Ok(value) => Ok(value.into()),
            Err(_) if missing_is_ok => Ok(Cell::Null),
            Err(error) => Err(DataFusionError::External(Box::new(PgError::from(error)))),
        }
    });
    let shared = session.clone();
    registry.add("set_config", &[3], DataType::Utf8, move |a| {
        let Some(name) = a.text(0) else {
            let error = PgError::new(SqlState::NullValueNotAllowed, "SET requires parameter name");
            return Err(DataFusionError::External(Box::new(error)));
        };
        let value = a.text(1);
        let is_local = a.text(2).is_some_and(|t| t == "true");
        let set = shared
            .settings
            .lock()
            .set(&name, value.as_deref(), is_local);
        set.map(Cell::from)
            .map_err(|error| DataFusionError::External(Box::new(PgError::from(error))))
    });
}

fn object_functions(registry: &mut Registry, session: &Arc<SessionShared>) {
    let catalog = |session: &Arc<SessionShared>| {
        let session = session.clone();
        move || -> Arc<Catalog> { session.catalog.read().clone() }
    };
    let current = catalog(session);
    registry.text("pg_get_viewdef", &[1, 2], move |a| {
        let catalog = current();
        let object = match a.int(0) {
            Some(oid) => oids::object(&catalog, oid),
            None => {
                find_relation(&catalog, &a.text(0)?).and_then(|oid| oids::object(&catalog, oid))
            }
        };
        object.and_then(definitions::view_definition)
    });
    let current = catalog(session);
    registry.text("pg_get_indexdef", &[1, 3], move |a| {
        let catalog = current();
        index(&catalog, a.int(0)?)?.definition(a.int(1).unwrap_or(0))
    });
    let current = catalog(session);
    registry.text("pg_get_constraintdef", &[1, 2], move |a| {
        definitions::constraint_definition(&current(), a.int(0)?)
    });
    // pg_attrdef.adbin holds the text itself
    registry.text("pg_get_expr", &[2, 3], |a| {
        a.text(0).filter(|t| !t.is_empty())
    });
    let current = catalog(session);
    registry.text("obj_description", &[1, 2], move |a| {
        definitions::description(&current(), a.int(0)?, 0)
    });
    let current = catalog(session);
    registry.text("col_description", &[2], move |a| {
        definitions::description(&current(), a.int(0)?, a.int(1)?)
    });
}

fn name_functions(registry: &mut Registry, session: &Arc<SessionShared>) {
    let shared = session.clone();
    registry.add("pg_table_is_visible", &[1], DataType::Boolean, move |a| {
        let Some(oid) = a.int(0) else {
            return Ok(Cell::Null);
        };
        let path = shared.settings.lock().search_path();
        let is_visible = |schema: &str| schema == "pg_catalog" || path.iter().any(|s| s == schema);
        let catalog = shared.catalog.read();
        let object = oids::object(&catalog, oid).or_else(|| oids::keyed_object(&catalog, oid));
        let system = || super::system_relation(oid).is_none_or(|r| is_visible(r.schema));
        Ok(object
            .map_or_else(system, |o| is_visible(&o.name.schema))
            .into())
    });
    registry.text("pg_size_pretty", &[1], |a| a.int(0).map(pretty_size));
    registry.text("pg_encoding_to_char", &[1], |a| {
        a.int(0)
            .map(|n| if n == 6 { "UTF8" } else { "" }.to_string())
    });
    registry.constant(
        &["pg_char_to_encoding"],
        &[1],
        DataType::Int32,
        Cell::Int(6),
    );
    registry.constant(
        &["getdatabaseencoding"],
        &[0],
        DataType::Utf8,
        "UTF8".into(),
    );
}

/// Casts to types that stand for oids: see `rewrite`.
fn reg_functions(registry: &mut Registry, session: &Arc<SessionShared>) {
    let kinds = [
        ("to_regclass", "regclass"),
        ("to_regnamespace", "regnamespace"),
        ("to_regproc", "regproc"),
        ("to_regprocedure", "regprocedure"),
        ("to_regrole", "regrole"),
        ("to_regtype", "regtype"),
    ];
    for (function, kind) in kinds {
        let shared = session.clone();
        registry.add(function, &[1], DataType::Int32, move |a| {
            let oid = |text: String| reg::oid_of(kind, &text, &shared.catalog.read(), &shared.user);
            Ok(a.text(0).and_then(oid).into())
        });
    }
    registry.text("pg_get_function_result", &[1], |a| {
        reg::function_result(a.int(0)?)
    });
    for name in [
        "pg_get_function_arguments",
        "pg_get_function_identity_arguments",
    ] {
        registry.text(name, &[1], |a| reg::function_arguments(a.int(0)?));
    }
    let shared = session.clone();
    registry.add("rm_reg_oid", &[2], DataType::Int32, move |a| {
        Ok(reg_oid(a, &shared)?.map(|(_, oid)| oid).into())
    });
    let shared = session.clone();
    registry.add("rm_reg_name", &[2], DataType::Utf8, move |a| {
        let name = |(kind, oid): (String, i64)| {
            reg::name_of(&kind, oid, &shared.catalog.read(), &shared.user)
        };
        Ok(reg_oid(a, &shared)?.map(name).into())
    });
    let shared = session.clone();
    registry.add("current_schemas", &[1], text_array(), move |a| {
        let mut path = shared.settings.lock().search_path();
        path.retain(|schema| {
            SYSTEM_SCHEMAS.contains(&schema.as_str())
                || shared.catalog.read().schemas().contains(schema)
        });
        let has_implicit = a.text(0).as_deref() == Some("true");
        if has_implicit && !path.iter().any(|schema| schema == "pg_catalog") {
            path.insert(0, "pg_catalog".to_string());
        }
        Ok(Cell::Texts(path))
    });
}

/// The kind and oid that `rm_reg_…(kind, value)` is called with; an error for a name that nothing has.
fn reg_oid(a: &Arguments, session: &SessionShared) -> Result<Option<(String, i64)>> {
    let (Some(kind), Some(text)) = (a.text(0), a.text(1)) else {
        return Ok(None);
    };
    match reg::oid_of(&kind, &text, &session.catalog.read(), &session.user) {
        Some(oid) => Ok(Some((kind, oid))),
        None => Err(DataFusionError::External(Box::new(reg::unknown(
            &kind, &text,
        )))),
    }
}

/// Everything of these kinds is in pg_catalog.
const ALWAYS_VISIBLE: &[&str] = &[
    "pg_type_is_visible",
    "pg_function_is_visible",
    "pg_operator_is_visible",
    "pg_opclass_is_visible",
    "pg_opfamily_is_visible",
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible",
    "pg_relation_is_updatable",
];

/// Privileges that everyone has here.
const PRIVILEGES: &[&str] = &[
    "has_function_privilege",
    "has_server_privilege",
    "has_type_privilege",
    "has_tablespace_privilege",
    "has_foreign_data_wrapper_privilege",
    "has_language_privilege",
];

/// What these describe does not exist here.
const NOTHING_TO_SAY: &[&str] = &[
    "shobj_description",
    "pg_get_function_sqlbody",
    "pg_get_functiondef",
    "pg_get_triggerdef",
    "pg_get_ruledef",
    "pg_get_partition_constraintdef",
    "pg_get_partkeydef",
    "pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_serial_sequence",
    "pg_tablespace_location",
];

/// Functions that must exist, with the one answer that is right here.
fn presence_functions(registry: &mut Registry) {
    registry.constant(ALWAYS_VISIBLE, &[1, 2], DataType::Boolean, true.into());
    registry.constant(PRIVILEGES, &[2, 3, 4], DataType::Boolean, true.into());
    registry.constant(
        &["pg_relation_is_publishable"],
        &[1],
        DataType::Boolean,
        false.into(),
    );
    let sizes = [
        "pg_table_size",
        "pg_relation_size",
        "pg_total_relation_size",
        "pg_indexes_size",
    ];
    registry.constant(&sizes, &[1, 2], DataType::Int64, 0.into());
    registry.constant(
        &["pg_database_size", "pg_tablespace_size"],
        &[1],
        DataType::Int64,
        0.into(),
    );
    registry.constant(NOTHING_TO_SAY, &[1, 2], DataType::Utf8, Cell::Null);
    registry.constant(&["pg_stat_get_numscans"], &[1], DataType::Int32, Cell::Null);
    registry.constant(
        &["txid_current", "pg_current_xact_id"],
        &[0],
        DataType::Int64,
        1.into(),
    );
    registry.constant(
        &["pg_advisory_unlock", "pg_try_advisory_lock"],
        &[1, 2],
        DataType::Boolean,
        true.into(),
    );
    registry.constant(&["pg_advisory_unlock_all"], &[0], DataType::Utf8, "".into());
}

/// The oid of the relation that a `regclass` text names.
pub fn find_relation(catalog: &Catalog, text: &str) -> Option<i64> {
    if let Ok(oid) = text.parse::<i64>() {
        return Some(oid);
    }
    let unquote = |part: &str| match part.strip_prefix('"').and_then(|p| p.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => part.to_lowercase(),
    };
    let (schema, name) = match text.split_once('.') {
        Some((schema, name)) => (Some(unquote(schema)), unquote(name)),
        None => (None, unquote(text)),
    };
    if let Some(oid) = reg::system_relation_oid(schema.as_deref(), &name) {
        return Some(oid);
    }
    let schema = schema.unwrap_or_else(|| "public".to_string());
    let created = catalog.find(&QualifiedName {
        schema: schema.clone(),
        name: name.clone(),
    });
    created
        .map(|o| oids::relation(o.id))
        .or_else(|| find_index(catalog, &schema, &name).map(|index| index.oid))
}

/// Bytes as PostgreSQL's `pg_size_pretty` prints them.
fn pretty_size(bytes: i64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut size = bytes;
    let mut unit = 0;
    while size.unsigned_abs() >= 10 * 1024 && unit + 1 < units.len() {
        size = (size + 512) / 1024;
        unit += 1;
    }
    format!("{size} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_as_postgres_does() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (8192, "8192 bytes"),
            (16_384, "16 kB"),
            (20 << 20, "20 MB"),
        ] {
            assert_eq!(pretty_size(bytes), text);
        }
    }
}
