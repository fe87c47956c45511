//! `wait` for a name: until programs of this node find it at just these addresses.
//!
//! It is asked as they ask, by the system's own `getent`: whatever `/etc/nsswitch.conf` says counts, so `/etc/hosts`, `/etc/resolv.conf`
//! and systemd-resolved with what it keeps. Others may be long in saying it, so the job is put away and looks again later.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::args::Span;
use crate::child::how;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// It is looked for as long before the job is put away: what was just said is mostly heard by then.
const PATIENCE: Duration = Duration::from_secs(1);
/// A resolver has asked several servers by then, one of which did not answer.
const ANSWER: Duration = Duration::from_secs(15);

pub(super) fn apply(name: &str, wanted: &BTreeSet<IpAddr>, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    let end = Instant::now() + PATIENCE;
    loop {
        let Some(saw) = differs(name, wanted, cx)? else { return Ok(report) };
        if cx.dry {
            report.diff("wait", saw);
            return Ok(report);
        }
        if Instant::now() >= end {
            // A check says what it sees now.
            let what = format!("name {name}");
            let told = StepError::WaitTimeout { what, within: Span(PATIENCE).to_string(), last: saw.clone() };
            return Err(if cx.check { told } else { StepError::NotYet(saw) });
        }
        cx.supervisor.pause(LOOK)?;
    }
}

/// What programs here find that is not as it should be.
fn differs(name: &str, wanted: &BTreeSet<IpAddr>, cx: &Context<'_>) -> Result<Option<String>> {
    Ok(match find(name, ANSWER, cx)? {
        Err(said) => Some(format!("{name} can not be looked up here: {said}")),
        Ok(found) => {
            // The order is the resolver's, and may be another one each time.
            let found = BTreeSet::from_iter(found);
            let saw = || format!("{name} leads {} here, and should lead {}", places(&found), places(wanted));
            (found != *wanted).then(saw)
        }
    })
}

fn places(addresses: &BTreeSet<IpAddr>) -> String {
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if all.is_empty() { "nowhere".to_owned() } else { format!("to {}", all.join(", ")) }
}

/// The addresses of a name, the best first; none if there is no such name. The inner error is why nobody can tell. The binary is static and has
/// no name services of its own.
pub(super) fn find(name: &str, within: Duration, cx: &Context<'_>) -> Result<std::result::Result<Vec<IpAddr>, String>> {
    let asked = cx.program("getent", &["ahosts", "--", name]).within(within).run(cx.supervisor, &mut |_, _| {});
    let ended = match asked {
        Ok(ended) => ended,
        Err(StepError::WaitTimeout { within, .. }) => return Ok(Err(format!("no answer within {within}"))),
        Err(error) => return Err(error),
    };
    Ok(match ended.status.code() {
        Some(0) => Ok(addresses(&ended.stdout)),
        // There is no such name, or none of those who were asked said so: programs are told no more than that either.
        Some(2) => Ok(Vec::new()),
        _ => Err(format!("getent {}: {}", how(ended.status), ended.last)),
    })
}

/// `ADDRESS KIND-OF-SOCKET NAME` in each line, every address several times.
fn addresses(said: &str) -> Vec<IpAddr> {
    let first = said.lines().filter_map(|line| line.split_whitespace().next());
    // An address of this very link has its interface behind it.
    let mut all: Vec<IpAddr> = first.filter_map(|address| address.split('%').next()?.parse().ok()).collect();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn what_getent_says_is_read() {
        let said =
            "10.0.0.2      STREAM web.example\n10.0.0.2      DGRAM  \nfe80::1%eth0  STREAM \n10.0.0.10 STREAM\n\n";
        let found: Vec<String> = addresses(said).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.2", "fe80::1", "10.0.0.10"]);
        assert!(addresses("").is_empty());
    }
}
