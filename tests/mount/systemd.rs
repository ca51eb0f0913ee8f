//! The units of packaging/systemd, as systemd itself reads them.

use crate::support::world::binary;
use crate::support::{Ran, World, run_by};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packaged units with the program at its place on this machine.
fn installed(world: &World) -> PathBuf {
    let dir = world.local("units");
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    let drop_ins = dir.join("cwdfs@.service.d");
    fs::create_dir_all(&drop_ins).expect("mkdir");
    fs::copy(units.join("credentials.conf"), drop_ins.join("credentials.conf")).expect("copy");
    for name in ["cwdfs@.service", "mnt-sid42.mount"] {
        let text = fs::read_to_string(units.join(name)).expect("a unit");
        let binary = binary();
        let text = text.replace("/usr/bin/cwdfs", binary.to_str().expect("utf-8"));
        fs::write(dir.join(name), text).expect("write");
    }
    dir
}

fn analyze(words: &[&str], unit: &Path) -> Ran {
    Ran::of(Command::new("systemd-analyze").args(words).arg(unit))
}

#[test]
fn the_units_are_what_systemd_understands() {
    let world = World::new("units");
    let dir = installed(&world);
    for name in ["cwdfs@.service", "cwdfs@sid42.service", "mnt-sid42.mount"] {
        let ran = analyze(&["verify"], &dir.join(name)).ok();
        // Other units of this machine may have faults of their own.
        let ours: Vec<_> =
            ran.err.lines().filter(|l| l.contains("cwdfs") || l.contains("mnt-sid42")).collect();
        assert!(ours.is_empty(), "{name}: {ours:#?}");
    }
    // It does say something where there is something to say.
    let broken = dir.join("cwdfs-broken.service");
    let text = fs::read_to_string(dir.join("cwdfs@.service")).expect("a unit");
    fs::write(&broken, text.replace("Restart=on-failure", "Restart=perhaps")).expect("write");
    let ran = analyze(&["verify"], &broken);
    assert!(ran.err.contains("perhaps"), "{ran}");
}

#[test]
fn the_service_is_hardened_but_its_mount_is_seen_by_all() {
    let world = World::new("units-hardened");
    let dir = installed(&world);
    // In tenths; a service without any hardening has 96.
    analyze(&["security", "--offline=yes", "--threshold=55"], &dir.join("cwdfs@.service")).ok();
    let text = fs::read_to_string(dir.join("cwdfs@.service")).expect("a unit");
    let set: Vec<&str> = text.lines().filter_map(|l| l.split_once('=')).map(|(name, _)| name).collect();
    for own_mounts in [
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateMounts",
        "PrivateNetwork",
        "ProtectProc",
        "ProcSubset",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "PrivateIPC",
        "ProtectControlGroups",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "InaccessiblePaths",
        "BindPaths",
        "DynamicUser",
        "RootDirectory",
        "TemporaryFileSystem",
        "MountFlags",
    ] {
        assert!(!set.contains(&own_mounts), "{own_mounts} hides the mount from everybody else");
    }
    assert!(
        !text.contains("--takeover") && text.contains("--leave-parked"),
        "it would take a live writer's session"
    );
    let prevented =
        text.lines().find_map(|l| l.strip_prefix("RestartPreventExitStatus=")).expect("it is set");
    for code in ["5", "7"] {
        assert!(prevented.split(' ').any(|c| c == code), "exit {code} is restarted");
    }
}

#[test]
fn the_capabilities_that_the_service_keeps_are_enough() {
    let world = World::new("units-capabilities");
    let text = fs::read_to_string(installed(&world).join("cwdfs@.service")).expect("a unit");
    let kept = text.lines().find_map(|l| l.strip_prefix("CapabilityBoundingSet=")).expect("it is set");
    let kept: String =
        kept.split(' ').map(|cap| format!(",+{}", cap.trim_start_matches("CAP_").to_lowercase())).collect();
    let mut runner = Command::new("setpriv");
    runner.args(["--no-new-privs", &format!("--bounding-set=-all{kept}"), "--"]);
    let host = world.host("a");
    let mount = host.start(run_by(runner, &host.mount_command(&["--allow-other"]))).expect("mounts");
    let bounding =
        fs::read_to_string(format!("/proc/{}/status", mount.pid().as_raw_nonzero())).expect("read");
    assert!(!bounding.contains("CapBnd:\t000001ff"), "nothing was taken from it: {bounding}");
    fs::write(mount.path("f"), "x").expect("write");
    std::os::unix::fs::chown(mount.path("f"), Some(4242), Some(4242)).expect("owners are what callers say");
    fs::write(mount.path("f"), vec![7; 9 << 20]).expect("write");
    assert_eq!(fs::read(mount.path("f")).expect("read").len(), 9 << 20);
    let status = mount.status();
    let off = status["passthrough_off_because"].as_str().unwrap_or_default();
    assert!(!off.contains("CAP_SYS_ADMIN"), "{off}");
    mount.unmount();
}
