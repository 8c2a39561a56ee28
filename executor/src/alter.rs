//! Definitions replaced while everything runs: names, a source's columns, defaults. Rows and state stay as they are.

use std::sync::Arc;

use rivermark_planner::Catalog;
use rivermark_planner::catalog::{Object, ObjectKind};

use crate::catalog_change::{table_format, view_format};
use crate::error::Result;
use crate::rows::RowFormat;
use crate::source::Source;
use crate::source_secrets::open_source;
use crate::writer::Writer;

/// What a changed definition gives to the object that runs.
enum Renewed {
    Source(Arc<dyn Source>),
    Rows(RowFormat),
    /// A view is inlined by the planner and does not run.
    Nothing,
}

impl Writer {
    /// Goes on with a catalog that was made from the present one; all or nothing.
    pub fn install_catalog(&mut self, mut after: Catalog) -> Result<()> {
        let changed: Vec<Arc<Object>> = after
            .objects()
            .filter(|o| self.catalog.get(o.id).is_some_and(|old| old != *o))
            .cloned()
            .collect();
        let renewed = changed
            .iter()
            .map(|object| self.renewed(object))
            .collect::<Result<Vec<_>>>()?;
        for (object, renewed) in changed.iter().zip(renewed) {
            self.renew(object, renewed);
        }
        after.keep_allocated(&self.catalog);
        self.catalog = after;
        Ok(())
    }

    fn renewed(&self, object: &Object) -> Result<Renewed> {
        Ok(match &object.kind {
            ObjectKind::Source(def) => {
                let connectors = self.connectors.as_ref();
                Renewed::Source(open_source(connectors, &self.catalog, &object.name, def)?)
            }
            ObjectKind::Table(def) => Renewed::Rows(table_format(def)?),
            ObjectKind::MaterializedView(def) => Renewed::Rows(view_format(def)?),
            ObjectKind::View(_) | ObjectKind::Index(_) => Renewed::Nothing,
        })
    }

    fn renew(&mut self, object: &Object, renewed: Renewed) {
        match (&object.kind, renewed) {
            (ObjectKind::Source(def), Renewed::Source(source)) => {
                if let Some(input) = self.sources.get_mut(&object.id) {
                    // A running reader goes on: the columns that it decodes keep their places.
                    input.name = object.name.clone();
                    input.def = def.clone();
                    input.source = source;
                }
            }
            (ObjectKind::Table(_), Renewed::Rows(format)) => {
                if let Some(table) = self.tables.get_mut(&object.id) {
                    table.name = object.name.name.clone();
                    table.rows.set_format(format);
                }
            }
            (ObjectKind::MaterializedView(_), Renewed::Rows(format)) => {
                if let Some(view) = self.views.get_mut(&object.id) {
                    view.name = object.name.clone();
                    view.rows.set_format(format);
                    // Its status shows the name.
                    view.is_dirty = true;
                }
            }
            _ => {}
        }
    }
}
