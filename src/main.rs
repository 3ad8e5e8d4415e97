//! The executable: hands the process to [`boatswain::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    boatswain::cli::main(std::env::args_os())
}
