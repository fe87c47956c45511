//! How jobs on simulated nodes end.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_agent::protocol::{Mode, Outcome, Status};
use engine_core::document::Object;
use serde::{Deserialize, Serialize};

/// What jobs do, by role. A name may hold `*`, which stands for any characters.
///
/// Of the lines that fit a role, the mode and the attempt, the one that is most exact speaks: the name itself, then the
/// pattern with the most characters beside `*`. Without one, jobs succeed at once.
///
/// ```yaml
/// with:
///   script:
///     etcd: {delay_ms: 200, outcome: {fail: {code: step-failed, message: no space left, times: 2}}}
///     "tls-*": {outputs: {files: {}}}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Script(pub BTreeMap<String, Line>);

/// One line of a script.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The job takes so long.
    #[serde(default)]
    pub delay_ms: u64,
    /// And ends like this.
    #[serde(default)]
    pub outcome: ScriptedOutcome,
    /// What an `apply` finds out when it succeeds.
    #[serde(default)]
    pub outputs: Object,
    /// The line is for these modes only; for all if it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<Mode>,
    /// The line is for the first so many attempts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}

/// How a job ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedOutcome {
    /// Well.
    #[default]
    Succeed,
    /// Badly.
    Fail(ScriptedFailure),
    /// A check finds a difference; any other mode succeeds.
    Drift,
    /// It waits for something outside, looks so many times, and then succeeds.
    Wait(ScriptedWait),
    /// Nobody knows how far it got.
    Unknown,
    /// It never ends.
    Hang,
}

/// How a job fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedFailure {
    /// The code.
    pub code: String,
    /// The sentence.
    #[serde(default)]
    pub message: String,
    /// So many attempts fail before one succeeds; all if not said.
    #[serde(default)]
    pub times: Option<u32>,
    /// The step that fails, counted from 0 over steps and probes.
    #[serde(default)]
    pub step: Option<u32>,
}

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedWait {
    /// So many looks are in vain.
    pub looks: u32,
    /// Between two of them.
    pub every_ms: u64,
    /// What it sees meanwhile.
    pub saw: String,
}

/// What a simulated executor is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedAnswer {
    /// Wait so long first.
    pub delay: Duration,
    /// Then report this; nothing at all if there is none.
    pub outcome: Option<Outcome>,
    /// But not before it was looked at so many times.
    pub wait: Option<ScriptedWait>,
}

impl Script {
    /// What a job of this role does. Attempts count from 1.
    pub fn answer(&self, role: &str, attempt: u32, mode: Mode) -> SimulatedAnswer {
        let fits = |(pattern, line): &(&String, &Line)| {
            matches(pattern, role)
                && (line.on.is_empty() || line.on.contains(&mode))
                && line.attempts.is_none_or(|attempts| attempt <= attempts)
        };
        let exactness = |pattern: &str| (pattern == role, pattern.chars().filter(|char| *char != '*').count());
        let line = self.0.iter().filter(fits).max_by_key(|(pattern, _)| exactness(pattern)).map(|(_, line)| line);
        line.map_or_else(|| Line::default().answer(attempt, mode), |line| line.answer(attempt, mode))
    }
}

impl Line {
    fn answer(&self, attempt: u32, mode: Mode) -> SimulatedAnswer {
        let delay = Duration::from_millis(self.delay_ms);
        let mut outcome = Outcome { millis: self.delay_ms, ..Outcome::of(Status::Succeeded) };
        match &self.outcome {
            ScriptedOutcome::Hang => return SimulatedAnswer { delay, outcome: None, wait: None },
            ScriptedOutcome::Fail(failure) if failure.times.is_none_or(|times| attempt <= times) => {
                outcome.status = Status::Failed;
                outcome.code = Some(failure.code.clone());
                outcome.message = Some(failure.message.clone());
                outcome.step = failure.step;
            }
            ScriptedOutcome::Unknown => {
                outcome.status = Status::Unknown;
                outcome.code = Some("outcome-unknown".to_owned());
                outcome.message = Some("the script says that nobody knows how this job ended".to_owned());
            }
            ScriptedOutcome::Drift if mode == Mode::Check => outcome.status = Status::Drifted,
            ScriptedOutcome::Succeed | ScriptedOutcome::Drift | ScriptedOutcome::Fail(_) | ScriptedOutcome::Wait(_) => {
                outcome.changed = matches!(mode, Mode::Apply | Mode::Remove);
                if mode == Mode::Apply {
                    outcome.outputs.clone_from(&self.outputs);
                }
            }
        }
        let wait = match &self.outcome {
            ScriptedOutcome::Wait(wait) => Some(wait.clone()),
            _ => None,
        };
        SimulatedAnswer { delay, outcome: Some(outcome), wait }
    }
}

/// Does the name fit the pattern?
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(head) else { return false };
    // The star takes as many characters as leave a fit for the rest.
    (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| matches(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn script(value: serde_json::Value) -> Script {
        serde_json::from_value(value).expect("a script")
    }

    fn verdict(script: &Script, role: &str, attempt: u32, mode: Mode) -> String {
        let answer = script.answer(role, attempt, mode);
        match answer.outcome {
            None => "hang".to_owned(),
            Some(outcome) => format!("{:?} {}", outcome.status, outcome.code.unwrap_or_default()).trim().to_owned(),
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, fits) in [
            ("etcd", "etcd", true),
            ("etcd", "etcd-ready", false),
            ("*", "", true),
            ("etcd*", "etcd", true),
            ("*-tls", "peer-tls", true),
            ("*-tls", "tls", false),
            ("a*b*c", "axbbc", true),
            ("a*b*c", "axc", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn the_most_exact_line_speaks() {
        let script = script(json!({
            "*": {"outcome": {"fail": {"code": "any"}}},
            "etcd*": {"outcome": {"fail": {"code": "longer"}}},
            "etcd": {"outcome": "hang"},
        }));
        assert_eq!(verdict(&script, "etcd", 1, Mode::Apply), "hang");
        assert_eq!(verdict(&script, "etcd-ready", 1, Mode::Apply), "Failed longer");
        assert_eq!(verdict(&script, "node-base", 1, Mode::Apply), "Failed any");
        assert_eq!(verdict(&Script::default(), "node-base", 1, Mode::Apply), "Succeeded");
    }

    #[test]
    fn failures_end_and_lines_may_be_for_some_modes_and_attempts() {
        let script = script(json!({
            "a": {"outcome": {"fail": {"code": "step-failed", "message": "no", "times": 2}}, "outputs": {"x": 1}},
            "b": {"on": ["remove"], "outcome": "unknown"},
            "c": {"attempts": 1, "outcome": "hang"},
            "d": {"outcome": "drift"},
        }));
        assert_eq!(verdict(&script, "a", 2, Mode::Apply), "Failed step-failed");
        let answer = script.answer("a", 3, Mode::Apply).outcome.expect("an end");
        assert_eq!((answer.status, answer.changed, &answer.outputs["x"]), (Status::Succeeded, true, &json!(1)));
        assert_eq!(script.answer("a", 3, Mode::Check).outcome.expect("an end").outputs, Object::new());
        assert_eq!(verdict(&script, "b", 1, Mode::Apply), "Succeeded");
        assert_eq!(verdict(&script, "b", 1, Mode::Remove), "Unknown outcome-unknown");
        assert_eq!(verdict(&script, "c", 1, Mode::Apply), "hang");
        assert_eq!(verdict(&script, "c", 2, Mode::Apply), "Succeeded");
        assert_eq!(verdict(&script, "d", 1, Mode::Check), "Drifted");
        assert_eq!(verdict(&script, "d", 1, Mode::Apply), "Succeeded");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in
            [json!({"a": {"delay": 3}}), json!({"a": {"outcome": {"fail": {}}}}), json!({"a": {"on": ["fly"]}})]
        {
            assert!(serde_json::from_value::<Script>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
