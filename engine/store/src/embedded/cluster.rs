//! The files of the private Postgres: made once by `initdb`, its settings written anew at each start.
//!
//! Below the data directory: `cluster` (what Postgres calls PGDATA), `run` (the socket), `postgres.log`, and the two
//! lock files of [`super::sharing`]. A cluster is made aside and moved into its place, so that one is either complete
//! or not there; the same when it is moved to a newer major version.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
};

use nix::sys::statvfs::statvfs;

use super::{EmbeddedError, account::Account, binaries::Binaries};

/// The role that owns everything in the database, and the only one that can log in.
pub(crate) const USER: &str = "plinth";
/// A new cluster takes about 60 MB; one that starts may have to write a few segments of its log.
const NEEDED_FOR_NEW: u64 = 128 << 20;
const NEEDED_FOR_START: u64 = 24 << 20;
/// A path of a unix socket has at most 107 bytes.
const SOCKET_LIMIT: usize = 107;

/// Where the parts are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) base: PathBuf,
    pub(crate) cluster: PathBuf,
    pub(crate) log: PathBuf,
}

impl Layout {
    /// Makes the data directory if it is not there.
    pub(crate) fn open(base: &Path) -> Result<Self, EmbeddedError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(base)
            .map_err(|error| EmbeddedError::io("create", base, error))?;
        // One spelling for everybody who shares it: the place of the socket follows from it.
        let base = fs::canonicalize(base).map_err(|error| EmbeddedError::io("enter", base, error))?;
        if base.to_str().is_none_or(|path| path.contains(['\n', '\r'])) {
            let reason = "the path is not plain text".to_owned();
            return Err(EmbeddedError::Damaged { directory: base, reason });
        }
        Ok(Self { cluster: base.join("cluster"), log: base.join("postgres.log"), base })
    }

    /// The major version of the data, if there are any.
    pub(crate) fn version(&self) -> Result<Option<u32>, EmbeddedError> {
        version_of(&self.cluster)
    }

    /// Where the socket goes: beside the data, or, when that path is too long, to a short one that follows from it.
    pub(crate) fn socket(&self) -> PathBuf {
        let beside = self.base.join("run");
        if beside.as_os_str().len() + "/.s.PGSQL.5432.lock".len() <= SOCKET_LIMIT {
            return beside;
        }
        let parent = if nix::unistd::Uid::effective().is_root() { "/run" } else { "/tmp" };
        Path::new(parent).join(format!("plinth-{:016x}", fnv(self.base.as_os_str().as_encoded_bytes())))
    }
}

/// The major version of a cluster; `None` if there is none.
pub(crate) fn version_of(cluster: &Path) -> Result<Option<u32>, EmbeddedError> {
    let damaged = |reason: &str| EmbeddedError::Damaged { directory: cluster.to_owned(), reason: reason.to_owned() };
    if !cluster.try_exists().map_err(|error| EmbeddedError::io("look for", cluster, error))? {
        return Ok(None);
    }
    match fs::read_to_string(cluster.join("PG_VERSION")) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| damaged("its PG_VERSION is not a number")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged("it has no PG_VERSION")),
        Err(error) => Err(EmbeddedError::io("read", cluster.join("PG_VERSION"), error)),
    }
}

/// Makes a directory that only `account` can use, or makes sure that an existing one is so.
pub(crate) fn private_directory(path: &Path, account: &Account) -> Result<(), EmbeddedError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) if account.is_other() => chown(path, Some(account.uid), Some(account.gid))
            .map_err(|error| EmbeddedError::io("give away", path, error)),
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let data = fs::symlink_metadata(path).map_err(|error| EmbeddedError::io("look at", path, error))?;
            if data.is_dir() && data.uid() == account.uid && data.permissions().mode() & 0o077 == 0 {
                return Ok(());
            }
            let reason = format!("it must be a directory of mode 0700 that belongs to `{}`", account.name);
            Err(EmbeddedError::Damaged { directory: path.to_owned(), reason })
        }
        Err(error) => Err(EmbeddedError::io("create", path, error)),
    }
}

/// Makes a cluster in `place`, complete or not at all.
pub(crate) async fn create(
    place: &Path,
    base: &Path,
    account: &Account,
    binaries: &Binaries,
    durable: bool,
) -> Result<(), EmbeddedError> {
    need_space(base, NEEDED_FOR_NEW, "making a new database")?;
    let aside = place.with_extension("init");
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(|error| EmbeddedError::io("remove", &aside, error))?;
    }
    private_directory(&aside, account)?;
    let mut initdb = account.command(&binaries.program("initdb"), base);
    initdb.arg("--pgdata").arg(&aside).args(["--username", USER, "--auth", "peer", "--data-checksums"]);
    // Sorted by bytes, as Rust does; and no upgrade of the C library can change the order under an index.
    initdb.args(["--encoding", "UTF8", "--locale", "C", "--no-instructions"]);
    if !durable {
        initdb.arg("--no-sync");
    }
    initdb.stdin(Stdio::null());
    let output = tokio::process::Command::from(initdb)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| EmbeddedError::io("run", binaries.program("initdb"), error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // What is left of it would only stand in the way on a full disk.
        if let Err(error) = fs::remove_dir_all(&aside) {
            tracing::warn!(%error, directory = %aside.display(), "cannot remove a half-made database");
        }
        return Err(EmbeddedError::program("initdb", base, &said));
    }
    let included = "\n# Written by plinth at each start; what is to differ goes into local.conf.\n\
                    include_if_exists = 'plinth.conf'\ninclude_if_exists = 'local.conf'\n";
    OpenOptions::new()
        .append(true)
        .open(aside.join("postgresql.conf"))
        .and_then(|mut file| file.write_all(included.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|error| EmbeddedError::io("write", aside.join("postgresql.conf"), error))?;
    move_into(&aside, place)
}

/// Renames a directory, durably.
pub(crate) fn move_into(from: &Path, to: &Path) -> Result<(), EmbeddedError> {
    fs::rename(from, to).map_err(|error| EmbeddedError::io("move into its place", from, error))?;
    let parent = to.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| EmbeddedError::io("write", parent, error))
}

/// Writes the settings that this version of plinth wants. Returns where the socket will be.
pub(crate) fn configure(layout: &Layout, account: &Account, durable: bool) -> Result<PathBuf, EmbeddedError> {
    need_space(&layout.base, NEEDED_FOR_START, "starting it")?;
    let socket = layout.socket();
    private_directory(&socket, account)?;
    put(&layout.cluster.join("plinth.conf"), &settings(&socket, durable), account)?;
    let admitted: String =
        account.admitted().iter().map(|name| format!("plinth \"{}\" {USER}\n", name.replace('"', "\"\""))).collect();
    put(&layout.cluster.join("pg_ident.conf"), &admitted, account)?;
    put(&layout.cluster.join("pg_hba.conf"), &format!("local all {USER} peer map=plinth\n"), account)?;
    Ok(socket)
}

/// For one engine with a few dozen connections and many small batched commits, on a machine that it shares.
fn settings(socket: &Path, durable: bool) -> String {
    let socket = socket.display().to_string().replace('\'', "''");
    let switch = if durable { "on" } else { "off" };
    format!(
        "# Written by plinth at each start. Put your own settings into local.conf beside it.\n\
         listen_addresses = ''\n\
         port = 5432\n\
         unix_socket_directories = '\"{socket}\"'\n\
         unix_socket_permissions = 0700\n\
         cluster_name = 'plinth'\n\
         max_connections = 100\n\
         shared_buffers = 128MB\n\
         # A commit is on disk when it is reported.\n\
         fsync = {switch}\n\
         synchronous_commit = {switch}\n\
         full_page_writes = {switch}\n\
         # No replicas here, so the log holds what recovery needs and no more; long between checkpoints, for each is\n\
         # followed by whole pages in the log.\n\
         wal_level = minimal\n\
         max_wal_senders = 0\n\
         wal_compression = on\n\
         max_wal_size = 1GB\n\
         min_wal_size = 80MB\n\
         checkpoint_timeout = 15min\n\
         # Small hot tables: vacuum them often. Short queries: no compiler, no parallel workers.\n\
         autovacuum_naptime = 5s\n\
         autovacuum_vacuum_cost_delay = 0\n\
         autovacuum_vacuum_scale_factor = 0.05\n\
         autovacuum_analyze_scale_factor = 0.05\n\
         jit = off\n\
         max_parallel_workers_per_gather = 0\n\
         random_page_cost = 1.1\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n\
         lc_messages = 'C'\n\
         logging_collector = off\n\
         log_line_prefix = '%m [%p] %a '\n"
    )
}

/// Replaces a file of the cluster. Never follows a link that the account may have put there.
fn put(path: &Path, content: &str, account: &Account) -> Result<(), EmbeddedError> {
    if fs::read_to_string(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let failed = |error| EmbeddedError::io("write", path, error);
    let new = path.with_extension("new");
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(failed(error));
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    if account.is_other() {
        std::os::unix::fs::fchown(&file, Some(account.uid), Some(account.gid)).map_err(failed)?;
    }
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}

/// Bytes that an ordinary account can still write there.
pub(crate) fn free_space(directory: &Path) -> Result<u64, EmbeddedError> {
    let stat = statvfs(directory).map_err(|error| EmbeddedError::io("look at", directory, error.into()))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

fn need_space(directory: &Path, needed: u64, doing: &str) -> Result<(), EmbeddedError> {
    let free = free_space(directory)?;
    if free >= needed {
        return Ok(());
    }
    let doing = format!("{doing} needs {} MB, {} MB are free", needed >> 20, free >> 20);
    Err(EmbeddedError::NoSpace { directory: directory.to_owned(), doing })
}

/// FNV-1a: a short name that follows from a long one. Not a secret, and a clash is refused by the owner's mark.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_path_that_the_kernel_accepts() {
        let layout = |base: &str| Layout { base: base.into(), cluster: PathBuf::new(), log: PathBuf::new() };
        assert_eq!(layout("/var/lib/plinth/postgres").socket(), Path::new("/var/lib/plinth/postgres/run"));
        let long = layout(&format!("/var/lib/{}", "deep/".repeat(20))).socket();
        assert!(long.as_os_str().len() < 40, "{}", long.display());
        assert_eq!(long, layout(&format!("/var/lib/{}", "deep/".repeat(20))).socket());
    }
}
