//! A Postgres cluster of the test's own: in a temporary directory, on a socket of its own, gone with the value.
//!
//! The postmaster is this process's child, so that a test may kill it and wait for it. Where the tests run as root the
//! server runs as the user `postgres`, since it refuses root.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use tempfile::TempDir;

/// How long anything here may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Cluster {
    bin: PathBuf,
    home: TempDir,
    environment: Vec<(String, String)>,
    postmaster: Option<Child>,
}

impl Cluster {
    /// Starts a cluster with these lines added to its configuration.
    pub fn start(configuration: &str) -> Self {
        Self::start_in(&[], configuration)
    }

    /// The same, whose server finds these variables in its environment.
    pub fn start_in(environment: &[(&str, &str)], configuration: &str) -> Self {
        let mut cluster = Self::prepare();
        let owned = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        cluster.environment = owned.collect();
        cluster.configure("shared_preload_libraries = 'pg_calsync'");
        cluster.configure(configuration);
        cluster.start_again();
        cluster
    }

    /// A cluster whose library is not preloaded.
    pub fn start_without_preloading() -> Self {
        let mut cluster = Self::prepare();
        cluster.start_again();
        cluster
    }

    /// A hot standby of this cluster, which it follows.
    pub fn standby(&self) -> Self {
        let (bin, home) = (bin(), new_home());
        let data = home.path().join("data");
        self.run("pg_basebackup", &["-X", "stream", "-R", "-c", "fast", "-D", &data.display().to_string()]);
        let mut standby = Cluster { bin, home, environment: self.environment.clone(), postmaster: None };
        standby.configure(&format!("unix_socket_directories = '{}'", standby.home.path().display()));
        standby.start_again();
        let mut session = self.connect("postgres");
        let followers = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        eventually("it follows", || session.query_one(followers, &[]).expect("followers").get::<_, i64>(0) > 0);
        standby
    }

    fn prepare() -> Self {
        let (bin, home) = (bin(), new_home());
        let data = home.path().join("data");
        // A copy of one initdb is quicker than many.
        let copied = Command::new("cp").arg("-a").arg(template(&bin)).arg(&data).status().expect("cp runs");
        assert!(copied.success(), "the template cluster could not be copied");
        let cluster = Cluster { bin, home, environment: Vec::new(), postmaster: None };
        cluster.configure(&format!("unix_socket_directories = '{}'", cluster.home.path().display()));
        cluster
    }

    /// Adds lines to the configuration; the last one of a name counts.
    pub fn configure(&self, lines: &str) {
        let path = self.data().join("postgresql.conf");
        let before = std::fs::read_to_string(&path).expect("the configuration is readable");
        // At once: the server may just be reading it.
        let after = path.with_extension("after");
        std::fs::write(&after, format!("{before}\n{lines}\n")).expect("the configuration is writable");
        std::fs::rename(&after, &path).expect("the configuration can be replaced");
    }

    /// Adds lines to the configuration and has it read.
    pub fn reconfigure(&self, lines: &str) {
        self.configure(lines);
        self.reload();
    }

    /// Has the configuration read, until it was: by a session, to which the postmaster passes it on with the launcher and
    /// the workers, and by the workers, but for one that waits for a lock.
    ///
    /// Whoever wants them to look round for what he did before commits that first. In one string of statements they would
    /// be woken within the transaction, see nothing new and sleep on.
    pub fn reload(&self) {
        let mut session = self.connect("postgres");
        let mut loaded =
            || -> String { session.query_one("SELECT pg_conf_load_time()::text", &[]).expect("a time").get(0) };
        let before = loaded();
        let asked = self.connect("postgres").query_one("SELECT now()::text, pg_reload_conf()", &[]).expect("reload");
        let asked: String = asked.get(0);
        eventually("the configuration is read", || loaded() != before);
        if session.query_one("SELECT to_regclass('calsync.stat_worker') IS NULL", &[]).expect("the catalog").get(0) {
            return;
        }
        let behind = format!(
            "SELECT count(*) FROM calsync.stat_worker AS w JOIN pg_stat_activity AS a USING (pid) \
             WHERE w.config_loaded_at < '{asked}' AND a.wait_event_type IS DISTINCT FROM 'Lock'"
        );
        eventually("the workers have read it", || {
            session.query_one(&behind, &[]).expect("the workers").get::<_, i64>(0) == 0
        });
    }

    pub fn start_again(&mut self) {
        assert!(self.postmaster.is_none(), "the cluster already runs");
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.log_path()).expect("a log");
        let mut command = as_server(&self.bin.join("postgres"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.postmaster = Some(command.spawn().expect("postgres starts"));
        eventually("the server accepts connections", || self.try_connect("postgres").is_ok());
    }

    /// `pg_ctl stop -m MODE`; returns how long it took.
    pub fn stop(&mut self, mode: &str) -> Duration {
        let begun = Instant::now();
        let signal = match mode {
            "smart" => libc::SIGTERM,
            "fast" => libc::SIGINT,
            _ => libc::SIGQUIT,
        };
        self.end_with(signal);
        begun.elapsed()
    }

    /// Kills the postmaster as a power cut would; its children notice and end.
    pub fn kill(&mut self) {
        let shared_memory = self.shared_memory();
        self.end_with(libc::SIGKILL);
        eventually("the killed postmaster's children end", || attached(&shared_memory) == 0);
        // What pg_ctl would check by hand: nobody uses the directory any more.
        let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
    }

    fn end_with(&mut self, signal: i32) {
        let mut postmaster = self.postmaster.take().expect("the cluster runs");
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(postmaster.id() as i32, signal) };
        let begun = Instant::now();
        while postmaster.try_wait().expect("the postmaster can be waited for").is_none() {
            assert!(begun.elapsed() < PATIENCE, "the server does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The id of the segment that each of the server's processes is attached to: the second word of the seventh line.
    fn shared_memory(&self) -> String {
        let lock = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("the cluster runs");
        let segment = lock.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        segment.expect("the lock file names the shared memory").to_owned()
    }

    pub fn connect(&self, database: &str) -> Client {
        self.try_connect(database)
            .unwrap_or_else(|error| panic!("no connection to {database}: {error}\n{}", self.log()))
    }

    pub fn try_connect(&self, database: &str) -> Result<Client, postgres::Error> {
        self.connect_as("postgres", database)
    }

    pub fn connect_as(&self, role: &str, database: &str) -> Result<Client, postgres::Error> {
        connect(self.home.path(), role, database)
    }

    /// For threads that come and go while this one stops and starts the cluster.
    pub fn connector(&self) -> Connector {
        Connector { socket: self.home.path().to_owned() }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs one of the server's programs against this cluster and returns what it prints.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.try_run(program, arguments).unwrap_or_else(|complaint| panic!("{program}: {complaint}"))
    }

    /// The same; where it fails, what it complains of.
    pub fn try_run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        self.output(program, arguments).map(|(output, _)| output)
    }

    /// What it complains of, although it succeeds.
    pub fn complaints(&self, program: &str, arguments: &[&str]) -> String {
        let (_, complaints) =
            self.output(program, arguments).unwrap_or_else(|complaint| panic!("{program}: {complaint}"));
        complaints
    }

    /// What it writes to stdout and stderr; where it fails, to stderr.
    fn output(&self, program: &str, arguments: &[&str]) -> Result<(String, String), String> {
        let output = as_server(&self.bin.join(program))
            .args(arguments)
            .env("PGHOST", self.home.path())
            .env("PGUSER", "postgres")
            .output()
            .unwrap_or_else(|error| panic!("{program} does not run: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let complaints = text(&output.stderr);
        if output.status.success() { Ok((text(&output.stdout), complaints)) } else { Err(complaints) }
    }

    /// A place that the server's user may write to.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Gives a file to the server's user, for nobody else to read.
    pub fn own(&self, path: &Path) {
        hand_over(path);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode).expect("the mode can be set");
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }
}

/// The way to a cluster, running or not.
#[derive(Clone)]
pub struct Connector {
    socket: PathBuf,
}

impl Connector {
    pub fn connect(&self, database: &str) -> Result<Client, postgres::Error> {
        self.connect_as("postgres", database)
    }

    pub fn connect_as(&self, role: &str, database: &str) -> Result<Client, postgres::Error> {
        connect(&self.socket, role, database)
    }

    /// The directory of the server's socket, for programs in other languages.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

fn connect(socket: &Path, role: &str, database: &str) -> Result<Client, postgres::Error> {
    let mut config = Client::configure();
    config.host_path(socket).user(role).dbname(database).application_name("test");
    config.connect(NoTls)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.postmaster.is_some() {
            self.end_with(libc::SIGQUIT);
        }
        if std::thread::panicking() {
            eprintln!("---- server log ----\n{}", self.log());
        }
    }
}

/// A directory that the server's user may read and write.
pub fn new_home() -> TempDir {
    let home = tempfile::Builder::new().prefix("calsync").tempdir_in("/tmp").expect("a temporary directory");
    hand_over(home.path());
    home
}

/// Waits until it is so; the test fails if it does not come to be.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The most memory that a process has had, in MB.
pub fn peak_memory(pid: i64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number") / 1024
}

/// How many processes are attached to a segment of shared memory. A list of a process's children leaves some out while
/// others come and go.
fn attached(segment: &str) -> usize {
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let rows = segments.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let attached = rows.filter(|row| row.get(1) == Some(&segment)).filter_map(|row| row.get(6)?.parse::<usize>().ok());
    attached.sum()
}

fn bin() -> PathBuf {
    let bin = std::env::var_os("PG_CALSYNC_PG_BIN").map(PathBuf::from);
    bin.filter(|bin| bin.join("postgres").exists())
        .expect("PG_CALSYNC_PG_BIN names the bin directory of a Postgres with pg_calsync installed: run `make test`")
}

/// Where the one initdb for all tests of this process is.
static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();

fn template(bin: &Path) -> PathBuf {
    let template = TEMPLATE.get_or_init(|| {
        let home = tempfile::Builder::new().prefix("calsync-template").tempdir_in("/tmp").expect("a directory");
        hand_over(home.path());
        let output = as_server(&bin.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(home.path().join("data"))
            .output()
            .expect("initdb runs");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let path = home.path().join("data/postgresql.conf");
        let before = std::fs::read_to_string(&path).expect("initdb wrote a configuration");
        let ours = "listen_addresses = ''\nfsync = off\nautovacuum = off\nmax_connections = 40\n\
                    shared_buffers = 16MB\ntimezone = 'UTC'\nlog_timezone = 'UTC'\nlog_line_prefix = '%m [%p] %b '\n";
        std::fs::write(&path, format!("{before}\n{ours}")).expect("the configuration is writable");
        // SAFETY: a plain call with a function that takes nothing and lives as long as the process.
        unsafe { libc::atexit(remove_template) };
        home.keep()
    });
    template.join("data")
}

/// Statics are not dropped.
extern "C" fn remove_template() {
    if let Some(template) = TEMPLATE.get() {
        let _ = std::fs::remove_dir_all(template);
    }
}

/// A command run as the user that may run Postgres.
fn as_server(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command
}

fn hand_over(path: &Path) {
    if let Some((user, group)) = server_user() {
        std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may give a file away");
    }
}

/// Of `postgres`, where we are root; None: we ourselves may run it.
fn server_user() -> Option<(u32, u32)> {
    // SAFETY: plain calls; getpwnam's result is read before any other such call.
    unsafe {
        if libc::geteuid() != 0 {
            return None;
        }
        let name = CString::new("postgres").ok()?;
        let entry = libc::getpwnam(name.as_ptr());
        assert!(!entry.is_null(), "as root the tests need a user named postgres: run `make test`");
        Some(((*entry).pw_uid, (*entry).pw_gid))
    }
}
