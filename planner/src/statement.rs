//! What a person can ask of the server, one typed statement each.

use std::collections::BTreeMap;

use sqlparser::ast;

use crate::catalog::{ColumnDef, QualifiedName, SourceDef, TableDef};
use crate::security::{Grantee, Privilege};

/// A parsed statement with the text it came from.
#[derive(Debug, Clone)]
pub struct ParsedStatement {
    pub statement: Statement,
    /// The statement's own text, without the separating semicolon.
    pub text: String,
}

/// A name as written: the schema is `None` where search_path decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    pub schema: Option<String>,
    pub name: String,
}

impl ObjectName {
    /// The qualified name, with `default_schema` where none was written.
    pub fn resolve(&self, default_schema: &str) -> QualifiedName {
        QualifiedName {
            schema: self
                .schema
                .clone()
                .unwrap_or_else(|| default_schema.to_string()),
            name: self.name.clone(),
        }
    }
}

/// A statement that changes rows, with the queries that stand before it.
#[derive(Debug, Clone)]
pub struct Change<T> {
    pub with: Option<ast::With>,
    pub body: T,
}

#[derive(Debug, Clone)]
pub enum Statement {
    CreateSource {
        name: ObjectName,
        if_not_exists: bool,
        def: SourceDef,
    },
    CreateTable {
        name: ObjectName,
        if_not_exists: bool,
        def: TableDef,
    },
    CreateView {
        name: ObjectName,
        or_replace: bool,
        columns: Vec<String>,
        query: Box<ast::Query>,
    },
    CreateMaterializedView {
        name: ObjectName,
        or_replace: bool,
        if_not_exists: bool,
        columns: Vec<String>,
        options: BTreeMap<String, String>,
        query: Box<ast::Query>,
        emit_on_window_close: bool,
    },
    CreateSchema {
        name: String,
        if_not_exists: bool,
    },
    CreateIndex(CreateIndex),
    Drop {
        kind: RelationKind,
        names: Vec<ObjectName>,
        if_exists: bool,
        cascade: bool,
    },
    DropSchema {
        names: Vec<String>,
        if_exists: bool,
        cascade: bool,
    },
    Alter {
        kind: RelationKind,
        name: ObjectName,
        if_exists: bool,
        action: Box<AlterAction>,
    },
    Comment {
        kind: CommentTarget,
        name: ObjectName,
        column: Option<String>,
        comment: Option<String>,
    },
    Insert(Box<Change<ast::Insert>>),
    Update(Box<Change<ast::Update>>),
    Delete(Box<Change<ast::Delete>>),
    Truncate {
        names: Vec<ObjectName>,
    },
    /// Window functions in its FROM have the one form that `parse/normalize.rs` describes.
    Query(Box<ast::Query>),
    /// `EXPLAIN [ANALYZE] [VERBOSE] [(FORMAT ...)] statement`.
    Explain {
        analyze: bool,
        verbose: bool,
        statement: Box<Statement>,
    },
    /// `EXPLAIN ANALYZE MATERIALIZED VIEW name`: the operators as they run.
    ExplainRunning {
        name: ObjectName,
    },
    /// `COPY (query | relation) TO STDOUT [WITH (...)]`.
    CopyOut {
        query: Box<ast::Query>,
        options: CopyOptions,
    },
    /// `COPY (SUBSCRIBE ...) TO STDOUT [WITH (...)]`.
    CopySubscription {
        subscribe: Subscribe,
        options: CopyOptions,
    },
    CopyIn(Box<CopyIn>),
    Subscribe(Subscribe),
    Listen {
        channel: String,
    },
    /// `None`: all channels.
    Unlisten {
        channel: Option<String>,
    },
    Notify {
        channel: String,
        payload: String,
    },
    Show(Show),
    Describe {
        name: ObjectName,
    },
    Flush,
    Vacuum,
    Set {
        name: String,
        value: SetValue,
        local: bool,
    },
    Reset {
        name: Option<String>,
    },
    /// What the transaction is to be, as settings and their values.
    Begin {
        modes: Vec<(&'static str, String)>,
    },
    Commit,
    Rollback,
    Savepoint {
        name: String,
    },
    CreateRole {
        name: String,
        options: RoleOptions,
    },
    AlterRole {
        name: String,
        options: RoleOptions,
    },
    DropRole {
        names: Vec<String>,
        if_exists: bool,
    },
    CreateSecret {
        name: String,
        value: String,
        if_not_exists: bool,
    },
    DropSecret {
        names: Vec<String>,
        if_exists: bool,
    },
    /// GRANT, REVOKE and ALTER DEFAULT PRIVILEGES.
    Grant(GrantStatement),
    AlterSchemaOwner {
        name: String,
        owner: String,
    },
    Reassign {
        from: Vec<String>,
        to: String,
    },
    DropOwned {
        names: Vec<String>,
        cascade: bool,
    },
    Release {
        name: String,
    },
    RollbackTo {
        name: String,
    },
    Prepare {
        name: String,
        parameter_types: Vec<ast::DataType>,
        statement: Box<Statement>,
    },
    Execute {
        name: String,
        parameters: Vec<ast::Expr>,
    },
    Deallocate {
        name: Option<String>,
    },
    DeclareCursor {
        name: String,
        query: Box<ast::Query>,
    },
    /// `DECLARE name CURSOR FOR SUBSCRIBE ...`.
    DeclareSubscription {
        name: String,
        subscribe: Subscribe,
    },
    Fetch {
        name: String,
        count: FetchCount,
        /// How long a subscription's cursor may wait for rows, as written.
        timeout: Option<String>,
    },
    CloseCursor {
        name: Option<String>,
    },
    Discard(Discarded),
}

/// What CREATE or ALTER ROLE says of a role; `None`: nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RoleOptions {
    pub is_superuser: Option<bool>,
    pub can_login: Option<bool>,
    /// `Some(None)`: none.
    pub password: Option<Option<String>>,
    /// `Some(None)`: no limit.
    pub connection_limit: Option<Option<u32>>,
    /// A time as text.
    pub valid_until: Option<String>,
}

/// Passwords are never printed.
impl std::fmt::Debug for RoleOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleOptions").finish_non_exhaustive()
    }
}

/// What is granted or revoked, on what, and to or from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantStatement {
    /// `None`: all.
    pub privileges: Option<Vec<Privilege>>,
    pub on: GrantOn,
    pub grantees: Vec<Grantee>,
    pub is_revoke: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantOn {
    Relations(Vec<ObjectName>),
    /// All relations that are in these schemas now.
    AllIn(Vec<String>),
    Schemas(Vec<String>),
    Databases(Vec<String>),
    /// All relations that these roles will create (none named: the current one) in these schemas (none named: in any).
    Future {
        creators: Vec<String>,
        schemas: Vec<String>,
    },
}

/// `SUBSCRIBE [TO] relation [AS OF epoch] [WITH (...)]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    pub relation: ObjectName,
    /// The rows that are there come first.
    pub has_snapshot: bool,
    /// A row without values says that an epoch is complete.
    pub has_progress: bool,
    /// Go on behind this epoch: what changed since, instead of the rows.
    pub as_of: Option<u64>,
}

/// `CREATE [UNIQUE] INDEX [IF NOT EXISTS] [name] ON relation (columns)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateIndex {
    /// `None`: made of the relation's and the columns' names.
    pub name: Option<String>,
    pub if_not_exists: bool,
    pub is_unique: bool,
    pub relation: ObjectName,
    pub columns: Vec<NamedIndexColumn>,
}

/// A column of an index as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedIndexColumn {
    pub name: String,
    pub is_descending: bool,
    pub nulls_first: bool,
}

/// What ALTER does to a relation.
#[derive(Debug, Clone, PartialEq)]
pub enum AlterAction {
    Rename {
        to: String,
    },
    RenameColumn {
        column: String,
        to: String,
    },
    SetSchema {
        schema: String,
    },
    SetOwner {
        owner: String,
    },
    AddColumn {
        column: ColumnDef,
        if_not_exists: bool,
    },
    /// `None` drops it.
    SetDefault {
        column: String,
        default: Option<String>,
    },
    SetNotNull {
        column: String,
        not_null: bool,
    },
    /// Of a materialized view; `force`: from what the sources still hold.
    Rebuild {
        force: bool,
    },
    Pause,
    Resume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    Source,
    Table,
    View,
    MaterializedView,
    Sink,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommentTarget {
    Relation,
    Column,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    Tables,
    Sources,
    Sinks,
    Views,
    MaterializedViews,
    Indexes,
    Columns {
        relation: ObjectName,
    },
    /// `SHOW CREATE [kind] name`.
    Create {
        name: ObjectName,
    },
    Schemas,
    Databases,
    ProcessList,
    /// `SHOW name` of a setting.
    Setting(String),
    AllSettings,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    Default,
    Value(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchCount {
    Rows(u64),
    All,
}

/// `COPY relation [(columns)] FROM STDIN`.
#[derive(Debug, Clone)]
pub struct CopyIn {
    pub name: ObjectName,
    /// Empty: all but the generated ones.
    pub columns: Vec<String>,
    pub options: CopyOptions,
    /// SQL text of the condition that rows must meet.
    pub filter: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub header: CopyHeader,
    pub delimiter: Option<u8>,
    pub null: Option<String>,
    /// Of CSV.
    pub quote: Option<u8>,
    /// Of CSV.
    pub escape: Option<u8>,
    /// Columns whose unquoted texts are never NULL.
    pub force_not_null: Vec<String>,
    /// Columns whose quoted texts may be NULL.
    pub force_null: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CopyHeader {
    #[default]
    None,
    Line,
    /// A line that must have the columns' names.
    Match,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CopyFormat {
    #[default]
    Text,
    Csv,
    Binary,
}

/// What DISCARD drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// Everything that belongs to the session.
    All,
    /// How statements were planned.
    Plans,
    Sequences,
    Temporary,
}
