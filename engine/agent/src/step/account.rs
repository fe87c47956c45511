//! `user` and `group`: local accounts, by the system's own tools.

use serde::Deserialize;
use serde_json::json;

use crate::args::AbsPath;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};
use crate::passwd;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    name: String,
    #[serde(default)]
    gid: Option<u32>,
    /// With a number from the range for services.
    #[serde(default)]
    system: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    name: String,
    #[serde(default)]
    uid: Option<u32>,
    /// Its own group; without it the system makes one of the same name.
    #[serde(default)]
    group: Option<String>,
    /// Further groups. The user is added to them and taken out of no other.
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    home: Option<AbsPath>,
    #[serde(default)]
    shell: Option<AbsPath>,
    #[serde(default)]
    comment: Option<String>,
    /// With a number from the range for services, and no home that is made.
    #[serde(default)]
    system: bool,
}

pub(super) fn apply_group(args: &Group, cx: &mut Context<'_>) -> Result<Report> {
    check_name("group", &args.name)?;
    let mut report = Report::unchanged();
    let wanted = args.gid.map(|gid| gid.to_string());
    let what = format!("group:{}", args.name);
    let Some(entry) = passwd::group(&args.name) else {
        report.diff(&what, "new");
        if !cx.dry {
            cx.ledger.note_made(what)?;
            let mut words = Vec::new();
            words.extend(args.system.then_some("--system"));
            words.extend(wanted.as_deref().map(|gid| ["--gid", gid]).into_iter().flatten());
            words.push(&args.name);
            cx.quiet("groupadd", &words)?;
        }
        return Ok(report);
    };
    if let Some(gid) = wanted.filter(|gid| entry.get(2) != Some(gid)) {
        report.diff(&what, format!("gid {} -> {gid}", entry.get(2).map_or("?", String::as_str)));
        if !cx.dry {
            cx.quiet("groupmod", &["--gid", &gid, &args.name])?;
        }
    }
    Ok(report)
}

pub(super) fn apply_user(args: &User, cx: &mut Context<'_>) -> Result<Report> {
    check_name("user", &args.name)?;
    let mut report = Report::unchanged();
    let what = format!("user:{}", args.name);
    let entry = passwd::user(&args.name);
    let mut words = Vec::new();
    let mut differences = Vec::new();
    let mut want = |flag: &str, index: usize, label: &str, value: Option<String>| {
        let current = entry.as_ref().and_then(|entry| entry.get(index)).cloned();
        if let Some(value) = value.filter(|value| current.as_ref() != Some(value)) {
            differences.push(format!("{label} {} -> {value}", current.as_deref().unwrap_or("none")));
            words.extend([flag.to_owned(), value]);
        }
    };
    let path = |path: &Option<AbsPath>| path.as_ref().map(|path| path.display().to_string());
    want("--uid", 2, "uid", args.uid.map(|uid| uid.to_string()));
    let group = match &args.group {
        Some(name) => match passwd::gid(name) {
            Ok(gid) => Some(gid.to_string()),
            Err(_) if cx.dry => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    want("--gid", 3, "group", group);
    want("--comment", 4, "comment", args.comment.clone());
    want("--home-dir", 5, "home", path(&args.home));
    want("--shell", 6, "shell", path(&args.shell));
    let missing: Vec<&str> =
        args.groups.iter().map(String::as_str).filter(|name| !is_member(&args.name, name)).collect();
    if entry.is_none() {
        report.diff(&what, "new");
    } else if !differences.is_empty() || !missing.is_empty() {
        differences.extend(missing.iter().map(|name| format!("in {name}")));
        report.diff(&what, differences.join(", "));
    }
    if !report.changed || cx.dry {
        return Ok(report);
    }
    if entry.is_none() {
        cx.ledger.note_made(what)?;
        words.push(if args.system { "--system" } else { "--create-home" }.to_owned());
        let home = path(&args.home).unwrap_or_else(|| format!("/home/{}", args.name));
        if !args.system && !std::path::Path::new(&home).exists() {
            cx.ledger.note_made(format!("home:{home}"))?;
        }
        let own_group = args.group.is_none() && passwd::group(&args.name).is_none();
        words.push(if own_group { "--user-group" } else { "--no-user-group" }.to_owned());
        if args.group.is_none() && !own_group {
            words.extend(["--gid".to_owned(), args.name.clone()]);
        }
    }
    if !missing.is_empty() {
        words.extend(entry.is_some().then(|| "--append".to_owned()));
        words.extend(["--groups".to_owned(), missing.join(",")]);
    }
    words.push(args.name.clone());
    let words: Vec<&str> =
        words.iter().map(|word| if word == "--home-dir" && entry.is_some() { "--home" } else { word }).collect();
    cx.quiet(if entry.is_none() { "useradd" } else { "usermod" }, &words)?;
    report.value = json!({"name": args.name});
    Ok(report)
}

pub(super) fn undo_group(args: &Group, cx: &mut Context<'_>) -> Result<Report> {
    take("group", &args.name, cx)
}

pub(super) fn undo_user(args: &User, cx: &mut Context<'_>) -> Result<Report> {
    take("user", &args.name, cx)
}

/// Takes an account away if we made it. Its home goes with it if it was made with it, which is not so for services.
pub(super) fn take(kind: &str, name: &str, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    let thing = format!("{kind}:{name}");
    if cx.is_spared(&thing) {
        cx.ledger.hand_over(&thing)?;
        return Ok(report);
    }
    if !cx.ledger.made(&thing) {
        return Ok(report);
    }
    match kind {
        "user" if passwd::user(name).is_some() => {
            let home = passwd::user(name).and_then(|entry| entry.get(5).cloned()).unwrap_or_default();
            let made_home = cx.ledger.made(&format!("home:{home}"));
            let words = if made_home { vec!["--remove", name] } else { vec![name] };
            let program = cx.program("userdel", &words);
            // A mail spool that is not there is no failure.
            let ended = program.run(cx.supervisor, &mut |_, _| {})?;
            if passwd::user(name).is_some() {
                ended.success("`userdel`")?;
            }
            report.diff(&thing, "removed");
            cx.ledger.note_gone(&format!("home:{home}"))?;
        }
        "group" if passwd::group(name).is_some() => {
            cx.quiet("groupdel", &[name])?;
            report.diff(&thing, "removed");
        }
        _ => {}
    }
    cx.ledger.note_gone(&thing)?;
    Ok(report)
}

/// Is an account there?
pub(super) fn is_there(kind: &str, name: &str) -> bool {
    match kind {
        "user" => passwd::user(name).is_some(),
        _ => passwd::group(name).is_some(),
    }
}

fn is_member(user: &str, group: &str) -> bool {
    let Some(entry) = passwd::group(group) else { return false };
    let primary = passwd::user(user).and_then(|user| user.get(3).cloned());
    passwd::members(&entry).contains(&user) || (primary.is_some() && primary == entry.get(2).cloned())
}

/// A name that begins with a dash would be an option.
fn check_name(kind: &str, name: &str) -> Result<()> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) || name.len() > 32 {
        return Err(StepError::argument(kind, format!("`{name}` is no name for an account")));
    }
    Ok(())
}
