//! Where private keys are not: in the database, in logs, in what the engine and its agents say to each other.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use crate::pki::WEB;
use crate::site::Site;

const NODES: [&str; 2] = ["it-all-1", "it-all-2"];
const HEARD: &str = "/var/tmp/heard";
const SAID: &str = "/var/tmp/said";

/// What a command prints on a node, byte for byte. It comes by the very protocol that is recorded, in base64 of it: so nothing is
/// found there because it was looked at.
fn bytes(site: &Site, node: &str, script: &str) -> Vec<u8> {
    let said = site.ok(&["exec", node, "--", "bash", "-c", &format!("{{ {script}; }} | base64 --wrap=1000")]);
    let lines = said.lines().map(|line| line.rsplit(' ').next().unwrap_or_default());
    STANDARD.decode(lines.collect::<String>()).expect("base64")
}

/// The private key of a node, in each form in which it could be somewhere: DER and what is secret in it, as they are and in
/// hexadecimal digits; base64 of it in one piece, and as the lines of its file.
fn forms(site: &Site, node: &str) -> Vec<Vec<u8>> {
    let pem = bytes(site, node, "cat /etc/web/key.pem");
    let text = String::from_utf8(pem.clone()).expect("text");
    let der = PrivateKeyDer::from_pem_slice(&pem).expect("a key").secret_der().to_vec();
    // An octet string of 32 bytes stands in every key of ECDSA P-256, whichever the form.
    let at = der.windows(2).rposition(|window| window == [0x04, 0x20]).expect("a number") + 2;
    let number = der[at..at + 32].to_vec();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    let lines =
        text.lines().filter(|line| line.len() > 20 && !line.starts_with("-----")).map(|line| line.as_bytes().to_vec());
    let mut all = vec![
        hex(&der),
        hex(&number),
        STANDARD.encode(&der).into_bytes(),
        STANDARD.encode(&number).into_bytes(),
        der,
        number,
    ];
    all.extend(lines);
    assert!(all.len() >= 8, "{text}");
    all
}

fn has(place: &[u8], form: &[u8]) -> bool {
    place.windows(form.len()).any(|window| window == form)
}

#[test]
fn no_private_key_leaves_its_node_and_what_is_sealed_is_not_in_clear() {
    let mut site = Site::new(&WEB);
    site.record_agents(HEARD, SAID);
    site.start();
    site.apply("deployment: it\nworkload: web\nnodes: {all: {provider: lab, count: 2}}\nparameters: {lifetime: 60s}\n");
    site.until_active("it");
    let verify = "openssl verify -x509_strict -CAfile /etc/web/ca.pem /etc/web/cert.pem";
    for node in NODES {
        assert!(site.ok(&["exec", node, "--", "bash", "-c", verify]).contains("/etc/web/cert.pem: OK"));
    }
    // Lives of a minute: the service hears of a new certificate, of the same key.
    let keys = NODES.map(|node| forms(&site, node));
    assert_ne!(keys[0], keys[1]);
    site.until_so("renewed", || {
        let log = site.ok(&["exec", "it-all-1", "--", "cat", "/var/lib/web.log"]);
        let told: BTreeSet<&str> = log.split_whitespace().filter(|word| word.starts_with("sha256:")).collect();
        if told.len() >= 2 { Ok(()) } else { Err(log) }
    });
    site.until_active("it");
    assert_eq!(NODES.map(|node| forms(&site, node)), keys);
    assert!(site.ok(&["exec", "it-all-1", "--", "bash", "-c", verify]).contains("OK"));

    // The whole database, all that the engine logged, what it told its agents and what they told it, and what they keep.
    let database = site.database().into_bytes();
    let mut places =
        vec![("the database".to_owned(), database), ("the engine's log".to_owned(), site.log().into_bytes())];
    for node in NODES {
        let (heard, said) = (bytes(&site, node, &format!("cat {HEARD}")), bytes(&site, node, &format!("cat {SAID}")));
        // It is the protocol that was recorded, both ways, with the work on certificates in it.
        assert!(has(&heard, b"BEGIN CERTIFICATE") && has(&heard, b"/etc/web"), "what {node} was told");
        assert!(has(&said, br#"{"reply":"hello""#) && has(&said, b"BEGIN CERTIFICATE REQUEST"), "what {node} said");
        places.extend([(format!("what {node} was told"), heard), (format!("what {node} said"), said)]);
        let kept = "find /var/lib/plinth /run /var/log -type f ! -name plinth-agent ! -name recorded-agent -exec cat {} + 2>/dev/null";
        places.push((format!("what the agent keeps and logs on {node}"), bytes(&site, node, kept)));
    }
    assert!(has(&places[0].1, b"BEGIN CERTIFICATE"), "certificates are there");
    assert!(places.iter().all(|(_, place)| !place.is_empty()));
    for (name, place) in &places {
        for form in keys.iter().flatten() {
            assert!(!has(place, form), "a private key is in {name}");
        }
        assert!(!has(place, b"PRIVATE KEY"), "{name}");
    }
    let sealed = std::fs::read_to_string(site.data().join("seal.key")).expect("the seal key");
    let sealed = sealed.lines().last().and_then(|line| line.split(' ').nth(1)).expect("a key").to_owned();
    assert!(places.iter().all(|(_, place)| !has(place, sealed.as_bytes())), "nor is the key that seals");
    site.ok(&["destroy", "it", "--yes", "--wait"]);
}
