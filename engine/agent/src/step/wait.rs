//! `wait`: until something answers, appears or runs; tried again and again up to a limit.

mod name;

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::args::{AbsPath, Span};
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

/// One try takes no longer.
const TRY: Duration = Duration::from_secs(5);

/// Bytes of an HTTP body that are looked at.
const BODY: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// `HOST:PORT` that accepts connections.
    #[serde(default)]
    tcp: Option<String>,
    /// A URL that answers with `status`.
    #[serde(default)]
    http: Option<String>,
    /// A socket that accepts connections.
    #[serde(default)]
    unix: Option<AbsPath>,
    /// Something that is there.
    #[serde(default)]
    path: Option<AbsPath>,
    /// A unit that runs.
    #[serde(default)]
    unit: Option<String>,
    /// A command that succeeds.
    #[serde(default)]
    command: Option<String>,
    /// A name that leads to just `addresses` for programs here.
    #[serde(default)]
    name: Option<String>,
    /// For `name`: none if there must be no such name.
    #[serde(default)]
    addresses: Option<BTreeSet<IpAddr>>,
    /// For `http`: the status, or several; any of 200 to 299 if not given.
    #[serde(default)]
    status: Option<Value>,
    /// For `http`: text that the answer contains.
    #[serde(default)]
    body: Option<String>,
    /// For `https`: certificates that the server's must come from.
    #[serde(default)]
    ca: Option<AbsPath>,
    /// For `https`: the certificate to show, and its key.
    #[serde(default)]
    cert: Option<AbsPath>,
    #[serde(default)]
    key: Option<AbsPath>,
    /// A minute if not given. Not for `name`.
    #[serde(default)]
    within: Option<Span>,
    /// A fifth of a second if not given. Not for `name`.
    #[serde(default)]
    every: Option<Span>,
}

impl Wait {
    fn within(&self) -> Span {
        self.within.unwrap_or(Span::seconds(60))
    }

    fn every(&self) -> Duration {
        self.every.map_or(Duration::from_millis(200), |span| span.0)
    }
}

pub(super) fn apply(args: &Wait, cx: &mut Context<'_>) -> Result<Report> {
    let what = what(args)?;
    let mut report = Report::unchanged();
    if cx.dry && !cx.check {
        return Ok(Report::undecided());
    }
    if let (Some(name), Some(addresses)) = (&args.name, &args.addresses) {
        return name::apply(name, addresses, cx);
    }
    let within = args.within();
    let began = Instant::now();
    loop {
        let last = match attempt(args, cx)? {
            Ok(()) => return Ok(report),
            Err(last) => last,
        };
        if cx.dry {
            report.diff("wait", format!("{what}: {last}"));
            return Ok(report);
        }
        if began.elapsed() >= within.0 {
            return Err(StepError::WaitTimeout { what, within: within.to_string(), last });
        }
        let left = within.0.saturating_sub(began.elapsed());
        cx.supervisor.pause(args.every().min(left).max(Duration::from_millis(1)))?;
    }
}

fn what(args: &Wait) -> Result<String> {
    let path = |path: &Option<AbsPath>| path.as_ref().map(|path| path.display().to_string());
    let kinds = [
        ("tcp", args.tcp.clone()),
        ("http", args.http.clone()),
        ("unix", path(&args.unix)),
        ("path", path(&args.path)),
        ("unit", args.unit.clone()),
        ("command", args.command.clone()),
        ("name", args.name.clone()),
    ];
    if args.name.is_some() != args.addresses.is_some() {
        return Err(StepError::argument("wait", "`name` and `addresses` go together"));
    }
    if args.name.is_some() && (args.within.is_some() || args.every.is_some()) {
        return Err(StepError::argument("wait", "with `name` it waits as long as the role's `timeout` says"));
    }
    let given: Vec<String> = kinds.into_iter().filter_map(|(kind, value)| Some(format!("{kind} {}", value?))).collect();
    match given.as_slice() {
        [what] => Ok(what.clone()),
        _ => {
            Err(StepError::argument("wait", "it takes one of `tcp`, `http`, `unix`, `path`, `unit`, `command`, `name`"))
        }
    }
}

/// One try. The outer error ends the step, the inner one is what stands in the way.
fn attempt(args: &Wait, cx: &Context<'_>) -> Result<std::result::Result<(), String>> {
    let said = |result: io::Result<()>| result.map_err(|error| error.to_string());
    if let Some(address) = &args.tcp {
        return Ok(said(connect(address, cx).map(drop)));
    }
    if let Some(url) = &args.http {
        return http(url, args, cx);
    }
    if let Some(path) = &args.unix {
        return Ok(said(UnixStream::connect(&path.0).map(drop)));
    }
    if let Some(path) = &args.path {
        return Ok(said(path.symlink_metadata().map(drop)));
    }
    let program = match (&args.unit, &args.command) {
        (Some(unit), _) => cx.program("systemctl", &["is-active", "--", unit]),
        (_, Some(text)) => cx.program("bash", &["-e", "-u", "-o", "pipefail", "-c", text]),
        _ => return Ok(Ok(())),
    };
    match program.within(args.within().0.max(TRY)).run(cx.supervisor, &mut |_, _| {}) {
        Ok(ended) if ended.status.success() => Ok(Ok(())),
        Ok(ended) if ended.last.is_empty() => Ok(Err(crate::child::how(ended.status))),
        Ok(ended) => Ok(Err(ended.last)),
        Err(StepError::WaitTimeout { .. }) => Ok(Err("it takes too long".to_owned())),
        Err(error) => Err(error),
    }
}

fn connect(address: &str, cx: &Context<'_>) -> io::Result<TcpStream> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{address}` is not HOST:PORT"));
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let mut last = io::Error::other(format!("`{host}` has no address"));
    for address in addresses(host.trim_matches(['[', ']']), cx) {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), TRY) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn addresses(host: &str, cx: &Context<'_>) -> Vec<IpAddr> {
    match host.parse() {
        Ok(address) => vec![address],
        Err(_) => name::find(host, TRY, cx).ok().and_then(std::result::Result::ok).unwrap_or_default(),
    }
}

fn http(url: &str, args: &Wait, cx: &Context<'_>) -> Result<std::result::Result<(), String>> {
    let answer = if let Some(rest) = url.strip_prefix("http://") {
        get(rest, cx).map_err(|error| error.to_string())
    } else if url.starts_with("https://") {
        secure(url, args, cx)?
    } else {
        return Err(StepError::argument("wait", format!("`{url}` is neither http nor https")));
    };
    Ok(answer.and_then(|(status, body)| {
        if !expected(args.status.as_ref(), status) {
            return Err(format!("status {status}"));
        }
        match &args.body {
            Some(text) if !body.contains(text.as_str()) => Err(format!("status {status}, without the text")),
            _ => Ok(()),
        }
    }))
}

fn expected(wanted: Option<&Value>, status: u16) -> bool {
    match wanted {
        None => (200..300).contains(&status),
        Some(Value::Array(several)) => several.iter().any(|one| one.as_u64() == Some(status.into())),
        Some(one) => one.as_u64() == Some(status.into()),
    }
}

/// As little HTTP as a probe needs: HTTP/1.0, so that the end of the answer is the end of the connection.
fn get(rest: &str, cx: &Context<'_>) -> io::Result<(u16, String)> {
    let (host, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let slash = if path.starts_with('/') { "" } else { "/" };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut stream = connect(&address, cx)?;
    stream.set_read_timeout(Some(TRY))?;
    stream.set_write_timeout(Some(TRY))?;
    write!(stream, "GET {slash}{path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: plinth\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(BODY).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.strip_prefix("HTTP/").and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))?;
    Ok((status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
}

/// TLS by the machine's own curl.
fn secure(url: &str, args: &Wait, cx: &Context<'_>) -> Result<std::result::Result<(u16, String), String>> {
    let [ca, cert, key] =
        [&args.ca, &args.cert, &args.key].map(|file| file.as_ref().map(|path| path.display().to_string()));
    let mut words = vec!["--silent", "--show-error", "--max-time", "5", "--proto", "=https"];
    words.extend(ca.as_deref().map(|ca| ["--cacert", ca]).into_iter().flatten());
    words.extend(cert.as_deref().map(|cert| ["--cert", cert]).into_iter().flatten());
    words.extend(key.as_deref().map(|key| ["--key", key]).into_iter().flatten());
    words.extend(["--write-out", "\n%{http_code}", "--url", url]);
    let ended = cx.program("curl", &words).run(cx.supervisor, &mut |_, _| {})?;
    if !ended.status.success() {
        return Ok(Err(ended.last));
    }
    let (body, status) = ended.stdout.rsplit_once('\n').unwrap_or_default();
    Ok(Ok((status.parse().unwrap_or(0), body.to_owned())))
}
