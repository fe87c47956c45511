//! `plinth-agent serve`: one conversation on standard input and output.

mod exec;
mod follow;

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use engine_core::id::JobId;

use crate::facts;
use crate::promises;
use crate::protocol::{JobSpec, OLDEST, PROTOCOL, Reply, Request, common, read_frame, write_frame};
use crate::state::{Fence, JobDir, State};

/// Something that ends the wait for news.
pub(crate) enum News {
    /// The job wrote to its journal.
    Job,
    /// The job's process ended.
    Ended,
    /// The other side hung up.
    HungUp,
}

/// Holds a conversation.
pub(crate) fn serve(root: &Path) -> Result<(), Box<dyn Error>> {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let Some(Request::Hello { protocol }) = read_frame(&mut input)? else {
        return Ok(refuse(&mut output, "protocol-unknown", "a conversation begins with `hello`")?);
    };
    let Some(protocol) = common(protocol) else {
        let message = format!("this agent speaks protocol {OLDEST} to {PROTOCOL}, not {protocol}");
        return Ok(refuse(&mut output, "protocol-unknown", message)?);
    };
    let state = match State::open(root) {
        Ok(state) => state,
        Err(error) => return Ok(refuse_io(&mut output, &error)?),
    };
    let hello = Reply::Hello {
        protocol,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation: state.incarnation()?,
        boot_id: facts::boot_id(),
    };
    write_frame(&mut output, &hello)?;
    let Some(request) = read_frame(&mut input)? else { return Ok(()) };
    drop(input);
    let (send, receive) = channel();
    watch_input(&send);
    let answer = answer(request, &state, &mut output, (send, receive));
    match answer {
        Ok(()) => Ok(()),
        // The engine is gone; the job goes on without it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Ok(refuse_io(&mut output, &error)?),
    }
}

type Channel = (Sender<News>, std::sync::mpsc::Receiver<News>);

fn answer(request: Request, state: &State, output: &mut impl Write, news: Channel) -> io::Result<()> {
    match request {
        Request::Hello { .. } => refuse(output, "protocol-unknown", "`hello` comes once"),
        Request::Facts => write_frame(output, &Reply::Facts { facts: facts::facts() }),
        Request::Run { job } => run(&job, state, output, news),
        Request::Attach { job, fence, seen } => {
            let Some(dir) = known(job, fence, state, output)? else { return Ok(()) };
            follow::follow(&dir, seen, None, output, news)
        }
        Request::Cancel { job, fence } => {
            let Some(dir) = known(job, fence, state, output)? else { return Ok(()) };
            dir.cancel()?;
            // Only the end is of interest to who asked.
            follow::follow(&dir, u64::MAX, None, output, news)
        }
        Request::Forget { job } => forget(job, state, output),
        Request::Exec { command, timeout } => exec::exec(&command, timeout, output, news),
        Request::Residue => write_frame(output, &Reply::Residue { left: promises::broken(state.root())? }),
        Request::Uninstall => uninstall(state, output),
    }
}

fn run(job: &JobSpec, state: &State, output: &mut impl Write, news: Channel) -> io::Result<()> {
    if let Some(dir) = state.admit(job)? {
        let wake = follow::start(&dir)?;
        return follow::follow(&dir, 0, Some(wake), output, news);
    }
    let Some(dir) = known(job.job, job.fence, state, output)? else { return Ok(()) };
    follow::follow(&dir, 0, None, output, news)
}

/// The folder of a job that may be touched under this fence; else the answer is given.
fn known(job: JobId, fence: i64, state: &State, output: &mut impl Write) -> io::Result<Option<JobDir>> {
    let Some(dir) = state.job(job) else {
        return write_frame(output, &Reply::UnknownJob { job }).map(|()| None);
    };
    match dir.raise_fence(fence)? {
        Fence::Accepted => Ok(Some(dir)),
        Fence::TooOld(newest) => {
            let message = format!("job {job} was taken over: fence {fence} is older than {newest}");
            refuse(output, "fence-too-old", message).map(|()| None)
        }
    }
}

fn forget(job: JobId, state: &State, output: &mut impl Write) -> io::Result<()> {
    if let Some(dir) = state.job(job) {
        if dir.is_running()? {
            return refuse(output, "job-running", format!("job {job} is running"));
        }
        dir.forget()?;
    }
    write_frame(output, &Reply::Ok)
}

fn uninstall(state: &State, output: &mut impl Write) -> io::Result<()> {
    if state.any_running()? {
        return refuse(output, "job-running", "a job is running on this node");
    }
    // Our own binary, if it lies in there, goes with the rest.
    fs::remove_dir_all(state.root())?;
    write_frame(output, &Reply::Ok)
}

fn refuse(output: &mut impl Write, code: &str, message: impl Into<String>) -> io::Result<()> {
    write_frame(output, &Reply::Refused { code: code.to_owned(), message: message.into() })
}

fn refuse_io(output: &mut impl Write, error: &io::Error) -> io::Result<()> {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk-full",
        io::ErrorKind::ReadOnlyFilesystem => "read-only-filesystem",
        io::ErrorKind::PermissionDenied => "permission-denied",
        io::ErrorKind::InvalidData => "journal-damaged",
        _ => "io-failed",
    };
    refuse(output, code, error.to_string())
}

/// Nothing more is asked on this channel: whatever comes, or its end, is of interest only as an end.
fn watch_input(send: &Sender<News>) {
    let send = send.clone();
    thread::spawn(move || {
        let mut rest = [0; 256];
        let mut input = io::stdin().lock();
        while input.read(&mut rest).is_ok_and(|count| count > 0) {}
        // Nobody listens any more if the conversation is over.
        let _ = send.send(News::HungUp);
    });
}
