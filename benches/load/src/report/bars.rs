//! The bars: what the store has to reach, relative to what was measured beside it.

use serde::{Deserialize, Serialize};

use crate::payload::Size;
use crate::plan::{
    BULK, ENQUEUE_64, ENQUEUE_BATCH, ENQUEUE_CLIENTS, ENQUEUE_SCATTER, HOT, HOT_CLIENTS,
    ROUTED_GROUPS, SINGLE, UNDER_LOAD,
};
use crate::report::figures::Figures;
use crate::report::ring::RingResults;
use crate::workload::*;

const READ_P99_BAR_US: f64 = 500.0;
const READ_CLIENTS: usize = 8;
const MILLION: f64 = 1e6;
const RING_BAR: f64 = 10.0 * MILLION;
const UNDER_LOAD_TIMES_MAX: f64 = 5.0;
const HOT_READ_P50_TIMES_MAX: f64 = 3.0;
const HOT_READ_P99_TIMES_MAX: f64 = 5.0;
const HOT_READ_P99_US_MAX: f64 = 5_000.0;
const HOT_WAL_MAX: f64 = 0.6;
const SETTLER_MORE_MB_MAX: f64 = 100.0;
const ROUTED_MORE_US_MAX: f64 = 500.0;
const RING_PRODUCERS: [usize; 3] = [1, 2, 4];

/// What a session of COPY on each core of a small machine reaches together.
const TWO_COPY: &str = "2 COPY (text)";

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
pub fn judge(figures: &[Figures], ring: Option<&RingResults>) -> Vec<Verdict> {
    let judge = Judge { figures: figures.iter().collect() };
    let mut verdicts = Vec::new();
    for (group, clients) in SINGLE {
        let group = judge.within(group);
        let what = format!("{ES_APPEND} x{clients}");
        let ours = group.rate(ES_APPEND, clients);
        verdicts.push(ratio(&what, ours, BARE_INSERT, group.rate(BARE_INSERT, clients), 0.85));
        verdicts.push(ratio(&what, ours, MESSAGE_DB, group.rate(MESSAGE_DB, clients), 1.6));
        verdicts.push(ratio(&what, ours, UMADB[0], judge.rate(UMADB[0], clients), 1.0));
    }
    let bulk = judge.within(BULK);
    for (name, peer) in [(ES_APPEND_MANY, UMADB[1]), (ES_APPEND_BATCH, UMADB[2])] {
        let ours = bulk.best(name);
        verdicts.push(ratio(name, ours, TWO_COPY, bulk.rate(COPY_TEXT, 2), 1.0));
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
    verdicts.extend(judge.queue());
    verdicts.extend(judge.of_hot().hot());
    for (groups, clients) in ROUTED_GROUPS {
        let both = groups.into_iter().zip([ROUTED_APPEND, ROUTED_READ]);
        verdicts.extend(both.map(|(group, pair)| judge.within(group).routed(pair, clients)));
    }
    verdicts.extend(judge_ring(ring));
    verdicts
}

/// The ring alone: fast enough with one producer, and never slower than a queue of boxes.
fn judge_ring(ring: Option<&RingResults>) -> Vec<Verdict> {
    let find = |producers| ring?.results.iter().find(|figures| figures.producers == producers);
    let of = |producers| format!("ring, {producers} to 1");
    let mut verdicts = vec![at_least(&of(1), find(1).map(|one| one.ring * MILLION), RING_BAR)];
    for producers in RING_PRODUCERS {
        let figures = find(producers);
        let ours = figures.map(|figures| figures.ring * MILLION);
        let queue = figures.map(|figures| figures.array_queue * MILLION);
        verdicts.push(ratio(&of(producers), ours, "ArrayQueue of boxes", queue, 1.0));
    }
    verdicts
}

struct Judge<'a> {
    figures: Vec<&'a Figures>,
}

impl Judge<'_> {
    /// One that sees the figures of one group only.
    fn within(&self, group: &str) -> Self {
        Self { figures: self.figures.iter().copied().filter(|f| f.group == group).collect() }
    }

    fn find(&self, workload: &str, clients: usize) -> Option<&Figures> {
        let mut all = self.figures.iter().copied();
        all.find(|f| f.workload == workload && f.clients == clients)
    }

    /// All that goes through the queue.
    fn queue(&self) -> Vec<Verdict> {
        let singles = self.within(ENQUEUE_64);
        let rate = |name: &str| singles.rate(name, ENQUEUE_CLIENTS);
        let single = |name: &'static str, base: &'static str, least| {
            let what = format!("{name} x{ENQUEUE_CLIENTS}");
            ratio(&what, rate(name), base, rate(base), least)
        };
        let mut verdicts = vec![
            single(ES_ENQUEUE, ES_APPEND, 3.0),
            single(ES_ENQUEUE_DURABLE, ES_APPEND, 1.5),
            single(ES_ENQUEUE_DURABLE, BARE_INSERT, 1.0),
        ];
        for (group, size) in ENQUEUE_BATCH {
            let group = self.within(group);
            let (ours, copy) = (group.best(ES_ENQUEUE_BATCH), group.rate(COPY_TEXT, 2));
            verdicts.push(ratio(&sized(ES_ENQUEUE_BATCH, size), ours, TWO_COPY, copy, 1.0));
        }
        verdicts.push(at_least(ENQUEUE_PREPARED, self.best(ENQUEUE_PREPARED), MILLION));
        for (group, size) in ENQUEUE_SCATTER {
            let group = self.within(group);
            let (ours, insert) = (group.best(ENQUEUE_SCATTERED), group.best(INSERT_SELECT));
            verdicts.push(ratio(&sized(ENQUEUE_SCATTERED, size), ours, INSERT_SELECT, insert, 1.5));
        }
        verdicts.push(self.within(UNDER_LOAD).under_load());
        verdicts
    }

    /// How much longer an append takes beside a full queue.
    fn under_load(&self) -> Verdict {
        let bar =
            format!("{APPEND_UNDER_LOAD}: p99 at most {UNDER_LOAD_TIMES_MAX} of the idle one");
        let (Some(loaded), Some(idle)) = (self.find(APPEND_UNDER_LOAD, 1), self.find(ES_APPEND, 1))
        else {
            return not_measured(bar);
        };
        let times = loaded.p99_us / idle.p99_us;
        let figure = format!("{times:.2} ({:.0} us / {:.0} us)", loaded.p99_us, idle.p99_us);
        Verdict { bar, figure, met: Some(times <= UNDER_LOAD_TIMES_MAX) }
    }

    /// How much longer a call takes by a router.
    fn routed(&self, [direct, routed]: [&str; 2], clients: usize) -> Verdict {
        let bar = format!("{routed} x{clients}: p50 at most {ROUTED_MORE_US_MAX} us more");
        let (Some(base), Some(ours)) = (self.find(direct, clients), self.find(routed, clients))
        else {
            return not_measured(bar);
        };
        let (base, ours) = (base.p50_us, ours.p50_us);
        let more = ours - base;
        let figure = format!("{more:+.0}, {:.2} ({ours:.0} us / {base:.0} us)", ours / base);
        Verdict { bar, figure, met: Some(more <= ROUTED_MORE_US_MAX) }
    }

    fn rate(&self, workload: &str, clients: usize) -> Option<f64> {
        self.find(workload, clients).map(|figures| figures.events_per_s)
    }

    /// The best rate over all numbers of clients.
    fn best(&self, workload: &str) -> Option<f64> {
        let found = self.figures.iter().filter(|f| f.workload == workload);
        found.map(|f| f.events_per_s).reduce(f64::max)
    }

    fn of_hot(&self) -> Self {
        let figures = self.figures.iter().copied();
        Self { figures: figures.filter(|f| f.group.starts_with(HOT)).collect() }
    }

    /// All about hot partitions.
    fn hot(&self) -> Vec<Verdict> {
        let best = |name| self.best(name);
        let [cold, hot] = SCATTERED;
        let mut verdicts = vec![
            ratio(hot, best(hot), cold, best(cold), 2.0),
            self.scattered_wal(),
            self.settler_memory(),
            at_least(TAKE_IN_SMALL[1], best(TAKE_IN_SMALL[1]), MILLION),
            ratio(TAKE_IN[1], best(TAKE_IN[1]), TWO_COPY, best(COPY_TEXT), 1.0),
        ];
        verdicts.extend(self.read_beside());
        let idle = |[without, with]: [&'static str; 2]| {
            ratio(with, best(with), without, best(without), 0.97)
        };
        verdicts.extend(ORDINARY.map(idle));
        verdicts
    }

    fn scattered_wal(&self) -> Verdict {
        let [cold, hot] = SCATTERED;
        let bar = format!("{hot}: WAL at most {HOT_WAL_MAX} of {cold}");
        let wal = |name| self.figures.iter().find(|f| f.workload == name)?.wal_bytes_per_event;
        let (Some(ours), Some(base)) = (wal(hot), wal(cold)) else { return not_measured(bar) };
        let share = ours / base;
        let figure = format!("{share:.2} ({ours:.0} / {base:.0} B)");
        Verdict { bar, figure, met: Some(share <= HOT_WAL_MAX) }
    }

    fn settler_memory(&self) -> Verdict {
        let bar = format!("{}: settler within its settings plus 100 MB", SCATTERED[1]);
        let figures = self.figures.iter().find(|f| f.workload == SCATTERED[1]);
        let Some(memory) = figures.and_then(|figures| figures.settler) else {
            return not_measured(bar);
        };
        let figure = format!("{:.0} MB, {:.0} set", memory.peak_mb, memory.set_mb);
        let met = Some(memory.peak_mb <= memory.set_mb + SETTLER_MORE_MB_MAX);
        Verdict { bar, figure, met }
    }

    /// How much longer it takes to read a stream with a tail.
    fn read_beside(&self) -> Vec<Verdict> {
        let [cold, tail] = READ_BESIDE;
        let bars = [
            format!("{tail}: p50 at most {HOT_READ_P50_TIMES_MAX} of {cold}"),
            format!("{tail}: p99 at most 5 ms, or {HOT_READ_P99_TIMES_MAX} of {cold}"),
        ];
        let (Some(base), Some(ours)) = (self.find(cold, HOT_CLIENTS), self.find(tail, HOT_CLIENTS))
        else {
            return bars.map(not_measured).into();
        };
        let figure =
            |ours: f64, base: f64| format!("{:.2} ({ours:.0} us / {base:.0} us)", ours / base);
        let p99_us_max = (HOT_READ_P99_TIMES_MAX * base.p99_us).max(HOT_READ_P99_US_MAX);
        let met = [ours.p50_us <= HOT_READ_P50_TIMES_MAX * base.p50_us, ours.p99_us <= p99_us_max];
        let figures = [figure(ours.p50_us, base.p50_us), figure(ours.p99_us, base.p99_us)];
        let verdicts = bars.into_iter().zip(figures).zip(met);
        verdicts.map(|((bar, figure), met)| Verdict { bar, figure, met: Some(met) }).collect()
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

/// The name with the size of the payloads.
fn sized(name: &str, size: Size) -> String {
    format!("{name}, {} B", size.bytes())
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
        assert!(judge(&[], None).iter().all(|verdict| verdict.met.is_none()));
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(thousands(999.4), "999");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }
}
