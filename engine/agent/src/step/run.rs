//! `run`: bash, the escape hatch.
//!
//! Inputs and results of earlier steps come as JSON in the file `$PLINTH_INPUTS`, and each scalar as an environment
//! variable of its name. JSON written to `$PLINTH_OUTPUT` is the result: under the `as` name, or else, as an object,
//! outputs of the role. With `unless` (a command) or `creates` (a path) it can be dry-run and repeated; one that only
//! `asks` changes nothing and runs in a dry run as well.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use engine_core::schema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::AbsPath;
use crate::child::{Program, how};
use crate::context::{Context, Report};
use crate::error::{Result, StepError};
use crate::state::private;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    script: Option<String>,
    #[serde(default)]
    unless: Option<String>,
    #[serde(default)]
    creates: Option<AbsPath>,
    #[serde(default)]
    asks: bool,
    #[serde(default)]
    output: Option<OutputSchema>,
    #[serde(default)]
    about: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputSchema {
    schema: Value,
}

/// Variables that a script can not do without as they are.
const RESERVED: [&str; 10] = ["PATH", "HOME", "IFS", "PWD", "SHELL", "USER", "ENV", "BASH_ENV", "LC_ALL", "TERM"];

pub(super) fn apply(args: &Run, cx: &mut Context<'_>) -> Result<Report> {
    let body = match (&args.text, &args.script) {
        (Some(text), None) => text.clone().into_bytes(),
        (None, Some(name)) => cx.file("scripts", name)?,
        _ => return Err(StepError::argument("run", "it takes either `text` or `script`")),
    };
    if let Some(path) = &args.creates
        && fs::symlink_metadata(&path.0).is_ok()
    {
        return Ok(Report::unchanged());
    }
    let work = cx.work()?;
    let result = perform(args, &body, &work, cx);
    // Inputs may be secret: they stay no longer than the script.
    fs::remove_dir_all(&work).map_err(StepError::io("removing", &work))?;
    result
}

fn perform(args: &Run, body: &[u8], work: &Path, cx: &mut Context<'_>) -> Result<Report> {
    prepare(work, body, cx)?;
    if let Some(unless) = &args.unless {
        let probe = bash(cx, work, &["-c", unless]);
        let ended = probe.run(cx.supervisor, &mut |_, _| {})?;
        if ended.status.success() {
            return Ok(Report::unchanged());
        }
    }
    let mut report = Report::unchanged();
    if cx.dry && !args.asks {
        if args.unless.is_none() && args.creates.is_none() {
            return Ok(Report::undecided());
        }
        report.diff("run", "would run");
        // It would run, but nobody knows what it would say.
        report.undecided = true;
        return Ok(report);
    }
    let script = work.join("script");
    let program = bash(cx, work, &[&script.to_string_lossy()]);
    let title = args.script.clone().or_else(|| args.about.clone()).unwrap_or_else(|| "the script".to_owned());
    let mut sink = |stream: &str, lines: &[String]| drop(cx.journal.log(stream, lines));
    let ended = program.run(cx.supervisor, &mut sink)?;
    if !ended.status.success() {
        return Err(StepError::Command { what: title, how: how(ended.status), last: ended.last });
    }
    if !args.asks {
        report.diff("run", "ran");
    }
    report.value = result(args, &work.join("output"), cx)?;
    if let Some(path) = args.creates.as_ref().filter(|path| fs::symlink_metadata(&path.0).is_err()) {
        cx.say(format!("the script ended well, but {} is not there", path.display()));
    }
    Ok(report)
}

fn bash(cx: &Context<'_>, work: &Path, arguments: &[&str]) -> Program {
    let arguments = [&["-e", "-u", "-o", "pipefail"], arguments].concat();
    let mut program = cx.program("bash", &arguments).dir(Path::new("/"));
    for (name, value) in cx.variables() {
        if let Some(text) = scalar(&value).filter(|_| is_variable(&name)) {
            program = program.env(&name, text);
        }
    }
    program
        .env("PLINTH_INPUTS", work.join("inputs"))
        .env("PLINTH_OUTPUT", work.join("output"))
        .env("PLINTH_ROLE", &cx.spec.title)
}

fn prepare(work: &Path, body: &[u8], cx: &Context<'_>) -> Result<()> {
    use std::io::Write as _;
    let inputs = Value::Object(cx.variables()).to_string();
    for (name, bytes) in [("script", body), ("inputs", inputs.as_bytes())] {
        let path = work.join(name);
        // Left by a process that died in this step.
        let _ = fs::remove_file(&path);
        private(&path).and_then(|mut file| file.write_all(bytes)).map_err(StepError::io("writing", &path))?;
    }
    let _ = fs::remove_file(work.join("output"));
    Ok(())
}

fn result(args: &Run, path: &Path, cx: &Context<'_>) -> Result<Value> {
    let limit = cx.spec.limits.output_bytes;
    let mut text = Vec::new();
    match fs::File::open(path) {
        Ok(file) => {
            file.take(limit + 1).read_to_end(&mut text).map_err(StepError::io("reading", path))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(StepError::io("reading", path)(error)),
    }
    if text.len() as u64 > limit {
        let bytes = fs::metadata(path).map_or(limit + 1, |meta| meta.len());
        return Err(StepError::OutputTooLarge { bytes, limit });
    }
    let value = if text.trim_ascii().is_empty() {
        json!({})
    } else {
        serde_json::from_slice(&text).map_err(|error| StepError::OutputInvalid(format!("JSON: {error}")))?
    };
    if let Some(OutputSchema { schema }) = &args.output {
        conforms(&value, schema)?;
    }
    Ok(value)
}

fn conforms(value: &Value, schema: &Value) -> Result<()> {
    match schema::validate(schema, value).into_iter().next() {
        None => Ok(()),
        Some(problem) => {
            let place = if problem.pointer.is_empty() { String::new() } else { format!(" at {}", problem.pointer) };
            Err(StepError::OutputInvalid(format!("what `output.schema` says: {}{place}", problem.message)))
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.contains('\0') => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

fn is_variable(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && !RESERVED.contains(&name)
        && !name.starts_with("LD_")
        && !name.starts_with("PLINTH_")
}
