//! The floors of docs/ARCHITECTURE.md, kept by reading the sources: a module imports lower floors only, and what touches
//! the outside world is in few, known places.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules and their floors. The towers `testing` and `local` stand beside them.
const FLOORS: [(&str, u8); 9] = [
    ("item", 0),
    ("crypto", 0),
    ("format", 1),
    ("migration", 2),
    ("keyring", 3),
    ("store", 3),
    ("aws", 3),
    ("pipeline", 4),
    ("cli", 5),
];

/// Imports on one floor: `aws` says in the words of the two traits what an error of a service means, and their
/// implementations ask it.
const SAME_FLOOR: [(&str, &str); 4] = [("store", "aws"), ("keyring", "aws"), ("aws", "store"), ("aws", "keyring")];

/// The simulation uses the engine, and nothing above it.
const TESTING_FLOOR_MAX: u8 = 4;

/// What the pure floors do without.
const IMPURE: [&str; 12] = [
    "tokio",
    "rayon",
    "aws_config",
    "aws_sdk_",
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
    "std::io",
    "SystemTime",
    "Instant",
];
const PURE_FLOOR_MAX: u8 = 2;

/// Crates that may be named in these files and folders only.
const AT_HOME: [(&str, &[&str]); 8] = [
    ("aws_sdk_", &["aws/", "store/dynamo", "keyring/keystore", "keyring/kms", "keyring/secrets", "cli/demo", "local/"]),
    ("aws_config::", &["aws/", "cli/demo", "local/"]),
    ("rusqlite", &["store/sqlite", "local/"]),
    ("rayon", &["pipeline/"]),
    ("dynoxide", &["local/"]),
    ("axum", &["local/"]),
    ("clap", &["cli/", "main.rs"]),
    ("lambda_runtime", &["cli/lambda/"]),
];

/// What a source file does that its place does not allow.
fn violations(path: &str, source: &str) -> Vec<String> {
    let code = code(source);
    let own = path.split('/').next().unwrap_or(path).trim_end_matches(".rs");
    let mut found = Vec::new();
    for (name, places) in AT_HOME {
        if names(&code, name) && !places.iter().any(|place| path.starts_with(place)) {
            found.push(format!("{path} names {name}, which is at home in {}", places.join(", ")));
        }
    }
    let floor = floor(own);
    if floor.is_some_and(|floor| floor <= PURE_FLOOR_MAX) {
        let impure = IMPURE.into_iter().filter(|name| names(&code, name));
        found.extend(impure.map(|name| format!("{path} ({}) is pure and names {name}", label(own))));
    }
    let depth = path.split('/').filter(|part| *part != "mod.rs").count();
    for imported in imported(&code, depth).into_iter().filter(|imported| imported != own) {
        let allowed = match (own, floor, self::floor(&imported)) {
            ("main" | "lib" | "local", _, _) => true,
            ("testing", _, Some(below)) => below <= TESTING_FLOOR_MAX,
            ("cli", _, None) => imported == "local",
            (_, Some(own_floor), Some(below)) => below < own_floor || SAME_FLOOR.contains(&(own, imported.as_str())),
            _ => false,
        };
        if !allowed {
            found.push(format!("{path} ({}) imports {imported} ({})", label(own), label(&imported)));
        }
    }
    found
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn label(module: &str) -> String {
    floor(module).map_or_else(|| "tower".to_owned(), |floor| format!("F{floor}"))
}

/// The code without comments and inline tests.
fn code(source: &str) -> String {
    let lines = source.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    let lines = lines.map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether the code names it, as a whole word from its beginning on.
fn names(code: &str, name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].bytes().next_back().is_some_and(word);
        let after = code[at + name.len()..].bytes().next().is_some_and(word);
        !before && (name.ends_with(['_', ':']) || !after)
    })
}

/// The crate's own modules that the code names, through `crate::` or through as many `super::` as lead there.
fn imported(code: &str, depth: usize) -> Vec<String> {
    let upward = "super::".repeat(depth);
    let mut modules = Vec::new();
    for root in ["crate::", upward.as_str()] {
        for (at, _) in code.match_indices(root) {
            // A longer chain of `super::` is matched at its end as well; that is where it leads.
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(list) => modules.extend(heads(list)),
                None => modules.extend(head(rest)),
            }
        }
    }
    modules.retain(|module| module != "super");
    modules.sort();
    modules.dedup();
    modules
}

/// The first identifier, if the text begins with one in lower case: a module.
fn head(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = &text[..end];
    name.starts_with(|c: char| c.is_ascii_lowercase()).then(|| name.to_owned())
}

/// The first identifiers of the members of a braced list whose opening brace is gone.
fn heads(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut members = vec![String::new()];
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            _ => {}
        }
        if let Some(member) = members.last_mut().filter(|_| c != ',') {
            member.push(c);
        }
    }
    members.iter().filter_map(|member| head(member)).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources are readable").path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
}

#[test]
fn modules_import_lower_floors_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "the sources are read");
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        // Unit tests in a file or a folder of their own use what they need.
        if !path.ends_with("tests.rs") && !path.contains("/tests/") {
            found.extend(violations(&path, &fs::read_to_string(&file).unwrap()));
        }
    }
    found.sort();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn what_is_out_of_place_is_named() {
    let check = |path: &str, source: &str, expected: &[&str]| assert_eq!(violations(path, source), expected, "{path}");
    check("migration/plan.rs", "use crate::store::Table;", &["migration/plan.rs (F2) imports store (F3)"]);
    check("migration/plan.rs", "use crate::item::Item;\nuse super::Tally;", &[]);
    check("migration/plan.rs", "use super::super::store::Table;", &["migration/plan.rs (F2) imports store (F3)"]);
    check("migration/mod.rs", "use super::cli;", &["migration/mod.rs (F2) imports cli (F5)"]);
    check(
        "store/table.rs",
        "use crate::{item::{Item, Key}, pipeline::{self, Run}};",
        &["store/table.rs (F3) imports pipeline (F4)"],
    );
    check("store/dynamo.rs", "use crate::aws::classify;", &[]);
    check("keyring/mod.rs", "use crate::store::Table;", &["keyring/mod.rs (F3) imports store (F3)"]);
    check("pipeline/lane.rs", "crate::local::dynamo::serve();", &["pipeline/lane.rs (F4) imports local (tower)"]);
    check("testing/world.rs", "use crate::cli::run;", &["testing/world.rs (tower) imports cli (F5)"]);
    check("item/mod.rs", "use std::time::Instant;", &["item/mod.rs (F0) is pure and names Instant"]);
    check("format/mod.rs", "use std::fs::{self, File};", &["format/mod.rs (F1) is pure and names std::fs"]);
    check(
        "cli/run.rs",
        "use aws_sdk_kms::Client;",
        &[
            "cli/run.rs names aws_sdk_, which is at home in aws/, store/dynamo, keyring/keystore, keyring/kms, keyring/secrets, cli/demo, local/",
        ],
    );
    check("item/mod.rs", "/// As [`crate::store::Table`] says.\n#[cfg(test)]\nmod tests { use crate::cli; }", &[]);
    check("format/mod.rs", "let an_instant = MyInstant::first();", &[]);
}
