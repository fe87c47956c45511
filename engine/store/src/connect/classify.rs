//! What an error of a connection means: is it worth another attempt, and what is it called.

use std::io::ErrorKind;

/// Worth another attempt without a person looking first?
///
/// True for what passes by itself: a lost or refused connection, a server that starts or stops, too many connections,
/// a deadlock or a serialisation failure, and a full disk, for somebody will make room.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::BeginFailed | sqlx::Error::WorkerCrashed => true,
        // The server went away between two messages of one answer.
        sqlx::Error::Protocol(text) => text.contains("unexpected EOF") || text.contains("bytes remaining"),
        sqlx::Error::Database(answer) => answer.code().is_some_and(|state| is_transient_state(&state)),
        _ => false,
    }
}

/// By SQLSTATE; see the appendix "PostgreSQL Error Codes" of its manual.
fn is_transient_state(state: &str) -> bool {
    // serialization_failure, deadlock_detected, lock_not_available
    matches!(state, "40001" | "40P01" | "55P03")
        // idle_in_transaction_session_timeout: the connection is gone, the work was rolled back
        || state == "25P03"
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout
        || matches!(state, "57P01" | "57P02" | "57P03" | "57P05")
        // class 08: connection exceptions; class 53: out of connections, memory, disk
        || state.starts_with("08")
        || state.starts_with("53")
}

/// The stable code of an error of a connection, as in docs/ERRORS.md.
pub fn code(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Database(answer) => match answer.code().as_deref().unwrap_or_default() {
            "53100" => "no-space",
            "53300" => "database-connections",
            "28000" | "28P01" => "database-login",
            "3D000" => "database-missing",
            "40001" | "40P01" | "55P03" => "database-busy",
            "25006" => "database-read-only",
            state if is_transient_state(state) => "database-unreachable",
            _ => "database-error",
        },
        sqlx::Error::Io(cause) if matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            "no-space"
        }
        sqlx::Error::PoolTimedOut => "database-busy",
        error if is_transient(error) => "database-unreachable",
        sqlx::Error::Tls(_) => "database-tls",
        _ => "database-error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_transient() {
        let table: Vec<_> = [
            "08006", "23505", "25P03", "28P01", "3D000", "40001", "40P01", "42601", "53100", "53300", "55P03", "57014",
            "57P01", "57P02", "57P03",
        ]
        .into_iter()
        .filter(|state| is_transient_state(state))
        .collect();
        assert_eq!(table, ["08006", "25P03", "40001", "40P01", "53100", "53300", "55P03", "57P01", "57P02", "57P03"]);
        assert!(is_transient(&sqlx::Error::Io(ErrorKind::ConnectionRefused.into())));
        assert!(!is_transient(&sqlx::Error::RowNotFound));
        assert!(!is_transient(&sqlx::Error::PoolClosed));
    }
}
