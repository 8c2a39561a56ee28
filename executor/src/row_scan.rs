//! The plan node that reads stored rows; EXPLAIN shows which keys or index it goes by.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{
    EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::display::ProjectSchemaDisplay;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::limit::LimitStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt, TryStreamExt};

use crate::access::{ASCENDING, Access, KeyRanges};
use crate::error::external;
use crate::ordered_scan::Wanted;
use crate::row_reader::{Pace, Part, RowReader, RowSource};
use crate::rows::RowLayout;
use crate::state::KeyRange;

/// Reads rows of one relation, each part on a thread of its own.
#[derive(Clone)]
pub struct RowScanExec {
    source: Arc<RowSource>,
    parts: Vec<Part>,
    access: Access,
    /// What the rows come in the order of, for EXPLAIN.
    order: Option<String>,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RowScanExec {
    pub fn new(
        source: Arc<RowSource>,
        access: Access,
        parts: Vec<Part>,
        fetch: Option<usize>,
    ) -> Self {
        let properties = properties(&source.schema, parts.len(), None);
        RowScanExec {
            source,
            parts,
            access,
            order: None,
            fetch,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The relation's column that is at this place of the output.
    pub fn relation_column(&self, at: usize) -> Option<usize> {
        match &self.source.projection {
            Some(projection) => projection.get(at).copied(),
            None => Some(at),
        }
    }

    /// The scan with its rows in this order, which are `wanted` columns of the relation; `None` if it can not give it
    /// cheaply. It says of itself that it has the order, since nodes above may rely on it.
    pub fn in_order(
        &self,
        order: &[PhysicalSortExpr],
        wanted: &[Wanted],
        is_filtered: bool,
    ) -> Result<Option<Self>> {
        let source = &self.source;
        if source.own.is_some() || source.format.layout == RowLayout::Log {
            return Ok(None);
        }
        let all = || vec![KeyRange::all()];
        let key = match &source.format.layout {
            RowLayout::Keyed(key) => key.as_slice(),
            RowLayout::Bag | RowLayout::Log => &[],
        };
        let ascending = vec![ASCENDING; key.len()];
        let has_order = |columns: &[usize], options: &[SortOptions], pinned: usize| {
            !columns.is_empty() && source.is_ordered(wanted, columns, options, pinned)
        };
        let (part, shown) = match &self.access {
            Access::All if has_order(key, &ascending, 0) => (Part::Ranges(all()), "key".into()),
            Access::All if is_filtered => return Ok(None),
            Access::All => {
                let mut indexes = source.indexes.iter();
                match indexes.find(|i| has_order(&i.columns, &i.options, 0)) {
                    Some(index) => {
                        let shown = format!("index {}", index.name);
                        (Part::Index(index.clone(), all()), shown)
                    }
                    None => return Ok(None),
                }
            }
            Access::Rows(KeyRanges {
                ranges,
                pinned: Some(pinned),
                ..
            }) if has_order(key, &ascending, *pinned) => {
                (Part::Ranges(ranges.clone()), "key".into())
            }
            Access::Index(
                index,
                KeyRanges {
                    ranges,
                    pinned: Some(pinned),
                    ..
                },
            ) if has_order(&index.columns, &index.options, *pinned) => {
                let shown = format!("index {}", index.name);
                (Part::Index(index.clone(), ranges.clone()), shown)
            }
            Access::Rows(_) | Access::Index(..) => return Ok(None),
        };
        Ok(Some(RowScanExec {
            parts: vec![part],
            order: Some(shown),
            properties: properties(&source.schema, 1, Some(order)),
            ..self.clone()
        }))
    }

    fn access_text(&self) -> &str {
        match &self.access {
            Access::All => "all rows",
            Access::Rows(ranges) | Access::Index(_, ranges) => &ranges.text,
        }
    }

    fn stored(&self, part: Part) -> impl Stream<Item = Result<RecordBatch>> + Send + use<> {
        // Whoever wants an order stops early.
        let pace = match self.order {
            Some(_) => Pace::Growing,
            None => Pace::Full,
        };
        let reader = RowReader::new(self.source.clone(), part, pace);
        futures::stream::try_unfold(reader, |mut reader| async move {
            let batch = reader.next().map_err(external)?;
            Ok(batch.map(|batch| (batch, reader)))
        })
    }
}

fn properties(
    schema: &SchemaRef,
    partitions: usize,
    order: Option<&[PhysicalSortExpr]>,
) -> Arc<PlanProperties> {
    let orders = order.map(|order| order.to_vec());
    let properties = PlanProperties::new(
        EquivalenceProperties::new_with_orderings(schema.clone(), orders),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    );
    Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative))
}

impl fmt::Debug for RowScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RowScanExec({}, {})",
            self.source.name,
            self.access_text()
        )
    }
}

impl DisplayAs for RowScanExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.source.name;
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "RowScanExec: {name}, {}", self.access_text())?;
                if let Some(order) = &self.order {
                    write!(f, ", in the order of {order}")?;
                }
                let schema = &self.source.schema;
                if !schema.fields().is_empty() {
                    write!(f, ", projection={}", ProjectSchemaDisplay(schema))?;
                }
                if self.parts.len() > 1 {
                    write!(f, ", partitions={}", self.parts.len())?;
                }
                if let Some(fetch) = self.fetch {
                    write!(f, ", fetch={fetch}")?;
                }
                if self.source.own.is_some() {
                    write!(f, ", with own changes")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => write!(f, "{name}: {}", self.access_text()),
        }
    }
}

impl ExecutionPlan for RowScanExec {
    fn name(&self) -> &'static str {
        "RowScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("a scan of rows has no children"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mode = ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(mode))
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(part) = self.parts.get(partition) else {
            return internal_err!("a scan of rows has no partition {partition}");
        };
        let mut rows = self.stored(part.clone()).boxed();
        if let Some(own) = self.source.own.clone().filter(|_| partition == 0) {
            let source = self.source.clone();
            let added = futures::stream::once(async move {
                let added = own.added().map_err(external)?;
                let project = |batch| source.project(batch).map_err(external);
                let added: Vec<Result<RecordBatch>> = added.into_iter().map(project).collect();
                Ok::<_, DataFusionError>(futures::stream::iter(added))
            });
            rows = rows.chain(added.try_flatten()).boxed();
        }
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = rows.map(move |batch| {
            let batch = batch?;
            metrics.record_output(batch.num_rows());
            Ok(batch)
        });
        let rows = RecordBatchStreamAdapter::new(self.source.schema.clone(), rows);
        let rows = make_cooperative(Box::pin(rows));
        Ok(match self.fetch {
            None => rows,
            Some(_) => {
                let metrics = BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), partition);
                Box::pin(LimitStream::new(rows, 0, self.fetch, metrics))
            }
        })
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(RowScanExec {
            fetch: limit,
            ..self.clone()
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
