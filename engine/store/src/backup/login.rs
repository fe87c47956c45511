//! How the programs of Postgres get into a database: by the environment, where nobody else can read a password.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use sqlx::{ConnectOptions, postgres::PgSslMode};

use super::BackupError;
use crate::connect::Target;

/// A program of Postgres that connects to nothing.
pub(super) fn bare(programs: &Path, name: &'static str) -> Result<Command, BackupError> {
    let program = programs.join(name);
    if !program.is_file() {
        return Err(BackupError::Missing { program: name, directory: programs.to_owned() });
    }
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// A program of Postgres that connects to `target`.
pub(super) fn command(target: &Target, programs: &Path, name: &'static str) -> Result<Command, BackupError> {
    let mut command = bare(programs, name)?;
    let options = target.options();
    match options.get_socket() {
        Some(socket) => command.env("PGHOST", socket),
        None => command.env("PGHOST", options.get_host()),
    };
    command
        .env("PGPORT", options.get_port().to_string())
        .env("PGUSER", options.get_username())
        .env("PGDATABASE", options.get_database().unwrap_or_default())
        .env("PGAPPNAME", format!("plinth-{name}"))
        .env("PGSSLMODE", ssl_mode(options.get_ssl_mode()))
        .env_remove("PGSERVICE")
        .env_remove("PGHOSTADDR");
    let url = options.to_url_lossy();
    if let Some(password) = url.password() {
        command.env("PGPASSWORD", unescape(password));
    }
    for (key, value) in url.query_pairs() {
        match &*key {
            "sslrootcert" => command.env("PGSSLROOTCERT", &*value),
            "sslcert" => command.env("PGSSLCERT", &*value),
            "sslkey" => command.env("PGSSLKEY", &*value),
            _ => &mut command,
        };
    }
    Ok(command)
}

fn ssl_mode(mode: PgSslMode) -> &'static str {
    match mode {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

/// Undoes the percent signs of a URL.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let hex = (*first == b'%').then(|| others.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        rest = if byte.is_some() { &others[2..] } else { others };
        bytes.push(byte.unwrap_or(*first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_out_of_the_url_as_it_was() {
        assert_eq!(unescape("a%20b%2Fc%25"), "a b/c%");
        assert_eq!(unescape("100%"), "100%");
        assert_eq!(unescape("%zz%C3%A9"), "%zzé");
    }

    #[test]
    fn a_password_is_in_the_environment_and_on_no_command_line() {
        let target = Target::url("postgres://me:s%2Fcret@db.example:6432/plinth?sslmode=require").unwrap();
        let programs = tempfile::tempdir().unwrap();
        std::fs::write(programs.path().join("pg_dump"), "").unwrap();
        let command = command(&target, programs.path(), "pg_dump").unwrap();
        assert!(command.get_args().all(|argument| !argument.to_string_lossy().contains("cret")));
        let get = |key: &str| {
            let found = command.get_envs().find(|(name, _)| *name == key);
            found.and_then(|(_, value)| value).map(|value| value.to_string_lossy().into_owned())
        };
        assert_eq!(get("PGPASSWORD").as_deref(), Some("s/cret"));
        assert_eq!(get("PGHOST").as_deref(), Some("db.example"));
        assert_eq!(get("PGSSLMODE").as_deref(), Some("require"));
    }
}
