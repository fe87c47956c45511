//! Streams: server-sent events that resume, and lines of JSON.

use std::time::Duration;

use bytes::Bytes;
use engine_core::view::{EventView, ExecEvent, JobView, LogLine};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::ClientError;
use crate::http::{Http, Place};

/// How long an engine may be away before a stream gives up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between attempts to connect again.
const PAUSE: Duration = Duration::from_millis(200);
/// A longer line is not one of ours.
const LONGEST: usize = 64 * 1024 * 1024;

/// Bytes as they come, cut into lines.
struct Lines {
    bytes: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    held: Vec<u8>,
    /// Up to here `held` has no end of a line.
    looked: usize,
}

impl Lines {
    fn new(response: reqwest::Response) -> Self {
        Self { bytes: response.bytes_stream().boxed(), held: Vec::new(), looked: 0 }
    }

    /// The next line without its end; nothing when the stream ends or breaks. Nothing is lost when it is dropped
    /// while it waits.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.held[self.looked..].iter().position(|byte| *byte == b'\n') {
                let rest = self.held.split_off(self.looked + end + 1);
                let mut line = std::mem::replace(&mut self.held, rest);
                self.looked = 0;
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            self.looked = self.held.len();
            let bytes = self.bytes.next().await?.ok()?;
            if self.held.len() + bytes.len() > LONGEST {
                return None;
            }
            self.held.extend_from_slice(&bytes);
        }
    }
}

/// A server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    id: Option<String>,
    kind: String,
    data: String,
}

/// Puts lines together to events.
#[derive(Default)]
struct Parser(Sent);

impl Parser {
    fn line(&mut self, line: &str) -> Option<Sent> {
        if line.is_empty() {
            let sent = std::mem::take(&mut self.0);
            return (!sent.data.is_empty()).then_some(sent);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.0.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.0.kind),
            "data" if self.0.data.is_empty() => value.clone_into(&mut self.0.data),
            "data" => {
                self.0.data.push('\n');
                self.0.data.push_str(value);
            }
            // A comment (the heartbeat), or a field that we do not know.
            _ => {}
        }
        None
    }
}

/// Server-sent events of one path, connected again when the connection is lost.
struct Source {
    http: Http,
    path: Vec<String>,
    parameters: Vec<(&'static str, String)>,
    last: Option<String>,
    lines: Option<Lines>,
    parser: Parser,
    since: Option<Instant>,
}

impl Source {
    fn new(http: Http, path: Vec<String>, parameters: Vec<(&'static str, String)>, last: Option<String>) -> Self {
        Self { http, path, parameters, last, lines: None, parser: Parser::default(), since: None }
    }

    async fn next(&mut self) -> Result<Sent, ClientError> {
        loop {
            if self.lines.is_none() {
                self.connect().await?;
            }
            let Some(lines) = &mut self.lines else { continue };
            match lines.next().await {
                None => {
                    self.lines = None;
                    self.parser = Parser::default();
                    // An engine that ends streams at once is not asked again without a pause.
                    sleep(PAUSE).await;
                }
                Some(line) => {
                    if let Some(sent) = self.parser.line(&line) {
                        if sent.id.is_some() {
                            self.last.clone_from(&sent.id);
                        }
                        return Ok(sent);
                    }
                }
            }
        }
    }

    /// An engine that was there may go away for a while; one that never was is an error at once.
    async fn connect(&mut self) -> Result<(), ClientError> {
        let began = Instant::now();
        loop {
            let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
            let place = Place(&path, self.parameters.clone());
            match self.http.stream(&place, self.last.as_deref()).await {
                Ok(response) => {
                    self.lines = Some(Lines::new(response));
                    self.since = Some(Instant::now());
                    return Ok(());
                }
                Err(error) if error.is_transient() && self.since.is_some() && began.elapsed() < PATIENCE => {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read<T: DeserializeOwned>(&self, sent: &Sent) -> Result<T, ClientError> {
        serde_json::from_str(&sent.data).map_err(|error| self.http.strange(error.to_string()))
    }
}

/// Events as they happen; none is passed over while the connection is away.
pub struct Events(Source);

impl Events {
    pub(crate) fn new(http: Http, deployment: Option<&str>, after: i64) -> Self {
        let path = ["api", "v1", "events", "stream"].map(str::to_owned).to_vec();
        let parameters = deployment.map(|name| ("deployment", name.to_owned())).into_iter().collect();
        Self(Source::new(http, path, parameters, Some(after.to_string())))
    }

    /// The next event. May be dropped while it waits.
    ///
    /// # Errors
    /// When the engine refuses, or is away for long.
    pub async fn next(&mut self) -> Result<EventView, ClientError> {
        let sent = self.0.next().await?;
        self.0.read(&sent)
    }
}

/// What a log says.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEvent {
    /// A line.
    Line(LogLine),
    /// An attempt ended.
    End(Box<JobView>),
}

/// The log of a node role as it is written.
pub struct Log {
    source: Source,
    last: Option<LogLine>,
}

impl Log {
    pub(crate) fn new(http: Http, path: Vec<String>) -> Self {
        Self { source: Source::new(http, path, Vec::new(), None), last: None }
    }

    /// The next line, or the end of an attempt. May be dropped while it waits.
    ///
    /// # Errors
    /// When the engine refuses, or is away for long.
    pub async fn next(&mut self) -> Result<LogEvent, ClientError> {
        loop {
            let sent = self.source.next().await?;
            if sent.kind == "end" {
                return Ok(LogEvent::End(Box::new(self.source.read(&sent)?)));
            }
            let line: LogLine = self.source.read(&sent)?;
            // After a lost connection the attempt is told from its beginning.
            if self.last.as_ref().is_some_and(|last| last.job == line.job && last.seq >= line.seq) {
                continue;
            }
            self.last = Some(line.clone());
            return Ok(LogEvent::Line(line));
        }
    }
}

/// What a command on nodes says.
pub struct Exec {
    http: Http,
    lines: Lines,
}

impl Exec {
    pub(crate) fn new(http: Http, response: reqwest::Response) -> Self {
        Self { http, lines: Lines::new(response) }
    }

    /// What comes next; nothing when it has ended on all nodes.
    ///
    /// # Errors
    /// When it can not be read.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, ClientError> {
        let Some(line) = self.lines.next().await else { return Ok(None) };
        serde_json::from_str(&line).map(Some).map_err(|error| self.http.strange(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt as _;

    use super::{Lines, Parser, Sent};

    #[test]
    fn events_are_put_together() {
        let mut parser = Parser::default();
        let text = ": heartbeat\n\nid: 7\nevent: node.up\ndata: {\"a\":\ndata: 1}\nretry: 5\n\ndata:x\n\n\n";
        let sent: Vec<Sent> = text.lines().filter_map(|line| parser.line(line)).collect();
        let event = |id: Option<&str>, kind: &str, data: &str| Sent {
            id: id.map(str::to_owned),
            kind: kind.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(sent, [event(Some("7"), "node.up", "{\"a\":\n1}"), event(None, "", "x")]);
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_bytes_are() {
        for size in 1..8 {
            let text = "one\r\n\ntwo ü\nthree";
            let chunks: Vec<_> = text.as_bytes().chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            let mut lines = Lines { bytes: futures::stream::iter(chunks).boxed(), held: Vec::new(), looked: 0 };
            let mut found = Vec::new();
            while let Some(line) = lines.next().await {
                found.push(line);
            }
            assert_eq!(found, ["one", "", "two ü"], "in chunks of {size}; a line without an end is not one");
        }
    }
}
