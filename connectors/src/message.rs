//! What a format may know of a message, whatever connector brought it.

/// Takes name and value of a header.
pub type HeaderVisitor<'v> = dyn FnMut(&[u8], Option<&[u8]>) + 'v;

/// A message as the connector holds it; nothing is copied.
pub trait Message {
    /// Position within its partition.
    fn offset(&self) -> i64;

    /// Milliseconds since 1970, -1 if the broker has none.
    fn timestamp_ms(&self) -> i64;

    fn key(&self) -> Option<&[u8]>;

    /// `None` for a message without a value (a tombstone).
    fn payload(&self) -> Option<&[u8]>;

    /// Calls `visit` with name and value of every header, in order.
    fn for_each_header(&self, visit: &mut HeaderVisitor<'_>);
}
