//! Roles with the verifiers of their passwords, who owns what, and what was granted to whom.
//!
//! Whether somebody may do something follows from this together with the catalog's objects: see `access`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalog::{DEFAULT_SCHEMA, ObjectId};
use crate::definition::MASK;

/// The superuser of a new server. It can be given a password, and is never dropped.
pub const BOOTSTRAP: &str = "rivermark";
/// Its oid, as PostgreSQL's.
pub const BOOTSTRAP_OID: u32 = 10;
/// Roles that a person creates count on from here.
const FIRST_OID: u32 = 0x5000_0000;

/// Somebody who can own things, be granted something, and perhaps log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub oid: u32,
    pub name: String,
    pub is_superuser: bool,
    pub can_login: bool,
    /// What checks the password, in PostgreSQL's form: `SCRAM-SHA-256$4096:salt$stored:server`. Never shown.
    pub verifier: Option<String>,
    /// Sessions at a time.
    pub connection_limit: Option<u32>,
    /// The password counts until then, in microseconds since 1970.
    pub valid_until_us: Option<i64>,
}

/// What can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Privilege {
    Insert,
    Select,
    Update,
    Delete,
    Truncate,
    /// Kept and shown; nothing asks for it.
    References,
    /// Kept and shown; nothing asks for it.
    Trigger,
    /// On a schema: its relations may be named.
    Usage,
    /// On a schema: relations may be created in it. On the database: schemas may.
    Create,
    /// On the database: sessions may begin.
    Connect,
    /// On the database. Kept and shown; there are no temporary tables.
    Temporary,
}

impl Privilege {
    /// Those of relations.
    pub const OF_RELATIONS: [Privilege; 7] = [
        Privilege::Insert,
        Privilege::Select,
        Privilege::Update,
        Privilege::Delete,
        Privilege::Truncate,
        Privilege::References,
        Privilege::Trigger,
    ];
    /// Those of schemas.
    pub const OF_SCHEMAS: [Privilege; 2] = [Privilege::Usage, Privilege::Create];
    /// Those of the database.
    pub const OF_DATABASES: [Privilege; 3] =
        [Privilege::Create, Privilege::Temporary, Privilege::Connect];

    pub fn name(self) -> &'static str {
        match self {
            Privilege::Insert => "INSERT",
            Privilege::Select => "SELECT",
            Privilege::Update => "UPDATE",
            Privilege::Delete => "DELETE",
            Privilege::Truncate => "TRUNCATE",
            Privilege::References => "REFERENCES",
            Privilege::Trigger => "TRIGGER",
            Privilege::Usage => "USAGE",
            Privilege::Create => "CREATE",
            Privilege::Connect => "CONNECT",
            Privilege::Temporary => "TEMPORARY",
        }
    }

    /// The letter of an `aclitem`.
    pub fn letter(self) -> char {
        match self {
            Privilege::Insert => 'a',
            Privilege::Select => 'r',
            Privilege::Update => 'w',
            Privilege::Delete => 'd',
            Privilege::Truncate => 'D',
            Privilege::References => 'x',
            Privilege::Trigger => 't',
            Privilege::Usage => 'U',
            Privilege::Create => 'C',
            Privilege::Connect => 'c',
            Privilege::Temporary => 'T',
        }
    }
}

/// Who is granted something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grantee {
    Public,
    Role(String),
}

/// What it is granted on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GrantTarget {
    Relation(ObjectId),
    Schema(String),
    /// The one that there is.
    Database,
    /// All relations that somebody will create in a schema (`None`: in any).
    Future {
        creator: String,
        schema: Option<String>,
    },
}

impl GrantTarget {
    /// What ALL means on it.
    pub fn privileges(&self) -> &'static [Privilege] {
        match self {
            GrantTarget::Relation(_) | GrantTarget::Future { .. } => &Privilege::OF_RELATIONS,
            GrantTarget::Schema(_) => &Privilege::OF_SCHEMAS,
            GrantTarget::Database => &Privilege::OF_DATABASES,
        }
    }
}

/// What one grantee may do with one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub target: GrantTarget,
    pub grantee: Grantee,
    pub privileges: BTreeSet<Privilege>,
}

impl Grant {
    /// Whether it is to the role, or by it on what it will create.
    fn is_of(&self, name: &str) -> bool {
        let is_to = matches!(&self.grantee, Grantee::Role(role) if role == name);
        is_to || matches!(&self.target, GrantTarget::Future { creator, .. } if creator == name)
    }
}

/// Roles, owners and grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    roles: Vec<Role>,
    next_role: u32,
    grants: Vec<Grant>,
    /// Of relations that do not belong to [`BOOTSTRAP`]; an index belongs to the owner of its relation.
    relation_owners: BTreeMap<ObjectId, String>,
    /// Of schemas that do not belong to [`BOOTSTRAP`].
    schema_owners: BTreeMap<String, String>,
    /// By name, which is no relation's.
    #[serde(default)]
    secrets: BTreeMap<String, Secret>,
}

/// A value that is stored and used, but never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// What a new database grants to everyone, as in PostgreSQL.
impl Default for Security {
    fn default() -> Self {
        let to_public = |target, privileges: &[Privilege]| Grant {
            target,
            grantee: Grantee::Public,
            privileges: privileges.iter().copied().collect(),
        };
        Security {
            roles: Vec::new(),
            next_role: 0,
            grants: vec![
                to_public(
                    GrantTarget::Schema(DEFAULT_SCHEMA.to_string()),
                    &[Privilege::Usage],
                ),
                to_public(
                    GrantTarget::Database,
                    &[Privilege::Connect, Privilege::Temporary],
                ),
            ],
            relation_owners: BTreeMap::new(),
            schema_owners: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }
}

impl Security {
    /// All roles, oldest first; the bootstrap superuser too, even if nobody has touched it.
    pub fn roles(&self) -> Vec<Role> {
        let mut roles = self.roles.clone();
        if !roles.iter().any(|role| role.name == BOOTSTRAP) {
            roles.push(bootstrap());
        }
        roles.sort_by_key(|role| role.oid);
        roles
    }

    pub fn role(&self, name: &str) -> Option<Role> {
        let known = self.roles.iter().find(|role| role.name == name).cloned();
        known.or_else(|| (name == BOOTSTRAP).then(bootstrap))
    }

    pub fn is_superuser(&self, role: &str) -> bool {
        self.role(role).is_some_and(|role| role.is_superuser)
    }

    /// The value of a secret, for the connector that it is meant for.
    pub fn secret(&self, name: &str) -> Option<&str> {
        self.secrets.get(name).map(|secret| secret.0.as_str())
    }

    /// What secrets are called.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    pub fn put_secret(&mut self, name: &str, value: &str) {
        let secret = Secret(value.to_string());
        self.secrets.insert(name.to_string(), secret);
    }

    /// Whether there was such a secret.
    pub fn remove_secret(&mut self, name: &str) -> bool {
        self.secrets.remove(name).is_some()
    }

    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// A fresh oid.
    pub fn allocate(&mut self) -> u32 {
        self.next_role += 1;
        FIRST_OID + self.next_role
    }

    /// Adds a role or replaces the one of that name.
    pub fn put(&mut self, role: Role) {
        self.roles.retain(|known| known.name != role.name);
        self.roles.push(role);
    }

    /// Removes a role. It must own nothing, and nothing must be granted to it.
    pub fn remove(&mut self, name: &str) {
        self.roles.retain(|role| role.name != name);
    }

    /// What was granted to the role, or by it on what it will create.
    pub fn grants_of(&self, name: &str) -> impl Iterator<Item = &Grant> {
        let grants = self.grants.iter();
        grants.filter(move |grant| grant.is_of(name))
    }

    /// Takes all of [`Self::grants_of`] back.
    pub fn revoke_all(&mut self, name: &str) {
        self.grants.retain(|grant| !grant.is_of(name));
    }

    pub fn relation_owner(&self, relation: ObjectId) -> &str {
        self.relation_owners
            .get(&relation)
            .map_or(BOOTSTRAP, String::as_str)
    }

    pub fn schema_owner(&self, schema: &str) -> &str {
        self.schema_owners
            .get(schema)
            .map_or(BOOTSTRAP, String::as_str)
    }

    /// Whether everything belongs to the first superuser.
    pub fn has_one_owner(&self) -> bool {
        self.relation_owners.is_empty()
    }

    pub fn owned_relations(&self, role: &str) -> impl Iterator<Item = ObjectId> {
        let is_its = move |owner: &str| owner == role;
        let owned = self.relation_owners.iter();
        owned
            .filter(move |(_, owner)| is_its(owner))
            .map(|(id, _)| *id)
    }

    pub fn owned_schemas(&self, role: &str) -> impl Iterator<Item = &str> {
        let owned = self.schema_owners.iter();
        owned
            .filter(move |(_, owner)| *owner == role)
            .map(|(schema, _)| schema.as_str())
    }

    pub fn give_relation(&mut self, relation: ObjectId, owner: &str) {
        match owner {
            BOOTSTRAP => drop(self.relation_owners.remove(&relation)),
            owner => drop(self.relation_owners.insert(relation, owner.to_string())),
        }
    }

    pub fn give_schema(&mut self, schema: &str, owner: &str) {
        match owner {
            BOOTSTRAP => drop(self.schema_owners.remove(schema)),
            owner => drop(
                self.schema_owners
                    .insert(schema.to_string(), owner.to_string()),
            ),
        }
    }

    pub fn grant(&mut self, grant: Grant) {
        let same =
            |known: &&mut Grant| known.target == grant.target && known.grantee == grant.grantee;
        match self.grants.iter_mut().find(same) {
            Some(known) => known.privileges.extend(grant.privileges),
            None => self.grants.push(grant),
        }
    }

    pub fn revoke(&mut self, grant: &Grant) {
        for known in &mut self.grants {
            if known.target == grant.target && known.grantee == grant.grantee {
                known.privileges.retain(|p| !grant.privileges.contains(p));
            }
        }
        self.grants.retain(|known| !known.privileges.is_empty());
    }

    /// Whether this was granted to the role or to everyone.
    pub fn is_granted(&self, role: &str, privilege: Privilege, target: &GrantTarget) -> bool {
        self.grants.iter().any(|grant| {
            let is_for = match &grant.grantee {
                Grantee::Public => true,
                Grantee::Role(grantee) => grantee == role,
            };
            is_for && grant.target == *target && grant.privileges.contains(&privilege)
        })
    }

    /// A relation is new: it belongs to its creator, who may have granted something on all that come.
    pub fn relation_created(&mut self, relation: ObjectId, schema: &str, by: &str) {
        self.give_relation(relation, by);
        let applies = |grant: &&Grant| match &grant.target {
            GrantTarget::Future {
                creator,
                schema: within,
            } => creator == by && within.as_deref().is_none_or(|within| within == schema),
            GrantTarget::Relation(_) | GrantTarget::Schema(_) | GrantTarget::Database => false,
        };
        let defaults: Vec<Grant> = self.grants.iter().filter(applies).cloned().collect();
        for default in defaults {
            self.grant(Grant {
                target: GrantTarget::Relation(relation),
                ..default
            });
        }
    }

    pub(crate) fn relation_dropped(&mut self, relation: ObjectId) {
        self.relation_owners.remove(&relation);
        self.grants
            .retain(|grant| grant.target != GrantTarget::Relation(relation));
    }

    /// What was granted on a relation is granted on its successor, which has the same owner.
    pub(crate) fn relation_replaced(&mut self, old: ObjectId, new: ObjectId) {
        if let Some(owner) = self.relation_owners.remove(&old) {
            self.relation_owners.insert(new, owner);
        }
        for grant in &mut self.grants {
            if grant.target == GrantTarget::Relation(old) {
                grant.target = GrantTarget::Relation(new);
            }
        }
    }

    pub(crate) fn schema_dropped(&mut self, dropped: &str) {
        self.schema_owners.remove(dropped);
        self.grants.retain(|grant| match &grant.target {
            GrantTarget::Schema(schema)
            | GrantTarget::Future {
                schema: Some(schema),
                ..
            } => schema != dropped,
            GrantTarget::Relation(_)
            | GrantTarget::Database
            | GrantTarget::Future { schema: None, .. } => true,
        });
    }
}

fn bootstrap() -> Role {
    Role {
        oid: BOOTSTRAP_OID,
        name: BOOTSTRAP.to_string(),
        is_superuser: true,
        can_login: true,
        verifier: None,
        connection_limit: None,
        valid_until_us: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(target: GrantTarget, role: &str, privilege: Privilege) -> Grant {
        Grant {
            target,
            grantee: Grantee::Role(role.to_string()),
            privileges: BTreeSet::from([privilege]),
        }
    }

    #[test]
    fn grants_come_and_go_with_what_they_are_on() {
        let mut security = Security::default();
        let (relation, successor) = (ObjectId(7), ObjectId(9));
        let future = GrantTarget::Future {
            creator: "maker".into(),
            schema: Some("s".into()),
        };
        security.grant(grant(future, "grafana", Privilege::Select));
        security.relation_created(ObjectId(5), "s", BOOTSTRAP);
        security.relation_created(ObjectId(6), "other", "maker");
        security.relation_created(relation, "s", "maker");
        let may = |security: &Security, role: &str, privilege, id| {
            security.is_granted(role, privilege, &GrantTarget::Relation(id))
        };
        assert!(!may(&security, "grafana", Privilege::Select, ObjectId(5)));
        assert!(!may(&security, "grafana", Privilege::Select, ObjectId(6)));
        assert!(may(&security, "grafana", Privilege::Select, relation));
        assert!(!may(&security, "grafana", Privilege::Insert, relation));
        assert!(!may(&security, "else", Privilege::Select, relation));
        security.relation_replaced(relation, successor);
        assert!(!may(&security, "grafana", Privilege::Select, relation));
        assert!(may(&security, "grafana", Privilege::Select, successor));
        assert_eq!(security.relation_owner(successor), "maker");
        assert_eq!(security.relation_owner(relation), BOOTSTRAP);
        let target = GrantTarget::Relation(successor);
        security.revoke(&grant(target, "grafana", Privilege::Select));
        assert!(!may(&security, "grafana", Privilege::Select, successor));
        assert_eq!(security.grants_of("grafana").count(), 1);
        assert_eq!(security.grants_of("maker").count(), 1);
        security.revoke_all("grafana");
        assert_eq!(security.grants(), Security::default().grants());
    }

    #[test]
    fn there_is_always_a_superuser() {
        let mut security = Security::default();
        assert!(security.is_superuser(BOOTSTRAP) && !security.is_superuser("a"));
        let oid = security.allocate();
        security.put(Role {
            oid,
            name: "a".into(),
            is_superuser: false,
            ..bootstrap()
        });
        assert_eq!(security.roles().len(), 2);
        assert!(security.is_superuser(BOOTSTRAP) && !security.is_superuser("a"));
    }
}
