//! Figures, read line by line as whoever collects them does.

use std::collections::BTreeMap;

use reqwest::{Client, StatusCode};

use crate::support::{TOKEN, start};

/// Values by name and labels; fails at anything that is not OpenMetrics.
fn read(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut values = BTreeMap::new();
    let mut lines = text.lines();
    assert_eq!(lines.next_back(), Some("# EOF"));
    for line in lines {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", _, about] => assert!(about.ends_with('.'), "{line}"),
            ["#", "TYPE", name, kind] => {
                assert!(["gauge", "counter"].contains(kind), "{line}");
                assert_eq!(kinds.insert((*name).to_owned(), (*kind).to_owned()), None, "{line}");
            }
            _ => {
                let (what, value) = line.rsplit_once(' ').expect("a value");
                let name = what.split('{').next().expect("a name");
                let of = name.strip_suffix("_total").unwrap_or(name);
                let kind = kinds.get(of).unwrap_or_else(|| panic!("no type before {line}"));
                assert_eq!(kind == "counter", name != of, "{line}");
                assert!(name.starts_with("plinth_"), "{line}");
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                let mut labels: Vec<&str> =
                    what[name.len()..].trim_matches(['{', '}']).split(',').filter(|one| !one.is_empty()).collect();
                labels.sort_unstable();
                assert_eq!(values.insert(format!("{name}{{{}}}", labels.join(",")), value), None, "twice: {line}");
            }
        }
    }
    values
}

#[tokio::test]
async fn figures_are_those_of_the_database_and_of_the_engine() {
    let (database, _, running) = start().await;
    database.set("g-1/base", "state = 'failed', since = 1, code = 'step-failed'").await;
    database.set("g-2/base", "renew_at = now() - interval '1 d'").await;
    database.job("g-1/base", 1, Some("failed")).await;
    database.event("g-1/base", "node-role.fail").await;
    // An authority on the virtual node, and three certificates of one node role: the newest one counts.
    database
        .run(
            "insert into authority (authority_id, deployment_id, vertex_id, generation, state, change, founded_as, certificate,
                                    key, not_after, issued, job_id, made_at)
             select gen_random_uuid(), deployment_id, vertex_id, 2, 'active', 1, '{}', 'PEM', '\\x00', '2040-01-01Z', 17,
                    gen_random_uuid(), now()
             from vertex where role = 'ready';
             insert into certificate (serial, authority_id, vertex_id, job_id, node, names, usages, body, not_before, not_after,
                                      renew_at, issued_at, part)
             select 'ab' || n, a.authority_id, v.vertex_id, gen_random_uuid(), 'g-2', '[]', '[]', 'PEM', now(),
                    '2039-01-01Z'::timestamptz + n * interval '1 d', now() - interval '1 h', now(), 0
             from generate_series(0, 2) n, authority a, vertex v join node using (node_id)
             where v.role = 'base' and node.name = 'g-2';
             insert into zone (zone_id, deployment_id, vertex_id, name, ttl, generation)
             select gen_random_uuid(), deployment_id, vertex_id, 'blue.internal', 60, 41 from vertex where role = 'ready';
             insert into node (node_id, name, provider, state, standing, created_at, changed_at)
             values (gen_random_uuid(), 'late', 'simulated', 'creating', 'in', now(), now()),
                    (gen_random_uuid(), 'off', 'simulated', 'up', 'aside', now(), now())",
        )
        .await;
    database.all_settled().await;
    let http = Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/metrics", running.url());
    let stranger = http.get(&url).send().await.unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED, "they name deployments");
    let answer = http.get(&url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.text().await.unwrap();
    let found = read(&text);
    let end = |year: &str| match year {
        "2040" => 2_208_988_800.0,
        _ => 2_177_452_800.0 + 2.0 * 86_400.0,
    };
    for (what, value) in [
        ("plinth_deployments{health=\"failed\"}", 1.0),
        ("plinth_node_roles{deployment=\"blue\",state=\"failed\"}", 1.0),
        ("plinth_node_roles{deployment=\"blue\",state=\"active\"}", 4.0),
        ("plinth_nodes{standing=\"in\",state=\"up\"}", 2.0),
        ("plinth_nodes{standing=\"in\",state=\"creating\"}", 1.0),
        ("plinth_nodes{standing=\"aside\",state=\"up\"}", 1.0),
        ("plinth_queue_length{queue=\"nodes\"}", 1.0),
        ("plinth_queue_length{queue=\"renewals\"}", 1.0),
        ("plinth_queue_length{queue=\"records\"}", 3.0),
        ("plinth_queue_length{queue=\"certificates\"}", 1.0),
        ("plinth_engines{}", 0.0),
        (
            "plinth_authority_not_after_timestamp_seconds{authority=\"ready\",deployment=\"blue\",generation=\"2\",state=\"active\"}",
            end("2040"),
        ),
        (
            "plinth_authority_signed_total{authority=\"ready\",deployment=\"blue\",generation=\"2\",state=\"active\"}",
            17.0,
        ),
        ("plinth_certificates{authority=\"ready\",deployment=\"blue\",state=\"overdue\"}", 1.0),
        ("plinth_certificates{authority=\"ready\",deployment=\"blue\",state=\"in-force\"}", 0.0),
        ("plinth_certificate_not_after_timestamp_seconds{authority=\"ready\",deployment=\"blue\"}", end("2039")),
        ("plinth_zone_changes_total{zone=\"blue.internal\"}", 41.0),
        ("plinth_dns_answers_total{over=\"udp\"}", 7.0),
        ("plinth_dns_answers_total{over=\"tcp\"}", 2.0),
    ] {
        assert_eq!(found.get(what), Some(&value), "{what}\n{text}");
    }
    let version = format!("plinth_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(found.get(&version), Some(&1.0));
    for counter in ["events", "database_commits", "wal_bytes"] {
        assert!(found[&format!("plinth_{counter}_total{{}}")] > 0.0, "{counter}\n{text}");
    }
    // Databases of tests are not flushed.
    assert!(found.contains_key("plinth_wal_flushes_total{}"), "{text}");
    running.stop().await.unwrap();
}
