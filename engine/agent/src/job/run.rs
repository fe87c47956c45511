//! The steps of a job, one after the other.

use std::time::{Duration, Instant};

use engine_core::document::{Object, Step};
use engine_core::template::{self, TemplateError};
use serde_json::Value;

use super::{ended, failed, millis};
use crate::child::{Supervisor, await_marked, end_marked};
use crate::context::{Context, Report};
use crate::error::{Result, StepError};
use crate::journal::{History, Journal};
use crate::ledger::Ledger;
use crate::promises;
use crate::protocol::{Event, JobSpec, Mode, Outcome, Status, StepResult};
use crate::state::JobDir;
use crate::step;

/// How a step is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Do it.
    Do,
    /// Say what it would do.
    Dry,
    /// Do what only looks; say what the others would do.
    Probe,
    /// Take away what it made.
    Undo,
}

/// A step with its arguments rendered, once per item.
struct Prepared {
    title: String,
    items: Vec<(Option<(String, Value)>, Value)>,
    skip: bool,
    undecided: bool,
}

/// Runs what is left of the job after `history`.
pub(super) fn run(
    spec: &JobSpec,
    dir: &JobDir,
    journal: &Journal,
    supervisor: &Supervisor,
    history: History,
) -> Outcome {
    let began = Instant::now();
    let mut results = history.results.clone();
    let mut at = None;
    let outcome = steps(spec, dir, journal, supervisor, history, &mut results, &mut at);
    let changed = results.iter().any(|result| result.changed);
    match outcome {
        Ok(outcome) => Outcome { changed, steps: results, ..outcome },
        Err(error) => {
            if let Some(index) = at {
                clean_up(&mark(spec, index));
            }
            Outcome { changed, steps: results, ..failed(&error, at, began) }
        }
    }
}

fn steps(
    spec: &JobSpec,
    dir: &JobDir,
    journal: &Journal,
    supervisor: &Supervisor,
    history: History,
    results: &mut Vec<StepResult>,
    at: &mut Option<u32>,
) -> Result<Outcome> {
    let began = Instant::now();
    let root = dir.path().ancestors().nth(2).ok_or_else(|| StepError::JournalDamaged("no state directory".into()))?;
    let dry = matches!(spec.mode, Mode::Plan | Mode::Check);
    let used = Duration::from_millis(history.keep.millis);
    let mut cx = Context {
        spec,
        dir,
        journal,
        supervisor,
        ledger: Ledger::open(root, &spec.owner, dry)?,
        keep: history.keep,
        dry,
        check: spec.mode == Mode::Check,
        item: None,
        index: 0,
        mark: String::new(),
        dirs: std::collections::BTreeSet::new(),
        reboot: history.reboot,
    };
    let promised = |error| StepError::io("writing", &root.join("owners"))(error);
    match spec.mode {
        Mode::Apply => promises::forget(root, &spec.owner).map_err(promised)?,
        Mode::Remove => {
            let destroys = spec.destroys.iter().map(|path| format!("path:{path}"));
            promises::note(root, &spec.owner, cx.ledger.all_made().iter().cloned().chain(destroys))
                .map_err(promised)?;
        }
        Mode::Plan | Mode::Check => {}
    }
    let parts = parts(spec);
    for (index, (part, step)) in parts.iter().enumerate().skip(results.len()) {
        let index = u32::try_from(index).map_err(|_| StepError::JournalDamaged("too many steps".into()))?;
        *at = Some(index);
        cx.index = index;
        cx.mark = mark(spec, index);
        if history.open == Some(index) {
            // A package manager that is killed leaves a mess; it ends by itself.
            let leftover = if step.kind == "package" { await_marked } else { end_marked };
            leftover(&cx.mark, supervisor)?;
            if *part != Part::Dry && *part != Part::Undo && !step::is_repeatable(step) {
                return Err(StepError::OutcomeUnknown);
            }
        }
        let result = one(index, *part, step, &mut cx, began, used)?;
        results.push(result);
    }
    *at = None;
    close(&mut cx, results, began)
}

/// What the mode makes of the steps.
fn parts(spec: &JobSpec) -> Vec<(Part, &Step)> {
    let steps = spec.steps.iter();
    let then = spec.then.iter();
    match spec.mode {
        Mode::Apply => steps.map(|step| (Part::Do, step)).chain(then.map(|step| (Part::Probe, step))).collect(),
        Mode::Plan => steps.map(|step| (Part::Dry, step)).collect(),
        Mode::Check => steps.map(|step| (Part::Dry, step)).chain(then.map(|step| (Part::Probe, step))).collect(),
        Mode::Remove => then.map(|step| (Part::Do, step)).chain(steps.rev().map(|step| (Part::Undo, step))).collect(),
    }
}

fn one(
    index: u32,
    part: Part,
    step: &Step,
    cx: &mut Context<'_>,
    job_began: Instant,
    used: Duration,
) -> Result<StepResult> {
    let began = Instant::now();
    cx.dry = match part {
        Part::Dry => true,
        Part::Do | Part::Undo => false,
        Part::Probe => !matches!(step.kind.as_str(), "run" | "wait" | "output"),
    };
    let prepared = prepare(part, step, cx);
    let title = prepared.as_ref().map_or_else(|_| step::title(&step.kind, &step.args), |ready| ready.title.clone());
    let title = cx.journal.redactor().text(&title);
    // From here on a crash in a step that must not be repeated has to be seen.
    let once = !cx.dry && part != Part::Undo && !step::is_repeatable(step);
    let durable = |cx: &Context<'_>| {
        cx.dir.sync().and_then(|()| cx.journal.sync()).map_err(StepError::io("writing", cx.dir.path()))
    };
    event(cx, Event::Step { index, title: title.clone() }, false)?;
    if once {
        durable(cx)?;
    }
    let prepared = prepared?;
    let mut report = perform(part, step, &prepared, cx)?;
    if part == Part::Probe && step.kind == "run" {
        // A probe looks; that it ran is no change.
        report.changed = false;
        report.diffs.clear();
    }
    let result = cx.journal.redactor().result(StepResult {
        title,
        changed: report.changed,
        skipped: prepared.skip || (report.undecided && !report.changed),
        diffs: report.diffs,
        effects: report.effects,
        millis: millis(began.elapsed()),
    });
    cx.keep.millis = millis(used + job_began.elapsed());
    event(cx, Event::StepDone { index, result: result.clone() }, true)?;
    if once {
        durable(cx)?;
    }
    Ok(result)
}

fn event(cx: &Context<'_>, event: Event, keep: bool) -> Result<()> {
    let keep = keep.then(|| cx.keep.clone());
    cx.journal.event(event, keep).map_err(StepError::io("writing", cx.dir.path()))
}

/// Decides what is to be done before anything is.
fn prepare(part: Part, step: &Step, cx: &Context<'_>) -> Result<Prepared> {
    let mut variables = cx.variables();
    if part == Part::Undo {
        variables.extend(cx.ledger.vars().clone());
    }
    let nothing =
        |skip, undecided| Prepared { title: step::title(&step.kind, &step.args), items: Vec::new(), skip, undecided };
    let unknown = || -> Result<bool> {
        Ok(template::undeclared_in_step(step)?.iter().any(|name| cx.keep.unknown.contains(name)))
    };
    let render = |variables: &Object| -> Result<Option<Value>> {
        match &step.when {
            Some(when) if !template::holds(when, variables)? => Ok(None),
            _ => Ok(Some(template::step_arguments(step, variables)?)),
        }
    };
    let mut items = Vec::new();
    let loops = match &step.each {
        None => Ok(None),
        Some(each) => template::items(each, &variables).map(Some),
    };
    let rendered = loops.map_err(StepError::from).and_then(|loops| {
        let Some((name, values)) = loops else {
            items.extend(render(&variables)?.map(|args| (None, args)));
            return Ok(());
        };
        for value in values {
            variables.insert(name.to_owned(), value.clone());
            items.extend(render(&variables)?.map(|args| (Some((name.to_owned(), value)), args)));
        }
        Ok(())
    });
    match rendered {
        Ok(()) if items.is_empty() => Ok(nothing(true, false)),
        Ok(()) => {
            let first = step::title(&step.kind, &items[0].1);
            let title = if items.len() > 1 { format!("{first} (and {} more)", items.len() - 1) } else { first };
            Ok(Prepared { title, items, skip: false, undecided: false })
        }
        // It reads what only running would tell.
        Err(StepError::Template(TemplateError::Undefined(_))) if cx.dry && unknown()? => Ok(nothing(false, true)),
        Err(StepError::Template(TemplateError::Undefined(what))) if part == Part::Undo => {
            cx.say(format!("not undone, for nobody knows {what}"));
            Ok(nothing(false, true))
        }
        Err(error) => Err(error),
    }
}

fn perform(part: Part, step: &Step, prepared: &Prepared, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report { undecided: prepared.undecided, ..Report::default() };
    let mut values = Vec::new();
    let mut save = step.save.clone();
    let mut items: Vec<_> = prepared.items.iter().collect();
    if matches!(part, Part::Undo) {
        items.reverse();
    }
    for (item, args) in items {
        cx.supervisor.check()?;
        cx.item.clone_from(item);
        let mut args = args.clone();
        if let (true, Some(Value::String(name))) =
            (step.kind != "output", args.as_object_mut().and_then(|args| args.remove("as")))
        {
            save = Some(name);
        }
        let mut done = match part {
            Part::Undo => step::undo(&step.kind, args, cx),
            Part::Do | Part::Dry | Part::Probe => step::apply(&step.kind, args, cx),
        }?;
        values.push(done.value.take());
        report.add(done);
    }
    cx.item = None;
    match save {
        Some(name) if report.undecided => {
            cx.keep.unknown.insert(name);
        }
        Some(name) if !prepared.skip && part != Part::Undo => {
            let value = if step.each.is_some() { Value::Array(values) } else { values.swap_remove(0) };
            cx.keep.vars.insert(name, value);
        }
        Some(_) => {}
        // What a script of `apply` found out and gave no name are outputs.
        None if step.kind == "run" && part == Part::Do && cx.spec.mode == Mode::Apply => {
            for value in values {
                match value {
                    Value::Object(outputs) => cx.output(outputs)?,
                    Value::Null => {}
                    _ => return Err(StepError::OutputInvalid("an object; `as` takes other values".to_owned())),
                }
            }
        }
        None => {}
    }
    Ok(report)
}

/// After the last step: what must be there is checked, what was written is made durable.
fn close(cx: &mut Context<'_>, results: &mut Vec<StepResult>, began: Instant) -> Result<Outcome> {
    let mut outcome = ended(Status::Succeeded, began);
    match cx.spec.mode {
        Mode::Apply => {
            if let Some(name) = cx.spec.outputs.iter().find(|name| !cx.keep.outputs.contains_key(*name)) {
                return Err(StepError::OutputMissing(name.clone()));
            }
            outcome.outputs.clone_from(&cx.keep.outputs);
            cx.ledger.note_vars(&cx.keep.vars)?;
        }
        Mode::Check if results.iter().take(cx.spec.steps.len()).any(|result| result.changed) => {
            outcome.status = Status::Drifted;
        }
        Mode::Plan | Mode::Check => {}
        Mode::Remove => super::remove::finish(cx, &mut outcome, results)?,
    }
    cx.settle()?;
    outcome.millis = millis(began.elapsed());
    Ok(outcome)
}

fn mark(spec: &JobSpec, index: u32) -> String {
    format!("{}:{index}", spec.job)
}

/// Ends what a failed step left running, in a time of its own: that of the job may be over.
fn clean_up(mark: &str) {
    let supervisor = Supervisor::new(10, Duration::ZERO);
    // Nothing can be done about what even KILL does not end.
    let _ = end_marked(mark, &supervisor);
}
