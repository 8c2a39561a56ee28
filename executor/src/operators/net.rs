//! What the changes of an epoch come to, key by key.

/// Brings `rows` into the order of their keys and sums the weights of those with the same key: the first of them, and
/// the sum if it is not 0.
pub fn net<'a, R: Copy>(
    mut rows: Vec<R>,
    key: impl Fn(R) -> &'a [u8],
    weight: impl Fn(R) -> i64,
) -> Vec<(R, i64)> {
    rows.sort_unstable_by(|a, b| key(*a).cmp(key(*b)));
    let mut net: Vec<(R, i64)> = Vec::with_capacity(rows.len());
    for row in rows {
        match net.last_mut() {
            Some((last, sum)) if key(*last) == key(row) => *sum += weight(row),
            _ => net.push((row, weight(row))),
        }
    }
    net.retain(|(_, sum)| *sum != 0);
    net
}

#[cfg(test)]
mod tests {
    use super::net;

    #[test]
    fn equal_keys_are_one_change_or_none() {
        let keys = [&b"b"[..], b"a", b"b", b"c", b"c", b""];
        let weights = [1, -2, 3, 1, -1, 5];
        let found = net((0..6).collect(), |row| keys[row], |row| weights[row]);
        let found: Vec<_> = found
            .into_iter()
            .map(|(row, sum)| (keys[row], sum))
            .collect();
        assert_eq!(found, [(&b""[..], 5), (b"a", -2), (b"b", 4)]);
    }
}
