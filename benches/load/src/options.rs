//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt as _};

use crate::data::rows::IMPORT_PASS_EVENTS;

/// What `--help` prints.
pub const HELP: &str = "\
usage: allsource-bench [flags]

The server is found by PGHOST (the folder of its socket), PGPORT and PGUSER. What goes through the
queue needs allsource.database=bench_store there. run.sh sees to both; it also takes --peers, to
measure UmaDB, and --set NAME=VALUE, a setting of its server, as often as needed.

  --seconds S         length of a round of one workload (2)
  --rounds N          rounds; medians are reported (5)
  --warm-up S         uncounted time before each round, per 8 clients (0.2)
  --only A,B          only groups whose name contains one of these:
                      single-1 single-8 single-64 bulk import
                      enqueue-64 enqueue-batch enqueue-batch-small enqueue-import
                      enqueue-scattered enqueue-scattered-small append-under-load
                      read-1 read-8 read-64 read-all, and with run.sh: ring;
                      hot-idle-append hot-idle-read hot-idle-enqueue hot-read hot-take-in
                      hot-take-in-small hot-scattered, with run.sh's server for them;
                      routed-append-1 routed-append-8 routed-read-1 routed-read-8, with its second server
  --baselines         only what needs no extension
  --streams N         streams written to (10000)
  --read-streams N    streams of 100 events read from (5000)
  --hot-events N      events of a round of hot-scattered (1000000)
  --import-events N   events of the import; a multiple of 100000 (1000000)
  --quick             short: --seconds 0.5 --rounds 3 --read-streams 500 --import-events 200000
                      --hot-events 200000
  --peers FILE        figures of the peers crate, to stand beside ours
  --ring FILE         figures of the ring's bench, likewise
  --out FILE          where the results go (target/bench/results.json)
";

/// All that can be chosen.
pub struct Options {
    /// Length of a round.
    pub round: Duration,
    /// Uncounted time before each round.
    pub warm_up: Duration,
    /// Number of rounds.
    pub rounds: usize,
    /// Parts of group names; empty means all groups.
    pub only: Vec<String>,
    /// Leave out what needs the extension.
    pub baselines: bool,
    /// Streams written to.
    pub streams: usize,
    /// Streams read from.
    pub read_streams: usize,
    /// Events of a round of scattered ones.
    pub hot_events: usize,
    /// Events in the import's table.
    pub import_events: usize,
    /// The peers' figures.
    pub peers: Option<PathBuf>,
    /// The ring's figures.
    pub ring: Option<PathBuf>,
    /// Where the results go.
    pub out: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            round: Duration::from_secs(2),
            warm_up: Duration::from_millis(200),
            rounds: 5,
            only: Vec::new(),
            baselines: false,
            streams: 10_000,
            read_streams: 5_000,
            hot_events: 1_000_000,
            import_events: 1_000_000,
            peers: None,
            ring: None,
            out: "target/bench/results.json".into(),
        }
    }
}

impl Options {
    /// Reads the flags; None when help was asked for.
    pub fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self::default();
        let mut flags = Parser::from_env();
        while let Some(flag) = flags.next()? {
            match flag {
                Arg::Long("seconds") => options.round = seconds(&mut flags)?,
                Arg::Long("warm-up") => options.warm_up = seconds(&mut flags)?,
                Arg::Long("rounds") => options.rounds = count(&mut flags, 1)?,
                Arg::Long("streams") => options.streams = count(&mut flags, 1_000)?,
                Arg::Long("read-streams") => options.read_streams = count(&mut flags, 1)?,
                Arg::Long("hot-events") => options.hot_events = count(&mut flags, 1_000)?,
                Arg::Long("import-events") => {
                    options.import_events = count(&mut flags, IMPORT_PASS_EVENTS)?;
                }
                Arg::Long("only") => {
                    options.only = flags.value()?.string()?.split(',').map(str::to_owned).collect();
                }
                Arg::Long("peers") => options.peers = Some(flags.value()?.into()),
                Arg::Long("ring") => options.ring = Some(flags.value()?.into()),
                Arg::Long("out") => options.out = flags.value()?.into(),
                Arg::Long("baselines") => options.baselines = true,
                Arg::Long("quick") => options.be_quick(),
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                _ => return Err(flag.unexpected()),
            }
        }
        if !options.import_events.is_multiple_of(IMPORT_PASS_EVENTS) {
            return Err("--import-events must be a multiple of 100000".into());
        }
        Ok(Some(options))
    }

    const fn be_quick(&mut self) {
        self.round = Duration::from_millis(500);
        self.rounds = 3;
        self.read_streams = 500;
        self.hot_events = 200_000;
        self.import_events = 200_000;
    }
}

/// A flag's value, in seconds.
pub fn seconds(flags: &mut Parser) -> Result<Duration, lexopt::Error> {
    flags.value()?.parse_with(|text| {
        let number = text.parse::<f64>().map_err(|error| error.to_string())?;
        Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
    })
}

/// A flag's value, a number of at least `least`.
pub fn count(flags: &mut Parser, least: usize) -> Result<usize, lexopt::Error> {
    flags.value()?.parse_with(|text| match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("not a number from {least} on")),
    })
}
