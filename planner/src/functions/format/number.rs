//! Numbers by a template, `FM9,999.00`, and back.

use datafusion::common::{Result, exec_datafusion_err, exec_err};

use super::template::Case;
use super::write::ordinal_of;
use crate::functions::decimal::Decimal;

/// What a template asks for.
#[derive(Debug, Default)]
struct Template {
    items: Vec<Item>,
    /// FM: no blanks.
    is_tight: bool,
    /// Positions for digits before and behind the point.
    before: usize,
    behind: usize,
    /// Digits behind V, by whose power of ten the number is multiplied.
    shift: usize,
    /// The first 0 among the positions before the point, counted from the left.
    first_zero: Option<usize>,
    /// Behind the point, zeros up to here are shown even if tight.
    last_zero_behind: usize,
    sign: Sign,
    has_exponent: bool,
    is_roman: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A minus directly before the number.
    #[default]
    Plain,
    /// `S`, which is before or behind the number.
    Anchored { is_behind: bool },
    /// `MI` and `PL`, where they stand.
    Placed,
    /// Angle brackets.
    Brackets,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Digit,
    Point,
    Group,
    Sign,
    Minus,
    Plus,
    Ordinal(Case),
    Literal(String),
}

fn parse(template: &str) -> Result<Template> {
    let mut parsed = Template::default();
    let mut rest = template;
    let (mut is_behind, mut is_shifted) = (false, false);
    while let Some(c) = rest.chars().next() {
        let keyword: String = rest
            .chars()
            .take(4)
            .collect::<String>()
            .to_ascii_uppercase();
        let mut width = c.len_utf8();
        match c {
            '"' => {
                let end = rest[1..].find('"').map_or(rest.len(), |at| at + 2);
                let inner = rest[1..end].trim_end_matches('"');
                parsed.items.push(Item::Literal(inner.to_string()));
                width = end;
            }
            '9' | '0' => {
                if is_behind {
                    parsed.behind += 1;
                    if c == '0' {
                        parsed.last_zero_behind = parsed.behind;
                    }
                } else {
                    if c == '0' && parsed.first_zero.is_none() {
                        parsed.first_zero = Some(parsed.before);
                    }
                    parsed.before += 1;
                    parsed.shift += usize::from(is_shifted);
                }
                parsed.items.push(Item::Digit);
            }
            '.' | 'D' | 'd' => {
                if is_behind {
                    return exec_err!("multiple decimal points");
                }
                is_behind = true;
                parsed.items.push(Item::Point);
            }
            ',' | 'G' | 'g' => parsed.items.push(Item::Group),
            'V' | 'v' => is_shifted = true,
            'S' | 's' => {
                let is_last = parsed.before + parsed.behind > 0;
                parsed.sign = Sign::Anchored { is_behind: is_last };
                parsed.items.push(Item::Sign);
            }
            'L' | 'l' => parsed.items.push(Item::Literal(" ".to_string())),
            _ if keyword.starts_with("FM") => {
                parsed.is_tight = true;
                width = 2;
            }
            _ if keyword.starts_with("EEEE") => {
                parsed.has_exponent = true;
                width = 4;
            }
            _ if keyword.starts_with("MI") => {
                parsed.sign = Sign::Placed;
                parsed.items.push(Item::Minus);
                width = 2;
            }
            _ if keyword.starts_with("PL") => {
                parsed.sign = Sign::Placed;
                parsed.items.push(Item::Plus);
                width = 2;
            }
            _ if keyword.starts_with("SG") => {
                parsed.sign = Sign::Placed;
                parsed.items.push(Item::Sign);
                width = 2;
            }
            _ if keyword.starts_with("PR") => {
                parsed.sign = Sign::Brackets;
                width = 2;
            }
            _ if keyword.starts_with("RN") => {
                parsed.is_roman = true;
                width = 2;
            }
            _ if keyword.starts_with("TH") => {
                let case = if rest.starts_with("TH") {
                    Case::Upper
                } else {
                    Case::Lower
                };
                parsed.items.push(Item::Ordinal(case));
                width = 2;
            }
            c => parsed.items.push(Item::Literal(c.to_string())),
        }
        rest = &rest[width..];
    }
    Ok(parsed)
}

/// The number as the template asks.
pub fn write(value: Decimal, template: &str) -> Result<String> {
    let parsed = parse(template)?;
    if parsed.is_roman {
        return roman(value, parsed.is_tight);
    }
    if parsed.has_exponent {
        return exponential(value, &parsed);
    }
    let mut value = value;
    if parsed.shift > 0 {
        let wide = value.digits.checked_mul(10i128.pow(parsed.shift as u32));
        value.digits = wide.ok_or_else(|| exec_datafusion_err!("numeric field overflow"))?;
    }
    let rounded = value.rescaled(parsed.behind.min(38) as i8)?;
    let is_negative = rounded.digits < 0;
    let digits = format!(
        "{:0width$}",
        rounded.digits.unsigned_abs(),
        width = parsed.behind + 1
    );
    let (whole, fraction) = digits.split_at(digits.len() - parsed.behind);
    let whole = whole.trim_start_matches('0');
    let is_too_long = whole.len() > parsed.before;
    Ok(fill(&parsed, whole, fraction, is_negative, is_too_long))
}

/// Puts the digits into their positions. What is too long becomes number signs.
fn fill(
    template: &Template,
    whole: &str,
    fraction: &str,
    is_negative: bool,
    is_too_long: bool,
) -> String {
    let missing = template.before.saturating_sub(whole.len());
    // from the first 0 on positions are never blank; a number without whole part may show a zero of its own
    let shown_from = template.first_zero.unwrap_or(usize::MAX).min(missing);
    let zero_alone = whole.is_empty() && template.behind == 0 && template.before > 0;
    let shown_from = if zero_alone {
        shown_from.min(template.before - 1)
    } else {
        shown_from
    };
    let tight_behind = if template.is_tight {
        let significant = fraction.trim_end_matches('0').len();
        significant.max(template.last_zero_behind)
    } else {
        template.behind
    };
    let sign = sign_text(template, is_negative);
    let mut out = String::new();
    let (mut position, mut behind) = (0usize, 0usize);
    let (mut is_behind, mut has_signed) = (false, false);
    let sign_before = matches!(
        template.sign,
        Sign::Plain | Sign::Brackets | Sign::Anchored { is_behind: false }
    );
    for item in &template.items {
        match item {
            Item::Digit if is_behind => {
                behind += 1;
                if behind <= tight_behind {
                    out.push(if is_too_long {
                        '#'
                    } else {
                        char::from(fraction.as_bytes()[behind - 1])
                    });
                }
            }
            Item::Digit => {
                let is_shown = is_too_long || position >= shown_from;
                if is_shown && !has_signed && sign_before {
                    out.push_str(&sign);
                    has_signed = true;
                }
                if is_too_long {
                    out.push('#');
                } else if position >= missing {
                    out.push(char::from(whole.as_bytes()[position - missing]));
                } else if is_shown {
                    out.push('0');
                } else if !template.is_tight {
                    out.push(' ');
                }
                position += 1;
            }
            Item::Point => {
                if !has_signed && sign_before {
                    out.push_str(&sign);
                    has_signed = true;
                }
                is_behind = true;
                // FM9. keeps its point
                out.push('.');
            }
            Item::Group => {
                if position > shown_from || is_too_long {
                    out.push(',');
                } else if !template.is_tight {
                    out.push(' ');
                }
            }
            Item::Sign => match template.sign {
                Sign::Anchored { is_behind: true } => out.push(if is_negative { '-' } else { '+' }),
                Sign::Placed => out.push(if is_negative { '-' } else { '+' }),
                _ => {}
            },
            Item::Minus if is_negative => out.push('-'),
            Item::Minus if !template.is_tight => out.push(' '),
            Item::Plus if !is_negative => out.push('+'),
            Item::Plus if !template.is_tight => out.push(' '),
            Item::Minus | Item::Plus => {}
            Item::Ordinal(case) => {
                if !is_negative {
                    out.push_str(&ordinal_of(whole, *case));
                }
            }
            Item::Literal(text) => out.push_str(text),
        }
    }
    if template.sign == Sign::Brackets {
        if is_negative {
            out.push('>');
        } else if !template.is_tight {
            out.push(' ');
        }
    }
    out
}

/// What stands before the first digit.
fn sign_text(template: &Template, is_negative: bool) -> String {
    match (template.sign, is_negative) {
        (Sign::Plain, true) => "-",
        (Sign::Brackets, true) => "<",
        (Sign::Plain | Sign::Brackets, false) if !template.is_tight => " ",
        (Sign::Anchored { .. }, true) => "-",
        (Sign::Anchored { .. }, false) => "+",
        _ => "",
    }
    .to_string()
}

/// `9.99EEEE`.
fn exponential(value: Decimal, template: &Template) -> Result<String> {
    let digits = value.digits.unsigned_abs().to_string();
    let sign = sign_text(template, value.digits < 0);
    let exponent = if value.digits == 0 {
        0
    } else {
        digits.len() as i32 - 1 - i32::from(value.scale)
    };
    let mantissa = Decimal {
        digits: value.digits.unsigned_abs() as i128,
        scale: (digits.len() - 1) as i8,
    };
    let mut rounded = mantissa.rescaled(template.behind.min(30) as i8)?;
    let mut exponent = exponent;
    if rounded.digits >= 10i128.pow(template.behind.min(30) as u32 + 1) {
        rounded.digits /= 10;
        exponent += 1;
    }
    let shown = format!("{:0width$}", rounded.digits, width = template.behind + 1);
    let (whole, fraction) = shown.split_at(shown.len() - template.behind);
    let point = if template.behind > 0 { "." } else { "" };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    Ok(format!(
        "{sign}{whole}{point}{fraction}e{exponent_sign}{:02}",
        exponent.unsigned_abs()
    ))
}

fn roman(value: Decimal, is_tight: bool) -> Result<String> {
    const NUMERALS: [(i128, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let mut rest = value.rescaled(0)?.digits;
    let text = if (1..4000).contains(&rest) {
        let mut text = String::new();
        for (worth, numeral) in NUMERALS {
            while rest >= worth {
                text.push_str(numeral);
                rest -= worth;
            }
        }
        text
    } else {
        "#".repeat(15)
    };
    Ok(if is_tight {
        text
    } else {
        format!("{text:>15}")
    })
}

/// Reads a number by the template: digits, sign and point; what else the template has is skipped.
pub fn read(text: &str, template: &str) -> Result<Decimal> {
    let parsed = parse(template)?;
    let invalid = || exec_datafusion_err!("invalid input syntax for type numeric: \"{text}\"");
    let mut digits = String::new();
    let mut scale = 0i8;
    let (mut is_negative, mut is_behind) = (false, false);
    let mut positions = parsed.before + parsed.behind;
    for c in text.chars() {
        match c {
            '0'..='9' => {
                if positions == 0 {
                    break;
                }
                positions -= 1;
                digits.push(c);
                scale += i8::from(is_behind);
            }
            '.' if !is_behind && parsed.items.contains(&Item::Point) => is_behind = true,
            '.' => break,
            '-' | '<' => is_negative = true,
            _ => {}
        }
    }
    if digits.is_empty() {
        return Err(invalid());
    }
    let digits: i128 = digits.parse().map_err(|_| invalid())?;
    Ok(Decimal {
        digits: if is_negative { -digits } else { digits },
        scale,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        Decimal {
            digits: format!("{whole}{fraction}").parse().unwrap(),
            scale: fraction.len() as i8,
        }
    }

    #[test]
    fn numbers_by_templates() {
        for (value, template, expected) in [
            ("125", "999", " 125"),
            ("125.8", "999D9", " 125.8"),
            ("-125.8", "999D99S", "125.80-"),
            ("1485", "9,999", " 1,485"),
            ("148.5", "000.00", " 148.50"),
            ("0.1", "FM9.99", ".1"),
            ("0.1", "FM0.99", "0.1"),
            ("-12", "S999", " -12"),
            ("482", "999th", " 482nd"),
            ("485", "RN", "        CDLXXXV"),
            ("12345.678", "99,999.99", " 12,345.68"),
            ("1234567", "FM9,999,999", "1,234,567"),
            ("12", "99V999", " 12000"),
            ("0.0004859", "9.99EEEE", " 4.86e-04"),
            ("-485", "999PR", "<485>"),
            ("1234.5", "FM999999990.00", "1234.50"),
            ("5", "00", " 05"),
            ("123", "99", " ##"),
            ("0", "999", "   0"),
            ("-5", "MI999", "-  5"),
            ("12", "9,999", "    12"),
            ("-1234.56", "FM9,999.9", "-1,234.6"),
        ] {
            assert_eq!(
                write(decimal(value), template).unwrap(),
                expected,
                "{value} {template}"
            );
        }
    }

    #[test]
    fn numbers_are_read() {
        for (text, template, expected) in [
            ("12,454.8-", "99G999D9S", "-12454.8"),
            ("1234.5", "9999.9", "1234.5"),
            ("$1,234.50", "L9,999.99", "1234.50"),
        ] {
            assert_eq!(read(text, template).unwrap(), decimal(expected), "{text}");
        }
    }
}
