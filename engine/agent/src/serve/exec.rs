//! `plinth exec`: a command in the foreground. When the engine hangs up, the command is stopped.

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Channel, News, refuse};
use crate::child::{Program, Supervisor};
use crate::error::Result;
use crate::protocol::{Event, Outcome, Reply, Status, write_frame};

pub(super) fn exec(command: &[String], timeout: u64, output: &mut impl Write, (_, news): Channel) -> io::Result<()> {
    let Some((name, arguments)) = command.split_first() else {
        return refuse(output, "command-missing", "there is no command to run");
    };
    let began = Instant::now();
    let supervisor = Supervisor::new(timeout, Duration::ZERO);
    let watched = Arc::clone(&supervisor);
    thread::spawn(move || {
        while let Ok(news) = news.recv() {
            if matches!(news, News::HungUp) {
                watched.cancel();
            }
        }
    });
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut seq = 0;
    let mut written = Ok(());
    let mut sink = |stream: &str, lines: &[String]| {
        for line in lines {
            seq += 1;
            let event = Event::Log { stream: stream.to_owned(), line: line.clone() };
            if written.is_ok() {
                written = write_frame(output, &Reply::Event { seq, event });
            }
        }
    };
    let ended = Program::new(name, &arguments).run(&supervisor, &mut sink);
    written?;
    let outcome = outcome(ended.map(|ended| ended.status.code().or_else(|| ended.status.signal().map(|n| 128 + n))));
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    write_frame(output, &Reply::Done { outcome: Outcome { millis, ..outcome } })
}

/// A command that ran has succeeded as a job, whatever its exit status says.
fn outcome(ended: Result<Option<i32>>) -> Outcome {
    let (status, exit, error) = match ended {
        Ok(exit) => (Status::Succeeded, exit, None),
        Err(error) if error.code() == "cancelled" => (Status::Cancelled, None, Some(error)),
        Err(error) => (Status::Failed, None, Some(error)),
    };
    Outcome {
        status,
        code: error.as_ref().map(|error| error.code().to_owned()),
        message: error.map(|error| error.to_string()),
        step: None,
        outputs: serde_json::Map::new(),
        changed: false,
        steps: Vec::new(),
        residue: Vec::new(),
        millis: 0,
        exit,
    }
}
