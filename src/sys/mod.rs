//! What the operating system gives: descriptors, processes, memory locks, the FUSE mount.
//!
//! The only room with `unsafe`, each block with its reason. It decides nothing: who runs as whom,
//! what is mounted where and when is `keeper`'s and `worker`'s to say.

#![allow(unsafe_code)]

pub mod descriptors;
pub mod fuse_mount;
pub mod memory;
pub mod privileges;
pub mod process;
