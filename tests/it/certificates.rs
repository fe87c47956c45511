//! Certificates that people ask for over the API, and lists of what was revoked: spoken to by curl, looked at by openssl and rustls.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use serde_json::{Value, json};

use crate::pki::{NAMES, WEB, request, signed, web};
use crate::site::Site;
use crate::support::{World, find, openssl};

/// An authority that signs for people, and nothing else.
const OFFICE: [(&str, &str); 2] = [
    (
        "roles/office-ca/role.yaml",
        "role: office-ca\nversion: 1.0.0\nabout: The authority of the office.\nis: certificate-authority\nmilestone: true\n\
         with: {common_name: office, permitted: {dns: [office.example], subnets: [10.0.0.0/8]}}\n",
    ),
    (
        "workloads/office/workload.yaml",
        "workload: office\nversion: 1.0.0\nabout: An authority.\ngroups: {none: {}}\nroles: {deployment: [office-ca]}\n",
    ),
];

const DESK: [&str; 2] = ["desk.office.example", "10.1.2.3"];

/// A request for these names, and its key.
fn asked(
    algorithm: &'static SignatureAlgorithm,
    names: &[&str],
    more: impl Fn(&mut CertificateParams),
) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "desk");
    more(&mut params);
    (params.serialize_request(&key).expect("a request").pem().expect("PEM"), key.serialize_pem())
}

fn desk() -> (String, String) {
    asked(&PKCS_ECDSA_P256_SHA256, &DESK, |_| {})
}

/// The engine as curl speaks to it.
struct Api {
    url: String,
    token: String,
}

impl Api {
    fn of(site: &Site) -> Self {
        let text = std::fs::read_to_string(site.data().join("endpoint.json")).expect("an endpoint");
        let found: Value = serde_json::from_str(&text).expect("JSON");
        let word = |key: &str| found[key].as_str().unwrap_or_else(|| panic!("no {key} in {found}")).to_owned();
        Self { url: word("endpoint"), token: word("token") }
    }

    /// The status and the body.
    fn curl(&self, words: &[&str], path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut child = Command::new("curl")
            .args(["--silent", "--show-error", "--write-out", "%{http_code}"])
            .args(words)
            .arg(format!("{}{path}", self.url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl");
        child.stdin.take().expect("piped").write_all(body).expect("it reads");
        let mut said = child.wait_with_output().expect("it ends").stdout;
        let status = said.split_off(said.len() - 3);
        (String::from_utf8(status).expect("digits").parse().expect("a status"), said)
    }

    fn sign(&self, body: &Value) -> (u16, Value) {
        let token = format!("Authorization: Bearer {}", self.token);
        let words = ["--header", &token, "--header", "Content-Type: application/json", "--data-binary", "@-"];
        let path = "/api/v1/deployments/it/authorities/office-ca/certificates";
        let (status, said) = self.curl(&words, path, body.to_string().as_bytes());
        (status, serde_json::from_slice(&said).unwrap_or_default())
    }

    /// Without a token.
    fn list(&self, file: &str) -> (u16, Vec<u8>) {
        self.curl(&[], &format!("/crl/{file}"), b"")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// What is not in order is refused with its code, and nothing is signed.
fn bad_requests_are_refused(site: &Site, api: &Api) {
    let good = desk().0;
    let (p256, p384) = (&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384);
    let ask = |csr: &str, names: &[&str]| json!({"csr": csr, "subject": "desk", "names": names, "usages": ["client"]});
    let with = |more: Value| {
        let mut body = ask(&good, &DESK);
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let wild = "*.office.example";
    let foreign = [DESK[0], DESK[1], "door.office.example"];
    for (body, code) in [
        (ask(&asked(p256, &foreign, |_| {}).0, &DESK), "csr-name-foreign"),
        (ask(&asked(p256, &["desk.example"], |_| {}).0, &["desk.example"]), "csr-name-foreign"),
        (ask(&asked(p256, &["192.168.0.1"], |_| {}).0, &["192.168.0.1"]), "csr-name-foreign"),
        (with(json!({"subject": "door"})), "csr-name-foreign"),
        (ask(&asked(p256, &[wild], |_| {}).0, &[wild]), "csr-name-wildcard"),
        (ask(&asked(p256, &[DESK[0], DESK[1], wild], |_| {}).0, &DESK), "csr-name-wildcard"),
        (ask(&asked(p256, &DESK[..1], |_| {}).0, &DESK), "csr-name-missing"),
        (ask(&asked(p384, &DESK, |_| {}).0, &DESK), "csr-key-type"),
        (ask(&asked(p256, &DESK, authority).0, &DESK), "csr-authority"),
        (with(json!({"not_after": "2020-01-01T00:00:00Z"})), "csr-expired"),
        (with(json!({"lifetime": "0s"})), "csr-expired"),
        (with(json!({"not_before": "2999-01-01T00:00:00Z"})), "csr-not-yet-valid"),
        (ask(&format!("{good}{}", " ".repeat(20_000)), &DESK), "csr-too-large"),
        (ask("nothing", &DESK), "csr-unreadable"),
        (with(json!({"lifetime": "long"})), "bad-request"),
        (with(json!({"usages": []})), "bad-request"),
    ] {
        let (status, said) = api.sign(&body);
        assert_eq!((status, said["code"].as_str()), (422, Some(code)), "{body:#} {said:#}");
    }
    let mut changed = good.clone();
    let at = good.len() / 2;
    changed.replace_range(at..=at, if good.as_bytes()[at] == b'A' { "B" } else { "A" });
    let (status, said) = api.sign(&ask(&changed, &DESK));
    assert_eq!(status, 422, "{said:#}");
    assert_eq!(site.json(&["cert", "list", "it"]), json!([]), "nothing was signed");
    let (status, _) =
        api.curl(&["--request", "POST"], "/api/v1/deployments/it/authorities/office-ca/certificates", b"");
    assert_eq!(status, 401, "nobody signs without a token");
}

/// Do both ends come to talk to each other? What stands in the way if not.
fn handshake(server: &ServerConfig, client: &ClientConfig, name: &str) -> Result<(), String> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(client.clone()), name).expect("a client");
    let mut server = ServerConnection::new(Arc::new(server.clone())).expect("a server");
    for _ in 0..10 {
        let mut sent = Vec::new();
        client.write_tls(&mut sent).expect("written");
        let mut rest = sent.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("read");
            server.process_new_packets().map_err(|error| format!("the server: {error}"))?;
        }
        let mut sent = Vec::new();
        server.write_tls(&mut sent).expect("written");
        let mut rest = sent.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("read");
            client.process_new_packets().map_err(|error| format!("the client: {error}"))?;
        }
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() && !server.wants_write() {
            return Ok(());
        }
    }
    Err("they never came to an end".to_owned())
}

fn ends(ca: &str, crl: &[u8], server: (&str, &str), client: (&str, &str)) -> (ServerConfig, ClientConfig) {
    let chain = |pem: &str| vec![CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")];
    let key = |pem: &str| PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("an authority")).expect("added");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .with_crls([CertificateRevocationListDer::from(crl.to_vec())])
        .build()
        .expect("a verifier");
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(server.0), key(server.1))
        .expect("a pair");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(client.0), key(client.1))
        .expect("a pair");
    (server, client)
}

/// Names, usages and the list, as rustls sees them.
fn rustls_takes_what_is_right(api: &Api, ca: &str, list: &str) {
    let sign = |usage: &str| {
        let (csr, key) = desk();
        let (status, said) = api.sign(&json!({"csr": csr, "subject": "desk", "names": DESK, "usages": [usage]}));
        assert_eq!(status, 201, "{said:#}");
        (text(&said["certificate"]).to_owned(), key, text(&said["serial"]).to_owned())
    };
    let (server, client) = (sign("server"), sign("client"));
    let (server, client_pair) = ((server.0.as_str(), server.1.as_str()), (client.0.as_str(), client.1.as_str()));
    let crl = api.list(list).1;
    let (good, talks) = ends(ca, &crl, server, client_pair);
    handshake(&good, &talks, DESK[0]).expect("both are right");
    handshake(&good, &talks, DESK[1]).expect("by its address too");
    let said = handshake(&good, &talks, "door.office.example").expect_err("another name");
    assert!(said.contains("not valid for name"), "{said}");
    let (as_server, _) = ends(ca, &crl, client_pair, client_pair);
    let said = handshake(&as_server, &talks, DESK[0]).expect_err("a client's certificate does not serve");
    assert!(said.contains("extended key usage"), "{said}");
    let (_, as_client) = ends(ca, &crl, server, server);
    let said = handshake(&good, &as_client, DESK[0]).expect_err("a server's certificate does not ask");
    assert!(said.contains("extended key usage"), "{said}");
    api.revoke(&client.2);
    let crl = api.list(list).1;
    let (good, talks) = ends(ca, &crl, server, client_pair);
    let said = handshake(&good, &talks, DESK[0]).expect_err("it is revoked");
    assert!(said.contains("evoked"), "{said}");
}

impl Api {
    fn show(&self, serial: &str) -> u16 {
        let token = format!("Authorization: Bearer {}", self.token);
        self.curl(&["--header", &token], &format!("/api/v1/certificates/{serial}"), b"").0
    }

    fn revoke(&self, serial: &str) {
        let token = format!("Authorization: Bearer {}", self.token);
        let words = ["--header", &token, "--header", "Content-Type: application/json", "--data-binary", "@-"];
        let (status, said) = self.curl(&words, &format!("/api/v1/certificates/{serial}/revocations"), b"{}");
        assert_eq!(status, 204, "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn people_have_requests_signed_and_what_is_revoked_is_in_a_list_that_anybody_can_have() {
    let mut site = Site::new(&OFFICE);
    site.start();
    site.apply("deployment: it\nworkload: office\nnodes: {}\n");
    site.until_active("it");
    let api = Api::of(&site);
    bad_requests_are_refused(&site, &api);

    let (csr, _) = desk();
    let body = json!({"csr": csr, "subject": "desk", "names": DESK, "usages": ["client"], "lifetime": "12h"});
    let (status, first) = api.sign(&body);
    assert_eq!(status, 201, "{first:#}");
    let serial = text(&first["serial"]);
    assert!(site.ok(&["cert", "show", serial]).contains("names desk.office.example, 10.1.2.3"), "{first:#}");
    let authority = site.json(&["ca", "show", "it", "office-ca"])[0].clone();
    assert_eq!((&authority["issued"], &authority["parts"]), (&json!(1), &json!(1)));
    let (id, ca) = (text(&authority["id"]), text(&authority["certificate"]));
    let file = |name: &str, bytes: &[u8]| {
        let path = site.folder().join(name).display().to_string();
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let (ca_file, own) = (file("ca.pem", ca.as_bytes()), file("own.pem", text(&first["certificate"]).as_bytes()));
    let purpose = ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &ca_file, &own];
    assert!(openssl(&purpose, "").contains("OK"), "{}", openssl(&purpose, ""));
    let lists = text(&authority["lists"]);
    assert!(openssl(&["x509", "-noout", "-text", "-in", &own], "").contains(&format!("URI:{lists}/0.crl")));

    // Whoever looks into the list needs no token.
    let (part, pem) = (format!("{id}/0.crl"), format!("{id}/0.pem"));
    let (status, before) = api.list(&part);
    assert_eq!(status, 200);
    assert_eq!(api.list(&part).1, before, "nothing was revoked, so it is the same one");
    let crl = file("before.pem", &api.list(&pem).1);
    let check =
        |crl: &str| openssl(&["verify", "-extended_crl", "-crl_check", "-CRLfile", crl, "-CAfile", &ca_file, &own], "");
    assert!(check(&crl).contains("OK"), "{}", check(&crl));
    site.ok(&["cert", "revoke", serial, "--reason", "key-compromise"]);
    let (_, after) = api.list(&part);
    let der = file("after.crl", &after);
    let said = openssl(&["crl", "-inform", "DER", "-in", &der, "-noout", "-text", "-CAfile", &ca_file], "");
    for wanted in [&serial.to_uppercase(), "Key Compromise", "Next Update", &format!("URI:{lists}/0.crl"), "verify OK"]
    {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let crl = file("after.pem", &api.list(&pem).1);
    assert!(check(&crl).contains("certificate revoked"), "{}", check(&crl));
    // Serial numbers in the form that openssl prints.
    let printed = openssl(&["x509", "-noout", "-serial", "-in", &own], "");
    let colons: Vec<String> =
        serial.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase()).collect();
    for form in [printed.trim(), &colons.join(":"), &format!("0x00{serial}")] {
        assert!(site.ok(&["cert", "show", form]).starts_with(serial), "{form}");
        assert_eq!(api.show(form), 200, "{form}");
    }
    assert_eq!(api.show("strange"), 400);
    for unknown in [format!("{id}/1.crl"), format!("{id}/-1.crl"), format!("{id}/0.txt"), "office/0.crl".to_owned()] {
        assert!(matches!(api.list(&unknown).0, 400 | 404), "{unknown}");
    }
    rustls_takes_what_is_right(&api, ca, &part);
    assert!(site.fails(&["cert", "renew", serial]).contains("certificate-unheld"));
    assert!(site.fails(&["cert", "renew", "00"]).contains("unknown-certificate"));
    assert!(site.fails(&["cert", "show", "00"]).contains("unknown-certificate"));

    // The key is not to be relied upon: another one signs, and what the one before signed counts as revoked.
    site.ok(&["ca", "revoke", "it", "office-ca", "--reason", "key-compromise"]);
    site.until_so("gone over", || {
        let said = site.ok(&["ca", "list", "it", "-o", "name"]);
        if said.trim() == "office-ca.2" { Ok(()) } else { Err(said) }
    });
    let (status, second) = api.sign(&body);
    assert_eq!(status, 201, "{second:#}");
    let now = site.json(&["ca", "show", "it", "office-ca"])[0].clone();
    let ca_file = file("second-ca.pem", text(&now["certificate"]).as_bytes());
    let next = file("second.pem", text(&second["certificate"]).as_bytes());
    assert!(openssl(&["verify", "-CAfile", &ca_file, &next], "").contains("OK"));
    assert!(openssl(&["verify", "-CAfile", &ca_file, &own], "").contains("verification failed"));
    assert_eq!(api.list(&part).0, 404, "nobody trusts it, so nobody needs its list");
    for one in site.json(&["cert", "list", "it"]).as_array().expect("a list") {
        let is_second = one["serial"] == second["serial"];
        assert_eq!(one["reason"].is_null(), is_second, "{one:#}");
    }
    let events = site.ok(&["events", "--deployment", "it", "--limit", "1000"]);
    for kind in ["certificate.issued", "certificate.revoked", "authority.revoked", "authority.retired"] {
        assert!(events.contains(kind), "no {kind}: {events}");
    }
    site.ok(&["destroy", "it", "--yes", "--wait"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_for_a_person_and_its_end_is_told() {
    let world = World::new(&WEB).await;
    let engine = world.engine().await;
    let csr = request("blue-all-1", &NAMES);
    engine.control().apply(&web("30d", &csr), "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let first = signed(&world, &status).await;
    let held = status.certificates.expect("some");
    assert_eq!((held.in_force, held.overdue, held.ended, held.next_end), (1, 0, 0, Some(first[0].not_after)));
    engine.control().renew(&first[0].serial, "ann").await.expect("renewed");
    let leaf = "blue-all-1/web-tls-leaf";
    let status = world
        .until("blue", |status| {
            let leaf = find(status, leaf);
            leaf.attempts == 2 && leaf.state == engine_core::state::State::Active
        })
        .await;
    let both = signed(&world, &status).await;
    assert_eq!(both.len(), 2);
    // The newer one is nearly over, and nobody renewed it; the older one has one in its place.
    engine.control().ask(engine_core::request::Ask::Pause, "blue", None, "test").await.expect("paused");
    let rows = "update certificate set renew_at = now() - interval '2 d', not_after = now() + interval '1 d';
                update authority set made_at = now() - interval '7 d', not_after = now() + interval '3 d';
                update certificate set not_after = now() + interval '1 h' where told_at is null and serial = ";
    world.database.run(&format!("{rows}'{}'", both[0].serial)).await;
    let ends = |events: &[engine_core::view::EventView]| {
        let ends = events.iter().filter(|event| event.kind == "certificate.ends-soon");
        ends.map(|event| event.detail["serial"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let end = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    let told = loop {
        world.database.all_settled().await;
        let events = engine_store::read::events(world.database.pool(), 0, Some("blue"), 1000).await.expect("events");
        if !ends(&events).is_empty() {
            break ends(&events);
        }
        assert!(tokio::time::Instant::now() < end, "never told");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(told, [both[1].serial.clone()]);
    // So is the authority, of which two thirds are over; once, however often it is looked at.
    let again = engine_store::pki::tell_of_ends(world.database.pool(), time::OffsetDateTime::now_utc());
    again.await.expect("told");
    world.database.all_settled().await;
    let events = engine_store::read::events(world.database.pool(), 0, Some("blue"), 1000).await.expect("events");
    let authorities: Vec<_> = events.iter().filter(|event| event.kind == "authority.ends-soon").collect();
    let [one] = authorities.as_slice() else { panic!("told once: {authorities:#?}") };
    assert_eq!(one.detail["generation"], 1);
    let held = world.status("blue").await.certificates.expect("some");
    assert_eq!((held.in_force, held.overdue), (1, 1));
    engine.stop().await;
}
