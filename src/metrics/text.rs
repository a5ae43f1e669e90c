//! The text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! `HELP` and `TYPE` come once per family, before its samples, and these side by side, whatever the
//! order of the list. A sample of no known family comes last and has neither, which the format
//! takes as a number of unknown type.

use super::names::{METRICS, family};
use super::sample::Sample;
use std::fmt::Write;

/// About the length of a line in bytes.
const LINE: usize = 80;

/// Renders samples as text; every line ends in a line feed.
pub fn render(samples: &[Sample]) -> String {
    let mut placed: Vec<(usize, &Sample)> = samples
        .iter()
        .map(|sample| (family(sample.name).unwrap_or(METRICS.len()), sample))
        .collect();
    placed.sort_by_key(|(place, _)| *place);
    let mut text = String::with_capacity(samples.len() * LINE);
    let mut previous = None;
    for (place, sample) in placed {
        if previous != Some(place) {
            write_head(&mut text, place);
            previous = Some(place);
        }
        write_sample(&mut text, sample);
    }
    text
}

fn write_head(text: &mut String, place: usize) {
    let Some(metric) = METRICS.get(place) else { return };
    text.push_str("# HELP ");
    text.push_str(metric.name);
    text.push(' ');
    write_escaped(text, metric.help, false);
    text.push_str("\n# TYPE ");
    text.push_str(metric.name);
    text.push(' ');
    text.push_str(metric.metric_type.name());
    text.push('\n');
}

fn write_sample(text: &mut String, sample: &Sample) {
    text.push_str(sample.name);
    for (index, (name, value)) in sample.labels.iter().enumerate() {
        text.push(if index == 0 { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        write_escaped(text, value, true);
        text.push('"');
    }
    if !sample.labels.is_empty() {
        text.push('}');
    }
    text.push(' ');
    write_value(text, sample.value);
    text.push('\n');
}

/// Escapes backslash and line feed, and in a label's value the double quote.
fn write_escaped(text: &mut String, value: &str, is_label: bool) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if is_label => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

fn write_value(text: &mut String, value: f64) {
    if value.is_nan() {
        text.push_str("NaN");
    } else if value.is_infinite() {
        text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        // Writing to a string does not fail.
        let _ = write!(text, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::super::registry::Registry;
    use super::super::sample::{Gauges, WorkerGauges, samples};
    use super::*;

    fn sample(name: &'static str, labels: &[(&'static str, &str)], value: f64) -> Sample {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Sample { name, labels, value }
    }

    #[test]
    fn families_are_gathered_under_one_head() {
        let text = render(&[
            sample(names::CALLS, &[("function", "append")], 2.0),
            sample(names::EVENTS_READ, &[], 1e17),
            sample("other", &[], -0.5),
            sample(names::CALLS, &[("function", "read")], 0.0),
        ]);
        let expected = "\
# HELP allsource_events_read_total Events returned to readers.
# TYPE allsource_events_read_total counter
allsource_events_read_total 100000000000000000
# HELP allsource_calls_total Calls of SQL functions, failed ones included.
# TYPE allsource_calls_total counter
allsource_calls_total{function=\"append\"} 2
allsource_calls_total{function=\"read\"} 0
other -0.5
";
        assert_eq!(text, expected);
    }

    #[test]
    fn values_and_labels_are_written_as_the_format_wants() {
        let text = render(&[
            sample("a", &[("x", "back\\slash \"quoted\"\nnext"), ("y", "Ä")], f64::NAN),
            sample("b", &[], f64::INFINITY),
            sample("c", &[], f64::NEG_INFINITY),
        ]);
        let expected = "a{x=\"back\\\\slash \\\"quoted\\\"\\nnext\",y=\"Ä\"} NaN\nb +Inf\nc -Inf\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_metric_has_its_help_and_type_once() {
        let gauges = Gauges { workers: vec![WorkerGauges::default()], ..Gauges::default() };
        let text = render(&samples(&Registry::new(), &gauges, 0));
        for metric in METRICS {
            let help = format!("# HELP {} {}\n", metric.name, metric.help);
            let kind = format!("# TYPE {} {}\n", metric.name, metric.metric_type.name());
            assert_eq!(text.matches(&help).count(), 1, "{}", metric.name);
            assert_eq!(text.matches(&kind).count(), 1, "{}", metric.name);
        }
        assert!(text.ends_with('\n'));
        assert_eq!(render(&[]), "");
    }
}
