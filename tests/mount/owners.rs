//! Owners: one that is shown for all (`--uid`, `--gid`), other users in a mount (`--allow-other`), and mounts
//! of a user who is not root.

use crate::support::mount::Mount;
use crate::support::tree::{Tree, set_xattr, xattrs};
use crate::support::user::{as_user, is_closed, on_own_machine};
use crate::support::way::{Way, comes_back, no_error_logged};
use crate::support::{Ran, World, sh};
use crate::work;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// The user that a platform runs its sandboxes as, and another.
const USER: u32 = 1001;
const OTHER: u32 = 1002;
/// What `--uid` and `--gid` say.
const SHOWN: [&str; 5] = ["--uid", "1001", "--gid", "1001", "--allow-other"];

/// User and group of a name, of a symlink its own.
fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()));
    (meta.uid(), meta.gid())
}

fn chmod(path: impl AsRef<Path>, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The tree with every owner replaced.
fn owned_by(tree: &Tree, (uid, gid): (u32, u32)) -> Tree {
    let mut tree = tree.clone();
    for entry in tree.0.values_mut() {
        (entry.uid, entry.gid) = (uid, gid);
    }
    tree
}

/// What root leaves behind: a tree with several owners in it, some of it closed to others.
fn made_by_root(mount: &Mount<'_>) {
    work::one_of_everything(mount.root());
    work::git(mount.root());
    work::sqlite(mount.root());
    fs::create_dir(mount.path("closed")).expect("mkdir");
    fs::write(mount.path("closed/secret"), "root's").expect("write");
    fs::create_dir(mount.path("of-7")).expect("mkdir");
    fs::write(mount.path("of-7/mixed"), "7:8").expect("write");
    chown(mount.path("of-7"), Some(7), Some(8)).expect("chown");
    chown(mount.path("of-7/mixed"), Some(7), Some(8)).expect("chown");
    chmod(mount.path("closed"), 0o700).expect("chmod");
    chmod(mount.path("closed/secret"), 0o600).expect("chmod");
}

/// What a user does in a session that somebody else made.
fn worked_on_by_user(mount: &Mount<'_>) {
    assert_eq!(fs::read(mount.path("closed/secret")).expect("it is shown as the user's"), b"root's");
    // git refuses a repository that another user owns, so this is its check, too.
    work::check_git(mount.root());
    sh(&mount.path("repo"), "seq 5 > new && git add new && git commit -q -m four && git log --oneline");
    work::check_sqlite(mount.root());
    sh(mount.root(), "sqlite3 work.db 'delete from t where id = 3'");
    fs::write(mount.path("new"), "n").expect("create at the root");
    fs::create_dir(mount.path("of-7/new-dir")).expect("mkdir");
    std::os::unix::fs::symlink("x", mount.path("of-7/new-link")).expect("symlink");
    chmod(mount.path("script"), 0o700).expect("chmod of what is shown as ours");
    chown(mount.path("sub"), Some(USER), Some(USER)).expect("chown to who is shown");
    set_xattr(&mount.path("sub"), "user.more", b"m").expect("setxattr");
    let refused = chown(mount.path("sub"), Some(OTHER), None).expect_err("only root gives away");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn a_session_made_as_root_resumes_as_a_user_and_keeps_its_owners() {
    for way in Way::drawn("shown owners") {
        println!("{way}");
        let world = World::with_relay(&format!("shown-{way}"));
        let mount = world.host("a").mount(&way.options(&[]));
        made_by_root(&mount);
        mount.flush();
        let stored = Tree::of(mount.root());
        mount.lose_machine();

        let options = way.options(&SHOWN);
        let mount = world.host("b").mount(&[&options[..], &["--takeover"]].concat());
        owned_by(&stored, (USER, USER)).assert_same(&Tree::of(mount.root()), "shown");
        as_user(USER, || worked_on_by_user(&mount));
        let all = Tree::of(mount.root());
        assert!(all.0.values().all(|entry| (entry.uid, entry.gid) == (USER, USER)), "all is shown as theirs");
        let mount = comes_back(&world, mount, "c", &options);
        mount.unmount();

        let mount = world.host("d").mount(&way.options(&[]));
        let now = Tree::of(mount.root());
        for (name, entry) in &stored.0 {
            let kept = &now.0[name];
            assert_eq!((kept.uid, kept.gid), (entry.uid, entry.gid), "stored of {}", name.display());
        }
        assert_eq!(owner(mount.path("new")), (0, 0), "made in root's directory");
        assert_eq!(owner(mount.path("repo/new")), (0, 0));
        assert_eq!(owner(mount.path("of-7/new-dir")), (7, 8), "made in 7:8's directory");
        assert_eq!(owner(mount.path("of-7/new-link")), (7, 8));
        work::check_git(mount.root());
        mount.unmount();
    }
}

#[test]
fn a_chown_by_root_is_stored_and_shown_without_the_option() {
    let world = World::new("shown-chown");
    // As environment, and as -o: the same options.
    let mut command = world.host("a").mount_command(&["--allow-other"]);
    command.env("CWDFS_UID", "1001").env("CWDFS_GID", "1002");
    let mount = world.host("a").start(command).unwrap_or_else(|ran| panic!("{ran}"));
    for name in ["plain", "given", "back"] {
        fs::write(mount.path(name), "x").expect("write");
        assert_eq!(owner(mount.path(name)), (1001, 1002));
    }
    chown(mount.path("given"), Some(33), Some(34)).expect("chown");
    chown(mount.path("back"), Some(33), Some(34)).expect("chown");
    chown(mount.path("back"), Some(1001), Some(1002)).expect("chown");
    assert_eq!(owner(mount.path("given")), (1001, 1002));
    mount.unmount();

    let mount = world.host("b").mount(&["-o", "uid=5,allow_other"]);
    assert_eq!(owner(mount.path("given")), (5, 34), "each option alone");
    mount.unmount();

    let mount = world.host("c").mount(&[]);
    assert_eq!(owner(mount.root()), (1001, 1002), "a session made so is that user's");
    assert_eq!(owner(mount.path("plain")), (1001, 1002));
    assert_eq!(owner(mount.path("given")), (33, 34));
    assert_eq!(owner(mount.path("back")), (33, 34), "the shown owner stands for the stored one");
    mount.unmount();
    world.run(["mount", "--uid", "root", &world.store, "/mnt"]).exits(2).says(&["root", "1001"]);
    world.run(["mount", "--gid", "4294967295", &world.store, "/mnt"]).exits(2);
}

#[test]
fn permissions_set_id_bits_and_acls_follow_who_is_shown() {
    let world = World::new("shown-checks");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("acl"), "x").expect("write");
    chmod(mount.root(), 0o755).expect("chmod");
    chmod(mount.path("acl"), 0o640).expect("chmod");
    sh(
        mount.root(),
        "setfacl -m u:1002:rw,g:0:r acl && cp acl set-id && chmod 6775 set-id && mkdir inherits",
    );
    sh(mount.root(), "setfacl -d -m u:1002:rwx inherits && chmod 2775 inherits");
    let acl = xattrs(&mount.path("acl"));
    mount.flush();
    mount.unmount();

    let mount = world.host("b").mount(&SHOWN);
    assert_eq!(xattrs(&mount.path("acl")), acl, "the ids in a list stay as they are");
    as_user(USER, || {
        fs::write(mount.path("acl"), "owner").expect("as its owner");
        let mode = |name: &str| fs::metadata(mount.path(name)).expect("stat").mode() & 0o7777;
        chmod(mount.path("set-id"), 0o6775).expect("a member of the shown group keeps the bit");
        assert_eq!(mode("set-id"), 0o6775);
        fs::write(mount.path("set-id"), "changed").expect("write");
        assert_eq!(mode("set-id"), 0o775, "a write takes the bits");
        fs::write(mount.path("inherits/f"), "f").expect("create");
        assert_eq!(owner(mount.path("inherits/f")), (USER, USER));
        sh(mount.root(), "setfacl -m u:7:r acl");
    });
    as_user(OTHER, || {
        fs::write(mount.path("acl"), "named").expect("the list names this user");
        fs::write(mount.path("inherits/f"), "named").expect("the inherited list names this user");
        let refused = fs::write(mount.path("set-id"), "x").expect_err("others may only read");
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert_eq!(
            chmod(mount.path("acl"), 0o777).expect_err("not the owner's").kind(),
            ErrorKind::PermissionDenied
        );
    });
    mount.unmount();
}

#[test]
fn plain_objects_carry_the_stored_owners_and_what_names_none_is_the_shown_ones() {
    let world = World::new("shown-view");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("roots"), "x").expect("write");
    mount.publish();
    mount.unmount();

    let mount = world.host("b").mount(&SHOWN);
    fs::write(mount.path("roots"), "changed as 1001").expect("write");
    world.witness.put("outside", "from outside");
    mount.publish();
    mount.refresh();
    assert_eq!(owner(mount.path("outside")), (USER, USER));
    let headers = world.witness.object("roots").expect("published").metadata;
    let of = |name: &str| headers.get(name).map(String::as_str);
    assert_eq!((of("uid"), of("gid")), (Some("0"), Some("0")), "{headers:?}");
    mount.unmount();

    let mount = world.host("c").mount(&[]);
    assert_eq!(owner(mount.path("roots")), (0, 0));
    assert_eq!(owner(mount.path("outside")), (USER, USER), "nobody else was known");
    mount.unmount();
}

#[test]
fn a_follower_shows_one_owner_too() {
    let world = World::new("shown-follower");
    let writer = world.host("a").mount(&[]);
    fs::write(writer.path("f"), "x").expect("write");
    writer.flush();
    let follower = world.host("b").mount(&["--read-only", "--uid", "1001"]);
    assert_eq!(owner(follower.path("f")), (USER, 0));
    follower.unmount();
    assert_eq!(owner(writer.path("f")), (0, 0));
    writer.unmount();
}

#[test]
fn others_enter_only_where_allowed_and_then_permissions_hold() {
    let world = World::new("others");
    let mount = world.host("a").mount(&[]);
    chmod(mount.root(), 0o755).expect("chmod");
    fs::write(mount.path("open"), "open").expect("write");
    fs::write(mount.path("closed"), "closed").expect("write");
    chmod(mount.path("closed"), 0o600).expect("chmod");
    fs::create_dir(mount.path("shared")).expect("mkdir");
    chmod(mount.path("shared"), 0o1777).expect("chmod");
    as_user(USER, || {
        assert!(is_closed(mount.root()), "without the option the mount is its user's alone");
        let refused = fs::read(mount.path("open")).expect_err("closed to others");
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    });
    mount.unmount();

    let mount = world.host("b").mount(&["--allow-other"]);
    let denied = |result: std::io::Result<()>| {
        assert_eq!(result.expect_err("permissions hold").kind(), ErrorKind::PermissionDenied);
    };
    as_user(USER, || {
        assert_eq!(fs::read(mount.path("open")).expect("readable by all"), b"open");
        denied(fs::read(mount.path("closed")).map(drop));
        denied(fs::write(mount.path("open"), "x"));
        denied(fs::write(mount.path("new"), "x"));
        fs::write(mount.path("shared/mine"), "mine").expect("writable by all");
        assert_eq!(owner(mount.path("shared/mine")), (USER, USER));
    });
    as_user(OTHER, || denied(fs::remove_file(mount.path("shared/mine"))));
    as_user(USER, || fs::remove_file(mount.path("shared/mine")).expect("one's own, despite the sticky bit"));
    mount.unmount();
}

/// A user without privileges works in a mount of its own: git, SQLite, one of everything but devices.
fn as_their_own(mount: &Mount<'_>, source: &Path) {
    work::git_from(mount.root(), source);
    work::sqlite(mount.root());
    fs::write(mount.path("private"), "x").expect("write");
    chmod(mount.path("private"), 0o600).expect("chmod");
    set_xattr(&mount.path("private"), "user.note", b"n").expect("setxattr");
    fs::hard_link(mount.path("private"), mount.path("linked")).expect("link");
    sh(mount.root(), "mkfifo fifo && setfacl -m u:7:r private && mkdir -m 2750 d && ln -s d l");
    fs::write(mount.path("large"), work::noise(20 << 20, 3)).expect("write");
    assert_eq!(owner(mount.path("private")), (USER, USER));
    let refused = chown(mount.path("private"), Some(OTHER), None).expect_err("only root gives away");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn an_ordinary_user_mounts_works_loses_the_machine_and_goes_on() {
    for way in Way::drawn("a user's mount").into_iter().map(|way| Way { passthrough: false, ..way }) {
        println!("{way}");
        let world = World::with_relay(&format!("user-{way}"));
        on_own_machine("", |machine| {
            let home = machine.home(USER);
            // git clones from nobody else's repository.
            let source = home.join("source");
            work::source_of(&source, USER);
            as_user(USER, || {
                let host = world.host_of(machine.program(), &home);
                // Without being told, passthrough is left off.
                let mount = host.mount(&["--durability", way.level]);
                let status = mount.status();
                assert_eq!(status["passthrough"], false, "{status:#}");
                as_their_own(&mount, &source);
                mount.flush();
                let before = Tree::of(mount.root());
                no_error_logged(&mount);
                mount.lose_machine();
                let mount = host.mount(&["--durability", way.level, "--takeover"]);
                before.assert_same(&Tree::of(mount.root()), "after the machine was lost");
                work::check_git(mount.root());
                work::check_sqlite(mount.root());
                mount.unmount();
            });
        });
    }
}

/// The kernel looks at the mode that it knows when it runs a program, and asks for none.
#[test]
fn a_program_that_another_user_wrote_to_has_no_set_id_bit_from_then_on() {
    let world = World::new("set-id-exec");
    let local = world.local("disk");
    for passthrough in ["on", "off"] {
        let host = world.host(passthrough);
        let mount = host.mount(&["-o", "suid", "--allow-other", "--passthrough", passthrough]);
        for top in [local.as_path(), mount.root()] {
            // Appended; through the kernel's pages; past the end. Its first byte stays what it is.
            for write in ["printf x >> id", r"printf '\177' 1<> id", "truncate -s +8192 id"] {
                let user = |script: &str| {
                    sh(top, &format!(r#"setpriv --reuid 1234 --clear-groups bash -c "{script}""#))
                        .trim()
                        .to_owned()
                };
                sh(top, "cp /usr/bin/id id && chmod 4777 id");
                assert_eq!(user("./id -u"), "0");
                user(write);
                assert_eq!(user("./id -u"), "1234", "{write}, {passthrough}, {}", top.display());
            }
        }
        mount.unmount();
    }
}

#[test]
fn an_ordinary_user_is_told_what_needs_privileges() {
    let world = World::new("user-refused");
    on_own_machine("# nothing is allowed\n", |machine| {
        let home = machine.home(USER);
        as_user(USER, || {
            let host = world.host_of(machine.program(), &home);
            let ran = host.run_mount(&["--passthrough", "on"]);
            ran.exits(5).says(&["--passthrough on", "CAP_SYS_ADMIN"]).plainly();
            let ran = host.run_mount(&["--allow-other"]);
            ran.exits(5).says(&["allow_other", "user_allow_other", "/etc/fuse.conf"]).plainly();
            // The session was given back: the next mount need not wait.
            let mount = host.mount(&[]);
            mount.unmount();
        });
        let roots = machine.home(OTHER);
        chown(&roots, Some(0), Some(0)).expect("chown");
        as_user(USER, || {
            let mut command = world.host_of(machine.program(), &home).command("mount");
            let ran = Ran::of(command.arg(&world.store).arg(&roots));
            ran.exits(5).says(&[roots.to_str().expect("utf-8"), "no write access"]).plainly();
        });
    });
}

#[test]
fn a_users_mount_is_closed_to_root_and_managed_by_that_user() {
    let world = World::new("user-alone");
    on_own_machine("", |machine| {
        let home = machine.home(USER);
        let host = as_user(USER, || world.host_of(machine.program(), &home));
        // The cache is where a user's caches are.
        as_user(USER, || {
            let mut command = host.command("mount");
            Ran::of(command.arg(&world.store).arg(&host.mountpoint)).ok();
            fs::write(host.mountpoint.join("f"), "x").expect("write");
            assert!(home.join(".cache/cwdfs").is_dir(), "the default of --cache-dir");
            host.run("status", &[]).ok().says(&[&world.store]);
        });
        assert!(is_closed(&host.mountpoint), "root is another user");
        for command in ["status", "flush"] {
            let ran = host.run(command, &[]);
            assert!(ran.code != Some(0), "{ran}");
            ran.says(&["user 1001", "as that user"]).plainly();
        }
        let others = machine.home(OTHER);
        as_user(OTHER, || {
            let mut command = world.host_of(machine.program(), &others).command("unmount");
            Ran::of(command.arg(&host.mountpoint)).exits(5).says(&["another user"]).plainly();
        });
        as_user(USER, || {
            assert_eq!(fs::read(host.mountpoint.join("f")).expect("it is still there"), b"x");
            host.run("unmount", &[]).ok();
            assert!(!crate::support::mount::is_mounted(&host.mountpoint));
            // And as FUSE users do it.
            let mut mount = host.mount(&[]);
            fs::write(mount.path("g"), "y").expect("write");
            Ran::of(Command::new("fusermount3").arg("-u").arg(&host.mountpoint)).ok();
            let status = mount.wait_end(std::time::Duration::from_secs(60));
            assert_eq!(status.code(), Some(0), "{}", mount.log());
        });
    });
    assert_eq!((world.witness.text("f"), world.witness.text("g")), ("x".into(), "y".into()));
}

#[test]
fn a_user_lets_others_in_where_fuse_conf_allows_it() {
    let world = World::new("user-others");
    on_own_machine("user_allow_other\n", |machine| {
        let home = machine.home(USER);
        let mount = as_user(USER, || world.host_of(machine.program(), &home).mount(&["--allow-other"]));
        as_user(USER, || {
            fs::write(mount.path("f"), "x").expect("write");
            chmod(mount.path("f"), 0o644).expect("chmod");
        });
        as_user(OTHER, || {
            assert_eq!(fs::read(mount.path("f")).expect("readable by all"), b"x");
            assert!(fs::write(mount.path("f"), "y").is_err());
        });
        chown(mount.path("f"), Some(OTHER), Some(OTHER)).expect("root may, in a user's mount too");
        assert_eq!(owner(mount.path("f")), (OTHER, OTHER));
        as_user(USER, || mount.unmount());
    });
}

#[test]
fn a_user_resumes_what_root_made() {
    let world = World::with_relay("user-resumes");
    let mount = world.host("a").mount(&[]);
    made_by_root(&mount);
    mount.flush();
    let stored = Tree::of(mount.root());
    mount.lose_machine();
    on_own_machine("", |machine| {
        let home = machine.home(USER);
        as_user(USER, || {
            let host = world.host_of(machine.program(), &home);
            let mount = host.mount(&["--uid", "1001", "--gid", "1001", "--takeover"]);
            owned_by(&stored, (USER, USER)).assert_same(&Tree::of(mount.root()), "as the user");
            worked_on_by_user(&mount);
            mount.unmount();
        });
    });
    let mount = world.host("b").mount(&[]);
    assert_eq!(owner(mount.path("closed/secret")), (0, 0));
    assert_eq!(owner(mount.path("of-7/new-dir")), (7, 8));
    work::check_git(mount.root());
    mount.unmount();
}
