//! Whether a role may do something with an object of the catalog.
//!
//! A superuser may do everything, an owner everything with what it owns, and others what was granted to them or to
//! everyone. What a plain view names is read as its owner: reading the view takes no privilege on what lies below, but its
//! owner must have it. A materialized view has rows of its own; its owner had to be allowed to read what it reads when it
//! was created.

use crate::catalog::{Catalog, Object, ObjectId, ObjectKind};
use crate::security::{GrantTarget, Privilege};

/// Schemas of the server itself, whose relations everyone may name.
fn is_system(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema" | "rivermark")
}

impl Catalog {
    /// Who owns an object; an index belongs to the owner of its relation.
    pub fn owner(&self, object: &Object) -> &str {
        let id = object.as_index().map_or(object.id, |index| index.relation);
        self.security.relation_owner(id)
    }

    /// Whether the role may alter, drop and grant.
    pub fn is_owner(&self, role: &str, object: &Object) -> bool {
        self.security.is_superuser(role) || self.owner(object) == role
    }

    /// Whether the role may do this with a relation, once it may name it.
    pub fn may(&self, role: &str, privilege: Privilege, object: &Object) -> bool {
        let target = GrantTarget::Relation(object.id);
        self.is_owner(role, object) || self.security.is_granted(role, privilege, &target)
    }

    /// Whether the role may do this with a schema.
    pub fn may_in_schema(&self, role: &str, privilege: Privilege, schema: &str) -> bool {
        if is_system(schema) {
            return privilege == Privilege::Usage;
        }
        let target = GrantTarget::Schema(schema.to_string());
        self.security.is_superuser(role)
            || self.security.schema_owner(schema) == role
            || self.security.is_granted(role, privilege, &target)
    }

    /// Whether the role may do this with the database.
    pub fn may_in_database(&self, role: &str, privilege: Privilege) -> bool {
        self.security.is_superuser(role)
            || self
                .security
                .is_granted(role, privilege, &GrantTarget::Database)
    }

    /// The catalog without the relations with which the role may do nothing, as `information_schema` shows it.
    pub fn seen_by(&self, role: &str) -> Catalog {
        let may = |object: &Object, privilege: &Privilege| self.may(role, *privilege, object);
        let mut seen = self.clone();
        seen.retain(|object| {
            let mut privileges = Privilege::OF_RELATIONS.iter();
            self.is_owner(role, object) || privileges.any(|privilege| may(object, privilege))
        });
        seen
    }

    /// What keeps the role from reading a relation: the relation, or one that a view below it names and the view's owner
    /// may not read.
    pub fn unreadable(&self, role: &str, object: &Object) -> Option<ObjectId> {
        if !self.may(role, Privilege::Select, object) {
            return Some(object.id);
        }
        let ObjectKind::View(_) = &object.kind else {
            return None;
        };
        let owner = self.owner(object);
        let mut below = object.depends_on.iter().filter_map(|id| self.get(*id));
        below.find_map(|below| self.unreadable(owner, below))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalog::{QualifiedName, ViewDef};
    use crate::security::{Grant, Grantee};

    fn view(id: u32, depends_on: &[u32]) -> Object {
        Object {
            id: ObjectId(id),
            name: QualifiedName {
                schema: "public".into(),
                name: format!("v{id}"),
            },
            sql: String::new(),
            comment: None,
            depends_on: depends_on.iter().copied().map(ObjectId).collect(),
            kind: ObjectKind::View(ViewDef {
                columns: Vec::new(),
                query: String::new(),
            }),
        }
    }

    fn select(catalog: &mut Catalog, id: u32, role: &str) -> Grant {
        let grant = Grant {
            target: GrantTarget::Relation(ObjectId(id)),
            grantee: Grantee::Role(role.into()),
            privileges: BTreeSet::from([Privilege::Select]),
        };
        catalog.security.grant(grant.clone());
        grant
    }

    #[test]
    fn what_a_view_names_is_read_as_its_owner() {
        let mut catalog = Catalog::new();
        for object in [view(1, &[]), view(2, &[1]), view(3, &[2])] {
            catalog.put(object);
        }
        catalog.security.give_relation(ObjectId(2), "maker");
        let unreadable = |catalog: &Catalog, role: &str, id| {
            let object = catalog.get(ObjectId(id)).unwrap();
            catalog.unreadable(role, object).map(|id| id.0)
        };
        assert_eq!(unreadable(&catalog, "reader", 3), Some(3));
        select(&mut catalog, 3, "reader");
        assert_eq!(unreadable(&catalog, "reader", 3), Some(1), "maker may not");
        assert_eq!(unreadable(&catalog, "rivermark", 3), Some(1));
        assert_eq!(unreadable(&catalog, "maker", 2), Some(1));
        let granted = select(&mut catalog, 1, "maker");
        assert_eq!(unreadable(&catalog, "reader", 3), None);
        assert_eq!(unreadable(&catalog, "maker", 2), None);
        assert_eq!(unreadable(&catalog, "maker", 3), Some(3));
        catalog.security.revoke(&granted);
        assert_eq!(unreadable(&catalog, "rivermark", 2), Some(1));
    }
}
