//! The PostgreSQL wire protocol: from accepted sockets to messages, values and flow control. Nothing here knows SQL;
//! statements are run by a `session_api::SqlSession`.

mod auth;
mod cancel;
mod connection;
mod copy_in;
mod copy_out;
pub mod decode_binary;
mod decode_params;
pub mod decode_text;
pub mod encode;
mod encode_binary;
mod encode_nested;
mod extended_query;
mod frontend;
mod link;
mod listener;
pub mod pg_types;
mod row_pump;
mod simple_query;
mod startup;

use rivermark_planner::pg_text::output as encode_text;
pub use rivermark_planner::pg_text::time_zone;

pub use auth::{AuthMethod, ScramCredentials};
pub use listener::{Listener, ListenerConfig};

#[cfg(test)]
mod tests;
