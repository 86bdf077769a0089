//! The emulator over real HTTP and TLS: that it answers as Azure is documented to, so that the
//! end-to-end tests stand on something.

#![cfg(feature = "emulator")]

mod bench;
mod control;
mod faults;
mod identities;
mod vault;
