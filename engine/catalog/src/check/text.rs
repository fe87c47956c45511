//! Small languages inside documents: versions, durations.

use crate::report::Report;

/// Seconds of a time such as `30s`, `5m` or `1h30m`.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, factor) =
            [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)].into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[unit.len()..];
    }
    (total > 0).then_some(total)
}

pub(crate) fn version(text: &str, pointer: &str, report: &Report<'_>) {
    if let Err(error) = semver::Version::parse(text) {
        report.wrong("bad-version", pointer, format!("`{text}` is not a version: {error}"), "a version such as 1.0.0");
    }
}

pub(crate) fn duration(text: Option<&String>, pointer: &str, report: &Report<'_>) {
    if let Some(text) = text
        && seconds(text).is_none()
    {
        report.wrong(
            "bad-duration",
            pointer,
            format!("`{text}` is not a time"),
            "a time above zero, such as 30s, 5m or 2h",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn durations() {
        let read: Vec<_> =
            ["30s", "1h30m", "2d", "0s", "", "5", "m", "5x", "99999999999999999999s"].map(seconds).into();
        assert_eq!(read, [Some(30), Some(5400), Some(172_800), None, None, None, None, None, None]);
    }
}
