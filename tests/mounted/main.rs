//! The program as users meet it: the real binary, a real FUSE mount, real TLS and HTTP to an
//! emulator, real tools. Each test has an emulator and a mount of its own, and takes them down
//! even when it fails. Needs root, /dev/fuse, fuse3 and python3; `scripts/test` sees to them.

#![cfg(feature = "emulator")]

mod azure_clients;
mod certificates;
mod command_line;
mod concurrency;
mod demo;
mod errors;
mod harness;
mod listing;
mod memory;
mod own_files;
mod policy;
mod reading;
mod storage;
mod tokens;
mod unprivileged;
mod weather;
mod writing;
