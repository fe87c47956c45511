//! Who may come in: those who know the token.

use std::hint::black_box;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;

use crate::problem::ApiError;
use crate::server::App;

/// Middleware before everything but the probes.
pub(crate) async fn token(State(app): State<App>, request: Request, next: Next) -> Result<Response, ApiError> {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match given {
        Some((_, token)) if same(token.trim().as_bytes(), app.token.as_bytes()) => Ok(next.run(request).await),
        _ => Err(ApiError::Unauthorized),
    }
}

/// Takes as long for a token that is nearly right as for one that is all wrong. An empty token lets nobody in.
fn same(given: &[u8], token: &[u8]) -> bool {
    if given.len() != token.len() || token.is_empty() {
        return false;
    }
    let differences = given.iter().zip(token).fold(0, |found, (a, b)| black_box(found | (a ^ b)));
    black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_the_token_is_the_token() {
        assert!(same(b"secret", b"secret"));
        for wrong in ["", "secre", "secret1", "Secret", "secreu"] {
            assert!(!same(wrong.as_bytes(), b"secret"), "{wrong}");
        }
        assert!(!same(b"", b""));
    }
}
