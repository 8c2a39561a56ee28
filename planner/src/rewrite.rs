//! Rewrites between the parsed statement and the streaming plan, one concern per file.
//!
//! On the AST, before binding: [`qualify`] (names, stars, views, windows), [`output_names`], [`expressions`],
//! [`refuse`]. On the logical plan, as analyzer and optimizer rules: [`pg_types`], [`casts`], [`session_zone`],
//! [`checked`], [`guard`], [`volatile`], [`mistaken`].

mod aliases;
mod bags;
pub mod casts;
pub mod checked;
pub mod expressions;
pub mod fixed_zone;
mod function_names;
pub mod guard;
pub mod mistaken;
pub mod output_names;
pub mod pg_types;
pub mod qualify;
pub mod refuse;
pub mod scope;
mod select_list;
pub mod session_zone;
mod syntax;
mod table_functions;
pub mod volatile;
