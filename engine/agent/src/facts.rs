//! What machine this is, from files of the kernel and of the system.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::protocol::{Facts, OsFacts};

/// All that an agent can tell.
pub(crate) fn facts() -> Facts {
    Facts {
        hostname: line("/proc/sys/kernel/hostname"),
        os: os(),
        arch: arch().to_owned(),
        cpus: cpus(),
        memory: memory(),
        kernel: line("/proc/sys/kernel/osrelease"),
        machine_id: line("/etc/machine-id"),
        boot_id: boot_id(),
        more: json!({"init": line("/proc/1/comm"), "interfaces": interfaces()}),
    }
}

/// Changes with every boot.
pub(crate) fn boot_id() -> String {
    line("/proc/sys/kernel/random/boot_id")
}

/// The operating system, by os-release.
pub(crate) fn os() -> OsFacts {
    let text = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    os_from(&text.unwrap_or_default())
}

fn os_from(text: &str) -> OsFacts {
    let values: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\''])))
        .collect();
    let get = |key: &str| values.get(key).copied().unwrap_or_default();
    let (name, version) = (get("ID"), get("VERSION_ID"));
    // `ID_LIKE` names the closest relative first, and the ancestor of all last.
    let family = get("ID_LIKE").split_whitespace().last().unwrap_or(name);
    let family = if family == "fedora" { "rhel" } else { family };
    let id = if version.is_empty() { name.to_owned() } else { format!("{name}-{version}") };
    OsFacts { id, family: family.to_owned(), version: version.to_owned() }
}

/// Debian's word for the architecture.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

fn cpus() -> u32 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let count = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    kib.unwrap_or(0) * 1024
}

/// Name to hardware address, loopback left out.
fn interfaces() -> Value {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return json!({}) };
    let named = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let found: BTreeMap<String, String> = named
        .filter(|name| name != "lo")
        .map(|name| (name.clone(), line(&format!("/sys/class/net/{name}/address"))))
        .collect();
    json!(found)
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        let check = |text: &str| {
            let os = os_from(text);
            format!("{} {} {}", os.id, os.family, os.version)
        };
        assert_eq!(check("ID=debian\nVERSION_ID=\"12\"\n"), "debian-12 debian 12");
        assert_eq!(check("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\""), "ubuntu-24.04 debian 24.04");
        assert_eq!(check("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9\""), "rocky-9 rhel 9");
        assert_eq!(check("ID=debian"), "debian debian ");
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = facts();
        assert!(facts.cpus > 0 && facts.memory > 1 << 20 && facts.boot_id.len() == 36, "{facts:?}");
    }
}
