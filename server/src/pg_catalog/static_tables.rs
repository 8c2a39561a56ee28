//! Tables of the catalog whose rows are the same for ever: types, functions, operators and the like as
//! `datafusion-pg-catalog` brings them, with arrays where PostgreSQL has arrays and without what does not exist here.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int16Builder, Int32Builder, ListBuilder, RecordBatch,
    StringArray, StringBuilder,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use datafusion::catalog::{
    CatalogProviderList, MemTable, MemoryCatalogProviderList, TableProvider,
};
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::{
    PG_CATALOG_TABLES, PgCatalogSchemaProvider, PgCatalogStaticTables, PgCatalogTable,
};
use rivermark_planner::types::PG_TYPE_KEY;

type Tables = PgCatalogSchemaProvider<Arc<dyn CatalogProviderList>, EmptyContextProvider>;

/// What an array's elements are.
#[derive(Clone, Copy)]
enum Element {
    Int2,
    Int4,
    Text,
}

/// Columns that come as text, by what PostgreSQL has.
const ARRAYS: &[(&str, &str, Element)] = &[
    ("pg_db_role_setting", "setconfig", Element::Text),
    ("pg_default_acl", "defaclacl", Element::Text),
    ("pg_event_trigger", "evttags", Element::Text),
    ("pg_extension", "extconfig", Element::Int4),
    ("pg_extension", "extcondition", Element::Text),
    ("pg_init_privs", "initprivs", Element::Text),
    ("pg_language", "lanacl", Element::Text),
    ("pg_largeobject_metadata", "lomacl", Element::Text),
    ("pg_partitioned_table", "partattrs", Element::Int2),
    ("pg_partitioned_table", "partclass", Element::Int4),
    ("pg_partitioned_table", "partcollation", Element::Int4),
    ("pg_policy", "polroles", Element::Int4),
    ("pg_proc", "proacl", Element::Text),
    ("pg_proc", "proallargtypes", Element::Int4),
    ("pg_proc", "proargmodes", Element::Text),
    ("pg_proc", "proargnames", Element::Text),
    ("pg_proc", "proargtypes", Element::Int4),
    ("pg_proc", "proconfig", Element::Text),
    ("pg_proc", "protrftypes", Element::Int4),
    ("pg_publication_rel", "prattrs", Element::Int2),
    ("pg_statistic_ext", "stxkeys", Element::Int2),
    ("pg_statistic_ext", "stxkind", Element::Text),
    ("pg_subscription", "subpublications", Element::Text),
    ("pg_tablespace", "spcacl", Element::Text),
    ("pg_tablespace", "spcoptions", Element::Text),
    ("pg_trigger", "tgattr", Element::Int2),
    ("pg_type", "typacl", Element::Text),
    ("pg_user_mapping", "umoptions", Element::Text),
];

/// The rows of a function.
pub const KEYWORDS: &str = "pg_get_keywords";

/// Rows that are not true of this server: there are no extensions and no language but SQL's.
const ABSENT: &[(&str, &str, &str)] = &[
    ("pg_extension", "extname", "plpgsql"),
    ("pg_language", "lanname", "plpgsql"),
];

static TABLES: LazyLock<HashMap<String, Arc<MemTable>>> = LazyLock::new(|| {
    let tables =
        PgCatalogStaticTables::try_new().expect("the static tables are part of the binary");
    let catalogs: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
    let keywords = tables.pg_get_keywords.clone();
    let tables = Tables::try_new(catalogs, Arc::new(tables), EmptyContextProvider)
        .expect("no catalog is read here");
    let rows = PG_CATALOG_TABLES
        .iter()
        .map(|name| (*name, rows(&tables, name)))
        .chain([(
            KEYWORDS,
            concat_batches(&keywords.schema(), keywords.data()).ok(),
        )]);
    rows.filter_map(|(name, rows)| {
        let rows = rows?;
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]])
            .expect("the rows are of their own schema");
        Some((name.to_string(), Arc::new(table)))
    })
    .collect()
});

/// The table of that name.
pub fn table(name: &str) -> Option<Arc<dyn TableProvider>> {
    TABLES.get(name).map(|table| table.clone() as _)
}

/// Names of those that are relations of PostgreSQL's, too.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLES
        .keys()
        .map(String::as_str)
        .filter(|name| *name != KEYWORDS)
}

/// Oids and names of one kind of object.
pub struct Named {
    by_oid: HashMap<i64, String>,
    by_name: HashMap<String, i64>,
}

impl Named {
    pub fn name(&self, oid: i64) -> Option<&str> {
        self.by_oid.get(&oid).map(String::as_str)
    }

    /// Of several with that name (overloaded functions) the one with the least oid.
    pub fn oid(&self, name: &str) -> Option<i64> {
        self.by_name.get(name).copied()
    }

    fn read(table: &str, name_column: &str) -> Named {
        let mut named = Named {
            by_oid: HashMap::new(),
            by_name: HashMap::new(),
        };
        for batch in batches(table) {
            let oids = batch["oid"].as_primitive::<Int32Type>().clone();
            let names = batch[name_column].as_string::<i32>().clone();
            for (oid, name) in oids.iter().zip(names.iter()) {
                let (Some(oid), Some(name)) = (oid, name) else {
                    continue;
                };
                let oid = i64::from(oid);
                named.by_oid.insert(oid, name.to_string());
                let least = named.by_name.entry(name.to_string()).or_insert(oid);
                *least = oid.min(*least);
            }
        }
        named
    }
}

/// Types by their `typname`.
pub static TYPES: LazyLock<Named> = LazyLock::new(|| Named::read("pg_type", "typname"));
/// Functions by their `proname`.
pub static FUNCTIONS: LazyLock<Named> = LazyLock::new(|| Named::read("pg_proc", "proname"));

/// What a function takes and gives, as oids of types.
pub struct Signature {
    pub arguments: Vec<i64>,
    pub result: i64,
    pub gives_rows: bool,
}

/// Signatures by the functions' oids.
pub static SIGNATURES: LazyLock<HashMap<i64, Signature>> = LazyLock::new(|| {
    let mut signatures = HashMap::new();
    for batch in batches("pg_proc") {
        let oids = batch["oid"].as_primitive::<Int32Type>();
        let results = batch["prorettype"].as_primitive::<Int32Type>();
        let sets = batch["proretset"].as_boolean();
        let arguments = batch["proargtypes"].as_list::<i32>();
        for row in 0..oids.len() {
            let types = arguments.value(row);
            let types = types.as_primitive::<Int32Type>();
            let signature = Signature {
                arguments: types.iter().flatten().map(i64::from).collect(),
                result: results.value(row).into(),
                gives_rows: sets.value(row),
            };
            signatures.insert(oids.value(row).into(), signature);
        }
    }
    signatures
});

/// A table's columns by name.
fn batches(table: &str) -> Vec<HashMap<String, ArrayRef>> {
    let Some(table) = TABLES.get(table) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for partition in &table.batches {
        // nobody writes these tables
        let Ok(batches) = partition.try_read() else {
            continue;
        };
        for batch in batches.iter() {
            let schema = batch.schema();
            let names = schema.fields().iter().map(|field| field.name().clone());
            found.push(names.zip(batch.columns().iter().cloned()).collect());
        }
    }
    found
}

fn rows(tables: &Tables, name: &str) -> Option<RecordBatch> {
    let batch = match tables.build_table_by_name(name).ok().flatten()? {
        PgCatalogTable::Static(table) => concat_batches(&table.schema(), table.data()).ok()?,
        PgCatalogTable::Empty(table) => RecordBatch::new_empty(table.schema()),
        // made from a catalog of DataFusion's, which knows nothing of ours
        PgCatalogTable::Dynamic(table) => RecordBatch::new_empty(table.schema().clone()),
    };
    let batch = without_absent(name, batch);
    let mut fields: Vec<Field> = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let array = ARRAYS
            .iter()
            .find(|(table, column, _)| *table == name && column == field.name());
        let column = match (array, column.data_type()) {
            (Some((_, _, element)), DataType::Utf8) => parsed(column.as_string::<i32>(), *element),
            _ => column.clone(),
        };
        let mut field = field.as_ref().clone();
        if field.name() == "proargtypes" {
            let metadata = [(PG_TYPE_KEY.to_string(), "oidvector".to_string())];
            field = field.with_metadata(HashMap::from(metadata));
        }
        // outer joins and casts give NULLs where the file says there are none
        let data_type = column.data_type().clone();
        fields.push(field.with_data_type(data_type).with_nullable(true));
        columns.push(column);
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).ok()
}

fn without_absent(table: &str, batch: RecordBatch) -> RecordBatch {
    let Some((_, column, value)) = ABSENT.iter().find(|(name, _, _)| *name == table) else {
        return batch;
    };
    let Some(column) = batch.column_by_name(column) else {
        return batch;
    };
    let names = column.as_string::<i32>();
    let is_kept: BooleanArray = names.iter().map(|name| Some(name != Some(value))).collect();
    filter_record_batch(&batch, &is_kept).unwrap_or(batch)
}

/// Arrays (`{a,b}`) or vectors (`1 2`) from their text; none of them has quoted elements with commas.
fn parsed(texts: &StringArray, element: Element) -> ArrayRef {
    let elements = |text: &str| -> Vec<String> {
        let inner = text.trim_start_matches('{').trim_end_matches('}');
        inner
            .split([',', ' '])
            .filter(|element| !element.is_empty())
            .map(|element| element.trim_matches('"').to_string())
            .collect()
    };
    macro_rules! list {
        ($builder:expr, $element:expr) => {{
            let mut builder = ListBuilder::new($builder);
            for text in texts {
                match text {
                    Some(text) => builder.append_value(elements(text).iter().map($element)),
                    None => builder.append_null(),
                }
            }
            Arc::new(builder.finish()) as ArrayRef
        }};
    }
    match element {
        Element::Int2 => list!(Int16Builder::new(), |n: &String| n.parse::<i16>().ok()),
        Element::Int4 => list!(Int32Builder::new(), |n: &String| n.parse::<i32>().ok()),
        Element::Text => list!(StringBuilder::new(), |text: &String| Some(text.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_arrays_and_names_are_found() {
        let functions = batches("pg_proc");
        assert!(matches!(
            functions[0]["proargtypes"].data_type(),
            DataType::List(_)
        ));
        assert_eq!(TYPES.oid("int4"), Some(23));
        assert_eq!(TYPES.name(1184), Some("timestamptz"));
        assert_eq!(FUNCTIONS.oid("lower"), Some(870));
        assert_eq!(batches("pg_extension")[0]["extname"].len(), 0);
    }
}
