//! UmaDB's server: this program started a second time, listening on loopback, its file in a
//! temporary folder.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use allsource_bench::error::{Error, Result};
use umadb_client::{AsyncUmaDbClient, UmaDbClient};

use crate::umadb::failed;

/// The first argument that makes this program the server.
pub const SERVE: &str = "serve";

const START_WITHIN: Duration = Duration::from_secs(20);

/// A running server; it ends, and its data goes, when this is dropped.
pub struct Server {
    process: Child,
    folder: PathBuf,
    url: String,
}

impl Server {
    /// Starts it on a free port.
    pub fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("allsource-umadb-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Error::io("making a temporary folder"))?;
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(Error::io("looking for a free port"))?;
        let program = std::env::current_exe().map_err(Error::io("finding this program"))?;
        let process = Command::new(program)
            .args([SERVE, "--listen", &free.to_string(), "--db-path"])
            .arg(folder.join("uma.db"))
            .stdout(Stdio::null())
            .spawn()
            .map_err(Error::io("starting UmaDB"))?;
        Ok(Self { process, folder, url: format!("http://{free}") })
    }

    /// A new connection; waits for the server to be up.
    pub async fn connect(&self) -> Result<AsyncUmaDbClient> {
        let start = Instant::now();
        loop {
            match UmaDbClient::new(self.url.clone()).connect_async().await {
                Ok(client) => return Ok(client),
                Err(error) if start.elapsed() > START_WITHIN => return Err(failed(error)),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing can be done about a process that is gone already, or a file that stays.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
