//! Decides: documents, compile, diff, states, values. No I/O, no clock, no async.
