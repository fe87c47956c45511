//! Does what a wire supplies fit the input it feeds?

use serde_json::{Map, Value, json};

use super::closure::Instance;
use super::{CompileInput, Findings, Site};
use crate::schema::{self, Fit, Reach};

/// What a wire supplies.
#[derive(Clone, Debug)]
pub(super) enum Supply {
    /// Always something of this schema.
    Known(Value),
    /// Something of this schema, or nothing, for this reason.
    Unsure(Value, String),
    /// It is not known what, for this reason.
    Unknown(String),
}

/// The schema of what is not known.
static ANYTHING: Value = Value::Bool(true);

impl Supply {
    /// What lies at a path in it.
    pub(super) fn at(self, path: &[String]) -> Result<Self, String> {
        let (schema, unsure) = match self {
            Self::Known(schema) => (schema, None),
            Self::Unsure(schema, why) => (schema, Some(why)),
            Self::Unknown(why) => return Ok(Self::Unknown(why)),
        };
        let (schema, maybe) = match schema::schema_at(&schema, path) {
            Reach::Always(schema) => (schema, None),
            Reach::Maybe(Value::Bool(true)) => {
                return Ok(Self::Unknown(format!("nothing is said of `{}`", path.join("."))));
            }
            Reach::Maybe(schema) => (schema, Some(format!("`{}` may be missing", path.join(".")))),
            Reach::Never(reason) => return Err(reason),
        };
        Ok(match unsure.or(maybe) {
            Some(why) => Self::Unsure(schema, why),
            None => Self::Known(schema),
        })
    }

    /// The same, gathered from so many instances.
    pub(super) fn gathered(self, map: bool, at_least: usize) -> Self {
        let wrap = |schema: &Value| {
            if map { schema::wrap_map(schema, at_least) } else { schema::wrap_each(schema, at_least) }
        };
        match self {
            Self::Known(schema) => Self::Known(wrap(&schema)),
            Self::Unsure(schema, why) => Self::Unsure(wrap(&schema), why),
            Self::Unknown(why) => Self::Unknown(why),
        }
    }

    /// Its schema.
    pub(super) fn schema(&self) -> &Value {
        match self {
            Self::Known(schema) | Self::Unsure(schema, _) => schema,
            Self::Unknown(_) => &ANYTHING,
        }
    }
}

/// What a deployment role outputs, seen through an interface if it is read through one.
pub(super) fn output(
    input: &CompileInput,
    supplier: &Instance,
    interface: Option<&str>,
    output: Option<&str>,
) -> Result<Supply, String> {
    let own = &supplier.role.doc.outputs;
    let declared = interface.and_then(|name| input.catalog.interfaces.get(name));
    let schema_of = |name: &str| match declared {
        Some(declared) => declared.get(name),
        None => own.get(name).map(|output| &output.schema),
    };
    let names: Vec<&str> = match declared {
        Some(declared) => declared.keys().map(String::as_str).collect(),
        None => own.keys().map(String::as_str).collect(),
    };
    let seen_as = interface.unwrap_or(&supplier.role.doc.role);
    match output {
        Some(name) if !own.contains_key(name) && schema_of(name).is_some() => {
            Err(format!("`{}` provides `{seen_as}` without its output `{name}`", supplier.role.doc.role))
        }
        Some(name) => schema_of(name)
            .cloned()
            .map(Supply::Known)
            .ok_or_else(|| format!("`{seen_as}` has no output `{name}`, only {}", super::one_of(&names))),
        None if interface.is_none() => {
            Err(format!("the wire names no output of `{seen_as}`: {}", super::one_of(&names)))
        }
        None => {
            let properties: Map<String, Value> =
                names.iter().filter_map(|name| Some(((*name).to_owned(), schema_of(name)?.clone()))).collect();
            Ok(Supply::Known(json!({
                "type": "object", "properties": properties, "required": names, "additionalProperties": false,
            })))
        }
    }
}

/// Checks that a supply fits an input. What can not be decided is returned.
pub(super) fn check(
    supply: &Supply,
    wire: &str,
    to: (&Instance, &str),
    site: &Site,
    findings: &mut Findings,
) -> Option<String> {
    let (instance, name) = to;
    let declared = &instance.role.doc.inputs[name];
    if let Supply::Unknown(why) = supply {
        return Some(why.clone());
    }
    match (schema::fit(supply.schema(), &declared.schema), supply) {
        (Fit::DoesNotFit { place, reason }, _) => {
            let inside = if place.is_empty() { String::new() } else { format!(" at `{place}`") };
            let target = format!("{}#/inputs/{name}/schema", instance.role.source);
            let message =
                format!("what `{wire}` supplies does not fit input `{name}` of `{}`{inside}: {reason}", instance.name);
            findings.push(site.error("does-not-fit", message).expected(format!("what {target} says")));
            None
        }
        (Fit::Undecided { reason }, _) => Some(reason),
        (Fit::Fits, Supply::Unsure(_, why)) => Some(why.clone()),
        (Fit::Fits, Supply::Known(_) | Supply::Unknown(_)) => None,
    }
}
