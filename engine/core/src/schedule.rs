//! Times that come round: cron expressions as people write them, with five fields, in UTC.
//!
//! `MINUTE HOUR DAY MONTH WEEKDAY`, or one of `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`. Weekdays count from Sunday,
//! which is 0 and 7. As everywhere else, a day matches if either of two restricted day fields does.

use std::str::FromStr as _;

use chrono::{DateTime, Utc};
use time::OffsetDateTime;
use time::macros::datetime;

/// Weekdays by their number.
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Short names for common schedules.
const NAMED: [(&str, &str); 6] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

/// Times that come round.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// It is time when it is time for one of them.
    either: Vec<cron::Schedule>,
}

/// The text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no schedule: {reason}")]
pub struct BadSchedule {
    /// As it was written.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// It does not have five fields, one of them says nothing that there is, or that time never comes.
    pub fn parse(text: &str) -> Result<Self, BadSchedule> {
        let bad = |reason: String| BadSchedule { text: text.to_owned(), reason };
        let plain = NAMED.iter().find(|(name, _)| *name == text.trim()).map_or(text, |(_, fields)| fields);
        let fields: Vec<&str> = plain.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let reason = format!("it has {} fields, not minute, hour, day, month and weekday", fields.len());
            return Err(bad(reason));
        };
        let weekdays = weekdays(weekday).map_err(&bad)?;
        // Two restricted fields are two schedules: a day matches if one of them does.
        let days = match (day.starts_with('*'), weekday.starts_with('*')) {
            (false, false) => vec![((*day).to_owned(), "*".to_owned()), ("*".to_owned(), weekdays)],
            _ => vec![((*day).to_owned(), weekdays)],
        };
        let read = |(day, weekday): (String, String)| {
            let full = format!("0 {minute} {hour} {day} {month} {weekday}");
            cron::Schedule::from_str(&full).map_err(|error| {
                // What the crate says of the field comes after the expression that we made.
                let said = error.to_string();
                bad(said.lines().last().unwrap_or_default().to_owned())
            })
        };
        let schedule = Self { either: days.into_iter().map(read).collect::<Result<_, _>>()? };
        match schedule.next_after(datetime!(2000-01-01 00:00 UTC)) {
            Some(_) => Ok(schedule),
            None => Err(bad("that time never comes".to_owned())),
        }
    }

    /// The first time after this moment, if there is one before the year 2100.
    pub fn next_after(&self, moment: OffsetDateTime) -> Option<OffsetDateTime> {
        let after: DateTime<Utc> = DateTime::from_timestamp(moment.unix_timestamp(), 0)?;
        let next = self.either.iter().filter_map(|schedule| schedule.after(&after).next()).min()?;
        OffsetDateTime::from_unix_timestamp(next.timestamp()).ok()
    }
}

/// The weekdays of a field by name: the crate counts them from 1.
fn weekdays(field: &str) -> Result<String, String> {
    if field == "*" {
        return Ok("*".to_owned());
    }
    let mut days = [false; 7];
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<usize>().ok().filter(|step| *step > 0);
                (range, step.ok_or_else(|| format!("`{part}` has no step"))?)
            }
            None => (part, 1),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (0, 6),
            Some((first, last)) => (weekday(first)?, weekday(last)?),
            None => (weekday(range)?, weekday(range)?),
        };
        // Friday to Monday goes over the end of the week.
        let last = if last < first { last + 7 } else { last };
        for day in (first..=last).step_by(step) {
            days[day % 7] = true;
        }
    }
    let named: Vec<&str> = DAYS.iter().zip(days).filter(|(_, on)| *on).map(|(day, _)| *day).collect();
    Ok(named.join(","))
}

fn weekday(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| *number <= 7);
    let named = || DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
    number.or_else(named).ok_or_else(|| format!("`{text}` is no weekday; Sunday is 0 and 7, or write SUN"))
}

#[cfg(test)]
mod tests {
    use super::{Schedule, datetime};

    /// The next three times after Saturday, 21 November 2026, 15:00.
    fn next(text: &str) -> String {
        let schedule = match Schedule::parse(text) {
            Ok(schedule) => schedule,
            Err(error) => return error.to_string(),
        };
        let mut at = datetime!(2026-11-21 15:00:30 UTC);
        let mut times = Vec::new();
        for _ in 0..3 {
            let Some(time) = schedule.next_after(at) else { break };
            times.push(format!("{} {} {:02}:{:02}", time.weekday(), time.date(), time.hour(), time.minute()));
            at = time;
        }
        times.join(", ")
    }

    fn table(texts: &[&str]) -> String {
        texts.iter().map(|text| format!("{text:<15}  {}\n", next(text))).collect()
    }

    #[test]
    fn five_fields_as_people_write_them() {
        let texts = [
            "0 3 * * *",
            "*/15 * * * *",
            "30 2 * * 1-5",
            "0 0 * * 0",
            "0 0 * * 7",
            "0 6 * * fri-mon",
            "0 6 * * 5-7",
            "0 6 * * */3",
            "@weekly",
            "0 3 1 * 1",
            "0 3 31 2,12 *",
        ];
        insta::assert_snapshot!(table(&texts), @r"
        0 3 * * *        Sunday 2026-11-22 03:00, Monday 2026-11-23 03:00, Tuesday 2026-11-24 03:00
        */15 * * * *     Saturday 2026-11-21 15:15, Saturday 2026-11-21 15:30, Saturday 2026-11-21 15:45
        30 2 * * 1-5     Monday 2026-11-23 02:30, Tuesday 2026-11-24 02:30, Wednesday 2026-11-25 02:30
        0 0 * * 0        Sunday 2026-11-22 00:00, Sunday 2026-11-29 00:00, Sunday 2026-12-06 00:00
        0 0 * * 7        Sunday 2026-11-22 00:00, Sunday 2026-11-29 00:00, Sunday 2026-12-06 00:00
        0 6 * * fri-mon  Sunday 2026-11-22 06:00, Monday 2026-11-23 06:00, Friday 2026-11-27 06:00
        0 6 * * 5-7      Sunday 2026-11-22 06:00, Friday 2026-11-27 06:00, Saturday 2026-11-28 06:00
        0 6 * * */3      Sunday 2026-11-22 06:00, Wednesday 2026-11-25 06:00, Saturday 2026-11-28 06:00
        @weekly          Sunday 2026-11-22 00:00, Sunday 2026-11-29 00:00, Sunday 2026-12-06 00:00
        0 3 1 * 1        Monday 2026-11-23 03:00, Monday 2026-11-30 03:00, Tuesday 2026-12-01 03:00
        0 3 31 2,12 *    Thursday 2026-12-31 03:00, Friday 2027-12-31 03:00, Sunday 2028-12-31 03:00
        ");
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        let texts = ["0 0 3 * * *", "61 3 * * *", "0 3 * * someday", "0 3 * * 1/0", "0 3 30 2 *", "0"];
        insta::assert_snapshot!(table(&texts), @r"
        0 0 3 * * *      `0 0 3 * * *` is no schedule: it has 6 fields, not minute, hour, day, month and weekday
        61 3 * * *       `61 3 * * *` is no schedule: Minutes must be less than 59. ('61' specified.)
        0 3 * * someday  `0 3 * * someday` is no schedule: `someday` is no weekday; Sunday is 0 and 7, or write SUN
        0 3 * * 1/0      `0 3 * * 1/0` is no schedule: `1/0` has no step
        0 3 30 2 *       `0 3 30 2 *` is no schedule: that time never comes
        0                `0` is no schedule: it has 1 fields, not minute, hour, day, month and weekday
        ");
    }
}
