//! The files of `monitoring/` name only metrics that exist, and the exporter's has all of them.

use allsource::metrics::names::{LE, METRICS, Metric, MetricType, family};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A router has it; what it has besides are the metrics of its groups.
const OF_ROUTERS: &str = "allsource_router_group_up";

/// They begin as a metric does.
const ROLES: [&str; 3] = ["allsource_reader", "allsource_writer", "allsource_admin"];

fn monitoring() -> PathBuf {
    // Asked at run time: clones that share a target folder share what was compiled into it.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo")).join("monitoring")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn read(name: &str) -> String {
    fs::read_to_string(monitoring().join(name)).expect("a file of monitoring")
}

/// Every `allsource_[a-z_]+` of a text, but for the roles.
fn names(text: &str) -> BTreeSet<&str> {
    text.match_indices("allsource_")
        .map(|(start, _)| {
            let rest = &text[start..];
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .filter(|name| !ROLES.contains(name))
        .collect()
}

#[test]
fn every_name_is_that_of_a_metric() {
    let files = files(&monitoring());
    assert!(files.len() >= 4, "{files:?}");
    for path in files {
        let text = fs::read_to_string(&path).expect("text");
        let names = names(&text);
        assert!(!names.is_empty(), "{} names no metric", path.display());
        // In a query a histogram has no samples of its own name; a document may name the family.
        let is_document = path.extension().is_some_and(|extension| extension == "md");
        for name in names {
            let is_family = METRICS.iter().any(|metric| metric.name == name);
            let is_known =
                family(name).is_some() || (is_document && is_family) || name == OF_ROUTERS;
            assert!(is_known, "{}: there is no metric {name}", path.display());
        }
    }
}

#[test]
fn the_dashboard_is_json_with_queries() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("grafana/allsource.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut queries = 0;
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its number is there twice");
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            assert!(!names(query).is_empty(), "{title}: {query}");
            queries += 1;
        }
    }
    assert!(queries > 10, "{queries} queries");
}

/// The names of the samples of a metric, with their labels.
fn sample_names(metric: &Metric) -> Vec<(String, &[&str])> {
    let name = metric.name;
    if metric.metric_type == MetricType::Histogram {
        vec![
            (format!("{name}_bucket"), &[LE]),
            (format!("{name}_sum"), &[]),
            (format!("{name}_count"), &[]),
        ]
    } else {
        vec![(name.to_owned(), metric.labels)]
    }
}

#[test]
fn the_exporter_has_every_metric_with_its_type_and_labels() {
    let text = read("sql_exporter/allsource.collector.yml");
    let (metrics, queries) = text.split_once("\nqueries:\n").expect("queries");
    let blocks: Vec<&str> = metrics.split("  - metric_name: ").skip(1).collect();
    let expected: Vec<_> =
        METRICS.iter().flat_map(|m| sample_names(m).into_iter().map(move |s| (m, s))).collect();
    assert_eq!(blocks.len(), expected.len());
    for (metric, (name, labels)) in expected {
        let block = blocks.iter().find(|block| block.starts_with(&format!("{name}\n")));
        let block = block.unwrap_or_else(|| panic!("{name} is missing"));
        let is_gauge = metric.metric_type == MetricType::Gauge;
        let line = format!("    type: {}\n", if is_gauge { "gauge" } else { "counter" });
        assert!(block.contains(&line), "{name}");
        let line = format!("    key_labels: [{}]\n", labels.join(", "));
        assert_eq!(block.contains(&line), !labels.is_empty(), "{name}");
        assert!(queries.contains(&format!("'{name}'")), "no query reads {name}");
    }
}

#[test]
fn routers_have_their_metric() {
    let script = fs::read_to_string(monitoring().join("../sql/router/80_watch.sql")).expect("SQL");
    assert!(script.contains(&format!("'{OF_ROUTERS}'")));
    let text = read("sql_exporter/router.collector.yml");
    assert!(text.contains(&format!("  - metric_name: {OF_ROUTERS}\n    type: gauge\n")));
    assert!(text.contains(&format!("'{OF_ROUTERS}'")));
}
