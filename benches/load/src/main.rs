//! The command line of the load harness; `lib.rs` says what it is.

use std::process::ExitCode;

use allsource_bench::error::{Error, Result};
use allsource_bench::options::{HELP, Options};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("allsource-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: Option<Options>) -> Result<()> {
    let Some(options) = options else {
        print!("{HELP}");
        return Ok(());
    };
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(Error::io("event loop"))?;
    LocalSet::new().block_on(&runtime, allsource_bench::run(options))
}
