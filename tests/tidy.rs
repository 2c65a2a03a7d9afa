//! The rules of the house that a compiler does not check: which room may use which, and that every file says what
//! lives there. Style beyond that is left to rustfmt and clippy.

use std::{fs, path::Path, path::PathBuf};

/// Room by room, the other rooms that it must not name, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "text",
        &["engine", "insight", "store", "pipeline", "http", "pages", "cli", "demo"],
        "text knows only text",
    ),
    (
        "engine",
        &["insight", "store", "pipeline", "http", "pages", "cli", "demo"],
        "engine knows no records, HTTP or SQL",
    ),
    ("insight", &["engine", "store", "pipeline", "http", "pages", "cli", "demo"], "insight is pure"),
    ("store", &["engine", "http", "pages", "cli", "demo"], "store keeps rows, no rules"),
    ("pipeline", &["http", "pages", "cli", "demo"], "pipeline has no JSON shapes of the API"),
    ("http", &["store", "cli", "demo"], "http reads through the pipeline"),
    ("pages", &["store", "engine", "cli", "demo"], "pages have no data access of their own"),
    ("demo", &["store", "engine", "http", "pages", "cli"], "the demo is data"),
];

/// What the pure rooms must not call.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "tokio::",
    "rand::",
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file without its unit tests and comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn rooms_use_only_what_they_may() {
    let mut wrong = Vec::new();
    for (room, forbidden, why) in FORBIDDEN {
        for file in rust_files(&source().join(room)) {
            let code = code(&file);
            for other in *forbidden {
                if code.contains(&format!("crate::{other}::")) || code.contains(&format!("crate::{{{other}"))
                {
                    wrong.push(format!("{} uses {other}: {why}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_rooms_do_no_io_and_read_no_clock() {
    let mut wrong = Vec::new();
    for room in ["text", "insight"] {
        for file in rust_files(&source().join(room)) {
            let code = code(&file);
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|call| code.contains(**call))
                    .map(|c| format!("{}: {c}", file.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_lives_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = ["src", "kernels/cpu", "tests", "benches", "examples"]
        .iter()
        .flat_map(|d| rust_files(&root.join(d)))
        .collect();
    files.retain(|f| !fs::read_to_string(f).unwrap().starts_with("//!"));
    assert!(files.is_empty(), "these do not open with //!: {files:?}");
}
