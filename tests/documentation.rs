//! The pages name what exists: each function, setting and metric is documented in its one place, and
//! no link between the pages leads nowhere.

use allsource::metrics::names::METRICS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    // Asked at run time: clones that share a target folder share what was compiled into it.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// What stands behind each `before` of a text, up to the first of `end`.
fn named<'a>(text: &'a str, before: &str, end: [char; 2]) -> BTreeSet<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

/// The SQL files of a folder, without those of folders in it.
fn script(folder: &str) -> String {
    let paths = fs::read_dir(root().join(folder))
        .expect(folder)
        .map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).expect("SQL")).collect()
}

#[test]
fn every_function_of_a_router_is_in_the_reference() {
    let documented = read("docs/REFERENCE.md") + &read("docs/CLUSTER.md");
    let script = script("sql/router");
    let functions = named(&script, "CREATE FUNCTION allsource.es_", ['(', ' ']);
    assert!(functions.len() > 20, "{functions:?}");
    for function in functions {
        assert!(documented.contains(&format!("`es_{function}(")), "es_{function} is missing");
    }
}

#[test]
fn every_function_is_in_the_reference() {
    let reference = read("docs/REFERENCE.md");
    let (store, coordinator) = (script("sql"), script("sql/coordinator"));
    let mut functions = named(&store, "CREATE FUNCTION allsource.", ['(', ' ']);
    functions.remove("server_health");
    assert!(functions.len() > 20, "{functions:?}");
    // The others are for these.
    for kind in ["FUNCTION", "PROCEDURE"] {
        let names = named(&coordinator, &format!("CREATE {kind} allsource."), ['(', ' ']);
        assert!(names.len() > 2, "{names:?}");
        functions.extend(names.into_iter().filter(|name| name.starts_with("es_")));
    }
    for function in functions {
        let is_there =
            ["`", "`CALL "].iter().any(|call| reference.contains(&format!("{call}{function}(")));
        assert!(is_there, "{function} is missing");
    }
}

#[test]
fn every_setting_is_in_the_reference() {
    let reference = read("docs/REFERENCE.md");
    let source = read("src/pg/settings.rs");
    let defined = named(&source, "c\"allsource.", ['"', ' ']);
    assert!(defined.len() > 8, "{defined:?}");
    let documented = named(&reference, "\n| `allsource.", ['`', ' ']);
    assert_eq!(documented, defined);
}

#[test]
fn every_metric_is_explained() {
    let operations = read("docs/OPERATIONS.md");
    for metric in METRICS {
        assert!(operations.contains(&format!("`{}`", metric.name)), "{} is missing", metric.name);
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/adr", "monitoring", "benches"] {
        for entry in fs::read_dir(root().join(folder)).expect("a folder of the project") {
            let path = entry.expect("an entry of the folder").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

fn check_link(page: &Path, target: &str) {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let at = || format!("{}: {target}", page.display());
    let path = page.parent().expect("a folder").join(path);
    let linked = if target.starts_with('#') { page } else { &path };
    assert!(linked.exists(), "{} does not exist", at());
    if !anchor.is_empty() {
        let other = fs::read_to_string(linked).expect("text");
        assert!(anchors(&other).contains(anchor), "{} has no such heading", at());
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("text");
        for target in named(&text, "](", [')', ' ']) {
            if !target.starts_with("https://") {
                check_link(&page, target);
                links += 1;
            }
        }
    }
    assert!(links > 50, "{links} links");
}
