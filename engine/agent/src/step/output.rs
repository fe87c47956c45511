//! `output`: what was found out, under the names that the role declares.

use serde_json::Value;

use crate::context::{Context, Report};
use crate::error::{Result, StepError};

pub(super) fn apply(args: &Value, cx: &mut Context<'_>) -> Result<Report> {
    let Value::Object(outputs) = args else {
        return Err(StepError::argument("output", "it takes names and values"));
    };
    cx.output(outputs.clone())?;
    let mut report = Report::unchanged();
    report.value = args.clone();
    Ok(report)
}
