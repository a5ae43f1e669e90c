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
fn only_the_sidecar_names_rocksdb() {
    let mut seen = 0;
    for path in rust_files(&root().join("src")) {
        let source = fs::read_to_string(&path).expect("source");
        if source.contains("rocksdb::") || source.contains("use rocksdb") {
            assert_eq!(layer(&path), "sidecar", "{} names RocksDB", path.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "nothing was checked");
}

#[test]
fn layers_use_only_what_is_below_them() {
    let pure: &[&str] = &[
        "model",
        "codec",
        "positions",
        "queue",
        "metrics",
        "drain",
        "cluster",
        "board",
        "sidecar",
    ];
    let below: [(&str, &[&str]); 11] = [
        ("model", &[]),
        ("codec", &["model"]),
        ("positions", &["model", "codec", "sync"]),
        ("queue", &["model", "codec", "sync"]),
        ("metrics", &["model", "codec"]),
        ("drain", &["model", "codec"]),
        ("cluster", &["model"]),
        ("board", &["model", "codec"]),
        ("sidecar", &["model", "codec", "board"]),
        ("pg", pure),
        ("api", &["model", "codec", "metrics", "cluster", "pg"]),
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

/// The rooms of `src/pg`, each of which knows only those before it. `settings` is a file.
const ROOMS: [&str; 19] = [
    "error",
    "settings",
    "session",
    "shared",
    "call",
    "tables",
    "positions",
    "queue",
    "sidecar",
    "hot",
    "cluster",
    "write",
    "read",
    "watch",
    "link",
    "router",
    "worker",
    "coordinator",
    "settler",
];

/// What a file of `src/pg` is called within it: `tables::scan`, or `tables` for its `mod.rs`.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src/pg")).expect("a file of src/pg");
    let inside = inside.with_extension("");
    let names: Vec<_> = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    names.strip_suffix(&["mod".to_owned()]).unwrap_or(&names).join("::")
}

/// The modules of `src/pg` that a file names with `crate::pg::` or `use super::`. What a `mod.rs`
/// hands on with `pub use` is its own.
fn imports(path: &Path, modules: &[String]) -> Vec<String> {
    let own = module(path);
    let parent = if path.ends_with("mod.rs") {
        own.clone()
    } else {
        own.rsplit_once("::").map_or_else(String::new, |(parent, _)| parent.to_owned())
    };
    let source = fs::read_to_string(path).expect("source");
    let mut found = Vec::new();
    for line in source.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        let named: Vec<String> = match line.strip_prefix("use super::") {
            Some(rest) if path.ends_with("mod.rs") => vec![rest.to_owned()],
            Some(rest) => vec![format!("{parent}::{rest}")],
            None => line.split("crate::pg::").skip(1).map(str::to_owned).collect(),
        };
        for name in named {
            // The longest module that the path begins with.
            let target = modules.iter().filter(|module| {
                name.strip_prefix(module.as_str()).is_some_and(|rest| {
                    !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                })
            });
            found.extend(target.max_by_key(|module| module.len()).cloned());
        }
    }
    found.retain(|module| *module != own);
    found
}

#[test]
fn rooms_of_the_boundary_use_only_those_before_them() {
    let place = |module: &str| {
        let room = module.split("::").next().unwrap_or_default();
        let place = ROOMS.iter().position(|name| *name == room);
        place.unwrap_or_else(|| panic!("{module} is in no known room"))
    };
    let files = rust_files(&root().join("src/pg"));
    let modules: Vec<String> =
        files.iter().map(|path| module(path)).filter(|module| !module.is_empty()).collect();
    let mut edges: Vec<(String, String)> = Vec::new();
    for path in &files {
        let own = module(path);
        if own.is_empty() {
            continue;
        }
        for used in imports(path, &modules) {
            assert!(place(&used) <= place(&own), "{own} must not use {used}, a room after its own");
            edges.push((own.clone(), used));
        }
    }
    assert!(edges.len() > 50, "nothing was checked");
    // What uses nothing that is left goes, until nothing is left; a circle stays.
    let mut left = modules;
    loop {
        let free =
            |module: &String| !edges.iter().any(|(from, to)| from == module && left.contains(to));
        let stay: Vec<String> = left.iter().filter(|module| !free(module)).cloned().collect();
        if stay.len() == left.len() {
            break;
        }
        left = stay;
    }
    assert!(left.is_empty(), "these import each other in a circle, or from one: {left:?}");
}

#[test]
fn the_script_has_every_sql_file_in_order() {
    let files_of = |folder: &str| {
        let entries = fs::read_dir(root().join("sql").join(folder)).expect(folder);
        let mut files: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .map(|name| if folder.is_empty() { name } else { format!("{folder}/{name}") })
            .collect();
        files.sort();
        files
    };
    // As `extension_sql` of scripts/lib.sh puts them together.
    let (rights, mut files): (Vec<_>, Vec<_>) =
        files_of("").into_iter().partition(|name| name.starts_with('9'));
    files.extend(["link", "coordinator"].into_iter().flat_map(files_of));
    files.extend(rights);
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let named: Vec<String> = lib
        .split("\"../sql/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
        .collect();
    assert!(!files.is_empty());
    assert_eq!(named, files);
}
