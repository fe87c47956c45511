//! Tells the engine what a job's journal says, from where it left off, and starts the job again if its process died.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::{Channel, News, refuse};
use crate::facts;
use crate::journal::{Record, Tail};
use crate::protocol::{Reply, write_frame};
use crate::state::JobDir;

/// Between two looks at a journal whose writer we did not start and that can not wake us.
const LOOK: Duration = Duration::from_millis(10);

/// Between two looks when the writer wakes us: only for the case that it was taken over.
const RARE_LOOK: Duration = Duration::from_secs(1);

/// Processes that may die in one conversation before we stop starting new ones.
const LIVES: u32 = 5;

/// Starts the process that runs the job. What it writes to the pipe says that there is news.
pub(super) fn start(dir: &JobDir) -> io::Result<ChildStdout> {
    let errors = File::create(dir.file("stderr"))?;
    let mut child = Command::new("/proc/self/exe")
        .arg("job")
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .current_dir("/")
        .spawn()?;
    let wake = child.stdout.take().expect("the pipe was asked for");
    // So that it does not stay as a zombie while this conversation lasts.
    thread::spawn(move || child.wait());
    Ok(wake)
}

/// Sends events after `seen`, then the outcome.
pub(super) fn follow(
    dir: &JobDir,
    seen: u64,
    wake: Option<ChildStdout>,
    output: &mut impl Write,
    (send, receive): Channel,
) -> io::Result<()> {
    let mut tail = Tail::open(&dir.file("journal"))?;
    let mut woken = wake.is_some();
    if let Some(wake) = wake {
        forward(wake, &send);
    }
    let mut lives = LIVES;
    // A process that we just started may not have its lock yet.
    let mut look_for_process = !woken;
    loop {
        let records = tail.read()?;
        if tell(dir, records, seen, output)? {
            return Ok(());
        }
        // No process and no end: it died, or the node did. The lock says so, and it is taken before the journal is
        // read once more, so an end written in between is not missed.
        if look_for_process && !dir.is_running()? {
            let records = tail.read()?;
            if !records.is_empty() {
                if tell(dir, records, seen, output)? {
                    return Ok(());
                }
                continue;
            }
            if lives == 0 {
                return refuse(output, "job-process-dies", last_words(dir));
            }
            lives -= 1;
            forward(start(dir)?, &send);
            woken = true;
        }
        look_for_process = true;
        match receive.recv_timeout(if woken { RARE_LOOK } else { LOOK }) {
            Ok(News::HungUp) => return Ok(()),
            Ok(News::Job) => look_for_process = false,
            Ok(News::Ended) => woken = false,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => woken = false,
        }
    }
}

/// Sends what is new; true after the end.
fn tell(dir: &JobDir, records: Vec<Record>, seen: u64, output: &mut impl Write) -> io::Result<bool> {
    let count = records.len();
    for (index, record) in records.into_iter().enumerate() {
        let reply = match record {
            Record::Event { seq, event, .. } if seq > seen => Reply::Event { seq, event },
            Record::Event { .. } => continue,
            // With more behind it, or in another boot, the node has come back since.
            Record::Rebooting { boot_id, within, .. } if index + 1 == count && boot_id == facts::boot_id() => {
                Reply::Rebooting { boot_id, within }
            }
            Record::Rebooting { .. } => continue,
            Record::Done { outcome } => {
                // What could not be taken away goes with the whole folder, once the engine forgets the job.
                let _ = dir.settle();
                return write_frame(output, &Reply::Done { outcome }).map(|()| true);
            }
        };
        write_frame(output, &reply)?;
    }
    Ok(false)
}

fn forward(mut wake: ChildStdout, send: &Sender<News>) {
    let send = send.clone();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while wake.read(&mut bytes).is_ok_and(|count| count > 0) {
            if send.send(News::Job).is_err() {
                return;
            }
        }
        let _ = send.send(News::Ended);
    });
}

fn last_words(dir: &JobDir) -> String {
    let words = fs::read_to_string(dir.file("stderr")).unwrap_or_default();
    match words.trim() {
        "" => "the process that runs the job dies again and again".to_owned(),
        words => format!("the process that runs the job dies again and again: {words}"),
    }
}
