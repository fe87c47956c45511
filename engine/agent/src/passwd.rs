//! Accounts by name. The binary is static, so name services are asked by `getent` and not by the C library.

use std::fs;
use std::process::Command;

use crate::error::{Result, StepError};

/// A line of passwd or group, cut at the colons.
pub(crate) type Entry = Vec<String>;

/// The passwd entry of a user.
pub(crate) fn user(name: &str) -> Option<Entry> {
    find("/etc/passwd", "passwd", name)
}

/// The group entry of a group.
pub(crate) fn group(name: &str) -> Option<Entry> {
    find("/etc/group", "group", name)
}

/// The number of a user; numbers stand for themselves.
pub(crate) fn uid(name: &str) -> Result<u32> {
    number(name, user(name)).ok_or_else(|| StepError::AccountUnknown { kind: "user", name: name.to_owned() })
}

/// The number of a group; numbers stand for themselves.
pub(crate) fn gid(name: &str) -> Result<u32> {
    number(name, group(name)).ok_or_else(|| StepError::AccountUnknown { kind: "group", name: name.to_owned() })
}

/// The name of a user, or its number.
pub(crate) fn user_name(uid: u32) -> String {
    name_of("/etc/passwd", uid)
}

/// The name of a group, or its number.
pub(crate) fn group_name(gid: u32) -> String {
    name_of("/etc/group", gid)
}

/// Members of a group besides those whose own group it is.
pub(crate) fn members(entry: &Entry) -> Vec<&str> {
    entry.get(3).map(|list| list.split(',').filter(|name| !name.is_empty()).collect()).unwrap_or_default()
}

fn number(name: &str, entry: Option<Entry>) -> Option<u32> {
    let found = entry.and_then(|entry| entry.get(2)?.parse().ok());
    found.or_else(|| name.parse().ok())
}

fn find(file: &str, database: &str, name: &str) -> Option<Entry> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().map(entry).find(|entry| entry.first().is_some_and(|first| first == name));
    found.or_else(|| {
        // Only where other name services are set up is there more to ask.
        let services = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
        let line = services.lines().find(|line| line.starts_with(&format!("{database}:")))?.to_owned();
        let more = line.split_whitespace().skip(1).any(|service| !matches!(service, "files" | "systemd" | "compat"));
        if !more {
            return None;
        }
        let output = Command::new("getent").args([database, name]).output().ok()?;
        output.status.success().then(|| entry(String::from_utf8_lossy(&output.stdout).trim()))
    })
}

fn name_of(file: &str, number: u32) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let number = number.to_string();
    let found = text.lines().map(entry).find(|entry| entry.get(2) == Some(&number));
    found.and_then(|entry| entry.first().cloned()).unwrap_or(number)
}

fn entry(line: &str) -> Entry {
    line.split(':').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_zero_and_numbers_are_numbers() {
        assert_eq!(uid("root").unwrap(), 0);
        assert_eq!(gid("4242").unwrap(), 4242);
        assert_eq!(user_name(0), "root");
        assert_eq!(group_name(3_999_999), "3999999");
        assert_eq!(uid("nobody-of-this-name").unwrap_err().code(), "account-unknown");
    }
}
