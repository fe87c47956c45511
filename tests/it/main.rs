//! Tests: it.
