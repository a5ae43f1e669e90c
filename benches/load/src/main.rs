//! The command line of the load harness; `lib.rs` says what it is.

use std::process::ExitCode;

use allsource_bench::error::Result;
use allsource_bench::options::{HELP, Options};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("allsource-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    let Some(options) = Options::parse()? else {
        print!("{HELP}");
        return Ok(());
    };
    allsource_bench::block_on(allsource_bench::run(options))
}
