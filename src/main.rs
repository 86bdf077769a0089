//! The `keyvaultfs` program: an allocator that wipes what it frees, and the command line.

use std::process::ExitCode;

/// Every buffer that held a value, a token or a piece of either is wiped when freed, the ones
/// inside TLS, HTTP and JSON too.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    keyvaultfs::cli::main()
}
