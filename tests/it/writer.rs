//! Somebody who writes to an etcd cluster all the time, and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::site::Site;

/// A client of its own: so many tries, in so much time, each at the next endpoint.
const TRIES: u32 = 3;
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Client URLs, as the deployment exports them.
type Endpoints = Arc<Mutex<Vec<String>>>;

/// Puts numbered keys, one after the other.
pub(crate) struct Writer {
    client: Arc<Mutex<Client>>,
    endpoints: Endpoints,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Written>,
}

#[derive(Default)]
pub(crate) struct Written {
    pub(crate) acknowledged: BTreeSet<u32>,
    pub(crate) failed: Vec<String>,
    pub(crate) retries: u32,
    pub(crate) slowest: Duration,
}

impl Writer {
    pub(crate) fn start(client: Client, endpoints: Vec<String>) -> Self {
        let (endpoints, stop) = (Arc::new(Mutex::new(endpoints)), Arc::new(AtomicBool::new(false)));
        let client = Arc::new(Mutex::new(client));
        let (to, until, by) = (Arc::clone(&endpoints), Arc::clone(&stop), Arc::clone(&client));
        let task = std::thread::spawn(move || {
            let mut written = Written::default();
            let mut number = 0;
            while !until.load(Ordering::Relaxed) {
                number += 1;
                let client = by.lock().expect("nobody panicked").clone();
                written.put(&client, &to, number);
                // Two hundred a second are enough, the members are on this machine.
                std::thread::sleep(Duration::from_millis(5));
            }
            written
        });
        Self { client, endpoints, stop, task }
    }

    pub(crate) fn use_these(&self, endpoints: Vec<String>) {
        *self.endpoints.lock().expect("nobody panicked") = endpoints;
    }

    pub(crate) fn be(&self, client: Client) {
        *self.client.lock().expect("nobody panicked") = client;
    }

    pub(crate) fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join().expect("the writer does not panic")
    }
}

impl Written {
    fn put(&mut self, client: &Client, endpoints: &Endpoints, number: u32) {
        let began = Instant::now();
        let mut said = Vec::new();
        for attempt in 0..TRIES {
            let left = PATIENCE.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            let url = {
                let all = endpoints.lock().expect("nobody panicked");
                all[(number + attempt) as usize % all.len()].clone()
            };
            let body = json!({"key": STANDARD.encode(key(number)), "value": STANDARD.encode(number.to_string())});
            self.retries += u32::from(attempt > 0);
            match client.post(&url, "/v3/kv/put", &body, left.min(PATIENCE / TRIES)) {
                Ok(_) => {
                    self.acknowledged.insert(number);
                    self.slowest = self.slowest.max(began.elapsed());
                    return;
                }
                Err(error) => said.push(format!("{url}: {error}")),
            }
        }
        self.failed.push(format!("{}: {}", key(number), said.join("; ")));
    }
}

pub(crate) fn key(number: u32) -> String {
    format!("written/{number:08}")
}

/// Somebody who talks to members: trusts their authority, and shows a certificate or none.
#[derive(Clone)]
pub(crate) struct Client(Arc<ClientConfig>);

impl Client {
    /// With the files of the first member, which has a certificate for talking to the others.
    pub(crate) fn of(site: &Site) -> Self {
        let file = |name: &str| Self::file(site, "it-members-1", &format!("/etc/etcd/tls/server/{name}.pem"));
        Self::with(&file("ca"), Some((&file("cert"), &file("key"))))
    }

    pub(crate) fn file(site: &Site, node: &str, path: &str) -> String {
        let script = format!("base64 --wrap=0 {path}");
        let said = site.ok(&["exec", node, "--", "bash", "-c", &script]);
        let word = said.split_whitespace().last().expect("a word");
        String::from_utf8(STANDARD.decode(word).expect("base64")).expect("text")
    }

    pub(crate) fn with(ca: &str, own: Option<(&str, &str)>) -> Self {
        let certificates = |text: &str| -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().expect("certificates")
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca) {
            roots.add(certificate).expect("an authority");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match own {
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                config.with_client_auth_cert(certificates(chain), key).expect("a pair")
            }
            None => config.with_no_client_auth(),
        };
        Self(Arc::new(config))
    }

    /// One request to the JSON gateway of a member.
    pub(crate) fn post(&self, url: &str, path: &str, body: &Value, limit: Duration) -> Result<Value, String> {
        let end = Instant::now() + limit;
        let host = url.strip_prefix("https://").ok_or("no URL")?;
        let address: SocketAddr = host.parse().map_err(|error| format!("{error}"))?;
        let failed = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect_timeout(&address, limit).map_err(failed)?;
        let name = ServerName::from(address.ip());
        let tls = ClientConnection::new(Arc::clone(&self.0), name).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(tls, stream);
        let left = || end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or("too late");
        stream.sock.set_read_timeout(Some(left()?)).map_err(failed)?;
        stream.sock.set_write_timeout(Some(left()?)).map_err(failed)?;
        let body = body.to_string();
        let request = format!("POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        let mut part = [0; 8192];
        loop {
            stream.sock.set_read_timeout(Some(left()?)).map_err(failed)?;
            match stream.read(&mut part).map_err(failed)? {
                0 => break,
                count => answer.extend_from_slice(&part[..count]),
            }
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let status = head.lines().next().unwrap_or_default();
        if !status.contains(" 200 ") {
            return Err(format!("{status}: {}", body.trim()));
        }
        serde_json::from_str(body).map_err(|error| error.to_string())
    }
}

/// All that is there under the writer's keys, read through one member.
pub(crate) fn stored(client: &Client, url: &str) -> BTreeMap<String, String> {
    let range = json!({"key": STANDARD.encode("written/"), "range_end": STANDARD.encode("written0")});
    let answer = client.post(url, "/v3/kv/range", &range, Duration::from_secs(30)).expect("a range");
    let text = |value: &Value| {
        let bytes = STANDARD.decode(value.as_str().expect("text")).expect("base64");
        String::from_utf8(bytes).expect("text")
    };
    let pairs = answer["kvs"].as_array().into_iter().flatten();
    pairs.map(|pair| (text(&pair["key"]), text(&pair["value"]))).collect()
}

pub(crate) fn endpoints(site: &Site) -> Vec<String> {
    let shown = site.json(&["deployment", "show", "it"]);
    let urls = shown["exports"]["endpoints"].as_array().unwrap_or_else(|| panic!("no endpoints: {shown:#}"));
    urls.iter().map(|url| url.as_str().expect("a URL").to_owned()).collect()
}
