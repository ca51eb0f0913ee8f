//! Into a clean root: installed, mounted by mount(8) and /etc/fstab, removed with nothing left.

use super::root::script;
use super::{binary, package, packages, packaging, program, scratch};
use crate::support::{Ran, World};
use std::process::Command;

#[test]
fn the_debian_package_installs_mounts_and_leaves_nothing() {
    let world = World::new("package-deb");
    let deb = package(".deb");
    let told = Ran::of(Command::new("dpkg-deb").arg("--field").arg(&deb)).ok();
    told.says(&["Package: cwdfs", "libc6 (>= 2.17)", "Recommends: ca-certificates, fuse3"]);
    script(
        &world,
        &deb,
        r#"
        cp "$PACKAGE" "$R/run/cwdfs.deb"
        before=$(installed -true)
        inside dpkg -i /run/cwdfs.deb
        complete usr/share/zsh/vendor-completions
        mounts
        inside dpkg --verify cwdfs
        inside dpkg --purge cwdfs
        diff <(echo "$before") <(installed -true)
        "#,
    );
    assert_eq!(world.witness.text("f"), "closed\n");
}

#[test]
fn the_rpm_installs_mounts_and_leaves_no_file() {
    let world = World::new("package-rpm");
    let rpm = package(".rpm");
    let told = Ran::of(Command::new("rpm").args(["-qp", "--requires", "--recommends"]).arg(&rpm)).ok();
    told.says(&["glibc >= 2.17", "fuse3", "ca-certificates"]);
    // Debian's rpm knows none of Debian's packages: --nodeps.
    script(
        &world,
        &rpm,
        r#"
        before=$(installed -not -type d)
        rpm --root "$R" --nodeps -i "$PACKAGE"
        complete usr/share/zsh/site-functions
        mounts
        rpm --root "$R" -V --nodeps cwdfs
        # An upgrade runs the old package's last script after the new one's: the links stay.
        rpm --root "$R" --nodeps -U --force "$PACKAGE"
        complete usr/share/zsh/site-functions
        rpm --root "$R" --nodeps -e cwdfs
        diff <(echo "$before") <(installed -not -type d)
        [[ $(installed -name '*cwdfs*') == "" ]]
        "#,
    );
    assert_eq!(world.witness.text("f"), "closed\n");
}

#[test]
fn the_tarball_installs_as_its_note_says_and_goes_again() {
    let world = World::new("package-tar");
    let note = include_str!("../../../packaging/INSTALL.md");
    let (install, remove) =
        ("--strip-components=1 --wildcards '*/usr/*'", "| grep -v '/$' | xargs -d '\\n' rm -f");
    assert!(note.contains(install) && note.contains(remove), "what follows is as the note says");
    script(
        &world,
        &package(".tar.gz"),
        r#"
        before=$(installed -not -type d)
        tar -xzf "$PACKAGE" -C "$R" --strip-components=1 --wildcards '*/usr/*'
        complete usr/share/zsh/site-functions
        mounts
        tar -tzf "$PACKAGE" | grep '^cwdfs-[^/]*/INSTALL.md$'
        tar -tzf "$PACKAGE" --wildcards '*/usr/*' | sed 's|^[^/]*||' | grep -v '/$' | (cd "$R" && sed 's|^/||' | xargs -d '\n' rm -f)
        diff <(echo "$before") <(installed -not -type d)
        "#,
    );
    assert_eq!(world.witness.text("f"), "closed\n");
}

#[test]
fn the_same_program_gives_the_same_packages() {
    let again = scratch("again");
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Ran::of(packaging("pack").args(["--fast", &target]).arg(program()).arg(binary()).arg(&again)).ok();
    for ending in [".deb", ".rpm", ".tar.gz"] {
        let first = package(ending);
        let second = again.join(first.file_name().expect("a name"));
        let same = std::fs::read(&first).expect("the package") == std::fs::read(&second).expect("the other");
        assert!(same, "{} differs from {}", first.display(), second.display());
    }
    assert_eq!(std::fs::read_dir(packages()).expect("the packages").count(), 3);
}
