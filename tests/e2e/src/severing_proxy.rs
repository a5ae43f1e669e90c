//! A network that breaks: a proxy before the server's socket that cuts connections at random,
//! also between a request that has arrived and its answer. The client then cannot know whether
//! its append has happened, which is what event ids are for.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use postgres::Config;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::cluster::Cluster;
use crate::seed::Seed;

const PORT: u16 = 5432;
const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// The proxy; it stops listening when dropped. Connections through it end with their clients.
#[derive(Debug)]
pub struct SeveringProxy {
    dir: PathBuf,
    stopped: Arc<AtomicBool>,
    cuts: Arc<Cuts>,
}

/// How many connections were cut, by what the server had of the request.
#[derive(Debug, Default)]
pub struct Cuts {
    requests: AtomicU64,
    answers: AtomicU64,
}

/// Which way a thread copies, and so what a cut loses.
#[derive(Clone, Copy, Debug)]
enum Direction {
    Request,
    Answer,
}

impl SeveringProxy {
    /// Listens in a folder of its own, and cuts each chunk of bytes with this probability.
    pub fn before(cluster: &Cluster, seed: Seed, probability: f64) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("allsource-proxy-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("the proxy's folder");
        let listener = UnixListener::bind(socket_in(&dir)).expect("the proxy's socket");
        let proxy = Self { dir, stopped: Arc::default(), cuts: Arc::default() };
        let (stopped, cuts) = (Arc::clone(&proxy.stopped), Arc::clone(&proxy.cuts));
        let server = cluster.socket();
        thread::spawn(move || {
            for (number, client) in (0..).zip(listener.incoming()) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let Ok(server) = UnixStream::connect(&server) else { continue };
                let pairs = [
                    (Direction::Request, twin(&client), twin(&server)),
                    (Direction::Answer, server, client),
                ];
                for (part, (direction, from, to)) in (0..).zip(pairs) {
                    let mut rng = seed.rng(1_000_000 + number * 2 + part);
                    let cuts = Arc::clone(&cuts);
                    thread::spawn(move || {
                        copy(direction, from, to, &mut rng, probability, &cuts);
                    });
                }
            }
        });
        proxy
    }

    /// The server's configuration, by way of the proxy.
    pub fn config(&self, cluster: &Cluster, database: &str) -> Config {
        // A Config's hosts can only be added to.
        let direct = cluster.config(database);
        let mut config = Config::new();
        config.host_path(&self.dir).port(PORT).dbname(database);
        config.user(direct.get_user().expect("a user"));
        config.options(direct.get_options().expect("options"));
        config
    }

    /// How many requests were cut off before they had wholly arrived.
    pub fn requests_cut(&self) -> u64 {
        self.cuts.requests.load(Ordering::Relaxed)
    }

    /// How many answers were cut off after the server had sent them.
    pub fn answers_cut(&self) -> u64 {
        self.cuts.answers.load(Ordering::Relaxed)
    }
}

impl Drop for SeveringProxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the listening thread so that it sees the flag.
        let _ = UnixStream::connect(socket_in(&self.dir));
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

fn twin(stream: &UnixStream) -> UnixStream {
    stream.try_clone().expect("the socket twice")
}

/// Copies until one side ends or the dice say to cut; both sides are closed then.
fn copy(
    direction: Direction,
    mut from: UnixStream,
    mut to: UnixStream,
    rng: &mut StdRng,
    probability: f64,
    cuts: &Cuts,
) {
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    while let Ok(count) = from.read(&mut chunk) {
        if count == 0 {
            break;
        }
        if rng.random_bool(probability) {
            match direction {
                Direction::Request => {
                    // Half a request arrives.
                    let _ = to.write_all(&chunk[..count / 2]);
                    cuts.requests.fetch_add(1, Ordering::Relaxed);
                }
                Direction::Answer => {
                    cuts.answers.fetch_add(1, Ordering::Relaxed);
                }
            }
            break;
        }
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
