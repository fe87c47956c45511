//! What a HAProxy says of its servers by its runtime API, read. Nothing here talks to it.

/// A server as the process has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Its name in the backend.
    pub name: String,
    /// `ADDRESS:PORT`.
    pub address: String,
    /// `UP`, `DOWN`, `DRAIN`, `MAINT`, and some in between, such as `UP 1/3`.
    pub status: String,
    /// `L7OK`, `L4CON`, …; with `* ` before it while a check runs.
    pub check: String,
    /// Connections that it has.
    pub sessions: u64,
}

impl Server {
    /// Takes traffic, and its last check went well.
    pub fn is_up(&self) -> bool {
        self.status == "UP" && self.is_well()
    }

    /// Takes none, but its last check went well.
    pub fn may_serve(&self) -> bool {
        self.status.starts_with("DRAIN") && self.is_well()
    }

    /// Neither checked nor used.
    pub fn is_in_maintenance(&self) -> bool {
        self.status.starts_with("MAINT")
    }

    /// For people.
    pub fn says(&self) -> String {
        match self.check.trim_start_matches("* ") {
            "" => self.status.clone(),
            check => format!("{} ({check})", self.status),
        }
    }

    fn is_well(&self) -> bool {
        matches!(self.check.trim_start_matches("* "), "L4OK" | "L6OK" | "L7OK" | "L7OKC")
    }
}

/// The value in `proc.x: type=str value=<abc>`. `None` if it is no such line.
pub fn variable(said: &str) -> Option<String> {
    Some(said.trim().split_once(" value=<")?.1.strip_suffix('>')?.to_owned())
}

/// The table that `show stat` gives: a line with names of columns, then one for each server. `None` if it is no such table.
pub fn servers(said: &str) -> Option<Vec<Server>> {
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
        assert_eq!(variable("proc.plinth_x: type=str value=<abc>\n\n"), Some("abc".to_owned()));
        assert_eq!(variable("Variable not found.\n"), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(cells_before in proptest::collection::vec("[^\n\r]{0,12}", 1..8)) {
            let quoted = cells_before.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect::<Vec<_>>();
            prop_assert_eq!(cells(&quoted.join(",")), Some(cells_before));
        }
    }
}
