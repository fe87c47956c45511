//! The base image: a minimal Debian with systemd, an SSH server and a network, built once by debootstrap.
//!
//! It is built in a folder of its own and renamed when it is complete, so an interrupted build leaves nothing that looks
//! like an image. Its name is the hash of its recipe: a changed recipe makes a new one beside the old. It is never written
//! again, for it lies under running machines. If we die here, the build dies with us; its packages are kept for the next.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest, Sha256};

use crate::lab::apt::{self, Mirror};
use crate::lab::command::{Doing, Trouble, command, not_started, tail};
use crate::lab::state::lock_file;

/// What the image has beyond Debian's essential packages.
const PACKAGES: [&str; 10] = [
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "openssh-server",
    "procps",
    "systemd",
    "systemd-sysv",
];

/// Units that have no use in a lab machine or get in the way: timers that take the package lock at odd times, a login
/// prompt on the log that is the console, modules and mounts that are the host's business, and what prepares a disk, users
/// or records that the image has. Each costs time at every start.
const MASKED: [&str; 26] = [
    "apt-daily-upgrade.service",
    "apt-daily-upgrade.timer",
    "apt-daily.service",
    "apt-daily.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "modprobe@.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-initctl.socket",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-pstore.service",
    "systemd-remount-fs.service",
    "systemd-resolved.service",
    "systemd-sysusers.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];

/// Started when somebody asks for it, not at every start.
const ON_DEMAND: &str = "lib/systemd/system/multi-user.target.wants/systemd-logind.service";

/// Counts changes of [`finish`] that the other parts of the recipe do not show.
const RECIPE: u32 = 1;

/// Told of each step of a long job, in a line for people.
pub(crate) type Progress = dyn Fn(&str) + Send + Sync;

/// Path that the image of this suite has or will have.
pub(crate) fn path(cache: &Path, suite: &str) -> PathBuf {
    let recipe = format!("{RECIPE}\n{suite}\n{PACKAGES:?}\n{MASKED:?}\n{DPKG}\n{APT}\n{}", std::env::consts::ARCH);
    cache.join(format!("image-{suite}-{}", &hex::encode(Sha256::digest(recipe))[..12]))
}

/// The image, built if it is not there. Others that want it meanwhile wait.
pub(crate) fn ensure(cache: &Path, suite: &str, mirror: Option<&str>, progress: &Progress) -> Result<PathBuf, Trouble> {
    let path = path(cache, suite);
    if path.exists() {
        return Ok(path);
    }
    private(cache)?;
    let _building = lock_file(&cache.join("image.lock"))?;
    if path.exists() {
        return Ok(path);
    }
    let mirror = match mirror {
        Some(uri) => Mirror::given(uri, suite),
        None => Mirror::of_host(suite)?,
    };
    let building = cache.join("building");
    remove_tree(&building)?;
    fs::create_dir_all(&building).doing("creating", &building)?;
    build(cache, &building, suite, &mirror, progress)?;
    fs::rename(&building, &path).doing("renaming", &building)?;
    remove_tree(&cache.join("downloads"))?;
    progress("the base image is ready");
    Ok(path)
}

fn build(cache: &Path, root: &Path, suite: &str, mirror: &Mirror, progress: &Progress) -> Result<(), Trouble> {
    let downloads = cache.join("downloads");
    fs::create_dir_all(&downloads).doing("creating", &downloads)?;
    let keyring = apt::keyring().ok_or_else(|| {
        Trouble::Needs("the keys of the Debian archive: install the package debian-archive-keyring".to_owned())
    })?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let log = cache.join("image.log");
    let mut log = Log { file: File::create(&log).doing("creating", &log)?, path: log };
    progress(&format!("building the base image: Debian {suite} from {} (once, about a minute)", mirror.uri));
    let debootstrap = [
        "debootstrap",
        "--variant=minbase",
        &format!("--include={}", PACKAGES.join(",")),
        &format!("--keyring={}", text(keyring)),
        &format!("--cache-dir={}", text(&downloads)),
        suite,
        &text(root),
        &mirror.uri,
    ]
    .map(str::to_owned);
    log.run(&debootstrap, progress)?;
    finish(root, mirror)?;
    progress("fetching the package lists");
    let update = ["chroot", &text(root), "apt-get", "-q", "update"].map(str::to_owned);
    let resolver = root.join("etc/resolv.conf");
    put(root, "etc/resolv.conf", &super::files::resolv_conf()?)?;
    put(root, "etc/apt/apt.conf.d/90proxy", &apt::node_config(&apt::proxies(), "127.0.0.1"))?;
    log.run(&update, progress)?;
    // Both are each node's own.
    for path in [resolver, root.join("etc/apt/apt.conf.d/90proxy")] {
        fs::remove_file(&path).doing("removing", &path)?;
    }
    Ok(())
}

/// What a build prints goes to a file; its end is in the error.
struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Runs a command in namespaces of its own that die with this thread: no mount and no process is left behind.
    fn run(&mut self, words: &[String], progress: &Progress) -> Result<(), Trouble> {
        let errors = self.file.try_clone().doing("writing", &self.path)?;
        let mut child = command("setpriv")
            .args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private", "--pid"])
            .args(["--mount-proc", "--fork", "--kill-child=KILL", "--"])
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .envs(proxy_environment())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|source| not_started("setpriv", source))?;
        let output = child.stdout.take().expect("stdout is piped");
        let copied = self.copy(BufReader::new(output), progress);
        if copied.is_err() {
            // The log can not be written; the build ends with its reader or is ended here.
            let _ = child.kill();
        }
        let status = child.wait().doing("running", Path::new(&words[0]))?;
        copied?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(&self.path).unwrap_or_default();
        Err(Trouble::Command {
            command: words.join(" "),
            how: format!("{status}, log in {}", self.path.display()),
            said: tail(&said, 12),
        })
    }

    /// Copies what the command says into the log, and tells of each new kind of step.
    fn copy(&mut self, output: impl BufRead, progress: &Progress) -> Result<(), Trouble> {
        let mut stage = String::new();
        for line in output.lines().map_while(Result::ok) {
            writeln!(self.file, "{line}").doing("writing", &self.path)?;
            // `I: Retrieving…`, `I: Unpacking…`: once for each kind of step, not for each package.
            let kind = line.strip_prefix("I: ").and_then(|text| text.split_whitespace().next()).unwrap_or("");
            if !kind.is_empty() && kind != stage {
                kind.clone_into(&mut stage);
                progress(line.trim_start_matches("I: "));
            }
        }
        Ok(())
    }
}

fn proxy_environment() -> Vec<(&'static str, String)> {
    apt::proxies()
        .into_iter()
        .map(|(option, url)| (if option.contains("https") { "https_proxy" } else { "http_proxy" }, url))
        .collect()
}

/// A machine that is thrown away need not wait for the disk after each file that dpkg unpacks.
const DPKG: &str = "force-unsafe-io\n";

const APT: &str = "Acquire::Languages \"none\";\nBinary::apt::APT::Keep-Downloaded-Packages \"true\";\n";

/// Turns a fresh debootstrap into an image: nothing of one machine in it, a network that waits for its file, no timers.
fn finish(root: &Path, mirror: &Mirror) -> Result<(), Trouble> {
    put(root, "etc/apt/sources.list", &mirror.sources)?;
    put(root, "etc/apt/apt.conf.d/80plinth-lab", APT)?;
    put(root, "etc/dpkg/dpkg.cfg.d/plinth-lab", DPKG)?;
    put(root, "etc/default/locale", "LANG=C.UTF-8\n")?;
    let ssh = root.join("etc/ssh");
    for entry in fs::read_dir(&ssh).doing("reading", &ssh)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path()).doing("removing", &entry.path())?;
        }
    }
    let archives = root.join("var/cache/apt/archives");
    for entry in fs::read_dir(&archives).doing("reading", &archives)?.flatten() {
        if entry.path().extension().is_some_and(|ext| ext == "deb") {
            fs::remove_file(entry.path()).doing("removing", &entry.path())?;
        }
    }
    for name in ["etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id", ON_DEMAND] {
        let path = root.join(name);
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).doing("removing", &path)?;
        }
    }
    let system = root.join("etc/systemd/system");
    for unit in MASKED {
        link(Path::new("/dev/null"), &system.join(unit))?;
    }
    for (target, unit) in
        [("multi-user.target.wants", "systemd-networkd.service"), ("sockets.target.wants", "systemd-networkd.socket")]
    {
        let wants = system.join(target);
        fs::create_dir_all(&wants).doing("creating", &wants)?;
        link(&Path::new("/lib/systemd/system").join(unit), &wants.join(unit))?;
    }
    Ok(())
}

fn link(to: &Path, at: &Path) -> Result<(), Trouble> {
    if at.symlink_metadata().is_ok() {
        fs::remove_file(at).doing("removing", at)?;
    }
    symlink(to, at).doing("linking", at)
}

fn put(root: &Path, name: &str, text: &str) -> Result<(), Trouble> {
    let path = root.join(name);
    fs::write(&path, text).doing("writing", &path)
}

/// Removes the images that no machine runs on. A machine that runs holds a lock on its image.
pub(crate) fn remove_unused(cache: &Path) -> Result<(), Trouble> {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with("image-") {
            continue;
        }
        let image = File::open(&path).doing("opening", &path)?;
        if image.try_lock().is_ok() {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

/// A folder that only root may enter: what is in it are whole systems, with programs that make their caller root.
pub(crate) fn private(path: &Path) -> Result<(), Trouble> {
    fs::create_dir_all(path).doing("creating", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).doing("closing", path)
}

/// Removes a folder with all in it; not there is a success.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Trouble> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).doing("removing", path),
        _ => Ok(()),
    }
}
