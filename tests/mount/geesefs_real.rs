//! With the real geesefs, which `CWDFS_TEST_GEESEFS` names: what it wrote is all there, what is published it
//! reads, and each of its flags is in the table. `tests/run` builds it where it can, and says so where not.

use crate::support::mount::is_mounted;
use crate::support::world::Host;
use crate::support::{Ran, World, eventually, sh};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);

fn program() -> PathBuf {
    let named = std::env::var_os("CWDFS_TEST_GEESEFS");
    PathBuf::from(named.expect("CWDFS_TEST_GEESEFS names a geesefs (tests/run builds it)"))
}

/// A mount by geesefs, which never outlives the test.
struct Geesefs {
    child: Child,
    mountpoint: PathBuf,
}

impl Geesefs {
    fn mount(world: &World, host: &Host<'_>) -> Geesefs {
        let base = world.command([""; 0]);
        let endpoint =
            base.get_envs().find(|(name, _)| *name == "CWDFS_ENDPOINT").and_then(|(_, value)| value);
        let mut command = Command::new(program());
        for (name, value) in base.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.arg("--endpoint").arg(endpoint.expect("the world has an endpoint"));
        command.args(["--region", "us-east-1", "--list-type", "2", "--no-detect", "-f"]);
        command.args(["--enable-perms", "--enable-specials", "--enable-mtime", "-o", "allow_other"]);
        command.arg(&world.store).arg(&host.mountpoint);
        let log = fs::File::create(host.mountpoint.with_file_name("geesefs.log")).expect("a log file");
        command.stdin(Stdio::null()).stderr(log);
        let child = command.spawn().expect("geesefs starts");
        eventually("geesefs mounts", SOON, || is_mounted(&host.mountpoint));
        Geesefs { child, mountpoint: host.mountpoint.clone() }
    }

    /// Unmounts, and waits until everything is stored.
    fn unmount(mut self) {
        Ran::of(Command::new("fusermount3").arg("-u").arg(&self.mountpoint)).ok();
        assert!(self.child.wait().expect("it ends").success(), "geesefs failed");
    }
}

impl Drop for Geesefs {
    fn drop(&mut self) {
        // One that has ended already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if is_mounted(&self.mountpoint) {
            Ran::of(Command::new("fusermount3").arg("-uz").arg(&self.mountpoint));
        }
    }
}

/// All kinds of things that geesefs stores.
const FILL: &str = r#"
    mkdir -p empty deep/er/est 'name with space' ünïcode
    echo hello > file
    : > nothing
    echo secret > private; chmod 600 private
    echo run > run; chmod 755 run; chown 1000:1001 run
    echo old > old; touch -d @1000000000 old
    echo odd > 'name with space/a+b&c=d%20e#f?g'
    echo utf8 > ünïcode/日本語
    echo deepest > deep/er/est/file
    chmod 700 deep
    seq 1 4000000 > large
    ln -s file link; ln -s 'name with space/a+b' 'link two'; ln -s ünïcode/日本語 link-utf8
    mkfifo fifo; chmod 640 fifo
    mknod null c 1 3
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
    echo attributes > attributes
    setfattr -n user.colour -v blue attributes
    setfattr -n user.odd -v '100% ü' attributes
"#;

/// What a mount shows below its root, as far as geesefs stores it: not a directory's mode, nor a symlink's, nor
/// most times.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(root.join(&dir)).expect("list") {
            let name = dir.join(entry.expect("an entry").file_name());
            if name == Path::new(".cwdfs") {
                continue;
            }
            let path = root.join(&name);
            let meta = fs::symlink_metadata(&path).expect("stat");
            let kind = meta.file_type();
            let text = if kind.is_dir() {
                todo.push(name.clone());
                "a directory".to_owned()
            } else if kind.is_symlink() {
                format!("a link to {:?}", fs::read_link(&path).expect("readlink"))
            } else {
                let content = kind.is_file().then(|| fs::read(&path).expect("read"));
                let hash = content.map(|bytes| blake3::hash(&bytes).to_hex().to_string());
                let (mode, uid, gid, len) = (meta.mode(), meta.uid(), meta.gid(), meta.len());
                format!("{mode:o} {uid}:{gid} {len} bytes, device {}, {hash:?}", meta.rdev())
            };
            seen.insert(name, text);
        }
    }
    seen
}

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = [0; 256];
    let len = rustix::fs::getxattr(path, name, &mut value).expect("getxattr");
    value[..len].to_vec()
}

fn is_old(root: &Path) -> bool {
    fs::metadata(root.join("old")).expect("stat").mtime() == 1_000_000_000
}

#[test]
#[ignore = "needs a geesefs, which tests/run builds where it can"]
fn what_geesefs_wrote_is_there_and_geesefs_reads_what_is_published() {
    let world = World::new("geesefs-real");
    let (theirs, ours) = (world.host("geesefs"), world.host("cwdfs"));
    let geesefs = Geesefs::mount(&world, &theirs);
    sh(&theirs.mountpoint, FILL);
    let wrote = seen(&theirs.mountpoint);
    geesefs.unmount();

    let mount = ours.mount(&[]);
    mount.wait_status("all headers are read", SOON, |status| status["view"]["headers_pending"] == 0);
    let found = seen(mount.root());
    for (path, text) in &wrote {
        assert_eq!(Some(text), found.get(path), "{}", path.display());
    }
    assert_eq!(found.len(), wrote.len(), "nothing else is there");
    assert!(is_old(mount.root()));
    assert_eq!(attribute(&mount.path("attributes"), "user.colour"), b"blue");
    assert_eq!(attribute(&mount.path("attributes"), "user.odd"), "100% ü".as_bytes());

    sh(
        mount.root(),
        "echo changed > file; mv large moved; rm nothing; mkdir -p new/dir; seq 1 3000000 > new/large
         echo more >> deep/er/est/file; chmod 640 private; ln -s moved new/link; rmdir empty",
    );
    let changed = seen(mount.root());
    mount.publish();
    mount.unmount();

    let geesefs = Geesefs::mount(&world, &theirs);
    // Once it has opened a file, it knows mode and owner.
    seen(&theirs.mountpoint);
    let read = seen(&theirs.mountpoint);
    assert_eq!(read.keys().collect::<Vec<_>>(), changed.keys().collect::<Vec<_>>());
    for (path, text) in &changed {
        // What has no bytes is an empty file to geesefs on a store that lists no metadata.
        if text.contains("Some") || text == "a directory" {
            assert_eq!(text, &read[path], "{}", path.display());
        }
    }
    assert!(is_old(&theirs.mountpoint));
    geesefs.unmount();
    let link = world.witness.object("new/link").expect("the link is published");
    assert_eq!(link.metadata.get("--symlink-target").map(String::as_str), Some("moved"));
}

#[test]
#[ignore = "needs a geesefs, which tests/run builds where it can"]
fn every_flag_that_geesefs_has_is_in_the_table() {
    let help = Ran::of(Command::new(program()).arg("--help"));
    let world = World::new("geesefs-flags");
    let table = world.run(["geesefs", "--help"]).ok().out;
    let said = format!("{}\n{}", help.out, help.err);
    let lines = said.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let names = lines.flat_map(|line| line.split("  ").next().unwrap_or_default().split(", "));
    let flags: Vec<&str> = names.filter_map(|flag| flag.split_whitespace().next()).collect();
    assert!(flags.len() > 80, "{flags:?}");
    for flag in flags {
        let row = |end: &str| table.contains(&format!("| `{flag}{end}"));
        assert!(row("`") || row(" "), "{flag} is not in the table");
    }
}
