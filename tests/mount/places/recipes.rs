//! That every recipe parses, and that those which were not run say so.

use super::packaging;
use crate::support::Ran;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The places, and whether their recipe is run by a test.
const PLACES: [(&str, bool); 6] = [
    ("local", true),
    ("docker", true),
    ("kubernetes", false),
    ("e2b", false),
    ("daytona", false),
    ("modal", false),
];

/// The instructions that a Containerfile may have.
const INSTRUCTIONS: [&str; 8] = ["ARG", "FROM", "RUN", "COPY", "ENV", "WORKDIR", "ENTRYPOINT", "CMD"];

fn files(place: &str) -> Vec<PathBuf> {
    let listing = std::fs::read_dir(packaging(place)).unwrap_or_else(|e| panic!("packaging/{place}: {e}"));
    listing.map(|entry| entry.expect("an entry").path()).collect()
}

/// Runs the parser of a file's language on it.
fn parse(path: &Path) {
    let with = |program: &str, args: &[&str]| {
        Ran::of(Command::new(program).args(args).arg(path)).ok();
    };
    let name = path.file_name().and_then(|name| name.to_str()).expect("names here are text");
    match name.rsplit_once('.').map_or(name, |(_, extension)| extension) {
        "yaml" => with("/usr/bin/python3", &["-c", YAML]),
        "py" => with("/usr/bin/python3", &["-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())"]),
        "cwdfs-entrypoint" => with("sh", &["-n"]),
        "Containerfile" => containerfile(&std::fs::read_to_string(path).expect("a Containerfile")),
        "md" => {}
        other => panic!("{}: nothing here parses {other}", path.display()),
    }
}

/// Each document of a manifest has to be a mapping.
const YAML: &str = "import sys, yaml
documents = list(yaml.safe_load_all(open(sys.argv[1])))
assert documents and all(isinstance(document, dict) for document in documents), documents";

fn containerfile(text: &str) {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let words: Vec<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(words.contains(&"FROM") && words.contains(&"ENTRYPOINT"), "{words:?}");
    assert!(words.iter().all(|word| INSTRUCTIONS.contains(word)), "{words:?}");
}

#[test]
fn each_recipe_parses() {
    for (place, _) in PLACES {
        let files = files(place);
        assert!(files.iter().any(|file| file.ends_with("README.md")), "packaging/{place} has no README.md");
        files.iter().for_each(|file| parse(file));
    }
}

#[test]
fn a_recipe_that_was_not_run_says_so_and_what_documentation_it_follows() {
    for (place, run) in PLACES {
        let text = std::fs::read_to_string(packaging(place).join("README.md")).expect("a README.md");
        assert_eq!(text.contains("**Not run**"), !run, "packaging/{place}/README.md");
        let dated = text.lines().any(|line| line.contains("documentation of 20"));
        assert!(run || dated, "packaging/{place}/README.md does not date its documentation");
    }
}
