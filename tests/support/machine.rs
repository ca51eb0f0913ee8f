//! A machine with cwdfs installed, for what mount(8) and umount(8) do with it: `mount.cwdfs` and the other links
//! in /sbin, an /etc/fstab of its own, an ordinary user. It is this one in a private mount namespace and a
//! process namespace that ends with its script, so nothing of it stays.

use super::ran::Ran;
use super::seaweed;
use super::world::{World, binary};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

/// The ordinary user.
pub const USER: u32 = 4242;

/// Runs before each script. Overlays over /sbin and /etc hold what is installed; /mnt, /run, /tmp and /var/cache
/// are empty; the user may open /dev/fuse, as on a desktop.
const PRELUDE: &str = r#"
set -euo pipefail
trap 'echo "the script failed in line $LINENO: $BASH_COMMAND" >&2' ERR
sbin=$(realpath /sbin)
mount -t overlay links -o lowerdir="$MACHINE/sbin:$sbin" "$sbin"
mount -t overlay etc -o lowerdir="$MACHINE/etc:/etc" /etc
for dir in /run /var/cache /mnt; do mount -t tmpfs -o mode=755 none "$dir"; done
mknod -m 666 /mnt/.fuse c 10 229
mount --bind /mnt/.fuse /dev/fuse
mkdir -p /mnt/home /mnt/a /mnt/b
chown 4242:4242 /mnt/home
as_user() { HOME=/mnt/home setpriv --reuid 4242 --regid 4242 --clear-groups --inh-caps=-all "$@"; }
# How a command ended, and that it said what it should.
exits() { local want=$1 got=0; shift; "$@" > /run/said 2>&1 || got=$?; cat /run/said
  [[ $got == "$want" ]] || { echo "exit $got instead of $want: $*" >&2; exit 1; }; }
says() { grep -qi -- "$1" /run/said || { echo "does not say '$1': $(cat /run/said)" >&2; exit 1; }; }
# A command that has to fail; a plain ! would not end the script.
not() { if "$@"; then echo "it should have failed: $*" >&2; exit 1; fi; }
daemons() { ps -C cwdfs -o stat= | grep -cv Z || true; }
"#;

/// A machine; each script starts it anew.
pub struct Machine<'w> {
    world: &'w World,
    dir: PathBuf,
}

impl<'w> Machine<'w> {
    /// Installs cwdfs with all its links, or without the helper of umount(8).
    pub fn new(world: &'w World, umount_helper: bool) -> Machine<'w> {
        let machine = Machine { world, dir: world.local("machine") };
        let sbin = machine.dir.join("sbin");
        fs::create_dir_all(&sbin).expect("a directory");
        fs::create_dir_all(machine.dir.join("etc")).expect("a directory");
        // A copy, where the file systems differ.
        if fs::hard_link(binary(), sbin.join("cwdfs")).is_err() {
            fs::copy(binary(), sbin.join("cwdfs")).expect("the program");
        }
        let links = ["mount.cwdfs", "mount.fuse.cwdfs", "umount.cwdfs", "umount.fuse.cwdfs"];
        for name in links.into_iter().filter(|name| umount_helper || !name.starts_with("umount")) {
            symlink("cwdfs", sbin.join(name)).expect("a link");
        }
        let users = fs::read_to_string("/etc/passwd").expect("the list of users");
        let mut users: String =
            users.lines().filter(|l| !l.starts_with("tester:")).map(|l| format!("{l}\n")).collect();
        users.push_str(&format!("tester:x:{USER}:{USER}::/mnt/home:/bin/sh\n"));
        machine.etc("passwd", &users, 0o644);
        machine.etc("cwdfs.env", &machine.credentials(), 0o600);
        machine
    }

    /// The store's credentials as an environment file.
    pub fn credentials(&self) -> String {
        let (key, secret) = (seaweed::ACCESS_KEY, seaweed::SECRET_KEY);
        format!(
            "# The store's.\nAWS_ACCESS_KEY_ID={key}\nAWS_SECRET_ACCESS_KEY='{secret}'\nAWS_EC2_METADATA_DISABLED=true\n"
        )
    }

    /// Writes a file of /etc.
    pub fn etc(&self, name: &str, text: &str, mode: u32) {
        let path = self.dir.join("etc").join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    /// Runs a script (bash) as root, with `$STORE` and `$REACH` (options that lead to it, without secrets);
    /// panics when a command of it fails.
    #[track_caller]
    pub fn script(&self, script: &str) -> Ran {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c"]);
        command.arg(format!("{PRELUDE}\n{script}"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CWDFS_") || text.starts_with("AWS_") || text.starts_with("XDG_") {
                command.env_remove(&name);
            }
        }
        let reach = format!("endpoint={},region={}", self.world.endpoint(), seaweed::REGION);
        command.env("MACHINE", &self.dir).env("STORE", &self.world.store).env("REACH", reach);
        Ran::of(&mut command).ok()
    }
}
