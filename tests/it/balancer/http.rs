//! Web servers behind HAProxy that reads their HTTP: who comes is sent to, who leaves ends what it does, who is ill is spared.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::site::Site;

/// The balancer is the one of docs/load-balancing.md.
const BUNDLE: [(&str, &str); 3] = [
    (
        "roles/web/role.yaml",
        "role: web\nversion: 1.0.0\nabout: A web server.\nruns: node\nmilestone: true\nrequires: [node-base]\n\
         supports: {os: [debian-12], arch: [amd64]}\n\
         inputs:\n  name: {schema: {type: string}, from: node.name}\n\
         \x20 address: {schema: {type: string, format: ipv4}, from: node.address}\n\
         outputs: {backend: {schema: {type: string, pattern: '^[0-9.]+:[0-9]+$'}, value: '{{ address }}:8080'}}\n\
         destroys: [/srv/web]\n\
         apply:\n  - package: {names: [nginx-light], start: false}\n\
         \x20 - directory: {path: /srv/web, mode: '0755'}\n\
         \x20 - file: {path: /srv/web/health, content: well, mode: '0644'}\n\
         \x20 - file: {path: /srv/web/small, content: '{{ name }}', mode: '0644'}\n\
         \x20 - run: {text: head -c 400000 /dev/zero >/srv/web/large, creates: /srv/web/large}\n\
         \x20 - file:\n      path: /etc/nginx/conf.d/web.conf\n\
         \x20     content: 'server { listen 8080; root /srv/web; add_header X-Node $hostname; location /large { limit_rate 100k; } }'\n\
         \x20 - unit: {name: nginx.service, enabled: true, running: true, files: [/etc/nginx/conf.d/web.conf]}\n\
         \x20 - wait: {http: 'http://{{ address }}:8080/health'}\n",
    ),
    (
        "roles/web-balancer/role.yaml",
        "role: web-balancer\nversion: 1.0.0\nabout: The web servers behind HAProxy.\nprovides: [load-balancer]\nruns: node\nmilestone: true\n\
         uses:\n  service: {role: haproxy-service, from: {members: map web.backend}, with: {name: web, port: 80, mode: http, path: /health}}\n\
         inputs:\n  address: {schema: {type: string, format: ipv4}, from: node.address}\n\
         \x20 up: {schema: {type: array, items: {type: string}, uniqueItems: true}, from: service.up}\n\
         outputs:\n  address: {schema: {type: string, format: ipv4}, value: '{{ address }}'}\n\
         \x20 port: {schema: {$ref: types/port}, value: 80}\n\
         \x20 up: {schema: {type: array, items: {type: string}, uniqueItems: true}, value: '{{ up }}'}\n",
    ),
    (
        "workloads/site/workload.yaml",
        "workload: site\nversion: 1.0.0\nabout: Web servers behind a balancer.\n\
         groups: {web: {count: {default: 2}}, balancers: {count: {default: 1}}}\nroles: {web: [web], balancers: [web-balancer]}\n",
    ),
];

const BALANCER: &str = "it-balancers-1";
const PATIENCE: Duration = Duration::from_secs(20);

/// Who answered, and with how many bytes.
type Answer = (String, u64);

/// A client that keeps its connection.
struct Client {
    at: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    fn new(at: SocketAddr) -> Self {
        Self { at, stream: None }
    }

    /// One request and its whole answer, which must be a good one.
    fn get(&mut self, path: &str) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.at, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: it\r\n\r\n")?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(format!("{path}: it says `{}`", line.trim())));
        }
        let (mut node, mut length, mut ends) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("x-node") => value.clone_into(&mut node),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().map_err(io::Error::other)?;
                }
                Some((name, value)) if name.eq_ignore_ascii_case("connection") => ends = value == "close",
                Some(_) => {}
                None => break,
            }
        }
        let came = io::copy(&mut (&mut stream).take(length), &mut io::sink())?;
        if came != length {
            return Err(io::Error::other(format!("{path}: {came} of {length} bytes from {node}")));
        }
        self.stream = (!ends).then_some(stream);
        Ok((node, length))
    }
}

/// Asks without an end and without a second try.
struct Prober {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<(Vec<Answer>, Vec<String>)>>,
}

impl Prober {
    /// One that keeps its connection, one that does not, and downloads that take some seconds each, of every member at any time.
    fn start(at: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = |path: &'static str, keeps: bool| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut client, mut answers, mut failed) = (Client::new(at), Vec::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match client.get(path) {
                        Ok(answer) => answers.push(answer),
                        Err(error) => failed.push(error.to_string()),
                    }
                    if !keeps {
                        client.stream = None;
                    }
                }
                (answers, failed)
            })
        };
        let mut tasks = vec![task("/small", true), task("/small", false)];
        tasks.extend((0..6).map(|_| task("/large", true)));
        Self { stop, tasks }
    }

    fn stop(self) -> (Vec<Answer>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.tasks.into_iter().map(|task| task.join().expect("a prober does not panic"));
        found.fold((Vec::new(), Vec::new()), |(mut answers, mut failed), (more, others)| {
            answers.extend(more);
            failed.extend(others);
            (answers, failed)
        })
    }
}

fn document(web: u32) -> String {
    format!(
        "deployment: it\nworkload: site\nnodes: {{web: {{provider: lab, count: {web}}}, balancers: {{provider: lab, count: 1}}}}\n"
    )
}

/// Who answers so many requests.
fn who(at: SocketAddr, count: usize) -> BTreeSet<String> {
    let mut client = Client::new(at);
    (0..count).map(|_| client.get("/small").expect("a good answer").0).collect()
}

fn verdict(site: &Site) -> (String, String) {
    let said = site.run(&["drift", "it", "--node", BALANCER, "--role", "web-balancer-service", "-o", "json"]);
    let drift: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let found = &drift["node_roles"][0];
    (found["verdict"].as_str().unwrap_or_default().to_owned(), format!("{} {}", found["message"], found["diffs"]))
}

#[test]
fn web_servers_come_and_go_without_a_failed_request_and_who_is_ill_gets_none() {
    let mut site = Site::new(&BUNDLE);
    site.start();
    site.apply(&document(2));
    let status = site.until_active("it");
    let mut nodes = status["nodes"].as_array().expect("nodes").iter();
    let balancer = nodes.find(|node| node["name"] == BALANCER).expect("a node")["address"].as_str().expect("one");
    let at = SocketAddr::new(balancer.parse().expect("an address"), 80);
    let names = |numbers: &[u8]| numbers.iter().map(|number| format!("it-web-{number}")).collect::<BTreeSet<_>>();
    assert_eq!(who(at, 6), names(&[1, 2]));
    let verdict = || verdict(&site);
    assert_eq!(verdict().0, "conform", "{:?}", verdict());

    let reloads = "journalctl --unit haproxy.service --no-pager | grep --count 'Reloading HAProxy'";
    let loaded = || site.run(&["exec", BALANCER, "--", "bash", "-c", reloads]).stdout;
    let before = loaded();
    let prober = Prober::start(at);
    site.ok(&["scale", "it", "web", "3", "--yes", "--wait"]);
    site.until_so("sent to the one that came", || {
        let found = who(at, 6);
        if found == names(&[1, 2, 3]) { Ok(()) } else { Err(format!("{found:?}")) }
    });
    site.ok(&["scale", "it", "web", "2", "--yes", "--wait"]);
    assert_eq!(who(at, 6), names(&[1, 2]));
    let (answers, failed) = prober.stop();
    let large = |node: &str| answers.iter().filter(|(of, length)| of == node && *length == 400_000).count();
    println!(
        "{} answers, downloads {:?}",
        answers.len(),
        names(&[1, 2, 3]).iter().map(|node| large(node)).collect::<Vec<_>>()
    );
    assert_eq!(failed, Vec::<String>::new());
    assert!(large("it-web-3") > 0 && answers.len() > 100, "{} answers", answers.len());
    assert_eq!(loaded(), before, "HAProxy was never loaded anew");

    // It runs and takes connections, and says that it is not well. HAProxy asks it some times before it believes that.
    site.ok(&["exec", "it-web-1", "--", "mv", "/srv/web/health", "/srv/web/ill"]);
    site.until_so("seen as ill", || {
        let said = verdict();
        if said.0 == "drifted" && said.1.contains("DOWN (L7STS)") { Ok(()) } else { Err(format!("{said:?}")) }
    });
    assert_eq!(who(at, 10), names(&[2]));
    site.ok(&["exec", "it-web-1", "--", "mv", "/srv/web/ill", "/srv/web/health"]);
    site.until_so("well again", || {
        let (said, found) = (verdict(), who(at, 6));
        if said.0 == "conform" && found == names(&[1, 2]) { Ok(()) } else { Err(format!("{said:?} {found:?}")) }
    });
}
