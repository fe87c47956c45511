//! Agents that are shell scripts, for what a real agent never does on request: dying, stalling, lying.

use std::fmt::Write as _;

use engine_agent::protocol::{Event, Facts, Reply, encode};
use engine_remote::AgentBinary;

/// An agent that says `frames` and then runs `after`.
pub(crate) fn agent(frames: &[Reply], after: &str) -> AgentBinary {
    let text = format!("#!/bin/sh\n{}\n{after}\n", say(frames));
    AgentBinary::new(std::env::consts::ARCH, text.into_bytes())
}

/// An agent that greets and tells the facts of a machine called `hostname`.
pub(crate) fn with_facts(hostname: &str) -> AgentBinary {
    agent(&[hello("one"), facts(hostname)], "")
}

/// An agent that says frames with these bodies, as one of another version may.
pub(crate) fn speaking(bodies: &[String]) -> AgentBinary {
    let frame = |body: &String| {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        octal(&length) + &octal(body.as_bytes())
    };
    let text = format!("#!/bin/sh\nprintf '{}'\n", bodies.iter().map(frame).collect::<String>());
    AgentBinary::new(std::env::consts::ARCH, text.into_bytes())
}

/// The shell command that writes these frames.
pub(crate) fn say(frames: &[Reply]) -> String {
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| encode(frame).unwrap()).collect();
    format!("printf '{}'", octal(&bytes))
}

/// The shell command that writes a long event whose number is the value of a shell variable of eight digits.
pub(crate) fn say_event(number: &str) -> String {
    let line = "x".repeat(20_000);
    let event = Reply::Event { seq: 10_000_000, event: Event::Log { stream: "stdout".to_owned(), line } };
    let bytes = encode(&event).unwrap();
    let at = bytes.windows(8).position(|window| window == b"10000000").unwrap();
    let (before, after) = bytes.split_at(at);
    format!("printf '{}%d{}' {number}", octal(before), String::from_utf8_lossy(&after[8..]))
}

fn octal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "\\{byte:03o}").unwrap();
        text
    })
}

pub(crate) fn hello(incarnation: &str) -> Reply {
    Reply::Hello {
        protocol: 1,
        version: "0".to_owned(),
        incarnation: incarnation.to_owned(),
        boot_id: "boot-1".to_owned(),
    }
}

pub(crate) fn facts(hostname: &str) -> Reply {
    Reply::Facts { facts: Facts { hostname: hostname.to_owned(), ..Facts::default() } }
}
