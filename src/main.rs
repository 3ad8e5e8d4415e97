//! The executable: hands the process to [`boatswain::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    boatswain::cli::main(std::env::args_os())
}
