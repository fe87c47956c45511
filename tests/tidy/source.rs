//! What every source file keeps to.

use crate::{files, none, read, root, shown, sources};

/// Lines of a file that count: up to the tests at its end.
fn counted(text: &str) -> usize {
    text.lines().take_while(|line| line.trim() != "mod tests {").count()
}

#[test]
fn files_stay_short() {
    let long = |path: &std::path::PathBuf| {
        let lines = counted(&read(path));
        (lines > 600).then(|| format!("{}: {lines} lines, what is it two of?", shown(path)))
    };
    none("files above 600 lines", &sources().iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = |path: &std::path::PathBuf| {
        let text = read(path);
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        (!first.starts_with("//!")).then(|| shown(path))
    };
    none("files that do not begin with //!", &sources().iter().filter_map(silent).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_half_done() {
    let marks = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME"), concat!("#[ig", "nore")];
    let mut found = Vec::new();
    for path in sources() {
        for (number, line) in read(&path).lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                found.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    none("marks of unfinished work", &found);
}

#[test]
fn only_edges_read_the_clock() {
    let banned = ["SystemTime::now", "OffsetDateTime::now_utc", "Instant::now"];
    let mut found = Vec::new();
    for path in files("engine/core/src", ".rs").into_iter().chain(files("engine/catalog/src", ".rs")) {
        let text = read(&path);
        found
            .extend(banned.iter().filter(|name| text.contains(**name)).map(|name| format!("{}: {name}", shown(&path))));
    }
    none("clocks where time must be an argument", &found);
}

/// Migrations, without their data.
fn migrations() -> Vec<std::path::PathBuf> {
    let all = files("migrations", ".sql");
    all.into_iter().filter(|path| !path.to_string_lossy().contains("/data/")).collect()
}

/// What is wrong with a migration of this number as one of the two kinds that there are (`migrations/README.md`).
fn kind_problem(number: i64, text: &str) -> Option<String> {
    const TAKES_AWAY: [&str; 6] =
        ["drop table", "drop column", "drop constraint", " rename ", "set not null", "set data type"];
    let first = text.lines().next().unwrap_or_default();
    let raises = text.lines().filter_map(|line| line.strip_prefix("update compatibility set least = "));
    let raises: Vec<&str> = raises.map(|to| to.trim_end_matches(';')).collect();
    if let Some(least) =
        first.strip_prefix("-- contract ").and_then(|rest| rest.split_once(": ")).map(|(least, _)| least)
    {
        let earlier = least.parse::<i64>().is_ok_and(|least| least < number);
        return match (earlier, raises.as_slice() == [least]) {
            (false, _) => Some(format!("engines can not know {least} before it is released")),
            (true, false) => Some(format!("it must end with `update compatibility set least = {least};`")),
            (true, true) => None,
        };
    }
    if !first.starts_with("-- expand: ") {
        return Some("its first line is neither `-- expand: WHAT` nor `-- contract N: WHAT`".to_owned());
    }
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join(" ");
    let code = code.to_lowercase();
    let taken = TAKES_AWAY
        .iter()
        .find(|words| code.contains(**words))
        .map(|words| format!("it expands, and says `{}`", words.trim()));
    taken.or_else(|| (!raises.is_empty()).then(|| "it expands, and asks engines to know more".to_owned()))
}

#[test]
fn every_migration_expands_or_says_who_can_go_on() {
    let found = migrations().into_iter().filter_map(|path| {
        let number = path.file_name()?.to_str()?.split('_').next()?.parse().ok()?;
        kind_problem(number, &read(&path)).map(|problem| format!("{}: {problem}", shown(&path)))
    });
    none("migrations that are of no kind", &found.collect::<Vec<_>>());
}

#[test]
fn the_rule_for_migrations_finds_what_is_wrong() {
    let good = [
        "-- expand: a column\nalter table job add column pace text;\n",
        "-- contract 2: the old column\nalter table job drop column pace;\nupdate compatibility set least = 2;\n",
    ];
    assert!(good.iter().all(|text| kind_problem(3, text).is_none()));
    for (text, says) in [
        ("alter table job add column pace text;\n", "its first line is neither"),
        ("-- expand: tidier\nalter table job drop column pace;\n", "says `drop column`"),
        ("-- expand: a name\nalter table job rename column a to b;\n", "says `rename`"),
        ("-- expand: x\nupdate compatibility set least = 2;\n", "asks engines to know more"),
        ("-- contract 3: y\nupdate compatibility set least = 3;\n", "can not know 3"),
        ("-- contract 2: z\nalter table job drop column pace;\n", "must end with"),
    ] {
        let problem = kind_problem(3, text).unwrap_or_default();
        assert!(problem.contains(says), "{text}: {problem}");
    }
}

#[test]
fn every_migration_has_data() {
    let missing = |path: &std::path::PathBuf| {
        let number = path.file_name()?.to_str()?.split('_').next()?.to_owned();
        let data = root().join("migrations/data").join(format!("{number}.sql"));
        (!data.exists()).then(|| format!("{}: migrations/data/{number}.sql is missing", shown(path)))
    };
    let migrations = migrations();
    assert!(!migrations.is_empty());
    none("migrations without data", &migrations.iter().filter_map(missing).collect::<Vec<_>>());
}
