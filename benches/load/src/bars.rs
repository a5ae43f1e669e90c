//! The bars: what the store has to reach, relative to what was measured beside it.

use serde::{Deserialize, Serialize};

use crate::append::{ES_APPEND, ES_APPEND_MANY};
use crate::append_batch::ES_APPEND_BATCH;
use crate::baseline_copy::COPY_TEXT;
use crate::baseline_insert::BARE_INSERT;
use crate::import::{IMPORT_GROUPED, IMPORT_MIXED};
use crate::messagedb::MESSAGE_DB;
use crate::read_all::{ES_READ_ALL_RUNS, ES_READ_ALL_SINGLES};
use crate::read_stream::{ES_READ_RUNS, ES_READ_SINGLES, MESSAGE_DB_READ, PLAIN_READ};
use crate::results::Figures;

const READ_P99_BAR_US: f64 = 500.0;
const READ_CLIENTS: usize = 8;
const MILLION: f64 = 1e6;

/// UmaDB's appends as the peers crate names them: with one event per request, with 100, with 1,000.
pub const UMADB: [&str; 3] = ["UmaDB", "UmaDB, 100 per request", "UmaDB, 1000 per request"];

/// UmaDB reading a stream of 100 events.
pub const UMADB_READ: &str = "UmaDB read";

/// How a bar was met or missed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// What has to be reached.
    pub bar: String,
    /// What was.
    pub figure: String,
    /// None where it was not measured.
    pub met: Option<bool>,
}

/// Judges every bar by the figures.
pub fn judge(figures: &[Figures]) -> Vec<Verdict> {
    let judge = Judge { figures };
    let mut verdicts = Vec::new();
    for clients in [1, 8, 64] {
        let what = format!("{ES_APPEND} x{clients}");
        let ours = judge.rate(ES_APPEND, clients);
        verdicts.push(ratio(&what, ours, BARE_INSERT, judge.rate(BARE_INSERT, clients), 0.85));
        verdicts.push(ratio(&what, ours, MESSAGE_DB, judge.rate(MESSAGE_DB, clients), 1.6));
        verdicts.push(ratio(&what, ours, UMADB[0], judge.rate(UMADB[0], clients), 1.0));
    }
    for (name, peer) in [(ES_APPEND_MANY, UMADB[1]), (ES_APPEND_BATCH, UMADB[2])] {
        let ours = judge.best(name);
        verdicts.push(ratio(name, ours, "2 COPY (text)", judge.rate(COPY_TEXT, 2), 1.0));
        verdicts.push(ratio(name, ours, peer, judge.best(peer), 1.0));
    }
    let grouped = IMPORT_GROUPED.iter().filter_map(|name| judge.best(name)).reduce(f64::max);
    verdicts.push(at_least("import, events of a stream together", grouped, MILLION));
    verdicts.push(at_least("import, events mixed", judge.best(IMPORT_MIXED), MILLION));
    for name in [ES_READ_SINGLES, ES_READ_RUNS] {
        verdicts.push(judge.read_latency(name));
        let what = format!("{name} x{READ_CLIENTS}");
        let plain = judge.rate(PLAIN_READ, READ_CLIENTS);
        verdicts.push(ratio(&what, judge.rate(name, READ_CLIENTS), PLAIN_READ, plain, 1.0));
    }
    for name in [ES_READ_ALL_SINGLES, ES_READ_ALL_RUNS] {
        verdicts.push(at_least(name, judge.best(name), MILLION));
    }
    verdicts
}

struct Judge<'a> {
    figures: &'a [Figures],
}

impl Judge<'_> {
    fn find(&self, workload: &str, clients: usize) -> Option<&Figures> {
        self.figures.iter().find(|f| f.workload == workload && f.clients == clients)
    }

    fn rate(&self, workload: &str, clients: usize) -> Option<f64> {
        self.find(workload, clients).map(|figures| figures.events_per_s)
    }

    /// The best rate over all numbers of clients.
    fn best(&self, workload: &str) -> Option<f64> {
        let found = self.figures.iter().filter(|f| f.workload == workload);
        found.map(|f| f.events_per_s).reduce(f64::max)
    }

    /// A fast p99 or, where the clients are the limit, twice the events of message-db.
    fn read_latency(&self, workload: &str) -> Verdict {
        let bar = format!("{workload} x{READ_CLIENTS}: p99 < 500 us, or 2 times {MESSAGE_DB_READ}");
        let Some(ours) = self.find(workload, READ_CLIENTS) else {
            return not_measured(bar);
        };
        let peer = self.rate(MESSAGE_DB_READ, READ_CLIENTS);
        let times = peer.map(|peer| ours.events_per_s / peer);
        let fast = ours.p99_us < READ_P99_BAR_US;
        let times_text = times.map_or_else(|| "?".to_owned(), |times| format!("{times:.2}"));
        Verdict {
            bar,
            figure: format!("p99 {:.0} us, {times_text} times", ours.p99_us),
            met: if fast { Some(true) } else { times.map(|times| times >= 2.0) },
        }
    }
}

fn ratio(what: &str, ours: Option<f64>, base_name: &str, base: Option<f64>, least: f64) -> Verdict {
    let bar = format!("{what}: at least {least} of {base_name}");
    let (Some(ours), Some(base)) = (ours, base) else {
        return not_measured(bar);
    };
    let ratio = ours / base;
    let figure = format!("{ratio:.2} ({} / {})", thousands(ours), thousands(base));
    Verdict { bar, figure, met: Some(ratio >= least) }
}

fn at_least(what: &str, ours: Option<f64>, least: f64) -> Verdict {
    let bar = format!("{what}: at least {} a second", thousands(least));
    ours.map_or_else(
        || not_measured(bar.clone()),
        |ours| Verdict { bar: bar.clone(), figure: thousands(ours), met: Some(ours >= least) },
    )
}

fn not_measured(bar: String) -> Verdict {
    Verdict { bar, figure: "not measured".to_owned(), met: None }
}

/// A number with thousands separated: `1,234,567`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_judged_and_an_absence_is_not() {
        assert_eq!(ratio("a", Some(9.0), "b", Some(10.0), 0.85).met, Some(true));
        assert_eq!(ratio("a", Some(8.0), "b", Some(10.0), 0.85).met, Some(false));
        assert_eq!(ratio("a", Some(8.0), "b", None, 0.85).met, None);
        assert!(judge(&[]).iter().all(|verdict| verdict.met.is_none()));
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(thousands(999.4), "999");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }
}
