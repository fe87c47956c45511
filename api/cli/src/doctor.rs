//! `plinth doctor`: is an engine there, and is it well?

use std::process::ExitCode;

use api_client::{Client, Endpoint, endpoint};
use engine_daemon::equipment;
use serde::Serialize;

use crate::args::{Engine, Output};
use crate::output::{CliError, print, structured};
use crate::table::{self, Shown};

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    /// What.
    what: &'static str,
    /// Is it as it should be?
    good: bool,
    /// What was found, or what to do.
    says: String,
}

impl Finding {
    fn good(what: &'static str, says: impl Into<String>) -> Self {
        Self { what, good: true, says: says.into() }
    }

    fn bad(what: &'static str, code: &str, says: impl std::fmt::Display) -> Self {
        Self { what, good: false, says: format!("[{code}] {says}") }
    }
}

/// Looks at everything that can be looked at, and prints all of it; fails if something is not as it should be.
pub(crate) async fn doctor(engine: &Engine, output: Output) -> Result<ExitCode, CliError> {
    let findings = look(engine).await;
    match output {
        Output::Json | Output::Yaml => structured(&findings, output)?,
        Output::Name => {
            let bad = findings.iter().filter(|finding| !finding.good);
            print(&bad.map(|finding| format!("{}\n", finding.what)).collect::<String>())?;
        }
        _ => {
            let row = |finding: &Finding| -> Vec<Shown> {
                let mark = if finding.good { "ok" } else { "BAD" };
                vec![finding.what.into(), mark.into(), finding.says.clone().into()]
            };
            print(&table::table(&["WHAT", "", "SAYS"], findings.iter().map(row).collect()))?;
        }
    }
    Ok(if findings.iter().all(|finding| finding.good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What this machine needs to run an engine and a lab.
fn machine(data: &std::path::Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match engine_store::embedded::binaries::all(None) {
        Ok(found) => {
            let found: Vec<String> = found.iter().map(|one| format!("Postgres {}", one.major)).collect();
            Finding::good("postgres programs", found.join(", "))
        }
        Err(error) => Finding::bad("postgres programs", error.code(), &error),
    });
    findings.push(match equipment::agent() {
        Ok(agent) => Finding::good("agent", format!("{} bytes for {}", agent.bytes.len(), agent.arch)),
        Err(error) => Finding::bad("agent", error.code(), &error),
    });
    let lacks = equipment::lab_lacks(data);
    findings.push(if lacks.is_empty() {
        Finding::good("lab", "this machine can have lab nodes")
    } else {
        Finding::bad("lab", "provider-needs", lacks.join("; "))
    });
    findings
}

async fn look(engine: &Engine) -> Vec<Finding> {
    let data = endpoint::data_dir();
    let mut findings = if engine.endpoint.is_some() { Vec::new() } else { machine(&data) };
    findings.push(if data.is_dir() {
        Finding::good("data directory", data.display().to_string())
    } else if engine.endpoint.is_some() {
        Finding::good("data directory", format!("{} is not there; the engine is elsewhere", data.display()))
    } else {
        Finding::bad("data directory", "no-engine", format!("{} is not there", data.display()))
    });
    let found = Endpoint::find(engine.endpoint.clone(), engine.token.clone(), &data)
        .and_then(|endpoint| Client::new(endpoint, "doctor"));
    let client = match found {
        Ok(client) => client,
        Err(error) => {
            findings.push(Finding::bad("endpoint", error.code(), &error));
            return findings;
        }
    };
    match client.version().await {
        Ok(version) => {
            let ours = env!("CARGO_PKG_VERSION");
            let says = format!("{} answers as plinth {}", client.endpoint(), version.version);
            findings.push(if version.version == ours {
                Finding::good("endpoint", says)
            } else {
                Finding::bad("endpoint", "version-differs", format!("{says}, this command is {ours}"))
            });
        }
        Err(error) => {
            findings.push(Finding::bad("endpoint", error.code(), &error));
            return findings;
        }
    }
    findings.push(match client.ready().await {
        Ok(()) => Finding::good("database", "it answers, and its tables are those of the engine"),
        Err(error) => Finding::bad("database", error.code(), &error),
    });
    match client.engines().await {
        Err(error) if error.status() == Some(401) => findings.push(Finding::bad("token", error.code(), &error)),
        Err(error) => findings.push(Finding::bad("engines", error.code(), &error)),
        Ok(engines) => {
            findings.push(Finding::good("token", "it lets us in"));
            let alive = engines.iter().filter(|engine| engine.alive);
            let alive: Vec<String> = alive.map(|engine| format!("{}:{}", engine.host, engine.pid)).collect();
            findings.push(if alive.is_empty() {
                Finding::bad("engines", "no-engine-alive", "no engine holds its lease; nothing is done")
            } else {
                Finding::good("engines", alive.join(", "))
            });
        }
    }
    findings
}
