//! In geesefs's place: the command lines that deployments use, by the name of a link, on a real mount.

use crate::support::mount::is_mounted;
use crate::support::world::{Host, binary};
use crate::support::{Ran, World, eventually};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// A link to the binary, in a directory of its own.
fn link(world: &World, name: &str) -> PathBuf {
    let link = world.local("bin").join(name);
    symlink(binary(), &link).expect("a link");
    link
}

/// `program ARGS` with credentials in AWS_* variables and a cache of the host's, as a deployment would have it.
fn command<S: AsRef<OsStr>>(world: &World, host: &Host<'_>, program: &Path, args: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    for (name, value) in world.command([""; 0]).get_envs() {
        match value {
            Some(value) if name != "CWDFS_ENDPOINT" => command.env(name, value),
            _ => command.env_remove(name),
        };
    }
    command.env("CWDFS_CACHE_DIR", &host.cache);
    command
}

fn endpoint(world: &World) -> String {
    let base = world.command([""; 0]);
    let found = base.get_envs().find(|(name, _)| *name == "CWDFS_ENDPOINT").and_then(|(_, value)| value);
    found.expect("the world has an endpoint").to_string_lossy().into_owned()
}

fn run(program: &str, args: &[&OsStr]) -> Ran {
    Ran::of(Command::new(program).args(args))
}

fn is_a_mountpoint(path: &Path) -> bool {
    run("mountpoint", &["-q".as_ref(), path.as_ref()]).code == Some(0)
}

/// The words of the command that platforms run, up to the store.
fn platform<'a>(endpoint: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = ["--endpoint", endpoint, "--region", "us-east-1", "--no-detect", "--fsync-on-close"];
    [&words[..], more, &["-o", "allow_other"]].concat()
}

#[test]
fn the_command_that_platforms_run_mounts_in_the_foreground() {
    let world = World::new("geesefs");
    let host = world.host("a");
    let (geesefs, endpoint) = (link(&world, "geesefs"), endpoint(&world));
    let store = format!("{}/mounts/p/m", world.store);
    let mut words = platform(&endpoint, &["-f"]);
    let dir = host.mountpoint.to_string_lossy().into_owned();
    words.extend([store.as_str(), dir.as_str()]);
    let mut mount = host.start(command(&world, &host, &geesefs, &words)).expect("it mounts");
    assert!(is_a_mountpoint(mount.root()));
    fs::write(mount.path("closed"), "is stored").expect("write");
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "cat"].map(OsStr::new);
    let seen = run("setpriv", &[&as_nobody[..], &[mount.path("closed").as_ref()]].concat()).ok();
    assert_eq!(seen.out, "is stored", "with allow_other another user reads");
    assert!(!mount.log().contains("warning"), "{}", mount.log());
    mount.signal(rustix::process::Signal::USR1);
    run("fusermount3", &["-uz".as_ref(), mount.root().as_ref()]).ok();
    let ended = mount.wait_end(SOON);
    assert_eq!(ended.code(), Some(0), "after fusermount3 -uz: {}", mount.log());
    assert!(!is_mounted(mount.root()));
    assert_eq!(world.witness.text("mounts/p/m/closed"), "is stored");
}

#[test]
fn what_was_closed_is_there_after_a_kill_and_a_wiped_cache() {
    let world = World::new("geesefs-kill");
    let (geesefs, endpoint) = (link(&world, "geesefs"), endpoint(&world));
    let start = |host: &Host<'_>| {
        let dir = host.mountpoint.to_string_lossy().into_owned();
        let mut words = platform(&endpoint, &["-f"]);
        words.extend([world.store.as_str(), dir.as_str()]);
        let mut command = command(&world, host, &geesefs, &words);
        command.env("CWDFS_LEASE_TTL", "2s");
        command
    };
    let (a, b) = (world.host("a"), world.host("b"));
    let mount = a.start(start(&a)).expect("it mounts");
    for n in 0..20 {
        fs::write(mount.path(format!("f{n}")), format!("{n}")).expect("write");
    }
    mount.kill();
    a.wipe();
    let mount = b.start(start(&b)).expect("it mounts");
    for n in 0..20 {
        assert_eq!(fs::read_to_string(mount.path(format!("f{n}"))).expect("read"), format!("{n}"));
    }
    mount.unmount();
}

#[test]
fn in_the_background_it_returns_when_the_mount_answers_and_drains_after_fusermount() {
    let world = World::new("geesefs-background");
    let host = world.host("a");
    let (tigrisfs, endpoint) = (link(&world, "tigrisfs"), endpoint(&world));
    let dir = host.mountpoint.to_string_lossy().into_owned();
    let words =
        ["--memory-limit", "4000", "--stat-cache-ttl=1s", "--endpoint", &endpoint, &world.store, &dir];
    let ran = Ran::of(&mut command(&world, &host, &tigrisfs, &words)).ok();
    assert_eq!(
        ran.err.trim(),
        "tigrisfs: warning: without meaning in cwdfs, and ignored: --memory-limit, --stat-cache-ttl"
    );
    assert!(is_a_mountpoint(&host.mountpoint));
    fs::write(host.mountpoint.join("file"), "x").expect("write");
    run("fusermount3", &["-uz".as_ref(), host.mountpoint.as_ref()]).ok();
    world
        .witness
        .wait_for("the file is published by the drain", SOON, |keys| keys.iter().any(|k| k == "file"));
    eventually("the session is given back", SOON, || {
        world.run(["inspect", "--json", &world.store]).ok().out.contains("\"state\": \"free\"")
    });
}

/// Through the real mount(8) and mount.fuse, in a mount namespace of its own: nothing is left on the machine.
#[test]
fn mount8_takes_the_line_of_fstab() {
    let world = World::new("geesefs-fstab");
    let host = world.host("a");
    let (geesefs, endpoint) = (link(&world, "geesefs"), endpoint(&world));
    let (local, dir) = (world.local("etc"), host.mountpoint.display().to_string());
    world.witness.put("there/before", "as it is");
    let env = world.command([""; 0]);
    let secret = |name: &str| {
        let found = env.get_envs().find(|(n, _)| *n == name).and_then(|(_, value)| value);
        found.expect("the world has credentials").to_string_lossy().into_owned()
    };
    let keys = local.join("credentials");
    let (key, password) = (secret("AWS_ACCESS_KEY_ID"), secret("AWS_SECRET_ACCESS_KEY"));
    fs::write(&keys, format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {password}\n"))
        .expect("a credentials file");
    let options = format!(
        "_netdev,allow_other,--file-mode=0666,--dir-mode=0777,--endpoint={endpoint},--shared-config={}",
        keys.display()
    );
    let fstab = local.join("fstab");
    fs::write(&fstab, format!("{} {dir} fuse.geesefs {options} 0 0\n", world.store)).expect("an fstab");
    let script = r#"
        # Where mount.fuse finds it, with what else there is hidden in this namespace only.
        mount -t tmpfs tmpfs /usr/local/bin
        ln -s "$3" /usr/local/bin/geesefs
        mount -T "$1" "$2"
        mount -T "$1" -a
        [ "$(grep -c " $2 " /proc/self/mounts)" = 1 ]
        mountpoint -q "$2"
        findmnt -n -o SOURCE "$2"
        stat -c '%a %n' "$2" "$2/there" "$2/there/before"
        setpriv --reuid=65534 --regid=65534 --clear-groups touch "$2/by-nobody" "$2/there/by-nobody"
        setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "echo more >> '$2/there/before'"
        umount "$2"
    "#;
    let mut command = command(&world, &host, Path::new("unshare"), &["-m", "--propagation", "private"]);
    command.args(["bash", "-euc", script, "fstab"]).arg(&fstab).arg(&host.mountpoint).arg(&geesefs);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env_remove("AWS_SHARED_CREDENTIALS_FILE").env_remove("AWS_CONFIG_FILE");
    let ran = Ran::of(&mut command).ok();
    let told: Vec<&str> = ran.out.lines().collect();
    let modes = [format!("777 {dir}"), format!("777 {dir}/there"), format!("666 {dir}/there/before")];
    assert_eq!(told[0], world.store, "{ran}");
    assert_eq!(told[1..], modes, "{ran}");
    assert!(!is_mounted(&host.mountpoint), "the mount was in a namespace of its own");
    world.witness.wait_for("the drain publishes all of it", SOON, |keys| {
        ["by-nobody", "there/before", "there/by-nobody"].iter().all(|key| keys.iter().any(|k| k == key))
    });
    eventually("the drain publishes the edit", SOON, || {
        world.witness.text("there/before") == "as it ismore\n"
    });
}

#[test]
fn the_attribute_invalidate_imports_what_others_did() {
    let world = World::new("geesefs-invalidate");
    let host = world.host("a");
    let (geesefs, endpoint) = (link(&world, "geesefs"), endpoint(&world));
    for name in [".invalidate", "look-again"] {
        let dir = host.mountpoint.to_string_lossy().into_owned();
        let mut words = platform(&endpoint, &["-f"]);
        if name != ".invalidate" {
            words.extend(["--refresh-attr", name]);
        }
        words.extend([world.store.as_str(), dir.as_str()]);
        let mount = host.start(command(&world, &host, &geesefs, &words)).expect("it mounts");
        let set = |name: &str, at: &Path| run("setfattr", &["-n".as_ref(), name.as_ref(), at.as_ref()]);
        fs::create_dir_all(mount.path("dir")).expect("mkdir");
        fs::write(mount.path("dir/file"), "ours").expect("write");
        mount.publish();
        for (n, at) in ["dir/file", "dir", ""].into_iter().enumerate() {
            let (edited, added) = (format!("edit {n} for {name}"), format!("dir/new-{name}-{n}"));
            assert!(!mount.path(&added).exists(), "a name that the kernel now knows not to be there");
            world.witness.put("dir/file", edited.clone());
            world.witness.put(&added, "new");
            set(name, &mount.path(at)).ok();
            // The kernel forgets what is in a directory that was locked by the call right after it.
            eventually("the edit is seen", SOON, || {
                fs::read_to_string(mount.path("dir/file")).is_ok_and(|text| text == edited)
            });
            eventually("the new file is seen", SOON, || mount.path(&added).exists());
        }
        let other = if name == ".invalidate" { "look-again" } else { ".invalidate" };
        assert_ne!(set(other, &mount.path("dir")).code, Some(0), "only the attribute of that name");
        mount.unmount();
        world.witness.delete_all("dir/");
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_and_changes_nothing() {
    let world = World::new("geesefs-refused");
    let host = world.host("a");
    let (geesefs, endpoint) = (link(&world, "geesefs"), endpoint(&world));
    let dir = host.mountpoint.to_string_lossy().into_owned();
    for (flags, named) in [
        (&["--iam"][..], "static key"),
        (&["--cluster", "--cluster-me", "1:a"], "one writer"),
        (&["--sse-c", "key"], "no key is sent"),
        (&["--storage-class=STANDARD_IA"], "lifecycle rule"),
        (&["--no-such-flag"], "no-such-flag"),
        (&["--uid=me"], "me"),
    ] {
        let words = [&["--endpoint", &endpoint][..], flags, &[&world.store, &dir]].concat();
        let ran = Ran::of(&mut command(&world, &host, &geesefs, &words)).exits(2).plainly();
        ran.says(&["geesefs", named]);
    }
    assert!(world.witness.keys().is_empty(), "{:?}", world.witness.keys());
    assert!(!is_mounted(&host.mountpoint));
    // And the same by the first word, without a link.
    world.run(["geesefs", "--iam", &world.store, &dir]).exits(2).says(&["geesefs", "static key"]);
    world.run(["geesefs", "--help"]).ok().says(&["--stat-cache-ttl", "no meaning", "allow_root"]);
    world.run(["tigrisfs", "--version"]).ok().says(&[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn content_types_and_owners_are_as_asked_for() {
    let world = World::new("geesefs-asked");
    let host = world.host("a");
    let (geesefs, endpoint) = (link(&world, "geesefs"), endpoint(&world));
    let dir = host.mountpoint.to_string_lossy().into_owned();
    let mut words = platform(&endpoint, &["-f", "--use-content-type", "--uid", "1234", "--gid=2345"]);
    words.extend([world.store.as_str(), dir.as_str()]);
    let mount = host.start(command(&world, &host, &geesefs, &words)).expect("it mounts");
    fs::write(mount.path("page.html"), "<p>").expect("write");
    let meta = fs::metadata(mount.path("page.html")).expect("stat");
    assert_eq!((meta.uid(), meta.gid()), (1234, 2345));
    mount.publish();
    let object = world.witness.object("page.html").expect("it is published");
    assert_eq!(object.content_type.as_deref(), Some("text/html"));
    mount.unmount();
}
