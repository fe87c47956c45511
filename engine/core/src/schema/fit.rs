//! Does everything that one schema admits pass another?
//!
//! Two adversaries work on the question. The prover looks for a reason why every value of the supplier must pass; only
//! when it has one is the answer [`Fit::Fits`]. Where it finds none, a witness is looked for: a value that the supplier
//! admits and the consumer refuses, both judged by the validator itself; only with one in hand is the answer
//! [`Fit::DoesNotFit`]. What is left is [`Fit::Undecided`]: correct bundles may well contain it, and the value is
//! validated when it arrives.

mod facts;
mod keyword;

use std::cell::Cell;

use serde_json::Value;

use facts::Facts;

use super::{compile, witness};

/// The answer of [`fit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Every value of the supplier is valid for the consumer.
    Fits,
    /// Some value of the supplier is not.
    DoesNotFit {
        /// JSON pointer into the value, with `*` for every element or key.
        place: String,
        /// What the consumer wants there and the supplier does not promise.
        reason: String,
    },
    /// It can not be told from the schemas.
    Undecided {
        /// What could not be shown.
        reason: String,
    },
}

/// Says whether every value that `supplier` admits is valid for `consumer`.
pub fn fit(supplier: &Value, consumer: &Value) -> Fit {
    if compile(supplier).is_err() || compile(consumer).is_err() {
        return Fit::Undecided { reason: "one of the two is not a JSON Schema".to_owned() };
    }
    let prover = Prover { steps: Cell::new(0) };
    match prover.prove(&Facts::of(supplier), consumer, "") {
        Ok(()) => Fit::Fits,
        Err(gap) => match witness::find(supplier, consumer) {
            Some(value) => {
                let (place, reason) = gap.or_seen_in(&value, consumer);
                Fit::DoesNotFit { place, reason }
            }
            None => Fit::Undecided { reason: gap.text() },
        },
    }
}

/// Where a proof ended, and for want of what.
#[derive(Debug)]
struct Gap {
    place: String,
    reason: String,
    /// Did the proof follow the schemas all the way, so that the reason is the true one?
    precise: bool,
}

impl Gap {
    fn text(&self) -> String {
        if self.place.is_empty() { self.reason.clone() } else { format!("{} (at {})", self.reason, self.place) }
    }

    /// The place and reason; those of the witness where the proof only ended in a choice between branches.
    fn or_seen_in(self, value: &Value, consumer: &Value) -> (String, String) {
        if self.precise {
            return (self.place, self.reason);
        }
        match super::validate(consumer, value).into_iter().next() {
            Some(problem) => (problem.pointer, format!("it may be {value}, and then {}", problem.message)),
            None => (self.place, self.reason),
        }
    }
}

type Proof = Result<(), Gap>;

struct Prover {
    steps: Cell<u32>,
}

impl Prover {
    /// Proofs longer than this are given up.
    const MOST_STEPS: u32 = 20_000;

    /// Does every value of which `facts` are true pass `consumer`?
    fn prove(&self, facts: &Facts<'_>, consumer: &Value, place: &str) -> Proof {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > Self::MOST_STEPS {
            return Err(Gap {
                place: place.to_owned(),
                reason: "the schemas are too large to compare".to_owned(),
                precise: false,
            });
        }
        if facts.are_impossible() || consumer == &Value::Bool(true) || facts.contain(consumer) {
            return Ok(());
        }
        let direct = self.direct(facts, consumer, place);
        let Err(gap) = direct else { return Ok(()) };
        match facts.cases() {
            Some(cases) => cases.iter().try_for_each(|case| self.prove(case, consumer, place)),
            None => Err(gap),
        }
    }

    fn direct(&self, facts: &Facts<'_>, consumer: &Value, place: &str) -> Proof {
        let Value::Object(wanted) = consumer else {
            return Err(Gap { place: place.to_owned(), reason: "nothing is taken there".to_owned(), precise: true });
        };
        if let Some(values) = facts.values() {
            return every_one_passes(&values, facts, consumer, place);
        }
        wanted.iter().try_for_each(|(keyword, argument)| {
            let question = keyword::Question { facts, consumer: wanted, keyword, argument, place };
            self.keyword(&question)
        })
    }
}

fn every_one_passes(values: &[Value], facts: &Facts<'_>, consumer: &Value, place: &str) -> Proof {
    let gap = |reason: String| Gap { place: place.to_owned(), reason, precise: true };
    let validator = compile(consumer).map_err(|error| gap(error.to_string()))?;
    match values.iter().find(|value| facts.admit(value) && !validator.is_valid(value)) {
        Some(value) => Err(gap(format!("it may be {value}, which is not taken"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
