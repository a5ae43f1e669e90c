//! Keeps the layers apart: who may name PostgreSQL, and that the extension's script is complete.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    // Asked at run time: clones that share a target folder share what was compiled into it.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The layer of a file of `src`: the name of its folder, or of the file itself.
fn layer(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("a file of src");
    inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned()
}

#[test]
fn only_the_boundary_names_postgresql() {
    let allowed = ["pg", "api", "lib.rs", "backend_tests.rs"];
    let mut seen = 0;
    for path in rust_files(&root().join("src")) {
        if fs::read_to_string(&path).expect("source").contains("pgrx") {
            assert!(allowed.contains(&layer(&path).as_str()), "{} names pgrx", path.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "nothing was checked");
}

#[test]
fn layers_use_only_what_is_below_them() {
    let pure: &[&str] = &["model", "codec", "positions", "queue", "metrics", "drain"];
    let below: [(&str, &[&str]); 8] = [
        ("model", &[]),
        ("codec", &["model"]),
        ("positions", &["model", "codec", "sync"]),
        ("queue", &["model", "codec", "sync"]),
        ("metrics", &["model", "codec"]),
        ("drain", &["model", "codec"]),
        ("pg", pure),
        ("api", &["model", "codec", "metrics", "pg"]),
    ];
    let mut seen = 0;
    for path in rust_files(&root().join("src")) {
        let own = layer(&path);
        let Some((_, allowed)) = below.iter().find(|(name, _)| *name == own) else { continue };
        for line in fs::read_to_string(&path).expect("source").lines() {
            let Some(used) = line.trim().strip_prefix("use crate::") else { continue };
            let used = used.split([':', ';', '{']).next().unwrap_or_default();
            let is_macro = used == "sql_function";
            assert!(
                is_macro || used == own || allowed.contains(&used),
                "{}: layer {own} must not use {used}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 0, "nothing was checked");
}

#[test]
fn the_script_has_every_sql_file_in_order() {
    let mut files: Vec<String> = fs::read_dir(root().join("sql"))
        .expect("sql")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    files.sort();
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let named: Vec<String> = lib
        .split("\"../sql/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
        .collect();
    assert!(!files.is_empty());
    assert_eq!(named, files);
}
