//! Every refusal is a problem with a code, and only those who know the token get further.

use api_server::ServerError;
use engine_core::request::Problem;
use engine_store::testing::Database;
use reqwest::{Client, Method, StatusCode};

use crate::support::{Recorder, Running, TOKEN, start};

#[tokio::test]
async fn every_refusal_is_a_problem_with_a_code() {
    let (_database, _, running) = start().await;
    let http = Client::builder().no_proxy().build().unwrap();
    let table = [
        ("GET", "/nowhere", ""),
        ("GET", "/api/v1/nowhere", ""),
        ("PUT", "/api/v1/deployments", ""),
        ("GET", "/api/v1/deployments?colour=red", ""),
        ("GET", "/api/v1/deployments/red", ""),
        ("GET", "/api/v1/deployments/red/status", ""),
        ("GET", "/api/v1/deployments/red/graph", ""),
        ("GET", "/api/v1/deployments/blue/graph?format=png", ""),
        ("GET", "/api/v1/deployments/red/node-roles/g-1/app/why", ""),
        ("GET", "/api/v1/deployments/blue/node-roles/g-1/none/why", ""),
        ("GET", "/api/v1/deployments/blue/node-roles/g-9/app/logs", ""),
        ("GET", "/api/v1/jobs/7", ""),
        ("GET", "/api/v1/jobs/00000000-0000-7000-8000-000000000000", ""),
        ("GET", "/api/v1/nodes/red", ""),
        ("GET", "/api/v1/nodes/red/node-roles", ""),
        ("GET", "/api/v1/roles/red", ""),
        ("GET", "/api/v1/workloads/red", ""),
        ("GET", "/api/v1/events?deployment=red", ""),
        ("POST", "/api/v1/plans", "{"),
        ("POST", "/api/v1/plans", "{\"text\": 1}"),
        ("POST", "/api/v1/plans", "{\"text\": \"bad\", \"file\": \"x.yaml\"}"),
        ("POST", "/api/v1/deployments/red/asks", "{\"ask\": \"retry\"}"),
        ("POST", "/api/v1/deployments/blue/asks", "{\"ask\": \"guess\", \"node\": 1}"),
        ("POST", "/api/v1/deployments/panic/asks", "{\"ask\": \"retry\"}"),
        ("DELETE", "/api/v1/nodes/g-1", ""),
    ];
    let mut text = String::new();
    for (method, path, body) in table {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = http.request(method.clone(), format!("{}{path}", running.url())).bearer_auth(TOKEN);
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/problem+json", "{path}");
        let id = header("x-request-id");
        let problem: Problem = response.json().await.unwrap();
        assert_eq!((problem.status, &problem.request_id), (status.as_u16(), &id), "{path}");
        assert_eq!(problem.instance, path.split('?').next().unwrap());
        assert_eq!(problem.kind, format!("urn:plinth:error:{}", problem.code));
        text += &format!("{method} {path} {body} -> {} {}\n", problem.status, problem.code);
    }
    insta::assert_snapshot!(text, @r#"
    GET /nowhere  -> 404 no-route
    GET /api/v1/nowhere  -> 404 no-route
    PUT /api/v1/deployments  -> 405 method-not-allowed
    GET /api/v1/deployments?colour=red  -> 400 bad-request
    GET /api/v1/deployments/red  -> 404 unknown-deployment
    GET /api/v1/deployments/red/status  -> 404 unknown-deployment
    GET /api/v1/deployments/red/graph  -> 404 unknown-deployment
    GET /api/v1/deployments/blue/graph?format=png  -> 400 bad-request
    GET /api/v1/deployments/red/node-roles/g-1/app/why  -> 404 unknown-deployment
    GET /api/v1/deployments/blue/node-roles/g-1/none/why  -> 404 unknown-node-role
    GET /api/v1/deployments/blue/node-roles/g-9/app/logs  -> 404 unknown-node-role
    GET /api/v1/jobs/7  -> 400 bad-request
    GET /api/v1/jobs/00000000-0000-7000-8000-000000000000  -> 404 unknown-job
    GET /api/v1/nodes/red  -> 404 unknown-node
    GET /api/v1/nodes/red/node-roles  -> 404 unknown-node
    GET /api/v1/roles/red  -> 404 unknown-role
    GET /api/v1/workloads/red  -> 404 unknown-workload
    GET /api/v1/events?deployment=red  -> 404 unknown-deployment
    POST /api/v1/plans { -> 400 bad-request
    POST /api/v1/plans {"text": 1} -> 422 bad-request
    POST /api/v1/plans {"text": "bad", "file": "x.yaml"} -> 422 unknown-key
    POST /api/v1/deployments/red/asks {"ask": "retry"} -> 404 unknown-deployment
    POST /api/v1/deployments/blue/asks {"ask": "guess", "node": 1} -> 422 bad-request
    POST /api/v1/deployments/panic/asks {"ask": "retry"} -> 500 internal-error
    DELETE /api/v1/nodes/g-1  -> 409 node-in-use
    "#);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn only_the_token_lets_in() {
    let (_database, recorder, running) = start().await;
    let http = Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("{}{path}", running.url());
    for wrong in [None, Some("Bearer"), Some("Bearer let-me-ix"), Some("Basic let-me-in"), Some("let-me-in")] {
        let mut request = http.get(url("/api/v1/deployments"));
        if let Some(wrong) = wrong {
            request = request.header("authorization", wrong);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{wrong:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.json::<Problem>().await.unwrap().code, "unauthorized");
    }
    let unheard = http
        .post(url("/api/v1/deployments/blue/asks"))
        .json(&serde_json::json!({"ask": "retry"}))
        .send()
        .await
        .unwrap();
    assert_eq!((unheard.status(), recorder.taken()), (StatusCode::UNAUTHORIZED, Vec::new()));
    for open in ["/healthz", "/readyz", "/version", "/openapi.json"] {
        assert_eq!(http.get(url(open)).send().await.unwrap().status(), StatusCode::OK, "{open}");
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let (_database, recorder, running) = start().await;
    let document = |size: usize| api_server::control::Document { text: "x".repeat(size), file: "big".to_owned() };
    running.client().plan(&document(7 << 20)).await.unwrap();
    assert_eq!(recorder.taken(), ["plan big"]);
    let error = running.client().plan(&document(9 << 20)).await.unwrap_err();
    // The server may hang up before all was sent.
    assert!(["request-too-large", "no-engine"].contains(&error.code()), "{error}");
    assert_eq!(recorder.taken(), [""; 0]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn it_does_not_listen_where_others_could_come() {
    let database = Database::fresh().await;
    let running = Running::start(&database, &Recorder::default(), "0.0.0.0:0").await;
    let error = running.stop().await.unwrap_err();
    assert_eq!(error.code(), "listen-not-loopback");
    assert!(matches!(error, ServerError::NotLoopback { .. }));
}
