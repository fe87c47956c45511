//! What a running HAProxy is told and says, by its runtime API: one command a connection, one text back.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::error::{Result, StepError};

/// How long it may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// More is no answer to anything that is asked here.
const LONGEST: u64 = 4 << 20;

/// One backend of one process.
pub(super) struct Runtime<'a> {
    socket: &'a Path,
    backend: &'a str,
}

/// A server as the process has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: String,
    /// `ADDRESS:PORT`.
    pub(super) address: String,
    /// `UP`, `DOWN`, `DRAIN`, `MAINT`, and some in between, such as `UP 1/3`.
    pub(super) status: String,
    /// `L7OK`, `L4CON`, …; with `* ` before it while a check runs.
    pub(super) check: String,
    /// Connections that it has.
    pub(super) sessions: u64,
}

impl Server {
    /// Takes traffic, and its last check went well.
    pub(super) fn is_up(&self) -> bool {
        self.status == "UP" && self.is_well()
    }

    /// Takes none, but its last check went well.
    pub(super) fn may_serve(&self) -> bool {
        self.status.starts_with("DRAIN") && self.is_well()
    }

    pub(super) fn is_in_maintenance(&self) -> bool {
        self.status.starts_with("MAINT")
    }

    /// For people.
    pub(super) fn says(&self) -> String {
        match self.check.trim_start_matches("* ") {
            "" => self.status.clone(),
            check => format!("{} ({check})", self.status),
        }
    }

    fn is_well(&self) -> bool {
        matches!(self.check.trim_start_matches("* "), "L4OK" | "L6OK" | "L7OK" | "L7OKC")
    }
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

/// `proc.x: type=str value=<abc>`.
fn variable(said: &str) -> Option<String> {
    Some(said.trim().split_once(" value=<")?.1.strip_suffix('>')?.to_owned())
}

/// The table that `show stat` gives: a line with names of columns, then one for each server. `None` if it is no such table.
fn servers(said: &str) -> Option<Vec<Server>> {
    let mut lines = said.lines().filter(|line| !line.is_empty());
    let head: Vec<&str> = lines.next()?.strip_prefix("# ")?.split(',').collect();
    let column = |name: &str| head.iter().position(|other| *other == name);
    let [name, address, status, check, sessions] =
        [column("svname")?, column("addr")?, column("status")?, column("check_status")?, column("scur")?];
    let mut found = Vec::new();
    for line in lines {
        let cells = cells(line)?;
        let cell = |at: usize| cells.get(at).cloned();
        found.push(Server {
            name: cell(name)?,
            address: cell(address)?,
            status: cell(status)?,
            check: cell(check)?,
            sessions: cell(sessions)?.parse().ok()?,
        });
    }
    Some(found)
}

/// The cells of a line, where text with a comma stands in quotes and a quote in it twice. `None` if a quote is not closed.
fn cells(line: &str) -> Option<Vec<String>> {
    let (mut all, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut cell)),
            other => cell.push(other),
        }
    }
    all.push(cell);
    (!quoted).then_some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "# pxname,svname,scur,status,check_status,addr,last_chk,\n";

    #[test]
    fn what_it_says_of_its_servers() {
        let said = format!(
            "{HEAD}b,one,0,UP,L7OK,10.0.0.1:80,fine,\nb,two,3,DRAIN,* L4OK,10.0.0.2:80,\"a, \"\"b\"\"\",\n\
             b,three,1,DOWN 1/2,L4CON,10.0.0.3:80,,\nb,four,0,MAINT,,10.0.0.4:80,,\nb,five,0,UP,INI,10.0.0.5:80,,\n\n"
        );
        let found = servers(&said).expect("a table");
        let verdicts: Vec<_> =
            found.iter().map(|one| (one.is_up(), one.may_serve(), one.is_in_maintenance(), one.says())).collect();
        assert_eq!(
            verdicts,
            [
                (true, false, false, "UP (L7OK)".to_owned()),
                (false, true, false, "DRAIN (L4OK)".to_owned()),
                (false, false, false, "DOWN 1/2 (L4CON)".to_owned()),
                (false, false, true, "MAINT".to_owned()),
                (false, false, false, "UP (INI)".to_owned()),
            ]
        );
        assert_eq!((found[1].address.as_str(), found[1].sessions), ("10.0.0.2:80", 3));
        assert_eq!(servers("No such backend.\n"), None);
        assert_eq!(servers(&format!("{HEAD}b,one,x,UP,L7OK,10.0.0.1:80,,\n")), None, "no number");
        assert_eq!(servers("# pxname,svname\nb,one\n"), None, "columns are missing");
    }

    #[test]
    fn what_it_was_started_with() {
        assert_eq!(name_of_variable("etcd-1"), "proc.plinth_etcd_1");
        assert_eq!(variable("proc.plinth_x: type=str value=<abc>\n\n"), Some("abc".to_owned()));
        assert_eq!(variable("Variable not found.\n"), None);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(said in ".{0,400}", rest in "[,\"\\n a-z0-9]{0,200}") {
            let _ = (servers(&said), variable(&said), servers(&format!("{HEAD}{rest}")));
        }

        #[test]
        fn what_was_written_is_read(cells_before in proptest::collection::vec("[^\n\r]{0,12}", 1..8)) {
            let quoted = cells_before.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect::<Vec<_>>();
            prop_assert_eq!(cells(&quoted.join(",")), Some(cells_before));
        }
    }
}
