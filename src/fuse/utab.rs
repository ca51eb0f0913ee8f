//! mount(8)'s own table beside the kernel's, `/run/mount/utab`: an entry there makes umount(8) call our helper.
//! Without one, root's umount(8) asks the kernel for the type, hears `fuse`, and calls nobody.
//!
//! Only where the helper is installed is anything written, and by mount(8) itself, which keeps the table.

use super::table;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where umount(8) looks for it.
const HELPER: &str = "/sbin/umount.cwdfs";
const TABLE: &str = "/run/mount/utab";

/// Has umount(8) call our helper for a mount that is there.
pub fn add(source: &str, mountpoint: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() || !Path::new(HELPER).exists() {
        return Ok(());
    }
    let mut mount = Command::new("mount");
    mount.args(["-i", "-f", "--no-canonicalize", "-t", table::KIND, "-o", "helper=cwdfs", "--", source]);
    run(mount.arg(mountpoint))
}

/// Takes the entry of a mount that is gone away, if there is one.
pub fn remove(mountpoint: &Path) -> io::Result<()> {
    let text = match std::fs::read(TABLE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    if !rustix::process::geteuid().is_root() || !names(&text, mountpoint) {
        return Ok(());
    }
    let mut umount = Command::new("umount");
    run(umount.args(["-i", "--fake", "--no-canonicalize", "--"]).arg(mountpoint))
}

/// Whether an entry of ours is for this mount point.
fn names(table: &[u8], mountpoint: &Path) -> bool {
    table.split(|b| *b == b'\n').any(|line| {
        let value = |name: &[u8]| line.split(|b| *b == b' ').find_map(|word| word.strip_prefix(name));
        let ours = value(b"OPTS=").is_some_and(|all| all.split(|b| *b == b',').any(|o| o == b"helper=cwdfs"));
        ours && value(b"TARGET=")
            .is_some_and(|at| table::unescape(at) == mountpoint.as_os_str().as_encoded_bytes())
    })
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{}: {said}", command.get_program().to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_ours_is_found_by_its_mount_point() {
        let table = b"SRC=demo:s TARGET=/mnt/a\\040b ROOT=/ OPTS=_netdev,helper=cwdfs\nSRC=x TARGET=/mnt/c OPTS=user\n";
        assert!(names(table, Path::new("/mnt/a b")));
        assert!(!names(table, Path::new("/mnt/c")), "not ours");
        assert!(!names(table, Path::new("/mnt/a")));
        assert!(!names(b"", Path::new("/mnt/a")));
    }
}
