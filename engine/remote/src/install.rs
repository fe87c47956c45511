//! Getting the agent onto a node, once per content.
//!
//! Only reached when the agent did not start from its path. One session: a script checks the machine, says that it is
//! ready, takes the bytes from its input, compares their digest and moves the file into place.

use bytes::Bytes;

use crate::channel::Piece;
use crate::connection::Connection;
use crate::target::Places;
use crate::{AgentBinary, RemoteError, Target};

/// What was found or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installed {
    /// The file was there and whole.
    Present,
    /// It was copied.
    Copied,
}

/// Runs on the node. No single quotes inside: it travels in them, and they are the only quotes that every login shell
/// reads alike.
const SCRIPT: &str = concat!(
    r#"export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; umask 022; "#,
    r#"sum() { set -- $(sha256sum "$1") && echo "$1"; }; "#,
    r#"[ "$(uname -m)" = "$4" ] || { echo "plinth foreign $(uname -m)"; exit 0; }; "#,
    r#"if [ "$(sum "$1/plinth-agent" 2>/dev/null)" = "$2" ] && [ -x "$1/plinth-agent" ]; "#,
    r#"then echo "plinth present"; exit 0; fi; "#,
    r#"mkdir -p "$1" || { echo "plinth failed"; exit 1; }; "#,
    r#"t="$1/upload.$$"; trap "rm -f $t" EXIT; trap "exit 1" HUP INT TERM PIPE; "#,
    r#"echo "plinth ready"; "#,
    r#"head -c "$3" > "$t" && chmod 755 "$t" && [ "$(sum "$t")" = "$2" ] && mv -f "$t" "$1/plinth-agent" "#,
    r#"&& echo "plinth copied" || { echo "plinth failed"; exit 1; }"#,
);

/// Makes sure that the agent lies at its path.
pub(crate) async fn install(
    connection: &Connection,
    target: &Target,
    agent: &AgentBinary,
    places: &Places,
) -> Result<Installed, RemoteError> {
    let script =
        format!("sh -c '{SCRIPT}' plinth {} {} {} {}", places.binary_dir, agent.sha256, agent.bytes.len(), agent.arch);
    let mut channel = connection.exec(&target.as_root(&script)).await?;
    let mut heard = Heard::default();
    let mut sent = false;
    while let Some(piece) = channel.next().await {
        heard.take(piece);
        if !sent && heard.word("ready").is_some() {
            sent = true;
            channel.send(Bytes::from_owner(agent.bytes.clone())).await.map_err(|_| connection.lost())?;
            channel.finish().await.map_err(|_| connection.lost())?;
        }
    }
    if let Some(node) = heard.word("foreign") {
        return Err(RemoteError::ForeignArchitecture { at: target.at(), node, agent: agent.arch.clone() });
    }
    if heard.word("present").is_some() {
        return Ok(Installed::Present);
    }
    if heard.word("copied").is_some() {
        return Ok(Installed::Copied);
    }
    if connection.is_closed() {
        return Err(connection.lost());
    }
    Err(heard.explain(target))
}

/// Takes the folders of the agent away that no node's state is left for.
pub(crate) async fn sweep(connection: &Connection, target: &Target, places: &Places) -> Result<(), RemoteError> {
    let Places { root, state, .. } = places;
    let script = format!(
        "sh -c 'rm -rf {state}; rmdir {root}/nodes 2>/dev/null; [ -e {root}/nodes ] || rm -rf {root}/agent; \
         rmdir {root} 2>/dev/null; [ ! -e {state} ] && echo plinth swept'"
    );
    run(connection, target, &target.as_root(&script), "swept").await
}

/// Lets our key in, or not any more, as the user whose key file it is. What others wrote there stays as it is, byte for
/// byte; a file that could not be written whole is not put into place. Keys have no quotes in them, so they may travel in
/// some.
const KEY: &str = concat!(
    r#"echo "plinth ready"; export LC_ALL=C; umask 077; f="$HOME/.ssh/authorized_keys"; "#,
    r#"case "$1" in "#,
    r#"allow) mkdir -p "$HOME/.ssh" && touch "$f" && { grep -aqxF -e "$2" "$f" || "#,
    r#"{ { [ -z "$(tail -c 1 "$f")" ] || echo >> "$f"; } && printf "%s\n" "$2" >> "$f"; }; } ;; "#,
    r#"deny) if [ -e "$f" ]; then f="$(readlink -f "$f")"; { cp -p "$f" "$f.plinth" && "#,
    r#"{ grep -avxF -e "$2" "$f" > "$f.plinth"; [ $? -le 1 ]; } && mv -f "$f.plinth" "$f"; } "#,
    r#"|| { rm -f "$f.plinth"; false; }; fi ;; "#,
    r#"esac && echo "plinth done""#,
);

/// Adds the line of a key to those that may log in, or takes it away.
pub(crate) async fn admit(connection: &Connection, target: &Target, line: &str, may: bool) -> Result<(), RemoteError> {
    let word = if may { "allow" } else { "deny" };
    run(connection, target, &format!("exec sh -c '{KEY}' plinth {word} '{line}'"), "done").await
}

/// Runs a script that ends with this word if all went well.
async fn run(connection: &Connection, target: &Target, command: &str, word: &str) -> Result<(), RemoteError> {
    let mut channel = connection.exec(command).await?;
    let mut heard = Heard::default();
    while let Some(piece) = channel.next().await {
        heard.take(piece);
    }
    if heard.word(word).is_some() {
        return Ok(());
    }
    if connection.is_closed() { Err(connection.lost()) } else { Err(heard.explain(target)) }
}

/// What the script said so far.
#[derive(Default)]
struct Heard {
    out: Vec<u8>,
    err: Vec<u8>,
    exit: Option<u32>,
}

impl Heard {
    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Out(bytes) => self.out.extend_from_slice(&bytes),
            Piece::Err(bytes) => self.err.extend_from_slice(&bytes),
            Piece::Exit(status) => self.exit = Some(status),
            Piece::Signal(name) => self.err.extend_from_slice(format!("ended by signal {name}").as_bytes()),
            Piece::Refused => self.err.extend_from_slice(b"the server does not run commands for this user"),
        }
    }

    /// What follows the marker on a whole line of its own, if it has come.
    fn word(&self, marker: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.out);
        let whole = &text[..=text.rfind('\n')?];
        whole.lines().find_map(|line| Some(line.strip_prefix("plinth ")?.strip_prefix(marker)?.trim().to_owned()))
    }

    fn explain(&self, target: &Target) -> RemoteError {
        let at = target.at();
        let said = String::from_utf8_lossy(&self.err).trim().to_owned();
        let reason = match (said.is_empty(), self.exit) {
            (false, _) => said,
            (true, Some(status)) => format!("the login shell ended with status {status}"),
            (true, None) => "the login shell ended".to_owned(),
        };
        let began = self.word("ready").is_some() || self.word("failed").is_some();
        if ["No space left", "quota exceeded"].iter().any(|sign| reason.contains(sign)) {
            return RemoteError::DiskFull { at, reason };
        }
        if began || target.user == "root" {
            return RemoteError::InstallFailed { at, reason };
        }
        if self.exit == Some(127) || reason.contains("not found") {
            return RemoteError::SudoMissing { at, reason };
        }
        RemoteError::SudoNeedsPassword { at, reason }
    }
}
