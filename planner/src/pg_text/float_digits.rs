//! Where the shortest digits of a floating-point number are others in PostgreSQL than in Rust.
//!
//! Both print as few digits as tell a number from its neighbours, and of those the ones nearest to it. Of two that are as near
//! PostgreSQL takes the even ones, and it does not take digits that lie in the middle between two numbers, although they would
//! be read as this one.

/// Digits behind the point with which every number is told from others.
const MOST: usize = 17;
/// Digits behind the point with which every number is exact.
const EXACT: usize = 1100;

/// What PostgreSQL prints where that is not `scientific` (`-1.25e-7`), which Rust prints for `mantissa * 2^exponent`. `is_lowest`: the
/// neighbour below is half as far as the one above. `exact` prints the number with so many digits behind the point.
pub(super) fn postgres_digits(
    scientific: &[u8],
    mantissa: u64,
    exponent: i32,
    is_lowest: bool,
    exact: impl Fn(usize) -> String,
) -> Option<String> {
    let text = std::str::from_utf8(scientific).ok()?;
    let (digits, power) = text.split_once('e')?;
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    // fewer digits are the number itself
    if count < 6 {
        return None;
    }
    let number = digits
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0, |n, digit| n * 10 + u128::from(digit - b'0'));
    let power_of_last = power.parse::<i32>().ok()? - count as i32 + 1;
    let (m, e) = (u128::from(mantissa), exponent);
    let below = match is_lowest {
        true => (4 * m - 1, e - 2),
        false => ((2 * m).saturating_sub(1), e - 1),
    };
    let is_between = [(2 * m + 1, e - 1), below]
        .iter()
        .any(|(odd, two)| is_equal(number, power_of_last, *odd, *two));
    match is_between {
        // as many digits as it takes to come nearer
        true => (count..=MOST)
            .map(exact)
            .find(|longer| !longer.contains("0e")),
        false => even(digits, count, power, exact),
    }
}

/// Whether `number * 10^ten = odd * 2^two`.
fn is_equal(number: u128, ten: i32, odd: u128, two: i32) -> bool {
    // 5^ten divides the odd number, or the other way round: what that takes fits in 128 bits, or they are not equal
    let fives = 5_u128.checked_pow(ten.unsigned_abs());
    let (left, right) = match (ten < 0, fives) {
        (_, None) => return false,
        (false, Some(fives)) => (number.checked_mul(fives), Some(odd)),
        (true, Some(fives)) => (Some(number), odd.checked_mul(fives)),
    };
    let (Some(left), Some(right)) = (left, right) else {
        return false;
    };
    let shift = left.trailing_zeros() as i32 - right.trailing_zeros() as i32;
    left >> left.trailing_zeros() == right >> right.trailing_zeros() && shift + ten == two
}

/// The digits below with an even last one, if the number lies in the middle between those and the ones that were given.
fn even(
    digits: &str,
    count: usize,
    power: &str,
    exact: impl Fn(usize) -> String,
) -> Option<String> {
    let last = *digits.as_bytes().last()?;
    if last.is_multiple_of(2) || last == b'1' {
        return None;
    }
    let lower = format!("{}{}", &digits[..digits.len() - 1], char::from(last - 1));
    let is_in_the_middle = |text: String| {
        let rest = text.split_once('e').filter(|(_, e)| *e == power);
        let rest = rest.and_then(|(found, _)| found.strip_prefix(&lower)?.strip_prefix('5'));
        rest.is_some_and(|rest| rest.bytes().all(|digit| digit == b'0'))
    };
    // few digits tell that most do not
    (is_in_the_middle(exact(count)) && is_in_the_middle(exact(EXACT)))
        .then(|| format!("{lower}e{power}"))
}
