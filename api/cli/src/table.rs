//! Tables without lines, and colours on terminals.

use std::io::{self, IsTerminal as _};

use comfy_table::{Attribute, Cell, Color, Table};
use engine_core::state::State;
use engine_core::view::Health;
use time::OffsetDateTime;

/// A cell as it is to be shown.
pub(crate) enum Shown {
    /// As it is.
    Plain(String),
    /// As good or bad as it is.
    Coloured(String, Color),
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

/// Colours are for terminals, unless `NO_COLOR` says otherwise.
pub(crate) fn coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns by two blanks, a line each.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<Shown>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if coloured() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row(row.into_iter().map(|shown| match shown {
            Shown::Plain(text) => Cell::new(one_line(&text)),
            Shown::Coloured(text, colour) => Cell::new(one_line(&text)).fg(colour),
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    lines.concat()
}

/// What is in a cell stays on its line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A state with its colour.
pub(crate) fn state(state: State, leaving: bool) -> Shown {
    let text = if leaving { format!("{state}, leaving") } else { state.to_string() };
    Shown::Coloured(
        text,
        match state {
            State::Failed => Color::Red,
            State::Blocked => Color::Yellow,
            State::Running | State::Ready => Color::Blue,
            State::Active => Color::Green,
            State::Proposed | State::Gone => Color::DarkGrey,
        },
    )
}

/// A health with its colour.
pub(crate) fn health(health: Health) -> Shown {
    Shown::Coloured(
        health.as_str().to_owned(),
        match health {
            Health::Failed => Color::Red,
            Health::Paused => Color::Yellow,
            Health::Converging | Health::Destroying => Color::Blue,
            Health::Active => Color::Green,
            Health::Gone => Color::DarkGrey,
        },
    )
}

/// How long ago, in the largest unit that fits.
pub(crate) fn age(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let seconds = (now - at).whole_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time of the day in UTC, for what just happened.
pub(crate) fn clock(at: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime};

    use super::{age, table};

    #[test]
    fn columns_stand_below_their_names() {
        let rows = vec![vec!["blue".into(), "a\nb".into()], vec!["a-long-name".into(), "".into()]];
        insta::assert_snapshot!(table(&["NAME", "SAYS"], rows), @r"
        NAME         SAYS
        blue         a b
        a-long-name
        ");
    }

    #[test]
    fn ages_are_short() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(30);
        let all: Vec<String> =
            [-5, 0, 119, 120, 7199, 7200, 172_800].map(|s| age(now - Duration::seconds(s), now)).into();
        assert_eq!(all, ["0s", "0s", "119s", "2m", "119m", "2h", "2d"]);
    }
}
