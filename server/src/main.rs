mod pg_error;
mod session_api;
mod sqlstate;
mod wire;

fn main() {}
