//! The real thing: `plinth serve` as a process in a folder of its own, spoken to by the command.
//!
//! Needs root, Debian's packages and a built command with its agent; says so when one is missing.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes so long unless it hangs. Whoever comes first waits for the base image of the lab to be built.
pub(crate) const LIMIT: Duration = Duration::from_mins(10);

/// A data directory with a bundle; everything of it goes with the value.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    plinth: PathBuf,
    engines: Vec<Child>,
    /// Another agent than the one that was built.
    agent: Option<PathBuf>,
}

impl Site {
    /// With a bundle of these roles and workloads, by file name.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        assert_eq!(fs::metadata("/proc/self").expect("proc").uid(), 0, "tests on real nodes need root");
        let target = std::env::current_exe().expect("this test");
        let target = target.ancestors().find(|folder| folder.ends_with("debug")).expect("a build folder").to_owned();
        let plinth = target.join("plinth");
        assert!(plinth.exists() && target.with_file_name("plinth-agent").exists(), "run `make build` first");
        // Not in /tmp: the base image is stacked on it, and other accounts must get to the database's socket.
        let folder = tempfile::Builder::new().prefix("plinth-it-").tempdir_in("/var/tmp").expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let site = Self { folder, plinth, engines: Vec::new(), agent: None };
        site.write("bundle/bundle.yaml", "bundle: test\nversion: 1.0.0\n");
        for (path, text) in files {
            site.write(&format!("bundle/{path}"), text);
        }
        site
    }

    /// The agent that was built, made into a program that records what it is told and what it says, in files of its node. What
    /// engines that start from now on put on nodes.
    pub(crate) fn record_agents(&mut self, heard: &str, said: &str) {
        let real = fs::read(self.plinth.ancestors().nth(2).expect("a folder").join("plinth-agent")).expect("an agent");
        let script = format!(
            "#!/bin/bash\nreal=/run/recorded-agent\nif [ ! -x $real ]; then tail -n +6 \"$0\" >$real.$$; chmod 755 $real.$$; mv $real.$$ $real; fi\n\
             tee -a {heard} | $real \"$@\" | tee -a {said}\nexit ${{PIPESTATUS[1]}}\n"
        );
        assert_eq!(script.lines().count(), 5, "the program begins in the sixth line");
        let path = self.folder().join("recording-agent");
        fs::write(&path, [script.as_bytes(), &real].concat()).expect("a file");
        self.agent = Some(path);
    }

    /// The folder of it all.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command that was built, and its agent.
    pub(crate) fn programs(&self) -> [PathBuf; 2] {
        let target = self.plinth.ancestors().nth(2).expect("a folder");
        [self.plinth.clone(), target.join("plinth-agent")]
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// A file in the folder; its whole path.
    pub(crate) fn write(&self, path: &str, text: &str) -> String {
        let file = self.folder().join(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(&file, text).expect("a file");
        file.display().to_string()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.plinth);
        command.args(words).env("PLINTH_DATA", self.data());
        for name in ["DATABASE_URL", "PLINTH_ENDPOINT", "PLINTH_TOKEN", "PLINTH_AGENT"] {
            command.env_remove(name);
        }
        if let Some(agent) = &self.agent {
            command.env("PLINTH_AGENT", agent);
        }
        command
    }

    /// Starts an engine on its private Postgres; returns when it serves.
    pub(crate) fn start(&mut self) -> usize {
        self.start_with(&[])
    }

    /// Starts an engine with more arguments.
    pub(crate) fn start_with(&mut self, more: &[&str]) -> usize {
        let _ = fs::remove_file(self.data().join("endpoint.json"));
        let log = OpenOptions::new().create(true).append(true).open(self.folder().join("log")).expect("a log");
        let bundle = self.folder().join("bundle").display().to_string();
        let words = [&["serve", "--listen", "127.0.0.1:0", "--bundle", &bundle], more].concat();
        let engine = self.command(&words).stdin(Stdio::null()).stderr(log).spawn().expect("an engine");
        self.engines.push(engine);
        let end = Instant::now() + LIMIT;
        while !self.run(&["deployment", "list"]).status.success() {
            let over = self.engines.last_mut().expect("one").try_wait().expect("a child");
            assert!(over.is_none() && Instant::now() < end, "the engine does not serve:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        self.engines.len() - 1
    }

    /// The whole database, as text.
    pub(crate) fn database(&self) -> String {
        let dump = self.folder().join("dump").display().to_string();
        let _ = fs::remove_file(&dump);
        self.ok(&["database", "backup", &dump]);
        let restore = fs::read_dir("/usr/lib/postgresql").expect("Postgres").flatten().map(|entry| entry.path());
        let restore = restore.map(|version| version.join("bin/pg_restore")).find(|file| file.exists());
        let text = Command::new(restore.expect("pg_restore")).args(["-f", "-", &dump]).output().expect("it runs");
        String::from_utf8_lossy(&text.stdout).into_owned()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the command runs")
    }

    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "plinth {words:?}: {said}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a command that must fail says.
    pub(crate) fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "plinth {words:?} went well");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The same, started by another program.
    pub(crate) fn fails_as(&self, starter: &[&str], words: &[&str]) -> String {
        let mut command = Command::new(starter[0]);
        let plinth = self.command(words);
        command.args(&starter[1..]).arg(plinth.get_program()).args(plinth.get_args());
        for (name, value) in plinth.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().expect("it starts");
        assert!(!output.status.success(), "{starter:?} plinth {words:?} went well");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let text = self.ok(&[words, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("plinth {words:?}: {error}: {text}"))
    }

    /// Applies a document, and does not wait.
    pub(crate) fn apply(&self, document: &str) {
        let file = self.write("applied.yaml", document);
        self.ok(&["apply", &file, "--yes"]);
    }

    pub(crate) fn status(&self, name: &str) -> Option<Value> {
        let output = self.run(&["status", name, "-o", "json"]);
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    pub(crate) fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        self.until_so(&format!("{name} {what}"), || {
            last = self.status(name);
            last.clone().filter(&wanted).ok_or_else(|| format!("{last:#?}"))
        })
    }

    pub(crate) fn until_active(&self, name: &str) -> Value {
        self.until(name, "active", |status| status["deployment"]["health"] == "active")
    }

    /// Asks until the answer comes; what is said instead is told when it never does.
    pub(crate) fn until_so<T>(&self, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            match ask() {
                Ok(answer) => return answer,
                Err(said) => assert!(Instant::now() < end, "never {what}: {said}\n{}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn kill(&mut self, engine: usize) {
        let engine = &mut self.engines[engine];
        engine.kill().expect("a signal");
        engine.wait().expect("an end");
    }

    pub(crate) fn signal(&self, engine: usize, signal: &str) {
        let pid = self.engines[engine].id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for engine in &mut self.engines {
            let pid = engine.id().to_string();
            if engine.try_wait().is_ok_and(|ended| ended.is_none()) {
                let _ = Command::new("kill").args(["-CONT", &pid]).status();
                let _ = Command::new("kill").args(["-TERM", &pid]).status();
                let _ = engine.wait();
            }
        }
        if self.data().join("postgres").exists() {
            let _ = self.run(&["database", "stop"]);
        }
        if self.data().join("lab").exists() {
            let _ = self.run(&["lab", "down"]);
        }
    }
}
