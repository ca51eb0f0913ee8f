//! What works write: made once, the same in every run, and it does not compress.

use crate::shell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Files of the tar.
pub const TAR_FILES: usize = 2_000;
const FILES_IN_A_DIRECTORY: usize = 50;

/// A tar, and the tree that is in it.
pub struct Tar {
    /// The archive.
    pub archive: PathBuf,
    /// What is in it.
    pub tree: PathBuf,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// Where this is kept for the time of the run.
pub fn place(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-sources").join(name);
    fs::create_dir_all(&place).expect("a directory");
    place
}

/// Bytes that do not compress; each `seed` has others.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The size of a file of the tar: 1 to 10 kB, 5.5 on average.
fn size_of(n: usize) -> usize {
    1_000 + n * 7919 % 9_000
}

/// A tar of 2,000 files, 11 MB.
pub fn tar() -> &'static Tar {
    static TAR: OnceLock<Tar> = OnceLock::new();
    TAR.get_or_init(|| {
        let place = place("tar");
        let (archive, tree) = (place.join("t.tar"), place.join("tree"));
        if tree.exists() {
            fs::remove_dir_all(&tree).expect("an old tree goes");
        }
        for n in 0..TAR_FILES {
            let dir = tree.join(format!("d{:02}", n / FILES_IN_A_DIRECTORY));
            fs::create_dir_all(&dir).expect("a directory");
            fs::write(dir.join(format!("f{n}")), noise(n as u64, size_of(n))).expect("a file");
        }
        // Without the root itself, whose attributes some peers cannot set.
        let script = r#"cd "$1" && tar -cf "$2" *"#;
        shell::run(Command::new("sh").args(["-c", script, "sh"]).arg(&tree).arg(&archive));
        Tar { archive, tree, bytes: (0..TAR_FILES).map(|n| size_of(n) as u64).sum() }
    })
}

/// A git repository to clone: 138 files, 20 commits.
pub fn repository() -> &'static Path {
    static REPOSITORY: OnceLock<PathBuf> = OnceLock::new();
    REPOSITORY.get_or_init(|| {
        let place = place("git");
        fs::remove_dir_all(&place).expect("an old repository goes");
        fs::create_dir_all(&place).expect("a directory");
        let script = r#"
            set -e
            git init -q -b main .
            git config user.name bench; git config user.email bench@localhost
            for n in $(seq 138); do
              mkdir -p "d$((n % 12))"
              seq "$n" "$((n * 37 % 700 + n))" > "d$((n % 12))/file$n.txt"
            done
            git add . && git commit -q -m first
            for n in $(seq 19); do
              echo "line $n" >> "d$((n % 12))/file$((n + 12)).txt"; git add -A; git commit -q -m "commit $n"
            done
            git gc -q"#;
        shell::run(Command::new("bash").arg("-c").arg(script).current_dir(&place).env("HOME", &place));
        place
    })
}
