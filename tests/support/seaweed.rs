//! A SeaweedFS server of the tests' own: one for each test program, started at first use.
//!
//! Invariant: the server and its files go when the test program does, however it ends: a shell between the
//! two waits for the end of a pipe that only the test program holds open.

// Each test program uses a part of this.
#![allow(dead_code)]

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The server's only user.
pub const ACCESS_KEY: &str = "testkey";
/// The user's password.
pub const SECRET_KEY: &str = "testsecret";
/// Another key of the same user, and its password.
pub const OTHER_KEYS: (&str, &str) = ("otherkey", "othersecret");
/// The server takes any region.
pub const REGION: &str = "us-east-1";

/// How long the server may take until it stores an object.
const PATIENCE: Duration = Duration::from_secs(90);

/// Ends the server when the pipe on its input ends, and removes its files.
const KEEPER: &str = r#"
weed=$1; dir=$2; shift 2
trap '' INT
exec 3<&0
"$weed" "$@" >"$dir/weed.log" 2>&1 </dev/null 3<&- &
child=$!
( read -r _ <&3; grep -q weed "/proc/$child/comm" 2>/dev/null && kill -KILL $child; rm -rf "$dir" || { sleep 1; rm -rf "$dir"; } ) &
wait $child
"#;

/// The same, and starts it again on its data whenever it has ended, but not while the file `down` is there.
const REVIVER: &str = r#"
weed=$1; dir=$2; shift 2
trap '' INT
exec 3<&0
live() {
  while :; do
    if [ ! -e "$dir/down" ]; then
      "$weed" "$@" >>"$dir/weed.log" 2>&1 </dev/null 3<&- &
      echo $! >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"
      wait $!
    fi
    sleep 0.05
  done
}
live "$@" &
living=$!
read -r _ <&3
kill -KILL $living; weed=$(cat "$dir/pid")
grep -q weed "/proc/$weed/comm" 2>/dev/null && kill -KILL "$weed"
rm -rf "$dir" || { sleep 1; rm -rf "$dir"; }
"#;

/// A running server.
pub struct Seaweed {
    address: SocketAddr,
    dir: PathBuf,
    /// The shell that ends the server when this pipe ends.
    _keeper: Child,
}

/// The server of this test program. Panics, saying what to do, where SeaweedFS is not installed.
pub fn shared() -> &'static Seaweed {
    static SERVER: OnceLock<Seaweed> = OnceLock::new();
    SERVER.get_or_init(Seaweed::start)
}

impl Seaweed {
    /// The server of one test, which can be killed; it goes when this is dropped.
    pub fn own() -> Seaweed {
        Seaweed::start_with(REVIVER)
    }

    /// Kills the server, SIGKILL, so that it stays away until [`Seaweed::revive`].
    pub fn kill(&self) {
        std::fs::write(self.dir.join("down"), "").expect("a file");
        let pid = std::fs::read_to_string(self.dir.join("pid")).expect("its process id");
        let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill SeaweedFS");
    }

    /// Lets the killed server start again on the data that it has.
    pub fn revive(&self) {
        std::fs::remove_file(self.dir.join("down")).expect("it was killed");
    }

    /// Waits until it stores objects.
    pub fn wait_until_up(&mut self) {
        self.wait().unwrap_or_else(|reason| panic!("SeaweedFS: {reason}"));
    }

    /// Starts a server and waits until it stores objects.
    fn start() -> Seaweed {
        Seaweed::start_with(KEEPER)
    }

    fn start_with(script: &str) -> Seaweed {
        let weed = weed();
        let mut reasons = Vec::new();
        // Another program may take a port between our look and the server's start.
        for attempt in 0..3 {
            match Seaweed::try_start(&weed, script, attempt) {
                Ok(server) => return server,
                Err(reason) => reasons.push(reason),
            }
        }
        panic!("SeaweedFS ({}) did not start: {}", weed.display(), reasons.join("\n---\n"));
    }

    fn try_start(weed: &Path, script: &str, attempt: u32) -> Result<Seaweed, String> {
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("cwdfs-seaweed-{}-{number}-{attempt}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(dir.join("data")).expect("a directory for SeaweedFS");
        std::fs::write(dir.join("s3.json"), identities()).expect("the configuration of SeaweedFS");
        let [s3, master, volume, filer] = free_ports();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", script, "keeper"]).arg(weed).arg(&dir).arg("server");
        keeper.args(["-ip=127.0.0.1", "-master.telemetry=false", "-master.volumeSizeLimitMB=1024"]);
        // A master that was killed looks for others so long before it goes on alone.
        keeper.arg("-master.electionTimeout=1s");
        keeper.args(["-volume.max=1000", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        // What was deleted or written over takes room until then: long runs would fill the disk.
        keeper.arg("-master.vacuumIntervalSeconds=60");
        keeper.arg(format!("-dir={}", dir.join("data").display()));
        keeper.arg(format!("-s3.config={}", dir.join("s3.json").display()));
        keeper.arg(format!("-s3.port={s3}")).arg(format!("-master.port={master}"));
        keeper.arg(format!("-volume.port={volume}")).arg(format!("-filer.port={filer}"));
        // Each bucket has volumes of its own: grow one at a time, so that many buckets fit.
        keeper.env("WEED_MASTER_VOLUME_GROWTH_COPY_1", "1");
        // What it encrypts with where a request asks for SSE-S3.
        keeper.env("WEED_S3_SSE_KEY", "a passphrase of the tests");
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let keeper = keeper.spawn().map_err(|error| format!("sh: {error}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, s3));
        let mut server = Seaweed { address, dir: dir.clone(), _keeper: keeper };
        match server.wait() {
            Ok(()) => Ok(server),
            Err(reason) => {
                let log = std::fs::read_to_string(dir.join("weed.log")).unwrap_or_default();
                let mut last: Vec<&str> = log.lines().rev().take(10).collect();
                last.reverse();
                Err(format!("{reason}; its last words:\n{}", last.join("\n")))
            }
        }
    }

    fn wait(&mut self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self._keeper.try_wait() {
                return Err(format!("it ended at once ({status})"));
            }
            match self.store_something() {
                Ok(()) => return Ok(()),
                Err(reason) if start.elapsed() > PATIENCE => {
                    return Err(format!("it stored nothing within {PATIENCE:?}: {reason}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn store_something(&self) -> Result<(), String> {
        std::net::TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        self.run(async |client| {
            let bucket = "ready";
            if let Err(error) = client.create_bucket().bucket(bucket).send().await {
                let error = error.into_service_error();
                if !error.is_bucket_already_owned_by_you() && !error.is_bucket_already_exists() {
                    return Err(format!("{error:?}"));
                }
            }
            let put = client.put_object().bucket(bucket).key("ready").body(vec![1].into());
            put.send().await.map(|_| ()).map_err(|error| format!("{:?}", error.into_service_error()))
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new, empty bucket.
    pub fn bucket(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let bucket = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.run(async |client| {
            client.create_bucket().bucket(&bucket).send().await.map(|_| ()).map_err(|e| format!("{e:?}"))
        })
        .expect("a new bucket");
        bucket
    }

    /// A client of the AWS SDK, for looking at a bucket past the code under test.
    pub fn client(&self) -> aws_sdk_s3::Client {
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(self.endpoint())
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .credentials_provider(credentials)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// Runs `work` to its end on a thread of its own, so that it may be called from async tests too.
    fn run<T: Send>(&self, work: impl AsyncFnOnce(aws_sdk_s3::Client) -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async { work(self.client()).await })
            });
            thread.join().expect("a request to SeaweedFS")
        })
    }
}

fn weed() -> PathBuf {
    let path = match std::env::var_os("CWDFS_TEST_WEED") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/weed"),
    };
    assert!(
        path.exists(),
        "SeaweedFS is not at {}: run tests/run, which installs it, or name it in CWDFS_TEST_WEED",
        path.display()
    );
    path
}

fn identities() -> String {
    let (other_key, other_secret) = OTHER_KEYS;
    format!(
        r#"{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}},
        {{"accessKey":"{other_key}","secretKey":"{other_secret}"}}],
        "actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    )
}

/// Ports that are free, with the ports 10,000 above, which the server takes too. All lie below the range
/// from which the kernel takes the ports of outgoing connections.
fn free_ports() -> [u16; 4] {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut ports = [0; 4];
    for index in 0..ports.len() {
        ports[index] = loop {
            let port = rand::random_range(12_000..22_000);
            if !ports.contains(&port) && is_free(port) && is_free(port + 10_000) {
                break port;
            }
        };
    }
    ports
}
