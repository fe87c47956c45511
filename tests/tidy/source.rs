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

#[test]
fn every_migration_has_data() {
    let missing = |path: &std::path::PathBuf| {
        let number = path.file_name()?.to_str()?.split('_').next()?.to_owned();
        let data = root().join("migrations/data").join(format!("{number}.sql"));
        (!data.exists()).then(|| format!("{}: migrations/data/{number}.sql is missing", shown(path)))
    };
    let migrations: Vec<_> =
        files("migrations", ".sql").into_iter().filter(|path| !path.to_string_lossy().contains("/data/")).collect();
    assert!(!migrations.is_empty());
    none("migrations without data", &migrations.iter().filter_map(missing).collect::<Vec<_>>());
}
