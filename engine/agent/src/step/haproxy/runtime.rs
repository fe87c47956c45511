//! What a running HAProxy is told and says, by its runtime API: one command a connection, one text back.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::error::{Result, StepError};
use crate::haproxy::{Server, servers, variable};

/// How long it may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// More is no answer to anything that is asked here.
const LONGEST: u64 = 4 << 20;

/// One backend of one process.
pub(super) struct Runtime<'a> {
    socket: &'a Path,
    backend: &'a str,
}

impl<'a> Runtime<'a> {
    pub(super) fn new(socket: &'a Path, backend: &'a str) -> Self {
        Self { socket, backend }
    }

    /// What it was started with, as it says; `None` if its configuration says nothing.
    pub(super) fn loaded(&self) -> Result<Option<String>> {
        Ok(variable(&self.ask(&format!("get var {}", name_of_variable(self.backend)))?))
    }

    /// The servers of the backend.
    pub(super) fn servers(&self) -> Result<Vec<Server>> {
        let said = self.ask(&format!("show stat {} 4 -1", self.backend))?;
        servers(&said).ok_or_else(|| self.refused("show stat", &said))
    }

    /// A server that is checked and takes no traffic yet.
    pub(super) fn add(&self, name: &str, address: &str, options: &str) -> Result<()> {
        let command = format!("add server {}/{name} {address} {options}", self.backend);
        self.tell(&command, "New server registered.")?;
        self.check(name)
    }

    /// Out of maintenance: it is checked, and takes no traffic.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        self.tell(&format!("enable health {}/{name}", self.backend), "")?;
        self.state(name, "drain")
    }

    pub(super) fn state(&self, name: &str, state: &str) -> Result<()> {
        self.tell(&format!("set server {}/{name} state {state}", self.backend), "")
    }

    /// Ends its connections.
    pub(super) fn cut(&self, name: &str) -> Result<()> {
        self.tell(&format!("shutdown sessions server {}/{name}", self.backend), "")
    }

    pub(super) fn delete(&self, name: &str) -> Result<()> {
        self.tell(&format!("del server {}/{name}", self.backend), "Server deleted.")
    }

    fn tell(&self, command: &str, expected: &str) -> Result<()> {
        let said = self.ask(command)?;
        if said.trim() == expected { Ok(()) } else { Err(self.refused(command, &said)) }
    }

    fn refused(&self, command: &str, said: &str) -> StepError {
        let what = format!("`{command}` to the haproxy of {}", self.socket.display());
        let last = said.trim().lines().next().unwrap_or_default().chars().take(200).collect();
        StepError::Command { what, how: "was not done".to_owned(), last }
    }

    fn ask(&self, command: &str) -> Result<String> {
        let talk = || -> io::Result<Vec<u8>> {
            let mut stream = UnixStream::connect(self.socket)?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.set_write_timeout(Some(ANSWER))?;
            stream.write_all(format!("{command}\n").as_bytes())?;
            let mut said = Vec::new();
            stream.take(LONGEST).read_to_end(&mut said)?;
            Ok(said)
        };
        let said = talk().map_err(StepError::io("talking to", self.socket))?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

/// The variable by which a process says what it was started with.
fn name_of_variable(backend: &str) -> String {
    let name: String =
        backend.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    format!("proc.plinth_{name}")
}

#[cfg(test)]
mod tests {
    use super::name_of_variable;

    #[test]
    fn variables_are_named_after_backends() {
        assert_eq!(name_of_variable("etcd-1"), "proc.plinth_etcd_1");
    }
}
