//! Rewrites between the parsed statement and the streaming plan, one concern per file.
//!
//! On the AST, before binding: [`qualify`] (names, stars, views, windows), [`output_names`], [`expressions`]
//! ([`any_all`], [`syntax`], [`function_names`]), [`cast_names`], [`refuse`]. On the logical plan, as analyzer and optimizer rules:
//! [`pg_types`], [`casts`], [`session_zone`], [`checked`], [`guard`], [`simplify`], [`volatile`], [`mistaken`],
//! [`membership`], [`scalar_subquery`], [`join_keys`], [`marks`], [`first_rows`], [`grouping_columns`],
//! [`set_operation`], [`sort_columns`].

mod aliases;
mod any_all;
mod bags;
pub mod cast_names;
pub mod casts;
pub mod checked;
pub mod expressions;
pub mod first_rows;
pub mod fixed_zone;
mod function_names;
pub mod grouping_columns;
pub mod guard;
pub mod join_keys;
pub mod marks;
pub mod membership;
pub mod mistaken;
pub mod output_names;
pub mod pg_types;
pub mod qualify;
pub mod refuse;
pub mod scalar_subquery;
pub mod scope;
mod select_list;
pub mod session_zone;
pub mod set_operation;
pub mod simplify;
pub mod sort_columns;
mod syntax;
mod table_functions;
pub mod volatile;
