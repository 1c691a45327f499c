//! Decimal numbers: the canonical spelling, and many others of the same value.

use crate::random::Random;

/// `0.DIGITS * 10^exponent`; no digits stand for zero.
#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    /// ASCII, neither first nor last is a zero.
    digits: String,
    exponent: i32,
}

/// The canonical spelling of a number: no exponent, no superfluous sign or zero. `None` if it is not a number.
pub fn canonical(text: &str) -> Option<String> {
    parse(text).map(|decimal| decimal.plain())
}

/// A number within DynamoDB's bounds, in one of its spellings.
pub fn any(random: &mut Random) -> String {
    if random.chance(1, 12) {
        return (*random.pick(&["0", "-0", "0.0", "00", "0E5", "0e-3", "-0.00"])).to_owned();
    }
    let count = *random.pick(&[1, 2, 5, 15, 37, 38]);
    let mut digits: String = (0..count).map(|_| char::from(b'0' + random.below(10) as u8)).collect();
    let outer = |random: &mut Random| char::from(b'1' + random.below(9) as u8).to_string();
    digits.replace_range(..1, &outer(random));
    digits.replace_range(count - 1.., &outer(random));
    // The leading digit counts from 1E-130 to 9E+125.
    let leading = *random.pick(&[0, 0, 1, -1, 5, -5, 20, 40, -40, 125, -130 + count as i32, -90]);
    spelled(&Decimal { negative: random.chance(1, 3), digits, exponent: leading + 1 }, random)
}

fn spelled(decimal: &Decimal, random: &mut Random) -> String {
    let sign = if decimal.negative { "-" } else { "" };
    let (first, rest) = decimal.digits.split_at(1);
    let e = random.pick(&["e", "E", "E+"]);
    let power = |n: i32| if n < 0 { format!("{}{n}", &e[..1]) } else { format!("{e}{n}") };
    let size = decimal.plain();
    let size = size.trim_start_matches('-');
    match random.below(6) {
        0 => format!("{sign}{first}.{rest}0{}", power(decimal.exponent - 1)),
        1 => format!("{sign}{}{}", decimal.digits, power(decimal.exponent - decimal.digits.len() as i32)),
        2 => format!("{sign}00{size}"),
        3 if size.contains('.') => format!("{sign}{size}000"),
        3 => format!("{sign}{size}.00"),
        4 if size.starts_with("0.") => format!("{sign}{}", &size[1..]),
        _ => format!("{sign}{size}"),
    }
}

impl Decimal {
    fn plain(&self) -> String {
        if self.digits.is_empty() {
            return "0".to_owned();
        }
        let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
        let count = self.digits.len() as i32;
        let text = if self.exponent <= 0 {
            format!("0.{}{}", zeros(-self.exponent), self.digits)
        } else if self.exponent >= count {
            format!("{}{}", self.digits, zeros(self.exponent - count))
        } else {
            let (whole, fraction) = self.digits.split_at(self.exponent as usize);
            format!("{whole}.{fraction}")
        };
        if self.negative { format!("-{text}") } else { text }
    }
}

fn parse(text: &str) -> Option<Decimal> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, power) = match text.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = all.trim_start_matches('0');
    let leading_zeros = (all.len() - significant.len()) as i32;
    let digits = significant.trim_end_matches('0').to_owned();
    if digits.is_empty() {
        return Some(Decimal { negative: false, digits, exponent: 0 });
    }
    Some(Decimal { negative, digits, exponent: whole.len() as i32 - leading_zeros + power })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_all() {
        let cases = [
            ("00120.500", Some("120.5")),
            ("1E3", Some("1000")),
            ("1.5e-3", Some("0.0015")),
            ("-0", Some("0")),
            (".5", Some("0.5")),
            ("5.", Some("5")),
            ("+7", Some("7")),
            ("-12e+1", Some("-120")),
            ("1e", None),
            ("", None),
            ("1.2.3", None),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn every_spelling_means_the_value() {
        let mut random = Random::new(1, "number");
        for _ in 0..2000 {
            let text = any(&mut random);
            let decimal = parse(&text).expect("a number");
            assert!(decimal.digits.len() <= 38, "{text}");
            assert!(parse(&decimal.plain()) == Some(decimal), "{text}");
        }
    }
}
