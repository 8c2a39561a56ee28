//! Indexes as `pg_class`, `pg_index` and their kin show them: those that were created, and primary keys.

use rivermark_planner::catalog::{Catalog, IndexColumn, Object, ObjectKind};

use super::definitions::quote_identifier;
use super::oids;
use super::relations::{attributes, key_name, keyed_table};

/// One index.
pub struct Index<'a> {
    pub oid: i64,
    pub schema: &'a str,
    pub name: String,
    /// What it is on.
    pub relation: &'a Object,
    pub columns: Vec<IndexColumn>,
    pub is_unique: bool,
    pub is_primary: bool,
    /// Queries may use it.
    pub is_complete: bool,
}

/// All indexes.
pub fn indexes(catalog: &Catalog) -> Vec<Index<'_>> {
    catalog
        .objects()
        .filter_map(|object| primary_key(object).or_else(|| created(catalog, object)))
        .collect()
}

/// The index of this oid.
pub fn index(catalog: &Catalog, oid: i64) -> Option<Index<'_>> {
    match oids::object(catalog, oid) {
        Some(object) => created(catalog, object),
        None => primary_key(oids::keyed_object(catalog, oid)?),
    }
}

/// The index of this name.
pub fn find_index<'a>(catalog: &'a Catalog, schema: &str, name: &str) -> Option<Index<'a>> {
    let is_it = |index: &Index| index.schema == schema && index.name == name;
    indexes(catalog).into_iter().find(is_it)
}

/// Whether the relation has one.
pub fn has_index(catalog: &Catalog, relation: &Object) -> bool {
    keyed_table(relation).is_some() || catalog.indexes_of(relation.id).next().is_some()
}

fn primary_key(object: &Object) -> Option<Index<'_>> {
    let table = keyed_table(object)?;
    let ascending = |&column: &usize| IndexColumn {
        column,
        is_descending: false,
        nulls_first: false,
    };
    Some(Index {
        oid: oids::key_index(object.id),
        schema: &object.name.schema,
        name: key_name(object),
        relation: object,
        columns: table.primary_key.iter().map(ascending).collect(),
        is_unique: true,
        is_primary: true,
        is_complete: true,
    })
}

fn created<'a>(catalog: &'a Catalog, object: &'a Object) -> Option<Index<'a>> {
    let ObjectKind::Index(def) = &object.kind else {
        return None;
    };
    Some(Index {
        oid: oids::relation(object.id),
        schema: &object.name.schema,
        name: object.name.name.clone(),
        relation: catalog.get(def.relation)?,
        columns: def.columns.clone(),
        is_unique: def.is_unique,
        is_primary: false,
        is_complete: def.is_complete,
    })
}

impl Index<'_> {
    /// Its columns with what is not the default order of them.
    pub fn column_list(&self) -> String {
        let attributes = attributes(self.relation);
        let column = |c: &IndexColumn| {
            let name = quote_identifier(&attributes[c.column].name);
            match (c.is_descending, c.nulls_first) {
                (false, false) => name,
                (false, true) => format!("{name} NULLS FIRST"),
                (true, true) => format!("{name} DESC"),
                (true, false) => format!("{name} DESC NULLS LAST"),
            }
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        columns.join(", ")
    }

    /// What `pg_get_indexdef` says; with `column` > 0 the name of that column.
    pub fn definition(&self, column: i64) -> Option<String> {
        if column > 0 {
            let place = usize::try_from(column - 1).ok()?;
            let attributes = attributes(self.relation);
            let attribute = attributes.get(self.columns.get(place)?.column)?;
            return Some(quote_identifier(&attribute.name));
        }
        Some(format!(
            "CREATE {}INDEX {} ON {}.{} USING btree ({})",
            if self.is_unique { "UNIQUE " } else { "" },
            quote_identifier(&self.name),
            quote_identifier(self.schema),
            quote_identifier(&self.relation.name.name),
            self.column_list()
        ))
    }

    /// `pg_index.indoption`: bit 0 says descending, bit 1 NULLs first.
    pub fn options(&self) -> Vec<i16> {
        let option = |c: &IndexColumn| i16::from(c.is_descending) + 2 * i16::from(c.nulls_first);
        self.columns.iter().map(option).collect()
    }
}
