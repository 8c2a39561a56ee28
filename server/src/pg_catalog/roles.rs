//! Roles and privileges as clients see them: `pg_roles` and its kin, `aclitem`s, and `has_table_privilege` and its kin.

use std::sync::Arc;

use arrow::datatypes::DataType;
use rivermark_planner::Catalog;
use rivermark_planner::catalog::Object;
use rivermark_planner::security::{
    BOOTSTRAP, BOOTSTRAP_OID, Grant, GrantTarget, Grantee, Privilege, Role, Security,
};

use super::function_registry::{Arguments, Registry};
use super::functions::find_relation;
use super::oids;
use crate::rows::ColumnType::{Bool, Int4, Oid, Text, TextArray, Timestamptz};
use crate::rows::{Cell, Column, Rows};
use crate::sessions::SessionShared;

/// All roles. A trusted user who is no role stands for the server's own superuser.
pub fn roles(catalog: &Catalog, user: &str) -> Vec<Role> {
    let mut roles = catalog.security.roles();
    if catalog.security.role(user).is_none() {
        for role in roles.iter_mut().filter(|r| r.oid == BOOTSTRAP_OID) {
            role.name = user.to_string();
        }
    }
    roles
}

/// A role's name as the session knows it.
fn shown(role: &str, catalog: &Catalog, user: &str) -> String {
    match role == BOOTSTRAP && catalog.security.role(user).is_none() {
        true => user.to_string(),
        false => role.to_string(),
    }
}

/// Who owns an object.
pub fn owner(object: &Object, catalog: &Catalog, user: &str) -> String {
    shown(catalog.owner(object), catalog, user)
}

pub fn owner_oid(object: &Object, catalog: &Catalog) -> i64 {
    role_oid(catalog.owner(object), catalog)
}

pub fn schema_owner(schema: &str, catalog: &Catalog, user: &str) -> String {
    shown(catalog.security.schema_owner(schema), catalog, user)
}

pub fn schema_owner_oid(schema: &str, catalog: &Catalog) -> i64 {
    role_oid(catalog.security.schema_owner(schema), catalog)
}

fn role_oid(name: &str, catalog: &Catalog) -> i64 {
    let role = catalog.security.role(name);
    role.map_or(oids::OWNER, |role| role.oid.into())
}

pub fn oid(name: &str, catalog: &Catalog, user: &str) -> Option<i64> {
    let role = roles(catalog, user).into_iter().find(|r| r.name == name)?;
    Some(role.oid.into())
}

pub fn name(oid: i64, catalog: &Catalog, user: &str) -> Option<String> {
    let is_it = |role: &Role| i64::from(role.oid) == oid;
    let role = roles(catalog, user).into_iter().find(is_it)?;
    Some(role.name)
}

const ROLES: &[Column] = &[
    ("rolname", Text),
    ("rolsuper", Bool),
    ("rolinherit", Bool),
    ("rolcreaterole", Bool),
    ("rolcreatedb", Bool),
    ("rolcanlogin", Bool),
    ("rolreplication", Bool),
    ("rolconnlimit", Int4),
    ("rolpassword", Text),
    ("rolvaliduntil", Timestamptz),
    ("rolbypassrls", Bool),
    ("rolconfig", TextArray),
    ("oid", Oid),
];

/// `pg_roles` and `pg_authid`; passwords are shown in neither.
pub fn pg_roles(catalog: &Catalog, user: &str) -> Rows {
    let mut rows = Rows::new(ROLES);
    for role in roles(catalog, user) {
        rows.push_named(&[
            ("rolname", role.name.as_str().into()),
            ("rolsuper", role.is_superuser.into()),
            ("rolinherit", true.into()),
            ("rolcreaterole", role.is_superuser.into()),
            ("rolcreatedb", role.is_superuser.into()),
            ("rolcanlogin", role.can_login.into()),
            ("rolconnlimit", limit(&role)),
            ("rolpassword", "********".into()),
            ("rolvaliduntil", role.valid_until_us.into()),
            ("rolbypassrls", role.is_superuser.into()),
            ("oid", Cell::Int(role.oid.into())),
        ]);
    }
    rows
}

fn limit(role: &Role) -> Cell {
    Cell::Int(role.connection_limit.map_or(-1, i64::from))
}

const USERS: &[Column] = &[
    ("usename", Text),
    ("usesysid", Oid),
    ("usecreatedb", Bool),
    ("usesuper", Bool),
    ("userepl", Bool),
    ("usebypassrls", Bool),
    ("passwd", Text),
    ("valuntil", Timestamptz),
    ("useconfig", TextArray),
];

/// `pg_user` and `pg_shadow`: roles that can log in.
pub fn pg_user(catalog: &Catalog, user: &str) -> Rows {
    let mut rows = Rows::new(USERS);
    for role in roles(catalog, user).into_iter().filter(|r| r.can_login) {
        rows.push_named(&[
            ("usename", role.name.as_str().into()),
            ("usesysid", Cell::Int(role.oid.into())),
            ("usecreatedb", role.is_superuser.into()),
            ("usesuper", role.is_superuser.into()),
            ("usebypassrls", role.is_superuser.into()),
            ("passwd", "********".into()),
            ("valuntil", role.valid_until_us.into()),
        ]);
    }
    rows
}

/// The `aclitem`s of a relation, a schema or the database; NULL while there is nothing but what everyone starts with.
pub fn acl(catalog: &Catalog, target: &GrantTarget, owner: &str, user: &str) -> Cell {
    let of_target: Vec<_> = granted_on(catalog, target).collect();
    let is_untouched = match target {
        GrantTarget::Database => {
            let first = Security::default();
            let mut first = first.grants().iter().filter(|g| g.target == *target);
            of_target.len() == 1 && first.next() == of_target.first().copied()
        }
        _ => of_target.is_empty(),
    };
    if is_untouched {
        return Cell::Null;
    }
    let owner = shown(owner, catalog, user);
    let own = format!("{owner}={}/{owner}", letters(target, |_| true));
    let granted = of_target
        .into_iter()
        .map(|grant| aclitem(grant, &owner, catalog, user));
    Cell::Texts(std::iter::once(own).chain(granted).collect())
}

fn granted_on<'a>(
    catalog: &'a Catalog,
    target: &'a GrantTarget,
) -> impl Iterator<Item = &'a Grant> {
    let grants = catalog.security.grants().iter();
    grants.filter(move |grant| grant.target == *target)
}

fn aclitem(grant: &Grant, owner: &str, catalog: &Catalog, user: &str) -> String {
    let grantee = match &grant.grantee {
        Grantee::Public => String::new(),
        Grantee::Role(role) => shown(role, catalog, user),
    };
    let letters = letters(&grant.target, |p| grant.privileges.contains(&p));
    format!("{grantee}={letters}/{owner}")
}

/// The letters of privileges, which stand in this order whatever they are on.
fn letters(target: &GrantTarget, is_granted: impl Fn(Privilege) -> bool) -> String {
    let of = target.privileges();
    let is_there = |letter: &char| of.iter().any(|p| p.letter() == *letter && is_granted(*p));
    "arwdDxtUCcT".chars().filter(is_there).collect()
}

const DEFAULT_ACL: &[Column] = &[
    ("oid", Oid),
    ("defaclrole", Oid),
    ("defaclnamespace", Oid),
    ("defaclobjtype", Text),
    ("defaclacl", TextArray),
];

/// What ALTER DEFAULT PRIVILEGES has said.
pub fn pg_default_acl(catalog: &Catalog, user: &str) -> Rows {
    let mut rows = Rows::new(DEFAULT_ACL);
    let mut shown_targets: Vec<&GrantTarget> = Vec::new();
    for grant in catalog.security.grants() {
        let GrantTarget::Future { creator, schema } = &grant.target else {
            continue;
        };
        if shown_targets.contains(&&grant.target) {
            continue;
        }
        shown_targets.push(&grant.target);
        let owner = shown(creator, catalog, user);
        let items = granted_on(catalog, &grant.target);
        let items = items.map(|grant| aclitem(grant, &owner, catalog, user));
        let number = i64::try_from(shown_targets.len()).unwrap_or(i64::MAX);
        rows.push(vec![
            Cell::Int(FIRST_DEFAULT_ACL + number),
            role_oid(creator, catalog).into(),
            schema
                .as_deref()
                .map_or(Cell::Int(0), |schema| oids::schema(schema).into()),
            "r".into(),
            Cell::Texts(items.collect()),
        ]);
    }
    rows
}

/// Oids of the rows of `pg_default_acl`, to which nothing refers.
const FIRST_DEFAULT_ACL: i64 = 0x5800_0000;

/// Functions that tell whether somebody may do something.
pub fn privilege_functions(registry: &mut Registry, session: &Arc<SessionShared>) {
    type Judge = fn(&Arguments, usize, &Subject) -> Option<bool>;
    // name, how many arguments stand behind the role's, and what tells
    let functions: [(&str, usize, Judge); 7] = [
        ("has_table_privilege", 2, on_relation),
        ("has_any_column_privilege", 2, on_relation),
        ("has_sequence_privilege", 2, on_relation),
        // (relation, column, privilege): a column may be read as its relation may
        ("has_column_privilege", 3, on_relation),
        ("has_schema_privilege", 2, on_schema),
        ("has_database_privilege", 2, on_database),
        ("pg_has_role", 2, of_role),
    ];
    for (name, count, judge) in functions {
        let shared = session.clone();
        registry.add(name, &[count, count + 1], DataType::Boolean, move |a| {
            let at = a.len() - count;
            let subject = Subject::of(a, at, &shared);
            Ok(subject.and_then(|subject| judge(a, at, &subject)).into())
        });
    }
}

/// The role that a function is asked about, in the catalog of the running statement.
struct Subject {
    role: String,
    catalog: Arc<Catalog>,
    user: String,
}

impl Subject {
    /// The role that the first argument names, or the session's own.
    fn of(a: &Arguments, before: usize, session: &SessionShared) -> Option<Subject> {
        let catalog = session.catalog.read().clone();
        let user = session.user.clone();
        let role = match before {
            0 => session.role(&catalog),
            _ => role_named(a, 0, &catalog, &user)?,
        };
        Some(Subject {
            role,
            catalog,
            user,
        })
    }
}

/// The role that an argument names, by its name in the catalog.
fn role_named(a: &Arguments, at: usize, catalog: &Catalog, user: &str) -> Option<String> {
    let named = match a.int(at) {
        Some(oid) => name(oid, catalog, user)?,
        None => a.text(at)?,
    };
    match catalog.security.role(&named) {
        None if named == user => Some(BOOTSTRAP.to_string()),
        _ => Some(named),
    }
}

/// Whether one of the privileges that are listed in the last argument holds.
fn any_of(a: &Arguments, all: &[Privilege], holds: impl Fn(Privilege) -> bool) -> Option<bool> {
    let wanted = a.text(a.len() - 1)?;
    Some(wanted.split(',').any(|word| {
        let word = word.trim();
        let word = word.strip_suffix(" WITH GRANT OPTION").unwrap_or(word);
        let is_it = |p: &&Privilege| {
            p.name().eq_ignore_ascii_case(word)
                || (**p == Privilege::Temporary && word.eq_ignore_ascii_case("temp"))
        };
        all.iter().find(is_it).is_some_and(|p| holds(*p))
    }))
}

fn on_relation(a: &Arguments, at: usize, subject: &Subject) -> Option<bool> {
    let catalog = &subject.catalog;
    let oid = match a.int(at) {
        Some(oid) => oid,
        None => find_relation(catalog, &a.text(at)?)?,
    };
    let object = oids::object(catalog, oid);
    any_of(a, &Privilege::OF_RELATIONS, |privilege| match object {
        Some(object) => catalog.may(&subject.role, privilege, object),
        // relations of the server itself can be read, and by nobody be changed
        None => privilege == Privilege::Select,
    })
}

fn on_schema(a: &Arguments, at: usize, subject: &Subject) -> Option<bool> {
    let catalog = &subject.catalog;
    let own = catalog.schemas().iter().map(String::as_str);
    let mut all = crate::catalog::SYSTEM_SCHEMAS.iter().copied().chain(own);
    let schema = match a.int(at) {
        Some(oid) => all.find(|name| oids::schema(name) == oid)?.to_string(),
        None => a.text(at)?,
    };
    any_of(a, &Privilege::OF_SCHEMAS, |privilege| {
        catalog.may_in_schema(&subject.role, privilege, &schema)
    })
}

fn on_database(a: &Arguments, _at: usize, subject: &Subject) -> Option<bool> {
    any_of(a, &Privilege::OF_DATABASES, |privilege| {
        subject.catalog.may_in_database(&subject.role, privilege)
    })
}

/// Nobody is a member of another role, but a superuser of all.
fn of_role(a: &Arguments, at: usize, subject: &Subject) -> Option<bool> {
    let role = role_named(a, at, &subject.catalog, &subject.user)?;
    Some(subject.role == role || subject.catalog.security.is_superuser(&subject.role))
}
