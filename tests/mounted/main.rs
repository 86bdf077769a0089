//! The program as users meet it: the real binary, a real FUSE mount, real TLS and HTTP to an
//! emulator, real tools. Each test has an emulator and a mount of its own, and takes them down
//! even when it fails. Needs root, /dev/fuse, fuse3 and python3; `scripts/test` sees to them.

#![cfg(feature = "emulator")]

mod azure_clients;
mod birth_time;
mod carried_over;
mod certificates;
mod command_line;
mod concurrency;
mod demo;
mod errors;
mod freshness;
mod harness;
mod listing;
mod memory;
mod names;
mod network;
mod own_files;
mod policy;
mod reading;
mod refused;
mod soak;
mod storage;
mod temporary;
mod tokens;
mod unprivileged;
mod weather;
mod writing;
