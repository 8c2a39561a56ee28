//! Types that stand for oids and are written as names: `regclass`, `regtype`, `regproc` and their kin, both ways.

use rivermark_planner::Catalog;
use rivermark_planner::identifier::quote_ident;

use super::definitions::relation_name;
use super::functions::find_relation;
use super::static_tables::{FUNCTIONS, SIGNATURES, TYPES};
use super::{oids, system_relations};
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// Names that SQL has for types, by `pg_type.typname`.
const SQL_TYPES: &[(&str, &str)] = &[
    ("bigint", "int8"),
    ("bit varying", "varbit"),
    ("boolean", "bool"),
    ("character", "bpchar"),
    ("character varying", "varchar"),
    ("double precision", "float8"),
    ("integer", "int4"),
    ("numeric", "numeric"),
    ("real", "float4"),
    ("smallint", "int2"),
    ("time with time zone", "timetz"),
    ("time without time zone", "time"),
    ("timestamp with time zone", "timestamptz"),
    ("timestamp without time zone", "timestamp"),
];

/// Other spellings of them.
const SPELLINGS: &[(&str, &str)] = &[
    ("char", "bpchar"),
    ("dec", "numeric"),
    ("decimal", "numeric"),
    ("float", "float8"),
    ("int", "int4"),
];

/// The oid behind a text or number of a type such as `regclass`; 0 is written `-`.
pub fn oid_of(kind: &str, text: &str, catalog: &Catalog, user: &str) -> Option<i64> {
    if text == "-" {
        return Some(0);
    }
    if let Ok(oid) = text.parse() {
        return Some(oid);
    }
    match kind {
        "regclass" => find_relation(catalog, text),
        "regtype" => type_oid(text),
        "regproc" | "regprocedure" => {
            let name = text.split('(').next().unwrap_or(text);
            FUNCTIONS.oid(&unqualified(name))
        }
        "regnamespace" => {
            let name = unquoted(text);
            let is_known = crate::catalog::SYSTEM_SCHEMAS.contains(&name.as_str())
                || catalog.schemas().contains(&name);
            is_known.then(|| oids::schema(&name))
        }
        "regrole" => super::roles::oid(&unquoted(text), catalog, user),
        "regcollation" => match unqualified(text).as_str() {
            "default" => Some(100),
            "C" | "c" => Some(950),
            "POSIX" | "posix" => Some(951),
            _ => None,
        },
        _ => None,
    }
}

/// What PostgreSQL prints for an oid of a type such as `regclass`.
pub fn name_of(kind: &str, oid: i64, catalog: &Catalog, user: &str) -> String {
    if oid == 0 {
        return "-".to_string();
    }
    let name = match kind {
        "regclass" => relation_name(catalog, oid),
        "regtype" => type_name(oid),
        "regproc" | "regprocedure" => FUNCTIONS.name(oid).map(str::to_string),
        "regnamespace" => {
            let own = catalog.schemas().iter().map(String::as_str);
            let mut all = crate::catalog::SYSTEM_SCHEMAS.iter().copied().chain(own);
            all.find(|name| oids::schema(name) == oid)
                .map(|name| quote_ident(name).into_owned())
        }
        "regrole" => {
            super::roles::name(oid, catalog, user).map(|name| quote_ident(&name).into_owned())
        }
        "regcollation" => match oid {
            100 => Some("\"default\"".to_string()),
            950 => Some("\"C\"".to_string()),
            951 => Some("\"POSIX\"".to_string()),
            _ => None,
        },
        _ => None,
    };
    name.unwrap_or_else(|| oid.to_string())
}

/// A function's result, as `\df` prints it.
pub fn function_result(oid: i64) -> Option<String> {
    let signature = SIGNATURES.get(&oid)?;
    let name = type_name(signature.result)?;
    Some(match signature.gives_rows {
        true => format!("SETOF {name}"),
        false => name,
    })
}

/// A function's arguments, as `\df` prints them.
pub fn function_arguments(oid: i64) -> Option<String> {
    let arguments = SIGNATURES.get(&oid)?.arguments.iter();
    let names: Option<Vec<String>> = arguments.map(|oid| type_name(*oid)).collect();
    Some(names?.join(", "))
}

/// The error for a name that is none of that kind.
pub fn unknown(kind: &str, text: &str) -> PgError {
    let (state, what) = match kind {
        "regclass" => (SqlState::UndefinedTable, "relation"),
        "regproc" | "regprocedure" => (SqlState::UndefinedFunction, "function"),
        "regnamespace" => (SqlState::InvalidSchemaName, "schema"),
        "regrole" => (SqlState::UndefinedObject, "role"),
        "regtype" => (SqlState::UndefinedObject, "type"),
        "regcollation" => (SqlState::UndefinedObject, "collation"),
        _ => (SqlState::UndefinedObject, "object"),
    };
    PgError::new(state, format!("{what} \"{text}\" does not exist"))
}

fn type_oid(text: &str) -> Option<i64> {
    let (element, is_array) = match text.trim().strip_suffix("[]") {
        Some(element) => (element, true),
        None => (text.trim(), false),
    };
    // numeric(10,2), timestamp(3) with time zone: the modifier is no part of the type
    let plain = match (element.find('('), element.find(')')) {
        (Some(open), Some(close)) if open < close => {
            format!("{}{}", element[..open].trim_end(), &element[close + 1..])
        }
        _ => element.to_string(),
    };
    let name = unqualified(&plain);
    let name = SQL_TYPES
        .iter()
        .chain(SPELLINGS)
        .find(|(sql, _)| *sql == name)
        .map_or(name.as_str(), |(_, typname)| *typname);
    if is_array {
        return TYPES.oid(&format!("_{name}"));
    }
    TYPES.oid(name)
}

fn type_name(oid: i64) -> Option<String> {
    let name = TYPES.name(oid)?;
    let (name, suffix) = match name.strip_prefix('_') {
        Some(element) => (element, "[]"),
        None => (name, ""),
    };
    let shown = SQL_TYPES.iter().find(|(_, typname)| *typname == name);
    let shown = match shown {
        Some((sql, _)) => (*sql).to_string(),
        None => quote_ident(name).into_owned(),
    };
    Some(format!("{shown}{suffix}"))
}

/// A name without its schema, folded as SQL folds it.
fn unqualified(text: &str) -> String {
    let text = text.trim();
    let plain = text.strip_prefix("pg_catalog.").unwrap_or(text);
    unquoted(plain)
}

fn unquoted(text: &str) -> String {
    match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => text.to_lowercase(),
    }
}

/// The oid of a relation that the server itself provides; a name without a schema is looked up in pg_catalog.
pub fn system_relation_oid(schema: Option<&str>, name: &str) -> Option<i64> {
    let schema = schema.unwrap_or("pg_catalog");
    system_relations()
        .iter()
        .enumerate()
        .find(|(_, relation)| relation.schema == schema && relation.name == name)
        .map(|(position, relation)| relation.oid(position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_all_their_names() {
        let catalog = Catalog::new();
        for (text, oid, shown) in [
            ("int4", 23, "integer"),
            ("integer", 23, "integer"),
            ("pg_catalog.text", 25, "text"),
            ("numeric(10,2)", 1700, "numeric"),
            (
                "timestamp(3) with time zone",
                1184,
                "timestamp with time zone",
            ),
            ("_int4", 1007, "integer[]"),
            ("integer[]", 1007, "integer[]"),
        ] {
            assert_eq!(oid_of("regtype", text, &catalog, "me"), Some(oid), "{text}");
            assert_eq!(name_of("regtype", oid, &catalog, "me"), shown);
        }
        assert_eq!(oid_of("regtype", "mood", &catalog, "me"), None);
        assert_eq!(oid_of("regproc", "lower", &catalog, "me"), Some(870));
        assert_eq!(oid_of("regclass", "pg_class", &catalog, "me"), Some(1259));
        assert_eq!(oid_of("regclass", "-", &catalog, "me"), Some(0));
        assert_eq!(name_of("regproc", 0, &catalog, "me"), "-");
    }
}
