//! Text in many scripts, with the characters that sort differently as bytes and as UTF-16.

use crate::random::Random;

/// Ranges of assigned characters, one script each. The last ones make the traps: private use and half-width forms
/// sort above surrogate pairs in UTF-16 and below them in UTF-8.
const SCRIPTS: [(u32, u32); 16] = [
    (0x61, 0x7A),       // Latin
    (0x41, 0x5A),       // Latin capitals
    (0x30, 0x39),       // digits
    (0xE0, 0xF6),       // Latin with accents
    (0x3B1, 0x3C9),     // Greek
    (0x430, 0x44F),     // Cyrillic
    (0x5D0, 0x5EA),     // Hebrew, right to left
    (0x627, 0x63A),     // Arabic
    (0x905, 0x939),     // Devanagari
    (0xE01, 0xE2E),     // Thai
    (0x4E00, 0x4E80),   // Han
    (0xAC00, 0xAC80),   // Hangul
    (0xE000, 0xE010),   // private use
    (0xFF61, 0xFF9F),   // half-width katakana
    (0x1F600, 0x1F64F), // emoji, beyond the basic plane
    (0x20000, 0x20040), // Han, beyond the basic plane
];
/// Characters that something on the way might take for its own.
const PUNCTUATION: &[char] =
    &[' ', '.', '-', '_', '#', '$', '"', '\'', '\\', '/', '[', ']', '=', '\n', '\t', '\u{301}', '\u{2028}', '\u{FEFF}'];

/// So many characters, of one script mostly.
pub fn any(random: &mut Random, count: usize) -> String {
    let script = *random.pick(&SCRIPTS);
    (0..count)
        .map(|_| {
            if random.chance(1, 16) {
                return *random.pick(PUNCTUATION);
            }
            let (low, high) = if random.chance(1, 8) { *random.pick(&SCRIPTS) } else { script };
            char::from_u32(low + random.below((high - low + 1) as usize) as u32).unwrap_or('?')
        })
        .collect()
}
