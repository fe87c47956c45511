//! Starting, finding and stopping the process behind a node.
//!
//! A machine is its supervisor: a shell script in a process and mount namespace of its own, detached from the engine. The
//! pid file names it by pid, start time and boot, so neither a reused pid nor a reboot of the host can deceive. Killing
//! the supervisor takes everything inside with it; if the engine dies, nothing happens to the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::command::{Doing, Trouble, command, not_started, run, tail};
use crate::lab::network;

/// The supervisor, as it lies in the lab's folder.
const SCRIPT: &str = include_str!("supervise.sh");

/// From the start of the supervisor to its pid file; it does very little before.
const START: Duration = Duration::from_secs(20);

/// From the kill to the end of the last process.
const END: Duration = Duration::from_secs(20);

/// Pause between two looks at what the kernel says.
const LOOK: Duration = Duration::from_millis(10);

/// What the supervisor is told of its machine.
pub(crate) struct Machine<'a> {
    /// Folder of the node.
    pub(crate) folder: PathBuf,
    /// The node's name.
    pub(crate) name: &'a str,
    /// Id of the lab.
    pub(crate) lab: &'a str,
    /// Index in the lab.
    pub(crate) index: u32,
    /// Identity of the machine.
    pub(crate) uuid: uuid::Uuid,
    /// Read-only layers, uppermost first; the last is the image.
    pub(crate) layers: &'a [PathBuf],
}

impl Machine<'_> {
    /// Starts the machine. That it runs already is a success.
    pub(crate) fn start(&self) -> Result<(), Trouble> {
        if process(&self.folder).is_some() {
            return Ok(());
        }
        self.clean()?;
        let image = self.layers.last().ok_or_else(|| Trouble::Refused("the node has no image".to_owned()))?;
        if !image.exists() {
            return Err(Trouble::Needs(format!(
                "the image {} that this node was made of, and it is gone: destroy the node and create it again",
                image.display()
            )));
        }
        let script = self.folder.join("supervise.sh");
        fs::write(&script, SCRIPT).doing("writing", &script)?;
        let settings = self.folder.join("machine");
        fs::write(&settings, self.settings(image)).doing("writing", &settings)?;
        for name in ["upper", "work", "root"] {
            let path = self.folder.join(name);
            fs::create_dir_all(&path).doing("creating", &path)?;
        }
        self.launch(&script)?;
        let deadline = Instant::now() + START;
        while process(&self.folder).is_none() {
            // The pid file of a machine that ended at once is there, too; then the caller hears it from the console.
            if self.folder.join("pid").exists() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Trouble::Refused(format!("its supervisor did not start: {}", console(&self.folder, 5))));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Pulls the plug and waits until nothing of the machine runs. That it is off is a success.
    pub(crate) fn stop(&self) -> Result<(), Trouble> {
        if let Some(pid) = process(&self.folder) {
            // Its child is process 1 of the machine's namespace, and ends only after every other process in there.
            let inside: Vec<Process> =
                processes().into_iter().filter(|(_, stat)| stat.parent == pid).map(Process::from).collect();
            // It may be gone between the look and the kill, so what kill says does not matter, only that all end.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let deadline = Instant::now() + END;
            while process(&self.folder).is_some() || !inside.iter().all(Process::is_gone) {
                if Instant::now() > deadline {
                    return Err(Trouble::Refused(format!("process {pid} does not end")));
                }
                std::thread::sleep(LOOK);
            }
        }
        self.clean()
    }

    /// Takes away what a dead machine leaves in the kernel.
    fn clean(&self) -> Result<(), Trouble> {
        network::unplug(&network::cable(self.lab, self.index))?;
        let groups = self.folder.join("groups");
        for group in fs::read_to_string(&groups).unwrap_or_default().lines() {
            remove_group(Path::new(group))?;
        }
        for name in ["groups", "pid"] {
            let path = self.folder.join(name);
            if path.exists() {
                fs::remove_file(&path).doing("removing", &path)?;
            }
        }
        Ok(())
    }

    fn settings(&self, image: &Path) -> String {
        let layers: Vec<String> = self.layers.iter().map(|layer| layer.to_string_lossy().into_owned()).collect();
        // Names and paths were checked to hold no quote.
        format!(
            "NAME='{}'\nMACHINE='{}'\nUUID='{}'\nBRIDGE='{}'\nIMAGE='{}'\nLOWER='{}'\n",
            self.name,
            network::machine(self.lab, self.index),
            self.uuid,
            network::bridge(self.lab),
            image.display(),
            layers.join(":"),
        )
    }

    /// Under systemd the machine is a service of its own: it gets a control group, and outlives logins and the engine's own
    /// service. Elsewhere it is a session of its own.
    fn launch(&self, script: &Path) -> Result<(), Trouble> {
        let script = script.to_string_lossy();
        let folder = self.folder.to_string_lossy();
        if Path::new("/run/systemd/system").is_dir() {
            let unit = format!("--unit=plinth-lab-{}", network::machine(self.lab, self.index));
            let about = format!("--description=Plinth lab node {}", self.name);
            let fixed = ["--quiet", "--collect", "--property=Delegate=yes", "--property=KillMode=mixed"];
            let rest = ["--property=TimeoutStopSec=5s", &unit, &about, "--", "/bin/sh", &script, &folder];
            return run("systemd-run", &[&fixed[..], &rest[..]].concat()).map(drop);
        }
        let console = self.folder.join("console");
        let output = fs::File::options().create(true).append(true).open(&console).doing("opening", &console)?;
        let errors = output.try_clone().doing("opening", &console)?;
        let status = command("setsid")
            .args(["--fork", "/bin/sh", &script, &folder])
            .current_dir("/")
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors))
            .status()
            .map_err(|source| not_started("setsid", source))?;
        if status.success() { Ok(()) } else { Err(Trouble::Refused(format!("setsid: {status}"))) }
    }
}

/// Pid of a node's supervisor, if it lives.
pub(crate) fn process(folder: &Path) -> Option<i32> {
    let text = fs::read_to_string(folder.join("pid")).ok()?;
    let mut words = text.split_whitespace();
    let pid: i32 = words.next()?.parse().ok()?;
    let (start, boot) = (words.next()?, words.next()?);
    if fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim() != boot {
        return None;
    }
    let stat = Stat::read(pid)?;
    (stat.start == start && !stat.has_ended()).then_some(pid)
}

/// Asks the machine's own init for an orderly reboot. Gives the process that is to go away.
pub(crate) fn ask_for_reboot(folder: &Path) -> Result<Process, Trouble> {
    let supervisor = process(folder).ok_or_else(|| Trouble::Refused("it is switched off".to_owned()))?;
    let init = init_of(supervisor).ok_or_else(|| Trouble::Refused("its init does not run yet".to_owned()))?;
    // What Ctrl-Alt-Del is to systemd.
    kill(Pid::from_raw(init.pid), Signal::SIGINT)
        .map_err(|errno| Trouble::Io { doing: "signalling its init".to_owned(), source: errno.into() })?;
    Ok(init)
}

/// Replaces root's authorized keys in a machine that runs. Its layer belongs to its own kernel view now, so this is done
/// from inside; a machine too young to have an init has what its layer said.
pub(crate) fn authorize(folder: &Path, keys: &str) -> Result<(), Trouble> {
    const SCRIPT: &str = "umask 077; mkdir -p /root/.ssh && printf %s \"$1\" >/root/.ssh/authorized_keys";
    let Some(init) = process(folder).and_then(init_of) else { return Ok(()) };
    let pid = init.pid.to_string();
    run("nsenter", &["--all", "--target", &pid, "--", "/bin/sh", "-c", SCRIPT, "sh", keys]).map(drop)
}

/// A process that a later one with the same pid is not mistaken for.
#[derive(Debug, PartialEq)]
pub(crate) struct Process {
    pid: i32,
    start: String,
}

impl From<(i32, Stat)> for Process {
    fn from((pid, stat): (i32, Stat)) -> Self {
        Self { pid, start: stat.start }
    }
}

impl Process {
    /// Has it ended? Who should collect it may never do so, so a zombie has.
    pub(crate) fn is_gone(&self) -> bool {
        Stat::read(self.pid).is_none_or(|stat| stat.start != self.start || stat.has_ended())
    }
}

/// Everything that runs.
fn processes() -> BTreeMap<i32, Stat> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Stat::read(pid)?)))
        .collect()
}

/// Process 1 of a machine, as the host sees it.
fn init_of(supervisor: i32) -> Option<Process> {
    let all = processes();
    let below = |mut pid: i32| {
        while let Some(stat) = all.get(&pid) {
            if stat.parent == supervisor {
                return true;
            }
            pid = stat.parent;
        }
        false
    };
    all.iter().filter(|(pid, _)| below(**pid)).find_map(|(&pid, stat)| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let spaces: Vec<&str> = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?.split_whitespace().collect();
        // Here, in the supervisor's namespace, in the machine's. More would be a container inside the machine.
        matches!(spaces[..], [_, _, "1"]).then(|| Process { pid, start: stat.start.clone() })
    })
}

/// `/proc/PID/stat`, as far as it is needed here.
struct Stat {
    state: String,
    parent: i32,
    start: String,
}

impl Stat {
    fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "Z" | "X")
    }

    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name stands in parentheses and may hold any character, also blanks and parentheses.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            state: (*fields.first()?).to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            start: (*fields.get(19)?).to_owned(),
        })
    }
}

/// Removes a control group with those inside. Their processes are gone, but the kernel may take a moment to notice.
fn remove_group(group: &Path) -> Result<(), Trouble> {
    let Ok(inside) = fs::read_dir(group) else { return Ok(()) };
    for entry in inside.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path())?;
        }
    }
    let deadline = Instant::now() + END;
    loop {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(LOOK);
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).doing("removing", group),
            _ => return Ok(()),
        }
    }
}

/// The last lines of a node's console, without colours.
pub(crate) fn console(folder: &Path, lines: usize) -> String {
    let read = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
    let mut bytes = read("console");
    if bytes.iter().filter(|byte| **byte == b'\n').count() < lines {
        bytes = [read("console.old"), bytes].concat();
    }
    tail(&plain(&String::from_utf8_lossy(&bytes)), lines)
}

/// Text without terminal control sequences.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => {
                if chars.next_if_eq(&'[').is_some() {
                    // Parameters, up to the letter that ends the sequence.
                    while chars.next().is_some_and(|next| !('@'..='~').contains(&next)) {}
                }
            }
            '\r' => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_hold_anything() {
        let text = "12 (a b) c) S 3 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = Stat::parse(text).expect("a stat line");
        assert_eq!((stat.state.as_str(), stat.parent, stat.start.as_str()), ("S", 3, "4711"));
    }

    #[test]
    fn a_pid_is_not_enough_to_be_alive() {
        let folder = tempfile::tempdir().expect("a folder");
        let mine = Stat::read(i32::try_from(std::process::id()).expect("a pid")).expect("this process");
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
        let check = |start: &str, boot: &str| {
            fs::write(folder.path().join("pid"), format!("{} {start} {boot}\n", std::process::id())).expect("written");
            process(folder.path()).is_some()
        };
        assert!(check(&mine.start, &boot));
        assert!(!check("1", &boot), "another process had this pid");
        assert!(!check(&mine.start, "00000000-0000-0000-0000-000000000000"), "another boot");
    }

    #[test]
    fn the_console_is_read_without_colours() {
        assert_eq!(plain("[\u{1b}[0;32m  OK  \u{1b}[0m] Reached\r\n\u{1b}"), "[  OK  ] Reached\n");
    }
}
