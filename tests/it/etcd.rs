//! An etcd cluster that grows, shrinks, changes and loses machines on lab nodes while somebody writes to it and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::site::Site;
use crate::support::openssl;
use crate::writer::{Client, PATIENCE, Writer, endpoints, key, stored};

/// Name and whether it is a learner, of each member.
fn members(client: &Client, url: &str) -> BTreeMap<String, bool> {
    let answer = client.post(url, "/v3/cluster/member/list", &json!({}), PATIENCE).expect("a member list");
    let all = answer["members"].as_array().expect("members").iter();
    all.map(|one| (one["name"].as_str().unwrap_or_default().to_owned(), one["isLearner"] == true)).collect()
}

fn full(names: &[&str]) -> BTreeMap<String, bool> {
    names.iter().map(|name| (format!("it-members-{name}"), false)).collect()
}

/// The deployment with these flags of etcd.
fn cluster(flags: &str) -> String {
    format!(
        "deployment: it\nworkload: etcd-cluster\nparameters: {{flags: {{{flags}}}}}\n\
         nodes: {{members: {{provider: lab, count: 3}}}}\n"
    )
}

/// Another service with an authority of its own.
const OTHER: [(&str, &str); 2] = [
    (
        "roles/other-ca/role.yaml",
        "role: other-ca\nversion: 1.0.0\nabout: The authority of another service.\nis: certificate-authority\nmilestone: true\n\
         with: {common_name: other}\n",
    ),
    (
        "workloads/other/workload.yaml",
        "workload: other\nversion: 1.0.0\nabout: Another service.\ngroups: {none: {}}\nroles: {deployment: [other-ca]}\n",
    ),
];
const MEMBERS: [&str; 3] = ["it-members-1", "it-members-2", "it-members-3"];

/// Applies of `etcd` that began under a revision: node, begin, end and outcome of each, in the order of their beginning.
fn applies(site: &Site, revision: i64) -> Vec<(String, String, String, String)> {
    let mut all = Vec::new();
    for node in MEMBERS {
        let why = site.json(&["why", "it", &format!("{node}/etcd")]);
        let jobs = why["jobs"].as_array().expect("jobs").iter();
        for job in jobs.filter(|job| job["revision"] == revision && job["action"] == "apply") {
            let text = |key: &str| job[key].as_str().unwrap_or_default().to_owned();
            all.push((text("claimed_at"), text("node"), text("finished_at"), text("outcome")));
        }
    }
    all.sort();
    all.into_iter().map(|(began, node, ended, outcome)| (node, began, ended, outcome)).collect()
}

/// What a flag is in the process that runs.
fn flag(site: &Site, node: &str, name: &str) -> String {
    let script = format!("tr '\\0' '\\n' </proc/$(pidof etcd)/environ | grep ^{name}= || true");
    let said = site.ok(&["exec", node, "--", "bash", "-c", &script]);
    said.trim().rsplit('=').next().unwrap_or_default().to_owned()
}

fn until_at(site: &Site, revision: i64) -> Value {
    site.until("it", "active there", |status| {
        status["deployment"]["health"] == "active" && status["deployment"]["revision"] == revision
    })
}

/// A client certificate that another service's authority signed, and its key.
fn of_another_service(site: &Site) -> (String, String) {
    let document = site.write("other.yaml", "deployment: other\nworkload: other\nnodes: {}\n");
    site.ok(&["apply", &document, "--yes", "--wait"]);
    let key = rcgen::KeyPair::generate().expect("a key");
    let name = "it-members-1.other.plinth.internal";
    let mut asked = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("names");
    asked.distinguished_name = rcgen::DistinguishedName::new();
    asked.distinguished_name.push(rcgen::DnType::CommonName, "it-members-1");
    let csr = asked.serialize_request(&key).expect("a request").pem().expect("PEM");
    let csr = site.write("other.csr", &csr);
    let words = ["cert", "sign", "other", "other-ca", "--request", &csr, "--subject", "it-members-1", "--names", name];
    (site.ok(&words), key.serialize_pem())
}

/// Neither without a certificate, nor with one of another service's authority; and nothing but TLS is spoken.
fn only_clients_with_a_certificate_are_heard(site: &Site, urls: &[String]) {
    let ca = Client::file(site, "it-members-1", "/etc/etcd/tls/server/ca.pem");
    let strange = of_another_service(site);
    for url in urls {
        for client in [Client::with(&ca, None), Client::with(&ca, Some((&strange.0, &strange.1)))] {
            let said = client.post(url, "/v3/cluster/member/list", &json!({}), PATIENCE);
            assert!(said.as_ref().is_err_and(|said| said.contains("ertificate")), "{url}: {said:?}");
        }
        let address: SocketAddr = url.trim_start_matches("https://").parse().expect("an address");
        let mut plain = TcpStream::connect(address).expect("it listens");
        plain.write_all(b"GET /health HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("true"), "{url} speaks plain HTTP: {answer}");
    }
}

/// Every certificate on every node is signed by what is trusted beside it, for what it is used for; and they are all that were signed.
fn openssl_accepts_every_chain(site: &Site, nodes: &[&str]) {
    let folder = site.folder();
    let mut serials = BTreeSet::new();
    let crl = folder.join("chain-crl").display().to_string();
    std::fs::write(&crl, Client::file(site, MEMBERS[0], "/etc/etcd/tls/peer/crl.pem")).expect("a file");
    for node in nodes {
        let find = "find /etc /srv /var/lib -name cert.pem -printf '%h\\n' | sort";
        let said = site.ok(&["exec", node, "--", "bash", "-c", find]);
        let folders: Vec<&str> = said.split_whitespace().filter(|word| word.starts_with('/')).collect();
        let wanted: &[&str] = if node.contains("clients") {
            &["/etc/etcd/tls/client"]
        } else {
            &["/etc/etcd/tls/peer", "/etc/etcd/tls/server"]
        };
        assert_eq!(folders, wanted, "{node}");
        for at in folders {
            let file = |name: &str| {
                let path = folder.join(format!("chain-{name}")).display().to_string();
                std::fs::write(&path, Client::file(site, node, &format!("{at}/{name}.pem"))).expect("a file");
                path
            };
            let (ca, own) = (file("ca"), file("cert"));
            let purposes: &[&str] = if at.ends_with("/client") { &["sslclient"] } else { &["sslclient", "sslserver"] };
            for purpose in purposes {
                // Whoever connects to it knows it by its name.
                let name = format!("{node}.it.plinth.internal");
                let words = [
                    "verify",
                    "-verify_hostname",
                    &name,
                    "-x509_strict",
                    "-crl_check",
                    "-CRLfile",
                    &crl,
                    "-purpose",
                    purpose,
                    "-CAfile",
                    &ca,
                    &own,
                ];
                let verdict = openssl(&words, "");
                assert_eq!(verdict.trim(), format!("{own}: OK"), "{node} {at} {purpose}");
            }
            let serial = openssl(&["x509", "-noout", "-serial", "-in", &own], "");
            serials.insert(serial.trim().trim_start_matches("serial=").to_lowercase());
        }
    }
    let listed = site.ok(&["cert", "list", "it", "-o", "name"]);
    assert_eq!(serials, listed.split_whitespace().map(str::to_owned).collect());
}

/// Until it is revoked, a client node reaches every member by what stands on it; then its certificate is worth nothing, and that of
/// the members is as good as before.
fn a_revoked_client_is_refused(site: &Site, member: &Client) {
    let health = "set -a; . /etc/etcd/client.env; etcdctl endpoint health";
    let said = site.ok(&["exec", "it-clients-1", "--", "bash", "-c", &format!("{health} 2>&1")]);
    assert_eq!(said.matches("is healthy").count(), 3, "{said}");
    let file = |name: &str| Client::file(site, "it-clients-1", &format!("/etc/etcd/tls/client/{name}.pem"));
    let client = Client::with(&file("ca"), Some((&file("cert"), &file("key"))));
    let list = |client: &Client, url: &str| client.post(url, "/v3/cluster/member/list", &json!({}), PATIENCE);
    let urls = endpoints(site);
    for url in &urls {
        list(&client, url).expect("it is let in");
    }
    let certificates = site.json(&["cert", "list", "it"]);
    let own =
        certificates.as_array().expect("a list").iter().find(|one| one["node"] == "it-clients-1").expect("its own");
    assert_eq!((&own["authority"], &own["usages"]), (&json!("etcd-ca"), &json!(["client"])));
    let started = |node: &str| site.json(&["why", "it", &format!("{node}/etcd")])["jobs"].as_array().map(Vec::len);
    let before = MEMBERS.map(started);
    site.ok(&["cert", "revoke", own["serial"].as_str().expect("a number"), "--reason", "key-compromise"]);
    site.until_so("refused everywhere", || {
        let said: Vec<_> = urls.iter().map(|url| list(&client, url)).collect();
        if said.iter().all(Result::is_err) { Ok(()) } else { Err(format!("{said:?}")) }
    });
    site.until_active("it");
    for url in &urls {
        list(member, url).expect("members are let in as before");
    }
    assert_eq!(MEMBERS.map(started), before, "nobody restarted for it");
    let said = site.fails(&["cert", "revoke", "00"]);
    assert!(said.contains("unknown-certificate"), "{said}");
}

fn grows_and_shrinks(site: &Site, client: &Client, writer: &Writer, first: &[String]) {
    site.ok(&["scale", "it", "members", "5", "--yes", "--wait"]);
    let grown = endpoints(site);
    assert_eq!(grown.len(), 5);
    assert_eq!(members(client, &grown[4]), full(&["1", "2", "3", "4", "5"]), "all of them full members");
    for node in MEMBERS {
        let jobs = site.json(&["why", "it", &format!("{node}/etcd")])["jobs"].as_array().map(Vec::len);
        assert_eq!(jobs, Some(1), "{node} was left alone");
    }
    // Whoever leaves is still asked.
    writer.use_these(grown);
    site.ok(&["scale", "it", "members", "3", "--yes", "--wait"]);
    assert_eq!(endpoints(site), first);
    assert_eq!(members(client, &first[2]), full(&["1", "2", "3"]));
    site.until_so("gone", || {
        let nodes = site.ok(&["node", "list", "-o", "name"]);
        if nodes.lines().count() == 3 { Ok(()) } else { Err(nodes) }
    });
    writer.use_these(first.to_vec());
}

fn a_changed_flag_goes_through_one_by_one(site: &Site) {
    site.apply(&cluster("snapshot-count: 5000"));
    until_at(site, 4);
    let applied = applies(site, 4);
    let nodes: Vec<&str> = applied.iter().map(|(node, ..)| node.as_str()).collect();
    assert_eq!(nodes, MEMBERS);
    for pair in applied.windows(2) {
        assert!(pair[0].2 <= pair[1].1, "two at once: {pair:#?}");
    }
    for node in MEMBERS {
        assert_eq!(flag(site, node, "ETCD_SNAPSHOT_COUNT"), "5000");
    }
}

fn a_broken_flag_stops_at_the_first_member_and_a_mended_one_goes_on(site: &Site, client: &Client, first: &[String]) {
    // An election must take at least five heartbeats: etcd ends at its start.
    site.apply(&cluster("snapshot-count: 5000, election-timeout: 200"));
    let role = |status: &Value, node: &str| {
        let mut roles = status["node_roles"].as_array().into_iter().flatten();
        roles.find(|role| role["node"] == node && role["role"] == "etcd").cloned().unwrap_or_default()
    };
    site.until("it", "stopped", |status| {
        let held = |node: &str| role(status, node)["state"] == "blocked" && role(status, node)["cause"].is_object();
        role(status, MEMBERS[0])["state"] == "failed" && held(MEMBERS[1]) && held(MEMBERS[2])
    });
    let tried: Vec<(String, String)> =
        applies(site, 5).into_iter().map(|(node, .., outcome)| (node, outcome)).collect();
    assert_eq!(tried, [(MEMBERS[0].to_owned(), "failed".to_owned())], "nobody else was tried");
    let why = site.ok(&["why", "it", "it-members-3/etcd"]);
    assert!(why.contains("held back by it-members-1/etcd failed: step-failed"), "{why}");
    let why = site.ok(&["why", "it", "it-members-1/etcd"]);
    assert!(why.contains("--election-timeout[200ms]"), "what etcd says of it: {why}");
    for url in &first[1..] {
        let put = json!({"key": STANDARD.encode("while"), "value": STANDARD.encode("broken")});
        client.post(url, "/v3/kv/put", &put, PATIENCE).expect("the others serve");
    }
    site.apply(&cluster("snapshot-count: 6000"));
    until_at(site, 6);
    let applied = applies(site, 6);
    let nodes: Vec<&str> = applied.iter().map(|(node, ..)| node.as_str()).collect();
    assert_eq!(nodes, MEMBERS, "the one that failed goes first");
    for node in MEMBERS {
        assert_eq!(flag(site, node, "ETCD_SNAPSHOT_COUNT"), "6000");
        assert_eq!(flag(site, node, "ETCD_ELECTION_TIMEOUT"), "");
    }
}

/// Its machine and its data are gone: who is made anew is another member, and the one before is removed.
fn a_node_is_made_anew(site: &Site, client: &Client, writer: &Writer) {
    for (again, revision) in [(1, 7), (2, 8)] {
        let before = endpoints(site);
        site.ok(&["redeploy", "it", "--node", MEMBERS[1], "--yes", "--wait"]);
        until_at(site, revision);
        let now = endpoints(site);
        assert_eq!([&now[0], &now[2]], [&before[0], &before[2]]);
        for url in &now {
            assert_eq!(members(client, url), full(&["1", &format!("2.{again}"), "3"]), "full members, and no others");
        }
        let applied: Vec<String> = applies(site, revision).into_iter().map(|(node, ..)| node).collect();
        assert_eq!(applied, [MEMBERS[1]], "the others were left alone");
        // Its address may be another one.
        writer.use_these(now);
    }
}

#[test]
fn members_come_and_go_change_and_are_made_anew_and_no_write_fails() {
    let mut site = Site::new(&OTHER);
    site.start();
    site.apply(&cluster(""));
    site.until_active("it");
    let first = endpoints(&site);
    let client = Client::of(&site);
    assert_eq!(members(&client, &first[0]), full(&["1", "2", "3"]));
    only_clients_with_a_certificate_are_heard(&site, &first);
    let writer = Writer::start(client.clone(), first.clone());

    grows_and_shrinks(&site, &client, &writer, &first);
    a_changed_flag_goes_through_one_by_one(&site);
    a_broken_flag_stops_at_the_first_member_and_a_mended_one_goes_on(&site, &client, &first);
    a_node_is_made_anew(&site, &client, &writer);

    let written = writer.stop();
    println!(
        "{} writes, {} retries, {} failed, the slowest took {:?}",
        written.acknowledged.len(),
        written.retries,
        written.failed.len(),
        written.slowest
    );
    assert_eq!(written.failed, Vec::<String>::new());
    assert!(written.acknowledged.len() > 100, "only {} writes", written.acknowledged.len());
    for url in &endpoints(&site) {
        let stored = stored(&client, url);
        let lost: Vec<&u32> = written
            .acknowledged
            .iter()
            .filter(|number| stored.get(&key(**number)) != Some(&number.to_string()))
            .collect();
        assert_eq!(lost, Vec::<&u32>::new(), "acknowledged, and not there at {url}");
    }
    let file = site.folder().join("applied.yaml").display().to_string();
    site.ok(&["plan", &file, "--detailed-exitcode"]);
    let said = site.run(&["destroy", "it", "--yes", "--wait"]);
    assert!(said.status.success());
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(!said.contains("could not take it away"), "{said}");
    assert_eq!(site.json(&["residue", "it"]), json!([]), "all is gone that was promised to go");
}

#[test]
fn a_client_that_is_revoked_is_refused_and_a_member_that_is_dead_is_removed_by_those_who_stay() {
    let mut site = Site::new(&[]);
    site.start();
    site.apply(
        "deployment: it\nworkload: etcd-cluster\n\
         nodes: {members: {provider: lab, count: 3}, clients: {provider: lab, count: 1}}\n",
    );
    site.until_active("it");
    let first = endpoints(&site)[0].clone();
    let client = Client::of(&site);
    openssl_accepts_every_chain(&site, &[MEMBERS[0], MEMBERS[1], MEMBERS[2], "it-clients-1"]);
    a_revoked_client_is_refused(&site, &client);
    let _ = site.run(&["exec", "it-members-3", "--timeout", "5s", "--", "poweroff", "--force"]);
    site.ok(&["scale", "it", "members", "1", "--yes"]);
    site.until_so("one member", || {
        let members = members(&client, &first);
        if members == full(&["1"]) { Ok(()) } else { Err(format!("{members:?}")) }
    });
    let leaver = |status: &Value, node: &str| {
        let mut roles = status["node_roles"].as_array().into_iter().flatten();
        roles.find(|role| role["node"] == node && role["role"] == "etcd").cloned()
    };
    let status = site.until("it", "without the second", |status| leaver(status, "it-members-2").is_none());
    // What is on the dead machine can not be removed, and does not count as gone.
    let left = leaver(&status, "it-members-3").expect("a leaver");
    assert_eq!(left["goal"], "absent", "{left:#}");
    let put = json!({"key": STANDARD.encode("after"), "value": STANDARD.encode("all")});
    client.post(&first, "/v3/kv/put", &put, PATIENCE).expect("the one that is left serves");
}
