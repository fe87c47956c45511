//! The node-side binary and the job protocol.
