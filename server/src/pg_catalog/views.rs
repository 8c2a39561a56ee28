//! Live relations of pg_catalog that are about the whole server, or that PostgreSQL makes views over `pg_class`.

use rivermark_planner::catalog::{Catalog, ObjectKind};
use rivermark_planner::security::{BOOTSTRAP, GrantTarget};

use super::indexes::{has_index, indexes};
use super::oids;
use super::relations::{self, SystemRelation};
use super::roles;
use crate::catalog::{DATABASE_NAME, SYSTEM_SCHEMAS};
use crate::rows::ColumnType::{Bool, Int4, Int8, Oid, Text, TextArray, Timestamptz};
use crate::rows::{Cell, Column, Rows};
use crate::sessions::SessionRow;
use crate::settings::Settings;

const NAMESPACE: &[Column] = &[
    ("oid", Oid),
    ("nspname", Text),
    ("nspowner", Oid),
    ("nspacl", TextArray),
];

pub fn pg_namespace(catalog: &Catalog, user: &str) -> Rows {
    let mut rows = Rows::new(NAMESPACE);
    let own = catalog.schemas().iter().map(String::as_str);
    for name in SYSTEM_SCHEMAS.iter().copied().chain(own) {
        rows.push(vec![
            oids::schema(name).into(),
            name.into(),
            roles::schema_owner_oid(name, catalog).into(),
            roles::acl(
                catalog,
                &GrantTarget::Schema(name.to_string()),
                catalog.security.schema_owner(name),
                user,
            ),
        ]);
    }
    rows
}

const DATABASE: &[Column] = &[
    ("oid", Oid),
    ("datname", Text),
    ("datdba", Oid),
    ("encoding", Int4),
    ("datlocprovider", Text),
    ("datistemplate", Bool),
    ("datallowconn", Bool),
    ("datconnlimit", Int4),
    ("datfrozenxid", Int4),
    ("datminmxid", Int4),
    ("dattablespace", Oid),
    ("datcollate", Text),
    ("datctype", Text),
    ("daticulocale", Text),
    ("datcollversion", Text),
    ("datacl", TextArray),
];

pub fn pg_database(catalog: &Catalog, user: &str) -> Rows {
    const UTF8: i64 = 6;
    /// PostgreSQL's oid of the tablespace `pg_default`.
    const PG_DEFAULT: i64 = 1663;
    let mut rows = Rows::new(DATABASE);
    rows.push_named(&[
        ("oid", oids::DATABASE.into()),
        ("datname", DATABASE_NAME.into()),
        ("datdba", oids::OWNER.into()),
        ("encoding", UTF8.into()),
        ("datlocprovider", "c".into()),
        ("datallowconn", true.into()),
        ("datconnlimit", Cell::Int(-1)),
        ("dattablespace", PG_DEFAULT.into()),
        ("datcollate", "C".into()),
        ("datctype", "C".into()),
        ("daticulocale", Cell::Null),
        ("datcollversion", Cell::Null),
        (
            "datacl",
            roles::acl(catalog, &GrantTarget::Database, BOOTSTRAP, user),
        ),
    ]);
    rows
}

const COLLATION: &[Column] = &[
    ("oid", Oid),
    ("collname", Text),
    ("collnamespace", Oid),
    ("collowner", Oid),
    ("collprovider", Text),
    ("collisdeterministic", Bool),
    ("collencoding", Int4),
    ("collcollate", Text),
    ("collctype", Text),
    ("colliculocale", Text),
    ("collversion", Text),
];

/// All of them mean the same here: text compares byte by byte.
pub fn pg_collation() -> Rows {
    let mut rows = Rows::new(COLLATION);
    for (oid, name, provider) in [(100, "default", "d"), (950, "C", "c"), (951, "POSIX", "c")] {
        let locale: Cell = (provider == "c").then_some(name).into();
        rows.push_named(&[
            ("oid", Cell::Int(oid)),
            ("collname", name.into()),
            ("collnamespace", oids::PG_CATALOG.into()),
            ("collowner", oids::OWNER.into()),
            ("collprovider", provider.into()),
            ("collisdeterministic", true.into()),
            ("collencoding", Cell::Int(-1)),
            ("collcollate", locale.clone()),
            ("collctype", locale),
            ("colliculocale", Cell::Null),
            ("collversion", Cell::Null),
        ]);
    }
    rows
}

const TABLES: &[Column] = &[
    ("schemaname", Text),
    ("tablename", Text),
    ("tableowner", Text),
    ("tablespace", Text),
    ("hasindexes", Bool),
    ("hasrules", Bool),
    ("hastriggers", Bool),
    ("rowsecurity", Bool),
];

pub fn pg_tables(catalog: &Catalog, system: &[SystemRelation], user: &str) -> Rows {
    let mut rows = Rows::new(TABLES);
    let mut push = |schema: &str, name: &str, owner: String, has_key: bool| {
        rows.push_named(&[
            ("schemaname", schema.into()),
            ("tablename", name.into()),
            ("tableowner", owner.into()),
            ("tablespace", Cell::Null),
            ("hasindexes", has_key.into()),
        ]);
    };
    for relation in system.iter().filter(|r| r.schema == "pg_catalog") {
        let owner = roles::schema_owner(relation.schema, catalog, user);
        push(relation.schema, &relation.name, owner, false);
    }
    for object in catalog.objects().filter(|o| relations::relkind(o) == "r") {
        push(
            &object.name.schema,
            &object.name.name,
            roles::owner(object, catalog, user),
            has_index(catalog, object),
        );
    }
    rows
}

const VIEWS: &[Column] = &[
    ("schemaname", Text),
    ("viewname", Text),
    ("viewowner", Text),
    ("definition", Text),
];

pub fn pg_views(catalog: &Catalog, user: &str) -> Rows {
    let mut rows = Rows::new(VIEWS);
    for object in catalog.objects() {
        let ObjectKind::View(view) = &object.kind else {
            continue;
        };
        let name = &object.name;
        rows.push(vec![
            name.schema.as_str().into(),
            name.name.as_str().into(),
            roles::owner(object, catalog, user).into(),
            view.query.as_str().into(),
        ]);
    }
    rows
}

const MATVIEWS: &[Column] = &[
    ("schemaname", Text),
    ("matviewname", Text),
    ("matviewowner", Text),
    ("tablespace", Text),
    ("hasindexes", Bool),
    ("ispopulated", Bool),
    ("definition", Text),
];

pub fn pg_matviews(catalog: &Catalog, user: &str) -> Rows {
    let mut rows = Rows::new(MATVIEWS);
    for object in catalog.objects() {
        let ObjectKind::MaterializedView(view) = &object.kind else {
            continue;
        };
        rows.push(vec![
            object.name.schema.as_str().into(),
            object.name.name.as_str().into(),
            roles::owner(object, catalog, user).into(),
            Cell::Null,
            has_index(catalog, object).into(),
            true.into(),
            view.query.as_str().into(),
        ]);
    }
    rows
}

const INDEXES: &[Column] = &[
    ("schemaname", Text),
    ("tablename", Text),
    ("indexname", Text),
    ("tablespace", Text),
    ("indexdef", Text),
];

pub fn pg_indexes(catalog: &Catalog) -> Rows {
    let mut rows = Rows::new(INDEXES);
    for index in indexes(catalog) {
        rows.push(vec![
            index.schema.into(),
            index.relation.name.name.as_str().into(),
            index.name.as_str().into(),
            Cell::Null,
            index.definition(0).into(),
        ]);
    }
    rows
}

const SETTINGS: &[Column] = &[
    ("name", Text),
    ("setting", Text),
    ("unit", Text),
    ("category", Text),
    ("short_desc", Text),
    ("extra_desc", Text),
    ("context", Text),
    ("vartype", Text),
    ("source", Text),
    ("min_val", Text),
    ("max_val", Text),
    ("enumvals", TextArray),
    ("boot_val", Text),
    ("reset_val", Text),
    ("sourcefile", Text),
    ("sourceline", Int4),
    ("pending_restart", Bool),
];

pub fn pg_settings(settings: &Settings) -> Rows {
    let mut rows = Rows::new(SETTINGS);
    for (name, value, description) in settings.all() {
        rows.push_named(&[
            ("name", name.into()),
            ("setting", value.as_str().into()),
            ("unit", Cell::Null),
            ("category", "Rivermark".into()),
            ("short_desc", description.into()),
            ("extra_desc", Cell::Null),
            ("context", "user".into()),
            ("vartype", "string".into()),
            ("source", "session".into()),
            ("min_val", Cell::Null),
            ("max_val", Cell::Null),
            ("boot_val", value.as_str().into()),
            ("reset_val", value.into()),
            ("sourcefile", Cell::Null),
            ("sourceline", Cell::Null),
        ]);
    }
    rows
}

const STAT_ACTIVITY: &[Column] = &[
    ("datid", Oid),
    ("datname", Text),
    ("pid", Int4),
    ("leader_pid", Int4),
    ("usesysid", Oid),
    ("usename", Text),
    ("application_name", Text),
    ("client_addr", Text),
    ("client_hostname", Text),
    ("client_port", Int4),
    ("backend_start", Timestamptz),
    ("xact_start", Timestamptz),
    ("query_start", Timestamptz),
    ("state_change", Timestamptz),
    ("wait_event_type", Text),
    ("wait_event", Text),
    ("state", Text),
    ("backend_xid", Int8),
    ("backend_xmin", Int8),
    ("query_id", Int8),
    ("query", Text),
    ("backend_type", Text),
];

pub fn pg_stat_activity(sessions: &[SessionRow]) -> Rows {
    let mut rows = Rows::new(STAT_ACTIVITY);
    for session in sessions {
        rows.push_named(&[
            ("datid", oids::DATABASE.into()),
            ("datname", DATABASE_NAME.into()),
            ("pid", session.pid.into()),
            ("leader_pid", Cell::Null),
            ("usesysid", oids::OWNER.into()),
            ("usename", session.user.as_str().into()),
            ("application_name", session.application_name.as_str().into()),
            (
                "client_addr",
                session.peer.map(|p| p.ip().to_string()).into(),
            ),
            ("client_hostname", Cell::Null),
            (
                "client_port",
                session.peer.map(|p| i32::from(p.port())).into(),
            ),
            ("backend_start", session.connected_at_us.into()),
            ("query_start", session.statement_at_us.into()),
            ("state_change", session.statement_at_us.into()),
            ("wait_event_type", Cell::Null),
            ("wait_event", Cell::Null),
            ("state", session.state.into()),
            ("backend_xid", Cell::Null),
            ("backend_xmin", Cell::Null),
            ("query_id", Cell::Null),
            ("query", session.statement.as_str().into()),
            ("backend_type", "client backend".into()),
        ]);
    }
    rows
}

const FOREIGN_SERVER: &[Column] = &[
    ("oid", Oid),
    ("srvname", Text),
    ("srvowner", Oid),
    ("srvfdw", Oid),
    ("srvtype", Text),
    ("srvversion", Text),
    ("srvacl", TextArray),
    ("srvoptions", TextArray),
];

/// Sources are shown as foreign tables of one server.
pub fn pg_foreign_server() -> Rows {
    let mut rows = Rows::new(FOREIGN_SERVER);
    rows.push_named(&[
        ("oid", oids::SOURCE_SERVER.into()),
        ("srvname", "sources".into()),
        ("srvowner", oids::OWNER.into()),
        ("srvfdw", oids::SOURCE_WRAPPER.into()),
        ("srvtype", Cell::Null),
        ("srvversion", Cell::Null),
    ]);
    rows
}

const FOREIGN_DATA_WRAPPER: &[Column] = &[
    ("oid", Oid),
    ("fdwname", Text),
    ("fdwowner", Oid),
    ("fdwhandler", Oid),
    ("fdwvalidator", Oid),
    ("fdwacl", TextArray),
    ("fdwoptions", TextArray),
];

pub fn pg_foreign_data_wrapper() -> Rows {
    let mut rows = Rows::new(FOREIGN_DATA_WRAPPER);
    rows.push_named(&[
        ("oid", oids::SOURCE_WRAPPER.into()),
        ("fdwname", "rivermark".into()),
        ("fdwowner", oids::OWNER.into()),
    ]);
    rows
}
