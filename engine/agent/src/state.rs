//! The state directory: incarnation, one folder per job, one ledger per owner.
//!
//! ```text
//! DIR/jobs/incarnation      a random name; it comes and goes with the folder of the journals
//! DIR/jobs/ID/spec          the job as it came; gone when the job is over, for it may hold secrets
//! DIR/jobs/ID/journal       what happened
//! DIR/jobs/ID/fence         the newest claim
//! DIR/jobs/ID/lock          held by the process that runs the job
//! DIR/jobs/ID/control       a pipe that wakes that process
//! DIR/jobs/ID/cancel        exists once somebody asked to stop
//! DIR/jobs/ID/reserve       space for the last words on a full disk
//! DIR/owners/OWNER          what a node role made, one record a line
//! DIR/owners/gone-OWNER     what its remove promised to take away, once it has left
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use engine_core::id::JobId;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::protocol::JobSpec;

/// Bytes kept back for the end of a journal on a full disk.
const RESERVE: i64 = 64 << 10;

/// The agent's place on this node.
#[derive(Clone, Debug)]
pub(crate) struct State {
    root: PathBuf,
}

/// The folder of one job.
#[derive(Clone, Debug)]
pub(crate) struct JobDir {
    path: PathBuf,
}

/// What came of handing a fence to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// It is the newest, now stored.
    Accepted,
    /// The journal has seen a newer one.
    TooOld(i64),
}

impl State {
    /// Opens the directory, and makes it if it is not there.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(root)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
        builder.create(root.join("owners"))?;
        let jobs = root.join("jobs");
        if !jobs.join("incarnation").exists() {
            // The name and the folder of the journals appear in one step: either both are there or none.
            let fresh = root.join(format!("jobs.new-{}", std::process::id()));
            builder.create(&fresh)?;
            write_durable(&fresh.join("incarnation"), random_name()?.as_bytes())?;
            if fs::rename(&fresh, &jobs).is_err() {
                fs::remove_dir_all(&fresh)?;
            }
            sync_dir(root)?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The name of this life of the journals.
    pub(crate) fn incarnation(&self) -> io::Result<String> {
        fs::read_to_string(self.root.join("jobs/incarnation"))
    }

    /// The folder of a job, if the job is known.
    pub(crate) fn job(&self, job: JobId) -> Option<JobDir> {
        let dir = JobDir { path: self.job_path(job) };
        dir.path.is_dir().then_some(dir)
    }

    /// Takes a new job in; `None` if it is known already. Either all of its folder is there or nothing.
    pub(crate) fn admit(&self, spec: &JobSpec) -> io::Result<Option<JobDir>> {
        let path = self.job_path(spec.job);
        let fresh = self.root.join(format!("jobs/.new-{}-{}", spec.job, std::process::id()));
        let built = build(&fresh, spec);
        if let Err(error) = built {
            let _ = fs::remove_dir_all(&fresh);
            return Err(error);
        }
        match fs::rename(&fresh, &path) {
            Ok(()) => Ok(Some(JobDir { path })),
            Err(_) if path.is_dir() => fs::remove_dir_all(&fresh).map(|()| None),
            Err(error) => Err(error),
        }
    }

    /// Does any job have a process?
    pub(crate) fn any_running(&self) -> io::Result<bool> {
        for entry in fs::read_dir(self.root.join("jobs"))? {
            let dir = JobDir { path: entry?.path() };
            if dir.path.join("lock").exists() && dir.is_running()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn job_path(&self, job: JobId) -> PathBuf {
        self.root.join("jobs").join(job.to_string())
    }
}

fn build(dir: &Path, spec: &JobSpec) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)?;
    let mut body = serde_json::to_vec(spec)?;
    body.push(b'\n');
    private(&dir.join("spec"))?.write_all(&body)?;
    private(&dir.join("fence"))?.write_all(spec.fence.to_string().as_bytes())?;
    private(&dir.join("journal"))?;
    private(&dir.join("lock"))?;
    nix::unistd::mkfifo(&dir.join("control"), Mode::S_IRUSR | Mode::S_IWUSR)?;
    let reserve = private(&dir.join("reserve"))?;
    match nix::fcntl::posix_fallocate(&reserve, 0, RESERVE) {
        // Some file systems can not set space aside; then the last words are at the mercy of the disk.
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl JobDir {
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn spec(&self) -> io::Result<JobSpec> {
        Ok(serde_json::from_slice(&fs::read(self.file("spec"))?)?)
    }

    /// Compares a fence with the newest seen, and stores it if it is newer.
    pub(crate) fn raise_fence(&self, fence: i64) -> io::Result<Fence> {
        let mut file = OpenOptions::new().read(true).write(true).open(self.file("fence"))?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let known: i64 = text.trim().parse().map_err(|_| io::Error::other("the fence is not a number"))?;
        if fence < known {
            return Ok(Fence::TooOld(known));
        }
        if fence > known {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(fence.to_string().as_bytes())?;
            file.sync_data()?;
        }
        Ok(Fence::Accepted)
    }

    /// Takes the job for this process; `None` while another has it. Held until the file is dropped.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new().write(true).open(self.file("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Does a process run the job?
    pub(crate) fn is_running(&self) -> io::Result<bool> {
        self.lock().map(|lock| lock.is_none())
    }

    /// Leaves the wish to stop, and wakes the process that runs the job.
    pub(crate) fn cancel(&self) -> io::Result<()> {
        File::create(self.file("cancel"))?;
        let opened = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(self.file("control"));
        // Without a reader there is no process to wake: whoever runs the job next sees the wish first.
        if let Ok(mut control) = opened {
            let _ = control.write_all(b"c");
        }
        Ok(())
    }

    /// Makes durable that this job exists and how far it got, before something that must not be done twice.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(self.file("spec"))?.sync_data()?;
        sync_dir(&self.path)?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }

    /// Waits for the process that ran the job to be gone, which it is a moment after it wrote the outcome, and takes
    /// away what it left if it was killed in that moment. Then what is on disk of the job holds no secret.
    pub(crate) fn settle(&self) -> io::Result<()> {
        let lock = OpenOptions::new().write(true).open(self.file("lock"))?;
        lock.lock()?;
        self.sweep()
    }

    /// Takes away everything but the journal: inputs, files of the work, the reserve. For whoever holds the lock.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for name in ["spec", "work", "reserve"] {
            let path = self.file(name);
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates a file that only we can read.
pub(crate) fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).read(true).append(true).mode(0o600).open(path)
}

fn write_durable(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = private(path)?;
    file.write_all(body)?;
    file.sync_all()
}

fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}
