//! Collects diagnostics of one document and gives each its line and column.

use std::cell::RefCell;

use engine_core::diagnostic::{Diagnostic, Severity};
use engine_core::schema::Problem;

use crate::yaml::Spans;

/// Where findings about one document go.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) file: &'a str,
    pub(crate) spans: &'a Spans,
    found: RefCell<Vec<Diagnostic>>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, spans: &'a Spans) -> Self {
        Self { file, spans, found: RefCell::default() }
    }

    pub(crate) fn into_found(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }

    /// An error at the value under a pointer.
    pub(crate) fn error(&self, code: &str, pointer: &str, message: impl Into<String>) {
        self.put(Diagnostic::error(code, pointer, message), false);
    }

    /// The same, with what was expected.
    pub(crate) fn wrong(&self, code: &str, pointer: &str, message: impl Into<String>, expected: impl Into<String>) {
        self.put(Diagnostic::error(code, pointer, message).expected(expected), false);
    }

    /// An error about the key that a pointer ends in.
    pub(crate) fn wrong_key(&self, code: &str, pointer: &str, message: impl Into<String>, expected: impl Into<String>) {
        self.put(Diagnostic::error(code, pointer, message).expected(expected), true);
    }

    pub(crate) fn warning(&self, code: &str, pointer: &str, message: impl Into<String>) {
        self.put(Diagnostic::error(code, pointer, message).warning(), false);
    }

    /// What a schema found, below a pointer.
    pub(crate) fn problems(&self, below: &str, problems: Vec<Problem>) {
        for problem in problems {
            let mut diagnostic =
                Diagnostic::error(problem.code(), format!("{below}{}", problem.pointer), problem.message.clone());
            diagnostic.expected.clone_from(&problem.expected);
            self.put(diagnostic, problem.is_about_key());
        }
    }

    /// Anything, placed by its pointer.
    pub(crate) fn put(&self, mut diagnostic: Diagnostic, key: bool) {
        if diagnostic.line.is_none() {
            let place = if key { self.spans.key(&diagnostic.pointer) } else { self.spans.value(&diagnostic.pointer) };
            diagnostic.line = place.map(|place| place.line);
            diagnostic.column = place.map(|place| place.column);
        }
        diagnostic.file = Some(self.file.to_owned());
        self.found.borrow_mut().push(diagnostic);
    }

    /// A finding that knows its own file.
    pub(crate) fn elsewhere(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// What is known, as text for "expected".
pub(crate) fn known<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const MOST: usize = 12;
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] => "nothing: there are none".to_owned(),
        [only] => format!("`{only}`"),
        several => {
            let more = if several.len() > MOST { ", …" } else { "" };
            let list = several.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            format!("one of {list}{more}")
        }
    }
}
