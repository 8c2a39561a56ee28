//! What a statement that changes rows takes and gives, found without running it.

use std::collections::BTreeMap;

use arrow::array::{RecordBatch, new_empty_array};
use arrow::datatypes::FieldRef;
use datafusion::sql::sqlparser::ast;
use rivermark_planner::statement::Statement;

use crate::assignment::row_schema;
use crate::dml::returning::Sight;
use crate::dml::row_query::assigned_types;
use crate::dml::upsert::{DoUpdate, OnConflict};
use crate::dml::{Dml, RowChange};
use crate::parameters::{self, Found};
use crate::pg_error::PgError;
use crate::planning::{Bound, StatementPlanner};
use crate::query::early_types;
use crate::session::Session;
use crate::session_api::StatementShape;

impl Session {
    /// The parameters and the result of a statement that changes rows.
    pub async fn dml_shape(
        &mut self,
        statement: &Statement,
        declared: &[Option<u32>],
    ) -> Result<StatementShape, PgError> {
        let nothing = StatementShape {
            parameters: Vec::new(),
            result: None,
        };
        let Dml::Rows(change) = self.dml(statement)? else {
            return Ok(nothing);
        };
        let (count, found) = change.known_parameters();
        if count == 0 && change.returning.is_none() {
            return Ok(nothing);
        }
        let planner = self.planner("");
        let declared = declared.to_vec();
        let shape = async move { change.shape(planner, &declared, count, found).await };
        self.server.queries.clone().run(shape).await
    }
}

impl RowChange {
    fn do_update(&self) -> Option<&DoUpdate> {
        match &self.on_conflict {
            Some(OnConflict::DoUpdate(update)) => Some(update),
            Some(OnConflict::DoNothing) | None => None,
        }
    }

    /// How many parameters there are, and the types that the statement's text says.
    fn known_parameters(&self) -> (usize, Found) {
        let update = self.do_update();
        let queries: [Option<&ast::Query>; 3] = [
            Some(&self.rows.query),
            update.map(|update| &update.query),
            self.returning.as_ref().map(|returning| &returning.query),
        ];
        let (mut count, mut found) = (0, BTreeMap::new());
        for query in queries.into_iter().flatten() {
            let (n, types) = parameters::scan(query);
            count = count.max(n);
            found.extend(types);
        }
        found.extend(self.rows.parameter_types(&self.target));
        if let Some(update) = update {
            found.extend(assigned_types(&update.assigned, &self.target));
        }
        let highest = found.keys().max().copied().unwrap_or(0);
        (count.max(highest), found)
    }

    async fn shape(
        &self,
        mut planner: StatementPlanner,
        declared: &[Option<u32>],
        count: usize,
        mut found: Found,
    ) -> Result<StatementShape, PgError> {
        planner.unread = self.rows.is_blind.then_some(self.target.object.id);
        let early = early_types(count, declared, &found)?;
        let rows = planner.bind(&self.rows.query, &early).await?;
        parameters::add_inferred(&mut found, &rows.plan)?;
        let none = RecordBatch::new_empty(row_schema(&self.target.table.columns));
        if let Some(update) = self.do_update() {
            DoUpdate::give(&mut planner, &none, &none)?;
            let bound = planner.bind(&update.query, &early).await?;
            parameters::add_inferred(&mut found, &bound.plan)?;
        }
        let Some(returning) = &self.returning else {
            let parameters = parameters::fields(count, declared, &found)?;
            return Ok(StatementShape {
                parameters,
                result: None,
            });
        };
        let fields = self.joined_fields(rows, &parameters::fields(count, declared, &found)?)?;
        let columns = fields.iter().map(|f| new_empty_array(f.data_type()));
        let sight = Sight {
            rows: &none,
            joined: &self.rows.joined,
            columns: columns.collect(),
            fields,
        };
        let bound = returning.bind_empty(&mut planner, &sight, &early).await?;
        parameters::add_inferred(&mut found, &bound.plan)?;
        let parameters = parameters::fields(count, declared, &found)?;
        let plan = parameters::bind_nulls(bound.plan, &parameters)?;
        let schema = Bound { plan, ..bound }.schema()?;
        Ok(StatementShape {
            parameters,
            result: Some(schema),
        })
    }

    /// The columns for RETURNING behind the others of the statement's query.
    fn joined_fields(
        &self,
        rows: Bound,
        parameters: &[FieldRef],
    ) -> Result<Vec<FieldRef>, PgError> {
        let width = self.rows.joined_width();
        if width == 0 {
            return Ok(Vec::new());
        }
        let plan = parameters::bind_nulls(rows.plan, parameters)?;
        let schema = Bound { plan, ..rows }.schema()?;
        let fields = schema.fields();
        Ok(fields[fields.len() - width..].to_vec())
    }
}
