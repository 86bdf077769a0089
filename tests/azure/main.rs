//! The client of Azure against the emulator, over real HTTP and TLS: what each fault ends in, how
//! many requests it costs, and that no value is ever wrong.

#![cfg(feature = "emulator")]

mod bench;
mod connections;
mod identities;
mod reading;
mod relay;
mod setting;
mod soak;
mod throttling;
mod tokens;
