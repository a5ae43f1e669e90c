//! A server with hot partitions that are settled when somebody asks for it, and its sidecar.

use postgres::Client;

use crate::bulk::workers_up;
use crate::cluster::{Cluster, STORE, Stop};
use crate::scattered::until_applied;
use crate::{failure, hot, patience};

/// The partitions that a test makes hot, unless it is about others.
pub const PARTITIONS: [i32; 2] = [3, 17];

/// Nothing is settled before somebody asks for it.
pub const RARELY: &str = "allsource.settle_interval=1h";

/// Everything is settled as soon as it is there.
pub const OFTEN: &str = "allsource.settle_interval=20ms";

/// So that the sidecar is asked, and much is read from its files.
pub const SMALL: [&str; 3] = [
    "allsource.sidecar_min_batches=0",
    "allsource.sidecar_cache_size=1MB",
    "allsource.sidecar_write_buffer_size=1MB",
];

/// A server with hot partitions that are settled when somebody asks for it.
#[derive(Debug)]
pub struct HotStore {
    /// The server.
    pub cluster: Cluster,
}

impl HotStore {
    /// Starts one that has these settings, too.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn new(name: &str, settings: &[&str]) -> Self {
        let mut all = vec![RARELY];
        all.extend(SMALL);
        all.extend(settings);
        Self { cluster: Cluster::with_queue(name, &all) }
    }

    /// Has the sidecar write all of its memory to files, when it has all batches. It may be away at first,
    /// or work on with files that nobody else finds. Gives a copy of it.
    ///
    /// # Panics
    /// Where that fails.
    pub fn flush_sidecar(&self, client: &mut Client) -> String {
        self.cluster.shell("rm -rf copy");
        let copy = self.cluster.dir().join("copy").display().to_string();
        let query = "SELECT allsource.es_sidecar_checkpoint($1)";
        patience::until_true("the sidecar is copied", || {
            until_applied(client, &PARTITIONS);
            let copied = client.execute(query, &[&copy]);
            if let Err(error) = &copied {
                let told = failure::describe(error);
                assert!(told.contains("sidecar cannot be copied"), "{told}");
                hot::rebuild(client).expect("es_sidecar_rebuild");
            }
            copied.is_ok()
        });
        copy
    }

    /// Waits until the sidecar has forgotten all that is settled.
    ///
    /// # Panics
    /// Where that fails.
    pub fn until_forgotten(&self, client: &mut Client) {
        // Two rounds of the settler that begin after the pass.
        for _ in 0..2 {
            hot::heat(client, PARTITIONS[0]).expect("es_heat");
        }
    }

    /// Stops the server, changes something with a script, and starts it again.
    ///
    /// # Panics
    /// Where that fails.
    pub fn while_stopped(&self, how: Stop, script: &str) -> Client {
        self.cluster.stop(how);
        self.cluster.shell(script);
        self.resume()
    }

    /// Starts the stopped server, and waits for its workers.
    ///
    /// # Panics
    /// Where that fails.
    pub fn resume(&self) -> Client {
        self.cluster.resume();
        let mut client = self.cluster.connect_when_ready(STORE);
        workers_up(&mut client);
        client
    }
}
