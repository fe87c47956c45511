//! Durations as people write them: `90s`, `5m`, `2h`, `30d`, `1h30m`.

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration such as 90s, 5m, 2h, 30d or 1h30m")]
pub struct BadDuration(String);

/// Seconds of a duration. A plain number is seconds.
///
/// # Errors
/// When the text is something else, or more than a century.
pub fn seconds(text: &str) -> Result<u64, BadDuration> {
    let bad = || BadDuration(text.to_owned());
    let mut total = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = match &rest[digits..] {
            "" | "s" => (1, rest.len()),
            tail => {
                let unit = match tail.as_bytes()[0] {
                    b's' => 1,
                    b'm' => 60,
                    b'h' => 3600,
                    b'd' => 86_400,
                    _ => return Err(bad()),
                };
                (unit, digits + 1)
            }
        };
        total = number.checked_mul(unit.0).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = &rest[unit.1..];
    }
    if total > 100 * 366 * 86_400 { Err(bad()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn units_add_up() {
        for (text, expected) in
            [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("3650d", 315_360_000), ("1h30m", 5400)]
        {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "5x", "-1s", "1.5h", "99999999999999999999d", "9999999d", "5 m"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
