//! A clean root file system to install into: an overlay over the one that containers stand on, in namespaces that
//! end with the script, so nothing of it stays.

use crate::support::container::rootfs;
use crate::support::{Ran, World, seaweed};
use std::process::Command;

/// `inside COMMAND` runs in the root at `$R`; `installed` lists what is there; `mounts` is the test of an
/// installation: mount(8), umount(8), a line of /etc/fstab.
const PRELUDE: &str = r#"
set -euo pipefail
trap 'echo "the script failed in line $LINENO: $BASH_COMMAND" >&2' ERR
mount -t tmpfs none "$WORK"
R=$WORK/root
mkdir "$R" "$WORK/upper" "$WORK/work"
mount -t overlay root -o lowerdir="$ROOTFS",upperdir="$WORK/upper",workdir="$WORK/work" "$R"
mount -t proc proc "$R/proc"
mount --bind /dev "$R/dev"
mount -t tmpfs none "$R/run"
inside() { chroot "$R" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb "$@"; }
# But for what package managers keep of their own.
installed() {
  (cd "$R" && find . -xdev \( -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./root/.rpmdb -o -path ./var/log -o -path ./var/cache \) -prune \
    -o "$@" -printf '%y %p %l\n') | sort
}
daemons() { ps -C cwdfs -o stat= | grep -cv Z || true; }
mounts() {
  local options="$REACH,environment-file=/etc/cwdfs.env"
  (umask 077; printf '%s' "$CREDENTIALS" > "$R/etc/cwdfs.env")
  mkdir "$R/mnt/a"
  inside cwdfs --version
  inside mount -t cwdfs "$STORE" /mnt/a -o "$options"
  [[ $(inside findmnt -n -o SOURCE,FSTYPE /mnt/a | tr -s ' ') == "$STORE fuse.cwdfs" ]]
  inside sh -c 'echo closed > /mnt/a/f'
  inside umount /mnt/a
  [[ $(daemons) == 0 ]]
  cp "$R/etc/fstab" "$WORK/fstab" 2> /dev/null || true
  echo "$STORE /mnt/a cwdfs _netdev,nofail,$options 0 0" >> "$R/etc/fstab"
  inside mount -a
  [[ $(cat "$R/mnt/a/f") == closed ]]
  inside umount /mnt/a
  [[ $(daemons) == 0 ]]
  if [[ -e $WORK/fstab ]]; then cp "$WORK/fstab" "$R/etc/fstab"; else rm "$R/etc/fstab"; fi
  rm "$R/etc/cwdfs.env"
  rmdir "$R/mnt/a"
}
# Everything that README.md promises of a package lies where it is looked for; $1: where zsh looks.
complete() {
  local path
  for path in usr/bin/cwdfs usr/lib/systemd/system/cwdfs@.service usr/share/bash-completion/completions/cwdfs \
    usr/share/fish/vendor_completions.d/cwdfs.fish "$1/_cwdfs" usr/share/man/man1/cwdfs.1.gz \
    usr/share/man/man1/cwdfs-mount.1.gz usr/share/man/man8/mount.cwdfs.8.gz usr/share/doc/cwdfs/LICENSE-MIT \
    usr/share/doc/cwdfs/LICENSE-APACHE usr/share/doc/cwdfs/README.md usr/share/doc/cwdfs/SECURITY.md usr/share/doc/cwdfs/CHANGELOG.md \
    usr/share/doc/cwdfs/packaging/systemd/README.md; do
    [[ -s $R/$path || -s $R/$path.gz ]] || { echo "$path is missing" >&2; return 1; }
  done
  for path in mount.cwdfs mount.fuse.cwdfs umount.cwdfs umount.fuse.cwdfs; do
    [[ $(readlink "$R/usr/sbin/$path") == ../bin/cwdfs ]] || { echo "$path is no link" >&2; return 1; }
  done
  [[ $(stat -c %a:%u:%g "$R/usr/bin/cwdfs") == 755:0:0 ]]
  zcat "$R/usr/share/man/man1/cwdfs-mount.1.gz" | grep commit > /dev/null
}
"#;

/// Runs a script (bash) with a clean root, `$PACKAGE` and the variables above; panics when a command of it fails.
#[track_caller]
pub fn script(world: &World, package: &std::path::Path, script: &str) -> Ran {
    let (key, secret) = (seaweed::ACCESS_KEY, seaweed::SECRET_KEY);
    let credentials =
        format!("AWS_ACCESS_KEY_ID={key}\nAWS_SECRET_ACCESS_KEY={secret}\nAWS_EC2_METADATA_DISABLED=true\n");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c"]);
    command.arg(format!("{PRELUDE}\n{script}"));
    command.env("WORK", world.local("work")).env("ROOTFS", rootfs()).env("PACKAGE", package);
    command.env("STORE", &world.store).env("CREDENTIALS", credentials);
    command.env("REACH", format!("endpoint={},region={}", world.endpoint(), seaweed::REGION));
    Ran::of(&mut command).ok()
}
