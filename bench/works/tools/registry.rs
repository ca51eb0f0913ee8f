//! The registry of packages that the tests have: it serves what tests/install has downloaded.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running registry. Dropping it ends it.
pub struct Registry {
    server: Child,
    address: String,
}

impl Registry {
    /// Starts it. Panics where the packages are not there.
    pub fn start() -> Registry {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let fixtures = root.join("tests/mount/tools/fixtures/node");
        let archives = root.join("target/tools/node-archives");
        assert!(archives.is_dir(), "{} is missing: `tests/install tools` puts it there", archives.display());
        let mut command = Command::new("node");
        command
            .arg(fixtures.join("registry.mjs"))
            .arg("serve")
            .arg(fixtures.join("project/package-lock.json"));
        let mut server = command.arg(archives).stdout(Stdio::piped()).spawn().expect("node");
        let mut address = String::new();
        let said = server.stdout.take().expect("it was piped");
        BufReader::new(said).read_line(&mut address).expect("read the address");
        Registry { server, address: address.trim().to_owned() }
    }

    /// Where it listens, a URL.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // One that has ended already is what we want.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
