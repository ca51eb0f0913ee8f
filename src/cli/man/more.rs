//! What pages say that no `--help` does: how the helpers are used, and where to read on.

use super::super::geesefs;

const FSTAB: &str = "\
demo:sid42  /mnt/sid42  cwdfs  _netdev,nofail,allow_other,region=eu-central-1,environment-file=/etc/cwdfs/sid42.env  0 0
demo:sid42  /home/me/work  cwdfs  user,noauto,profile=sessions  0 0
demo:sid42  /mnt/look  cwdfs  ro,_netdev,nofail,region=eu-central-1  0 0
";

const OPTIONS: &str = "\
Each option of cwdfs-mount(1) without its hyphens: durability=fsync, read_only,
commit-interval=5s; a value with commas goes into double quotes: lazy=\"a,b\".

ro                     follow the writer (--read-only)
environment-file=FILE  variables for the mount, one NAME=VALUE a line: AWS_...
                       or CWDFS_...; writable by its owner alone, read by no other
profile=NAME           of ~/.aws/credentials and ~/.aws/config of who mounts
remount,ro  remount,rw close the mount for changes, and open it again
nosuid nodev (default), suid dev, noexec, noatime, sync, dirsync, ...
                       flags of the mount
defaults, auto, user, users, nofail, _netdev, x-*, ...
                       mount(8)'s and systemd's own

Secrets are refused: /etc/fstab and the process list show them to every user.
";

/// Sections of plain lines for a page, by title.
pub fn sections(page: &str) -> &'static [(&'static str, &'static str)] {
    match page {
        "mount.cwdfs" => &[("Options of -o", OPTIONS), ("Lines of /etc/fstab", FSTAB)],
        _ => &[],
    }
}

/// Sections of words and what each is.
pub fn entries(page: &str) -> Vec<(&'static str, Vec<(String, String)>)> {
    match page {
        "cwdfs-geesefs" => geesefs::entries().into(),
        _ => Vec::new(),
    }
}

/// Where to read on.
pub fn see_also(page: &str) -> &'static str {
    match page {
        "cwdfs" => "mount.cwdfs(8), umount.cwdfs(8), fusermount3(1)",
        "cwdfs-mount" => "cwdfs(1), cwdfs-unmount(1), mount.cwdfs(8), fusermount3(1)",
        "cwdfs-unmount" => "cwdfs(1), cwdfs-flush(1), umount.cwdfs(8)",
        "mount.cwdfs" => "cwdfs-mount(1), umount.cwdfs(8), mount(8), fstab(5), systemd.mount(5)",
        "umount.cwdfs" => "cwdfs-unmount(1), mount.cwdfs(8), umount(8)",
        _ => "cwdfs(1)",
    }
}
