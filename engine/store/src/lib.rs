//! Remembers: the only crate with SQL, and the embedded Postgres.
