//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::import::PASS_EVENTS;
use crate::wire::Address;

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
                      read-1 read-8 read-64 read-all, and with run.sh: ring
  --baselines         only what needs no extension
  --streams N         streams written to (10000)
  --read-streams N    streams of 100 events read from (5000)
  --import-events N   events of the import; a multiple of 100000 (1000000)
  --quick             short: --seconds 0.5 --rounds 3 --read-streams 500 --import-events 200000
  --peers FILE        figures of the peers crate, to stand beside ours
  --ring FILE         figures of the ring's bench, likewise
  --out FILE          where the results go (target/bench/results.json)
";

/// All that can be chosen.
pub struct Options {
    /// The server.
    pub address: Address,
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
    /// Events in the import's table.
    pub import_events: usize,
    /// The peers' figures.
    pub peers: Option<PathBuf>,
    /// The ring's figures.
    pub ring: Option<PathBuf>,
    /// Where the results go.
    pub out: PathBuf,
}

impl Options {
    /// Reads flags and environment; None when help was asked for.
    pub fn parse(mut flags: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::defaults()?;
        while let Some(flag) = flags.next() {
            let mut value = || {
                flags
                    .next()
                    .ok_or_else(|| Error::Usage(format!("{flag} needs a value; see --help")))
            };
            match flag.as_str() {
                "--seconds" => options.round = seconds(&flag, &value()?)?,
                "--warm-up" => options.warm_up = seconds(&flag, &value()?)?,
                "--rounds" => options.rounds = count(&flag, &value()?)?,
                "--streams" => options.streams = count(&flag, &value()?)?,
                "--read-streams" => options.read_streams = count(&flag, &value()?)?,
                "--import-events" => options.import_events = count(&flag, &value()?)?,
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--peers" => options.peers = Some(value()?.into()),
                "--ring" => options.ring = Some(value()?.into()),
                "--out" => options.out = value()?.into(),
                "--baselines" => options.baselines = true,
                "--quick" => options.be_quick(),
                "--help" | "-h" => return Ok(None),
                _ => return Err(Error::Usage(format!("unknown flag {flag}; see --help"))),
            }
        }
        options.check()?;
        Ok(Some(options))
    }

    fn defaults() -> Result<Self> {
        let variable = |name: &str, default: &str| {
            std::env::var(name).ok().filter(|v| !v.is_empty()).unwrap_or_else(|| default.to_owned())
        };
        Ok(Self {
            address: Address {
                host: variable("PGHOST", "/var/run/postgresql"),
                port: number("PGPORT", &variable("PGPORT", "5432"))?,
                user: variable("PGUSER", "postgres"),
            },
            round: Duration::from_secs(2),
            warm_up: Duration::from_millis(200),
            rounds: 5,
            only: Vec::new(),
            baselines: false,
            streams: 10_000,
            read_streams: 5_000,
            import_events: 1_000_000,
            peers: None,
            ring: None,
            out: "target/bench/results.json".into(),
        })
    }

    const fn be_quick(&mut self) {
        self.round = Duration::from_millis(500);
        self.rounds = 3;
        self.read_streams = 500;
        self.import_events = 200_000;
    }

    fn check(&self) -> Result<()> {
        if self.streams < 1_000 {
            return Err(Error::Usage("--streams must be at least 1000".into()));
        }
        if !self.import_events.is_multiple_of(PASS_EVENTS) {
            return Err(Error::Usage("--import-events must be a multiple of 100000".into()));
        }
        Ok(())
    }
}

fn count(flag: &str, text: &str) -> Result<usize> {
    match number(flag, text)? {
        0 => Err(Error::Usage(format!("{flag} must be above 0"))),
        count => Ok(count),
    }
}

fn seconds(flag: &str, text: &str) -> Result<Duration> {
    Duration::try_from_secs_f64(number(flag, text)?)
        .map_err(|_| Error::Usage(format!("{flag}: {text} is no number of seconds")))
}

fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Usage(format!("{flag}: {text} is no number")))
}
