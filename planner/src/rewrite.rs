//! Rewrites between the parsed statement and the streaming plan, one concern per file.
//!
//! On the AST, before binding: [`qualify`] (names, stars, views, windows), [`output_names`], [`expressions`]
//! ([`any_all`], [`syntax`], [`function_names`], [`aggregate_calls`], [`over_calls`], [`rows`], [`array_query`]),
//! [`value_lists`], [`grouping_keys`], [`cast_names`], [`refuse`]. On the logical plan, as analyzer and optimizer rules:
//! [`pg_types`] ([`over_keys`], [`untyped_literals`]), [`outer_types`], [`casts`], [`session_zone`], [`checked`], [`guard`], [`simplify`],
//! [`volatile`], [`as_of_join`], [`nearest_join`], [`membership`], [`scalar_subquery`], [`decorrelate`], [`join_keys`], [`cross_joins`], [`join_order`], [`marks`],
//! [`first_rows`], [`grouping_columns`], [`set_operation`], [`sort_columns`], [`single_distinct`], [`float_keys`], [`null_frames`].

mod aggregate_calls;
mod aliases;
mod any_all;
mod array_query;
pub mod as_of_join;
mod asof;
mod bags;
mod build;
pub mod cast_names;
pub mod casts;
pub mod checked;
pub mod cross_joins;
pub mod decorrelate;
pub mod expressions;
pub mod first_rows;
pub mod fixed_zone;
pub mod float_keys;
mod function_names;
mod gap_values;
pub mod grouping_columns;
mod grouping_keys;
pub mod guard;
pub mod join_keys;
pub mod join_order;
pub mod marks;
pub mod membership;
pub mod nearest_join;
pub mod null_frames;
pub mod outer_types;
pub mod output_names;
mod over_calls;
mod over_keys;
pub mod pg_types;
pub mod proctime;
pub mod qualify;
pub mod refuse;
mod rows;
pub mod scalar_subquery;
pub mod scope;
mod select_list;
pub mod session_zone;
pub mod set_operation;
pub mod simplify;
pub mod single_distinct;
pub mod sort_columns;
mod syntax;
mod table_functions;
pub mod temporal;
mod time_aggregates;
mod untyped_literals;
mod value_lists;
pub mod volatile;
