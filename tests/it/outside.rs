//! An authority that others sign, with openssl as the others.

use std::path::Path;

use engine_core::request::{ImportRequest, RevocationReason};
use engine_core::state::State;
use engine_core::view::StatusView;
use engine_store::{pki, read};

use crate::pki::{NAMES, WEB, authorities, request, signed, web};
use crate::support::{World, find, openssl};

/// What a corporation signs with, and for.
struct Corporation<'a>(&'a Path);

impl<'a> Corporation<'a> {
    fn new(folder: &'a Path) -> Self {
        let all = Self(folder);
        all.say("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=corporation -addext keyUsage=critical,keyCertSign,cRLSign -days 99 -keyout root.key -out root.pem");
        all
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Words with a dot in them, or behind an option for one, are files of the folder.
    fn say(&self, line: &str) -> String {
        let word =
            |word: &str| if word.contains('.') && !word.contains('/') { self.path(word) } else { word.to_owned() };
        let words: Vec<String> = line.split(' ').map(word).collect();
        openssl(&words.iter().map(String::as_str).collect::<Vec<_>>(), "")
    }

    /// The chain for a request, as it asks for it or with other extensions.
    fn sign(&self, csr: &str, extensions: Option<&str>) -> String {
        self.write("own.csr", csr);
        let how = match extensions {
            Some(text) => {
                self.write("own.ext", text);
                "-extfile own.ext"
            }
            None => "-copy_extensions copyall",
        };
        self.say(&format!(
            "x509 -req -in own.csr -CA root.pem -CAkey root.key -CAcreateserial -days 90 {how} -out own.pem"
        ));
        self.read("own.pem") + &self.read("root.pem")
    }
}

const CONFINED: &str = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
                        subjectKeyIdentifier=hash\nnameConstraints=critical,permitted;DNS:";

fn import(chain: &str, key: Option<&str>) -> ImportRequest {
    ImportRequest { chain: chain.to_owned(), key: key.map(str::to_owned) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_waits_for_what_others_sign_and_goes_over_to_what_they_sign_next() {
    let mut bundle = WEB;
    bundle[0].1 = "role: web-ca\nversion: 1.0.0\nabout: The authority of the service.\nis: certificate-authority\n\
                   with: {common_name: web, signed_by: others}\n";
    let world = World::new(&bundle).await;
    let engine = world.engine().await;
    let control = engine.control();
    let csr = request("blue-all-1", &NAMES);
    control.apply(&web("30d", &csr), "f", &[], "test").await.expect("applied");
    let waits = |status: &StatusView| {
        let role = find(status, "deployment/web-ca");
        role.state == State::Running
            && role.saw.as_deref().is_some_and(|saw| saw.contains("`plinth ca import blue web-ca`"))
    };
    let status = world.until("blue", waits).await;
    assert_eq!(find(&status, "blue-all-1/web").state, State::Blocked);
    assert_eq!(read::authorities(world.database.pool(), "blue").await.expect("readable"), Some(Vec::new()));
    // It waits in the database: another engine has the same request.
    let asked = control.request_authority("blue", "web-ca").await.expect("a request").request;
    engine.stop().await;
    let seal_key = world.config().seal_key.path;
    let keys = std::fs::read_to_string(&seal_key).expect("the seal key");
    let another = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7; 32]);
    std::fs::write(&seal_key, format!("{keys}00112233aabbccdd {another}\n")).expect("another one");
    let engine = world.engine().await;
    let control = engine.control();
    assert_eq!(control.request_authority("blue", "web-ca").await.expect("a request").request, asked);
    // The key that waits is sealed again like everything else.
    let resealed = control.reseal().await.expect("sealed again");
    assert_eq!((resealed.values, resealed.unused.len()), (2, 1), "the key of the request, and that of digests");
    assert_eq!(control.request_authority("blue", "web").await.expect_err("no authority").code, "unknown-authority");

    let folder = tempfile::tempdir().expect("a folder");
    let others = Corporation::new(folder.path());
    let leaf = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n";
    let wide = format!("{CONFINED}internal\n");
    for (chain, code) in [
        (others.read("root.pem"), "chain-other-key"),
        (others.sign(&asked, Some(leaf)), "chain-no-authority"),
        (others.sign(&asked, Some(&wide)), "chain-constraints"),
        (others.sign(&asked, None).replace("CERTIFICATE", "CERTIFICATES"), "chain-unreadable"),
    ] {
        let refused = control.import_authority("blue", "web-ca", &import(&chain, None), "test").await;
        assert_eq!(refused.expect_err("not taken").code, code);
    }
    let chain = others.sign(&asked, None);
    control.import_authority("blue", "web-ca", &import(&chain, None), "test").await.expect("taken");
    let status = world.until_active("blue").await;
    let first = signed(&world, &status).await;
    let [first] = first.as_slice() else { panic!("one certificate: {first:#?}") };
    // Whoever trusts the corporation follows the chain; whoever trusts this authority alone needs no more than it.
    others.write("leaf.pem", &format!("{}{}", first.body, first.above));
    let own = "-x509_strict -purpose sslserver";
    let verified = others.say(&format!("verify {own} -CAfile root.pem -untrusted leaf.pem leaf.pem"));
    assert!(verified.trim().ends_with("leaf.pem: OK"), "{verified}");
    let verified = others.say(&format!("verify {own} -partial_chain -CAfile own.pem leaf.pem"));
    assert!(verified.trim().ends_with("leaf.pem: OK"), "{verified}");
    let there = read::authorities(world.database.pool(), "blue").await.expect("readable").expect("a deployment");
    assert_eq!(there[0].certificate, others.read("own.pem"), "nobody is told to trust the corporation");
    // Its lists are signed by its own key, as one of ours would.
    control.revoke(&first.serial, RevocationReason::Superseded, "test").await.expect("revoked");
    let list = control.list(there[0].id, 0, true).await.expect("a list");
    others.write("list.pem", &String::from_utf8(list).expect("PEM"));
    let check = "-extended_crl -crl_check -CRLfile list.pem";
    let revoked = others.say(&format!("verify {check} -partial_chain -CAfile own.pem leaf.pem"));
    assert!(revoked.contains("certificate revoked"), "{revoked}");

    // Nobody makes another key for it: it goes over to what is brought, here with a key that was made elsewhere.
    let refused = control.rotate("blue", "web-ca", "test").await.expect_err("others sign");
    assert_eq!(refused.code, "authority-others-sign");
    let refused = control.import_authority("blue", "web-ca", &import(&chain, None), "test").await;
    assert_eq!(refused.expect_err("nothing was asked").code, "authority-not-asked");
    others.say("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out own.key");
    others.say("req -new -key own.key -subj /CN=elsewhere -out made.csr");
    let second = others.sign(&others.read("made.csr"), Some(&format!("{CONFINED}blue.plinth.internal\n")));
    let other_key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let wrong = control.import_authority("blue", "web-ca", &import(&second, Some(&other_key)), "test").await;
    assert_eq!(wrong.expect_err("another key").code, "chain-other-key");
    let key = others.read("own.key");
    control.import_authority("blue", "web-ca", &import(&second, Some(&key)), "test").await.expect("begun");
    let gone_over =
        |status: &StatusView| status.rotations.is_empty() && find(status, "deployment/web-ca").state == State::Active;
    let end = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    while authorities(&world).await != [(2, "active".to_owned(), Vec::new())] {
        assert!(tokio::time::Instant::now() < end, "{:?}", authorities(&world).await);
        world.until("blue", gone_over).await;
    }
    let status = world.until_active("blue").await;
    let all = signed(&world, &status).await;
    let last = all.last().expect("signed again");
    others.write("leaf.pem", &format!("{}{}", last.body, last.above));
    let verified = others.say(&format!("verify {own} -CAfile root.pem -untrusted leaf.pem leaf.pem"));
    assert!(verified.trim().ends_with("leaf.pem: OK"), "{verified}");
    // The next one is asked for by another key, and who waits for it is forgotten with the deployment.
    let next = control.request_authority("blue", "web-ca").await.expect("a request").request;
    assert_ne!(next, asked);
    let vertex = find(&status, "deployment/web-ca").id;
    control.destroy("blue", "test").await.expect("destroyed");
    world.until("blue", |status| status.deployment.health == engine_core::view::Health::Gone).await;
    assert!(pki::requested(world.database.pool(), vertex).await.expect("readable").is_none());
    engine.stop().await;
}
