//! The lab's bridge, its address, and the way out by NAT.
//!
//! Everything here carries the lab's id and is made again whenever a machine is started, so a reboot of the host or a
//! firewall that forgot its rules heals by itself. Machine-wide there is one setting, `ip_forward`: the first lab that
//! needs it remembers that it was off, the last one to go switches it off again.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::lab::command::{Doing, Trouble, attempt, run};
use crate::lab::state::{Folder, lock_file};
use crate::lab::subnet::{Subnet, in_use, pick};

/// Every bridge of a lab begins so; that is how labs on one machine see each other.
const PREFIX: &str = "plb-";

/// Where labs on this machine agree: a lock, and what `ip_forward` was. Gone with the last lab.
const MEETING: &str = "/run/plinth-lab";

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Name of the lab's bridge.
pub(crate) fn bridge(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// Name of a machine as nspawn knows it; short, because an interface is called by it.
pub(crate) fn machine(id: &str, index: u32) -> String {
    format!("{id}-{index}")
}

/// The host's end of a machine's cable.
pub(crate) fn cable(id: &str, index: u32) -> String {
    format!("vb-{id}-{index}")
}

/// Bridge, address, rules: makes what is not there. Chooses the subnet on first use; `wanted` is the caller's wish.
pub(crate) fn ensure(folder: &Folder, wanted: Option<Subnet>) -> Result<Subnet, Trouble> {
    let _meeting = meet()?;
    let bridge = bridge(&folder.id);
    let subnet = settle(folder, wanted, &bridge)?;
    let address = format!("{}/{}", subnet.gateway(), subnet.prefix());
    if !exists(&bridge) {
        // A fixed address of its own: a bridge without one takes that of a port, which changes when machines come and go.
        let hardware = hardware(&folder.id);
        run("ip", &["link", "add", "name", &bridge, "address", &hardware, "type", "bridge", "stp_state", "0"])?;
    }
    run("ip", &["address", "replace", &address, "dev", &bridge])?;
    run("ip", &["link", "set", "dev", &bridge, "up"])?;
    impatient(&bridge)?;
    forward()?;
    for rule in rules(&bridge, subnet, &tag(&folder.id)) {
        rule.ensure()?;
    }
    Ok(subnet)
}

/// Takes away what [`ensure`] made. What is not there is a success.
pub(crate) fn remove(folder: &Folder) -> Result<(), Trouble> {
    let _meeting = meet()?;
    let bridge = bridge(&folder.id);
    for (table, chain) in [("nat", "POSTROUTING"), ("filter", "FORWARD")] {
        remove_rules(table, chain, &tag(&folder.id))?;
    }
    if exists(&bridge) {
        run("ip", &["link", "delete", "dev", &bridge])?;
    }
    if !any_lab() {
        unforward()?;
        // Still under its lock: who waits for it finds it gone and makes a new one.
        let folder = Path::new(MEETING);
        fs::remove_dir_all(folder).doing("removing", folder)?;
        // nspawn's own, if nobody else has anything in it.
        let _ = fs::remove_dir("/run/systemd/nspawn");
    }
    Ok(())
}

/// Cuts the cable of a machine that is gone. The kernel does so by itself, but not at once.
pub(crate) fn unplug(cable: &str) -> Result<(), Trouble> {
    if exists(cable) {
        let output = attempt("ip", &["link", "delete", "dev", cable])?;
        if !output.status.success() && exists(cable) {
            return Err(Trouble::Refused(format!("the interface {cable} can not be removed")));
        }
    }
    Ok(())
}

/// The lab's subnet: the one it has, unless it has no nodes and that one is taken or another is wished for.
fn settle(folder: &Folder, wanted: Option<Subnet>, bridge: &str) -> Result<Subnet, Trouble> {
    let _lock = folder.lock()?;
    let mut record = folder.record()?;
    let others = used_by_others(bridge)?;
    if let Some(subnet) = record.subnet {
        let changed = wanted.is_some_and(|wanted| wanted != subnet);
        let clash = others.iter().any(|other| other.overlaps(subnet));
        if !changed && !clash {
            return Ok(subnet);
        }
        if !folder.nodes()?.is_empty() {
            return Err(Trouble::Needs(if clash {
                format!(
                    "the subnet {subnet}, which something else on this machine uses now: free it, or destroy the lab's nodes"
                )
            } else {
                format!("to keep the subnet {subnet} while it has nodes: destroy them before giving it another")
            }));
        }
        if exists(bridge) {
            run("ip", &["address", "flush", "dev", bridge])?;
        }
        for (table, chain) in [("nat", "POSTROUTING"), ("filter", "FORWARD")] {
            remove_rules(table, chain, &tag(&folder.id))?;
        }
    }
    let subnet = match wanted {
        Some(subnet) if subnet.capacity() == 0 => {
            return Err(Trouble::Needs(format!("a subnet with room for nodes: {subnet} has none")));
        }
        Some(subnet) if others.iter().any(|other| other.overlaps(subnet)) => {
            return Err(Trouble::Needs(format!("a subnet of its own: {subnet} is in use on this machine")));
        }
        Some(subnet) => subnet,
        None => {
            let seed = u8::from_str_radix(folder.id.get(..2).unwrap_or("00"), 16).unwrap_or(0);
            pick(seed, &others).ok_or_else(|| {
                Trouble::Needs(
                    "a free private subnet, and all it knows overlap with routes here: give it one".to_owned(),
                )
            })?
        }
    };
    record.subnet = Some(subnet);
    record.next = 0;
    folder.save(&record)?;
    Ok(subnet)
}

fn used_by_others(bridge: &str) -> Result<Vec<Subnet>, Trouble> {
    let mut listing = String::new();
    for arguments in [["-4", "-o", "route", "show", "table", "all"].as_slice(), &["-4", "-o", "address", "show"]] {
        for line in run("ip", arguments)?.lines().filter(|line| !line.split_whitespace().any(|word| word == bridge)) {
            listing.push_str(line);
            listing.push('\n');
        }
    }
    Ok(in_use(&listing))
}

/// A machine that boots is asked for every few milliseconds until it answers: by default the kernel asks once a second,
/// and every node would be found late. This setting is the bridge's own.
fn impatient(bridge: &str) -> Result<(), Trouble> {
    for (name, value) in [("retrans_time_ms", "50"), ("mcast_solicit", "10")] {
        let path = PathBuf::from(format!("/proc/sys/net/ipv4/neigh/{bridge}/{name}"));
        fs::write(&path, value).doing("writing", &path)?;
    }
    Ok(())
}

fn exists(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).exists()
}

fn any_lab() -> bool {
    fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
}

fn hardware(id: &str) -> String {
    // Locally administered, and the lab's own three bytes.
    let byte = |at: usize| id.get(at..at + 2).unwrap_or("00");
    format!("02:70:6c:{}:{}:{}", byte(0), byte(2), byte(4))
}

fn meet() -> Result<File, Trouble> {
    let folder = Path::new(MEETING);
    loop {
        fs::create_dir_all(folder).doing("creating", folder)?;
        match lock_file(&folder.join("lock")) {
            // The last lab to go took the folder away between the two lines above.
            Err(Trouble::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            other => return other,
        }
    }
}

/// The note is of this boot only: a machine that starts afresh decides about `ip_forward` anew.
fn note() -> Result<(PathBuf, String), Trouble> {
    let boot = Path::new("/proc/sys/kernel/random/boot_id");
    Ok((Path::new(MEETING).join("ip-forward-was-off"), fs::read_to_string(boot).doing("reading", boot)?))
}

fn forward() -> Result<(), Trouble> {
    let path = Path::new(IP_FORWARD);
    if fs::read_to_string(path).doing("reading", path)?.trim() != "0" {
        return Ok(());
    }
    let (note, boot) = note()?;
    fs::write(&note, boot).doing("writing", &note)?;
    fs::write(path, "1").doing("writing", path)
}

fn unforward() -> Result<(), Trouble> {
    let (note, boot) = note()?;
    let Ok(noted) = fs::read_to_string(&note) else { return Ok(()) };
    if noted == boot {
        let path = Path::new(IP_FORWARD);
        fs::write(path, "0").doing("writing", path)?;
    }
    fs::remove_file(&note).doing("removing", &note)
}

/// The mark of a lab's rules.
fn tag(id: &str) -> String {
    format!("plinth-lab-{id}")
}

/// One rule of iptables.
struct Rule {
    table: &'static str,
    chain: &'static str,
    first: bool,
    words: Vec<String>,
}

impl Rule {
    fn ensure(&self) -> Result<(), Trouble> {
        let with = |verb: &str| -> Vec<String> {
            let start = ["-w", "-t", self.table, verb, self.chain].map(str::to_owned);
            start.into_iter().chain(self.words.iter().cloned()).collect()
        };
        let check = with("-C");
        if attempt("iptables", &words(&check))?.status.success() {
            return Ok(());
        }
        // Before what others say of forwarding: Docker and ufw refuse what they do not know.
        run("iptables", &words(&with(if self.first { "-I" } else { "-A" }))).map(drop)
    }
}

fn words(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

fn rules(bridge: &str, subnet: Subnet, tag: &str) -> Vec<Rule> {
    let subnet = subnet.to_string();
    let rule = |table, chain, first, text: &[&str]| Rule {
        table,
        chain,
        first,
        words: [&["-m", "comment", "--comment", tag], text].concat().iter().map(|&word| word.to_owned()).collect(),
    };
    vec![
        rule("nat", "POSTROUTING", false, &["-s", &subnet, "!", "-d", &subnet, "-j", "MASQUERADE"]),
        rule("filter", "FORWARD", true, &["-i", bridge, "-j", "ACCEPT"]),
        rule(
            "filter",
            "FORWARD",
            true,
            &["-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
        ),
    ]
}

/// Removes all rules of a chain that carry the tag, whatever else they say.
fn remove_rules(table: &str, chain: &str, tag: &str) -> Result<(), Trouble> {
    for line in run("iptables", &["-w", "-t", table, "-S", chain])?.lines() {
        let mut rule: Vec<&str> = line.split_whitespace().map(|word| word.trim_matches('"')).collect();
        if rule.first() == Some(&"-A") && rule.contains(&tag) {
            rule[0] = "-D";
            run("iptables", &[&["-w", "-t", table], rule.as_slice()].concat())?;
        }
    }
    Ok(())
}
