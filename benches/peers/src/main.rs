//! Measures UmaDB with the events of the load harness, so that its figures can stand beside ours.
//!
//! usage: allsource-bench-peers [--seconds S] [--rounds N] [--out FILE]

mod server;
mod umadb;

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use allsource_bench::block_on;
use allsource_bench::error::{Error, Result};
use allsource_bench::measure::clients::{Length, run_clients};
use allsource_bench::options::{count, seconds};
use allsource_bench::payload::{Payloads, Size};
use allsource_bench::report::bars::{UMADB, UMADB_READ};
use allsource_bench::report::figures::Figures;
use allsource_bench::workload::Client;
use lexopt::{Arg, Parser};
use umadb_dcb::DcbEventStoreAsync as _;

use crate::server::{SERVE, Server};
use crate::umadb::{Append, Read, STREAM_EVENTS, event, failed};

const GROUP: &str = "UmaDB";
const CLIENTS: [usize; 3] = [1, 8, 64];
const STREAMS: usize = 10_000;
const READ_STREAMS: usize = 1_000;
/// Uncounted time before a round, for each 8 clients, as in the load harness.
const WARM_UP: Duration = Duration::from_millis(200);

struct Options {
    round: Duration,
    rounds: usize,
    out: PathBuf,
}

/// What the clients of a workload do.
#[derive(Clone, Copy)]
enum Shape {
    Append { streams: usize, events_per_stream: usize },
    Read,
}

const SHAPES: [(&str, Shape); 4] = [
    (UMADB[0], Shape::Append { streams: 1, events_per_stream: 1 }),
    (UMADB[1], Shape::Append { streams: 1, events_per_stream: 100 }),
    (UMADB[2], Shape::Append { streams: 100, events_per_stream: 10 }),
    (UMADB_READ, Shape::Read),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.len() > 1 && std::env::args().nth(1).as_deref() == Some(SERVE) {
        arguments.next(); // what is left starts with a name, as clap wants it
        return exit(
            ::umadb::parse_cli_options(arguments)
                .and_then(::umadb::start_server_with_cli_options)
                .map_err(|error| failed(error.to_string())),
        );
    }
    exit(Options::parse().map_err(Error::from).and_then(|options| block_on(run(options))))
}

fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("allsource-bench-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn parse() -> std::result::Result<Self, lexopt::Error> {
        let mut options = Self {
            round: Duration::from_secs(2),
            rounds: 3,
            out: "target/bench/peers.json".into(),
        };
        let mut flags = Parser::from_env();
        while let Some(flag) = flags.next()? {
            match flag {
                Arg::Long("seconds") => options.round = seconds(&mut flags)?,
                Arg::Long("rounds") => options.rounds = count(&mut flags, 1)?,
                Arg::Long("out") => options.out = flags.value()?.into(),
                _ => return Err(flag.unexpected()),
            }
        }
        Ok(options)
    }
}

async fn run(options: Options) -> Result<()> {
    let written: Rc<[String]> = (0..STREAMS).map(|n| format!("order-{n:07}")).collect();
    let read: Rc<[String]> = (0..READ_STREAMS).map(|n| format!("history-{n:07}")).collect();
    let server = Server::start()?;
    load(&server, &read).await?;
    let mut figures = Vec::new();
    let mut seed = 0;
    for (name, shape) in SHAPES {
        for clients in CLIENTS {
            let warm_up = WARM_UP * clients.div_ceil(8) as u32;
            let mut samples = Vec::with_capacity(options.rounds);
            for _ in 0..options.rounds {
                let mut connected: Vec<Box<dyn Client>> = Vec::with_capacity(clients);
                for _ in 0..clients {
                    seed += 1;
                    let client = server.connect().await?;
                    let rng = fastrand::Rng::with_seed(seed);
                    connected.push(match shape {
                        Shape::Append { streams, events_per_stream } => Box::new(Append {
                            client,
                            payloads: Payloads::new(Size::Full, seed),
                            names: Rc::clone(&written),
                            rng,
                            streams,
                            events_per_stream,
                        }),
                        Shape::Read => Box::new(Read { client, names: Rc::clone(&read), rng }),
                    });
                }
                // Its file grows by hundreds of megabytes at once, so bytes per event are not to be had.
                let run = run_clients(
                    connected,
                    warm_up,
                    Length::Time(options.round),
                    async || Ok(()),
                    async || Ok(()),
                )
                .await?;
                samples.push(run.0);
            }
            figures.push(Figures::of(GROUP, name, clients, samples));
        }
    }
    let json = serde_json::to_vec_pretty(&figures);
    json.map_err(Into::into)
        .and_then(|json| std::fs::write(&options.out, json))
        .map_err(Error::io(format!("cannot write {}", options.out.display())))
}

/// Writes the streams that are read later: every stream's first event, then every one's second, …
async fn load(server: &Server, names: &[String]) -> Result<()> {
    let client = server.connect().await?;
    let mut payloads = Payloads::new(Size::Full, 0);
    for version in 0..STREAM_EVENTS {
        let events = names.iter().map(|name| event(name, version, &mut payloads)).collect();
        client.append(events, None, None).await.map_err(failed)?;
    }
    Ok(())
}
