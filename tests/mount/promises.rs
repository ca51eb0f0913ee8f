//! The tables of the documents that promise something: each row names the test that shows it, and it exists.

use std::path::{Path, PathBuf};

/// Documents with such tables, and the least number of rows that each has.
const DOCUMENTS: [(&str, usize); 3] =
    [("README.md", 15), ("packaging/orchestrator.md", 40), ("SECURITY.md", 9)];

/// The rows of all tables whose last column is headed `test`.
fn rows(document: &str) -> Vec<&str> {
    let mut rows = Vec::new();
    let mut lines = document.lines();
    while let Some(head) = lines.next() {
        if head.ends_with("| test |") {
            rows.extend(lines.by_ref().skip(1).take_while(|line| line.starts_with('|')));
        }
    }
    rows
}

/// Where the test `a::b::name` may be: in this program's module `a::b`, or in a unit test's of `src`.
fn sources(modules: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A module `tests` is part of its parent's file, or has one of its own.
    let within: PathBuf = modules.iter().filter(|module| **module != "tests").collect();
    let paths = [within, modules.iter().collect()];
    let below = ["tests/mount", "tests", "src"]
        .into_iter()
        .flat_map(|top| paths.each_ref().map(|p| root.join(top).join(p)));
    below.flat_map(|path| [path.with_extension("rs"), path.join("mod.rs")]).collect()
}

fn is_a_test(name: &str) -> bool {
    let modules: Vec<&str> = name.split("::").collect();
    let Some((name, modules)) = modules.split_last() else { return false };
    // A test of proptest has arguments.
    let wanted = format!("fn {name}(");
    let mut found = sources(modules).into_iter().filter_map(|path| std::fs::read_to_string(path).ok());
    found.any(|source| source.contains(&wanted))
}

#[test]
fn each_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for (path, least) in DOCUMENTS {
        let document = std::fs::read_to_string(root.join(path)).expect("the document");
        let rows = rows(&document);
        assert!(rows.len() >= least, "{path} has {} rows: are its tables still found?", rows.len());
        for row in rows {
            let tests = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
            let mut named = tests.split('`').skip(1).step_by(2).peekable();
            if named.peek().is_none() {
                wrong.push(format!("{path}: no test is named: {row}"));
            }
            wrong.extend(
                named.filter(|test| !is_a_test(test)).map(|test| format!("{path}: {test} is no test")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
