//! apt, one user at a time, and never with a question.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{FcntlArg, fcntl};

use crate::child::{Program, how};
use crate::context::Context;
use crate::error::{Result, StepError};

/// Ours: held while we use apt, so that our own jobs wait for each other and not for dpkg.
const OWN_LOCK: &str = "/run/plinth-packages.lock";

/// Those of apt and dpkg.
const LOCKS: [&str; 4] =
    ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"];

/// Between two looks at a lock: its holder tells nobody when it lets go.
const LOOK: Duration = Duration::from_millis(100);

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_ASIDE: &str = "/usr/sbin/policy-rc.d.plinth-aside";
const POLICY_TEXT: &str = "#!/bin/sh\n# plinth: services wait until their package is set up\nexit 101\n";

/// The right to use apt.
pub(super) struct Apt {
    _lock: File,
    lock_seconds: String,
}

impl Apt {
    /// Waits until nobody else uses the package database.
    pub(super) fn begin(limit: Duration, cx: &Context<'_>) -> Result<Self> {
        let began = Instant::now();
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(OWN_LOCK)
            .map_err(StepError::io("opening", OWN_LOCK))?;
        let mut told = false;
        loop {
            let holder = match lock.try_lock() {
                Ok(()) => LOCKS.iter().find_map(|path| holder(Path::new(path))),
                Err(TryLockError::WouldBlock) => Some("another job of plinth".to_owned()),
                Err(TryLockError::Error(error)) => return Err(StepError::io("locking", OWN_LOCK)(error)),
            };
            let Some(holder) = holder else { break };
            if began.elapsed() >= limit {
                return Err(StepError::AptLocked { holder, waited: limit.as_secs() });
            }
            if !std::mem::replace(&mut told, true) {
                cx.say(format!("waiting for the package database, held by {holder}"));
            }
            cx.supervisor.pause(LOOK)?;
        }
        let left = limit.saturating_sub(began.elapsed());
        let apt = Self { _lock: lock, lock_seconds: format!("DPkg::Lock::Timeout={}", left.as_secs().max(5)) };
        mend(cx)?;
        Ok(apt)
    }

    pub(super) fn install(
        &self,
        names: &[&str],
        start: bool,
        recommends: bool,
        refresh: Option<Duration>,
        cx: &Context<'_>,
    ) -> Result<()> {
        let fresh = refresh_if_needed(refresh);
        if fresh {
            self.refresh(cx)?;
        }
        let mut words = vec!["install", "--yes", "--allow-downgrades"];
        words.push(if recommends { "--install-recommends" } else { "--no-install-recommends" });
        words.push("--");
        words.extend(names);
        let _held = if start { None } else { Some(Held::new()?) };
        let Err(failure) = self.run(&words, cx)? else { return Ok(()) };
        if fresh || !failure.is_about_the_index() {
            return Err(failure.into_error(names));
        }
        cx.say("the package index does not fit: fetching it anew");
        self.refresh(cx)?;
        self.run(&words, cx)?.map_err(|failure| failure.into_error(names))
    }

    pub(super) fn purge(&self, names: &[&str], cx: &Context<'_>) -> Result<()> {
        let words = [&["purge", "--yes", "--"], names].concat();
        self.run(&words, cx)?.map_err(|failure| failure.into_error(names))
    }

    /// Packages that nobody asked for and nobody needs.
    pub(super) fn orphans(&self, cx: &Context<'_>) -> Result<Vec<String>> {
        let text = cx.quiet("apt-get", &["--simulate", "--quiet", "--option", &self.lock_seconds, "autoremove"])?;
        let names = text.lines().filter_map(|line| line.strip_prefix("Remv ")?.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    fn refresh(&self, cx: &Context<'_>) -> Result<()> {
        self.run(&["update"], cx)?.map_err(|failure| failure.into_error(&[]))
    }

    /// The inner error is apt's.
    fn run(&self, words: &[&str], cx: &Context<'_>) -> Result<std::result::Result<(), Failure>> {
        const OPTIONS: [&str; 9] = [
            "--quiet=2",
            "--option",
            "Dpkg::Options::=--force-confdef",
            "--option",
            "Dpkg::Options::=--force-confold",
            "--option",
            "Dpkg::Use-Pty=0",
            "--option",
            "APT::Update::Error-Mode=any",
        ];
        let words = [&OPTIONS[..], &["--option", &self.lock_seconds], words].concat();
        let mut errors = Vec::new();
        let mut sink = |stream: &str, lines: &[String]| {
            errors.extend(lines.iter().filter(|line| line.starts_with("E: ") || line.starts_with("Err:")).cloned());
            drop(cx.journal.log(stream, lines));
        };
        let ended = unattended(cx.program("apt-get", &words)).run(cx.supervisor, &mut sink)?;
        if ended.status.success() {
            return Ok(Ok(()));
        }
        let last = if errors.is_empty() { ended.last } else { errors.join("\n") };
        Ok(Err(Failure { how: how(ended.status), last, waited: seconds(&self.lock_seconds) }))
    }
}

/// Puts right what a process left that died in the middle.
fn mend(cx: &Context<'_>) -> Result<()> {
    allow_services()?;
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let unfinished = fs::read_dir("/var/lib/dpkg/updates")
        .is_ok_and(|entries| entries.flatten().any(|entry| is_number(&entry.file_name().to_string_lossy())));
    if unfinished {
        cx.say("dpkg was interrupted: finishing that first");
        let words = ["--configure", "-a", "--force-confdef", "--force-confold"];
        cx.logged(unattended(cx.program("dpkg", &words)), "`dpkg --configure -a`")?;
    }
    Ok(())
}

fn unattended(program: Program) -> Program {
    program
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
        .env("APT_LISTCHANGES_FRONTEND", "none")
        .env("NEEDRESTART_SUSPEND", "1")
}

fn seconds(option: &str) -> u64 {
    option.rsplit('=').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// How apt failed.
struct Failure {
    how: String,
    last: String,
    waited: u64,
}

impl Failure {
    /// Would it work with a new index?
    fn is_about_the_index(&self) -> bool {
        ["Unable to locate package", "has no installation candidate", "was not found", "404 ", "Unable to fetch"]
            .iter()
            .any(|sign| self.last.contains(sign))
    }

    fn into_error(self, names: &[&str]) -> StepError {
        if let Some(holder) = self.last.split("It is held by ").nth(1).filter(|_| self.last.contains("get lock")) {
            let holder = holder.lines().next().unwrap_or_default().trim_end_matches('.').to_owned();
            return StepError::AptLocked { holder, waited: self.waited };
        }
        let nowhere = ["Unable to locate package", "has no installation candidate", "' was not found"];
        if nowhere.iter().any(|sign| self.last.contains(sign)) {
            let named = names.iter().find(|name| self.last.contains(super::split(name).0));
            return StepError::PackageUnknown(named.map_or_else(|| names.join(" "), |name| (*name).to_owned()));
        }
        StepError::Command { what: "apt-get".to_owned(), how: self.how, last: self.last }
    }
}

/// Who has a lock of apt or dpkg. These are locks of fcntl, which tell their holder.
fn holder(path: &Path) -> Option<String> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    let whole = libc::SEEK_SET;
    let mut lock = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).ok()?,
        l_whence: i16::try_from(whole).ok()?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut lock)).ok()?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return None;
    }
    let name = fs::read_to_string(format!("/proc/{}/comm", lock.l_pid)).unwrap_or_default();
    Some(format!("process {} ({})", lock.l_pid, name.trim()))
}

/// Is there no index, or is it older than it may be?
fn refresh_if_needed(limit: Option<Duration>) -> bool {
    let lists = Path::new("/var/lib/apt/lists");
    let has_index = fs::read_dir(lists)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")));
    if !has_index {
        return true;
    }
    let Some(limit) = limit else { return false };
    // apt puts every index through `partial`, whatever time the server gives the file itself.
    let changed = [lists.to_path_buf(), lists.join("partial")]
        .iter()
        .filter_map(|dir| dir.metadata().ok()?.modified().ok())
        .max();
    let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    age.is_none_or(|age| age > limit)
}

/// While it lives, packages do not start services.
struct Held;

impl Held {
    fn new() -> Result<Self> {
        let make = || {
            match fs::rename(POLICY, POLICY_ASIDE) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY)?;
            file.write_all(POLICY_TEXT.as_bytes())
        };
        make().map_err(StepError::io("writing", POLICY))?;
        Ok(Self)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // If it fails, or we die before, the next use of apt sets it right.
        drop(allow_services());
    }
}

/// Takes our policy away and gives back what was there.
fn allow_services() -> Result<()> {
    let restore = || {
        if fs::read_to_string(POLICY).is_ok_and(|text| text == POLICY_TEXT) {
            fs::remove_file(POLICY)?;
        }
        if Path::new(POLICY_ASIDE).exists() && !Path::new(POLICY).exists() {
            fs::rename(POLICY_ASIDE, POLICY)?;
        }
        Ok(())
    };
    restore().map_err(StepError::io("restoring", POLICY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(last: &str) -> String {
        let failure = Failure { how: "ended with 100".to_owned(), last: last.to_owned(), waited: 5 };
        let error = failure.into_error(&["curl", "nosuch=1.0"]);
        format!("{}: {error}", error.code())
    }

    #[test]
    fn what_apt_says_is_understood() {
        assert_eq!(
            check("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 123 (apt-get)\nE: Unable"),
            "apt-locked: the package database is held by process 123 (apt-get), after waiting 5 s"
        );
        assert_eq!(check("E: Unable to locate package nosuch"), "package-unknown: no package source has `nosuch=1.0`");
        assert_eq!(
            check("E: Version '1.0' for 'nosuch' was not found"),
            "package-unknown: no package source has `nosuch=1.0`"
        );
        assert_eq!(
            check("E: You don't have enough free space.\nNo space left on device"),
            "disk-full: apt-get ended with 100: E: You don't have enough free space.\nNo space left on device"
        );
    }

    #[test]
    fn a_lock_that_nobody_has() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(holder(file.path()), None);
        assert_eq!(holder(Path::new("/nosuch/lock")), None);
    }
}
