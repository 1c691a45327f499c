//! Decimal numbers as DynamoDB knows them: 38 significant digits, no binary floating point anywhere.

use std::fmt;

/// The most significant digits that a number may have (DynamoDB developer guide, "Naming rules and data types").
const DIGITS_MAX: usize = 38;
/// The decimal exponents of the most significant digit that DynamoDB accepts: 1E-130 to 9.99...E+125.
const MAGNITUDES: std::ops::RangeInclusive<i64> = -130..=125;

/// A DynamoDB number, kept in the text it was given in.
///
/// `==` compares texts; [`Number::same`] compares values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(String);

/// Why a text is not a DynamoDB number. The text itself is never repeated: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not `[+-]digits[.digits][e[+-]digits]`.
    #[error("not a decimal number")]
    Syntax,
    /// More digits than DynamoDB keeps.
    #[error("a number of more than 38 significant digits")]
    Precision,
    /// Beyond 1E-130 to 9.9999999999999999999999999999999999999E+125 in magnitude.
    #[error("a number outside 1E-130 to 9.99E+125 in magnitude")]
    Range,
}

/// A parsed number: `0.DIGITS * 10^exponent`, without superfluous zeros on either side. Zero has no digits.
struct Decimal<'a> {
    negative: bool,
    /// ASCII digits, with at most one `.` inside that counts for nothing.
    digits: &'a [u8],
    exponent: i64,
}

impl Number {
    /// Takes the text of a number as it is, after checking that DynamoDB would accept it.
    ///
    /// # Errors
    /// [`NumberError`] when it would not.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        decimal(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The text as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one spelling that all spellings of this value share: no exponent, no leading `+`, no superfluous zeros,
    /// `0` for any zero, `0.x` below one (AWS Database Encryption SDK specification, `ddb-attribute-serialization.md`,
    /// "Number").
    #[must_use]
    pub fn canonical(&self) -> String {
        let decimal = self.decimal();
        let digits: Vec<u8> = decimal.digits.iter().copied().filter(|b| *b != b'.').collect();
        if digits.is_empty() {
            return "0".to_owned();
        }
        let mut out = Vec::with_capacity(digits.len() + 3);
        if decimal.negative {
            out.push(b'-');
        }
        let zeros = |n: i64| std::iter::repeat_n(b'0', usize::try_from(n).unwrap_or(0));
        let count = digits.len() as i64;
        if decimal.exponent <= 0 {
            out.extend_from_slice(b"0.");
            out.extend(zeros(-decimal.exponent));
            out.extend_from_slice(&digits);
        } else if decimal.exponent >= count {
            out.extend_from_slice(&digits);
            out.extend(zeros(decimal.exponent - count));
        } else {
            let (whole, fraction) = digits.split_at(usize::try_from(decimal.exponent).unwrap_or(0));
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        String::from_utf8(out).expect("digits, a sign and a point are ASCII")
    }

    /// The same value in its canonical spelling.
    #[must_use]
    pub fn to_canonical(&self) -> Self {
        Self(self.canonical())
    }

    /// Whether both stand for the same value, whatever the spelling.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.0 == other.0 || self.canonical() == other.canonical()
    }

    /// The bytes that DynamoDB counts for the number: one, one more when negative, and one for each pair of decimal
    /// digits aligned to the point, pairs of zeros at either end left out; at most 21.
    pub(super) fn size(&self) -> usize {
        let decimal = self.decimal();
        let count = decimal.digits.iter().filter(|b| **b != b'.').count() as i64;
        if count == 0 {
            return 1;
        }
        // Base-100 digits: the first pair starts at the even position at or above the exponent.
        let first = decimal.exponent + decimal.exponent.rem_euclid(2);
        let last = decimal.exponent - count;
        let pairs = (first - (last - last.rem_euclid(2))) / 2;
        (1 + usize::from(decimal.negative) + usize::try_from(pairs).unwrap_or(0)).min(21)
    }

    fn decimal(&self) -> Decimal<'_> {
        decimal(&self.0).expect("the text was checked when the number was made")
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "N({} bytes)", self.size())
    }
}

fn decimal(text: &str) -> Result<Decimal<'_>, NumberError> {
    let bytes = text.as_bytes();
    let (negative, rest) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, bytes),
    };
    let (mantissa, power) = match rest.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
        None => (rest, 0),
    };
    let point = mantissa.iter().position(|b| *b == b'.');
    let shape = |b: &u8| b.is_ascii_digit() || *b == b'.';
    let digits_written = mantissa.len() - usize::from(point.is_some());
    let points = mantissa.iter().filter(|b| **b == b'.').count();
    if digits_written == 0 || points > 1 || !mantissa.iter().all(shape) {
        return Err(NumberError::Syntax);
    }
    let Some(first) = mantissa.iter().position(|b| !matches!(b, b'0' | b'.')) else {
        return Ok(Decimal { negative: false, digits: &[], exponent: 0 });
    };
    let last = mantissa.iter().rposition(|b| !matches!(b, b'0' | b'.')).unwrap_or(first);
    let point = point.unwrap_or(mantissa.len());
    // Digits between the first significant one and the point, negative when the point comes first.
    let before_point = if first < point { (point - first) as i64 } else { -((first - point - 1) as i64) };
    let digits = &mantissa[first..=last];
    let exponent = before_point.saturating_add(power);
    if digits.iter().filter(|b| **b != b'.').count() > DIGITS_MAX {
        return Err(NumberError::Precision);
    }
    if !MAGNITUDES.contains(&(exponent - 1)) {
        return Err(NumberError::Range);
    }
    Ok(Decimal { negative, digits, exponent })
}

fn exponent(text: &[u8]) -> Result<i64, NumberError> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NumberError::Syntax);
    }
    // Saturates far outside the accepted range, so that no digit count overflows.
    let value = digits.iter().fold(0_i64, |sum, b| (sum * 10 + i64::from(b - b'0')).min(1 << 40));
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_spelling() {
        let cases = [
            ("0", "0"),
            ("-0.00", "0"),
            ("+5", "5"),
            ("00120.500", "120.5"),
            ("-0.0010", "-0.001"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1E3", "1000"),
            ("12.34e1", "123.4"),
            ("12.34E-4", "0.001234"),
            ("100.0", "100"),
            ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
            ("0e99999999999999999999", "0"),
        ];
        for (text, expected) in cases {
            assert_eq!(Number::parse(text).unwrap().canonical(), expected, "{text}");
        }
        assert_eq!(Number::parse("1E125").unwrap().canonical().len(), 126);
        assert_eq!(Number::parse("1E-130").unwrap().canonical().len(), 132);
    }

    #[test]
    fn refused() {
        let cases = [
            ("", NumberError::Syntax),
            ("-", NumberError::Syntax),
            (".", NumberError::Syntax),
            ("1.2.3", NumberError::Syntax),
            ("1e", NumberError::Syntax),
            ("0x10", NumberError::Syntax),
            (" 1", NumberError::Syntax),
            ("NaN", NumberError::Syntax),
            ("123456789012345678901234567890123456789", NumberError::Precision),
            ("1E126", NumberError::Range),
            ("1E-131", NumberError::Range),
            ("1E99999999999999999999", NumberError::Range),
        ];
        for (text, expected) in cases {
            assert_eq!(Number::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn size_in_base_100_digits() {
        let cases = [
            ("0", 1),
            ("1", 2),
            ("10", 2),
            ("100", 2),
            ("99", 2),
            ("101", 3),
            ("-1", 3),
            ("1000", 2),
            ("1.5", 3),
            ("0.05", 2),
            ("0.5", 2),
            ("123.45", 4),
            ("12345678901234567890123456789012345678", 20),
            ("1.2345678901234567890123456789012345678", 21),
            ("-12345678901234567890123456789012345678", 21),
        ];
        for (text, expected) in cases {
            assert_eq!(Number::parse(text).unwrap().size(), expected, "{text}");
        }
    }
}
