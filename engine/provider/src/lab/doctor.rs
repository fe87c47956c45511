//! What a lab needs of the machine, and what of it is missing.

use std::fs;
use std::path::Path;

use crate::lab::apt::{self, Mirror};
use crate::lab::command::{attempt, tail};
use crate::lab::{LabConfig, image};

/// Programs and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 12] = [
    ("systemd-nspawn", "systemd-container"),
    ("debootstrap", "debootstrap"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("ssh-keygen", "openssh-client"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("setsid", "util-linux"),
    ("setpriv", "util-linux"),
    ("flock", "util-linux"),
    ("nsenter", "util-linux"),
    ("chroot", "coreutils"),
];

/// Capabilities by their bit: without these nothing of a lab works.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Bit of the capability to lower an `oom_score_adj`, which a container host may lack.
const CAP_SYS_RESOURCE: u32 = 24;

/// The package that has a program.
pub(crate) fn package_of(program: &str) -> Option<&'static str> {
    PROGRAMS.iter().find(|(name, _)| *name == program).map(|(_, package)| *package)
}

/// All that is missing, in sentences for people; empty if a lab can be made.
pub(crate) fn missing(config: &LabConfig) -> Vec<String> {
    if !nix::unistd::geteuid().is_root() {
        return vec!["root: run the engine as root or with sudo".to_owned()];
    }
    let mut missing = Vec::new();
    for (bit, name) in CAPABILITIES {
        if !capable(bit) {
            missing.push(format!("{name}: this container or service is not allowed to make machines"));
        }
    }
    let mut packages: Vec<&str> =
        PROGRAMS.iter().filter(|(name, _)| !installed(name)).map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        missing.push(format!("missing packages: apt-get install {}", packages.join(" ")));
    }
    // What follows would only say again that these are missing.
    if missing.is_empty() {
        missing.extend(kernel(&config.dir));
        missing.extend(sources(config));
    }
    missing
}

/// Does this process have a capability?
fn capable(bit: u32) -> bool {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| u64::from_str_radix(text.lines().find_map(|l| l.strip_prefix("CapEff:"))?.trim(), 16).ok())
        .is_some_and(|set| set & (1 << bit) != 0)
}

/// Is it impossible here to protect a process from the kernel's memory killer? Container runtimes have to be told.
pub(crate) fn oom_score_restricted() -> bool {
    !capable(CAP_SYS_RESOURCE)
}

fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
        .any(|folder| Path::new(folder).join(program).is_file())
}

const OVERLAY: &str = "cd \"$1\" && mkdir -p trial/l trial/u trial/w trial/m && \
    mount -t overlay -o lowerdir=trial/l,upperdir=trial/u,workdir=trial/w trial trial/m";
const BRIDGE: &str =
    "ip link add name plb-trial type bridge && ip link add name plv-trial type veth peer name plw-trial";
const NAT: &str = "iptables -w -t nat -S POSTROUTING && iptables -w -S FORWARD";

/// Tries out what the kernel has to do, in namespaces of their own.
fn kernel(dir: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    if let Err(error) = fs::create_dir_all(dir) {
        return vec![format!("a folder to write in: {}: {error}", dir.display())];
    }
    let folder = dir.to_string_lossy();
    for (what, own, script) in [
        ("overlay file systems in the lab's folder (module overlay)", "--mount", OVERLAY),
        ("bridges and virtual cables (modules bridge, veth)", "--net", BRIDGE),
        ("iptables with NAT (modules ip_tables or nf_tables)", "--net", NAT),
    ] {
        match attempt("unshare", &[own, "--", "/bin/sh", "-c", script, "sh", &folder]) {
            Ok(output) if output.status.success() => {}
            Ok(output) => missing.push(format!("{what}: {}", tail(&String::from_utf8_lossy(&output.stderr), 2))),
            Err(error) => missing.push(format!("{what}: {error}")),
        }
    }
    let _ = image::remove_tree(&dir.join("trial"));
    missing
}

/// Packages for the base image, unless it is there.
fn sources(config: &LabConfig) -> Vec<String> {
    if image::path(&config.cache, &config.suite).exists() {
        return Vec::new();
    }
    let mut missing = Vec::new();
    if apt::keyring().is_none() {
        missing.push("the keys of the Debian archive: apt-get install debian-archive-keyring".to_owned());
    }
    if config.mirror.is_none()
        && let Err(error) = Mirror::of_host(&config.suite)
    {
        missing.push(error.to_string());
    }
    missing
}
