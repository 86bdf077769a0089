//! `keyvaultfs demo`: the emulator in this process, a mount of its vault, and what to try there,
//! until Ctrl-C. Nothing is left mounted or running.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::mkdtemp;

use super::configure;
use super::error::Error;
use super::mount_options::UnknownWords;
use crate::emulator::{Emulator, Endpoints, Options};
use crate::keeper;

/// What the vault holds at first.
const SECRETS: [(&str, &str); 2] = [("SQLPasswd", "Ma4hines!"), ("ApiKey", "sesame-0123")];

/// Mount a stand-in for an Azure Key Vault, to try the file system without Azure
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory to mount it on [default: a new one, removed afterwards]
    mountpoint: Option<PathBuf>,
}

/// Runs the demonstration until SIGINT, SIGTERM, or the end of its terminal.
pub(super) fn run(arguments: &Arguments) -> Result<(), Error> {
    // Before there are other threads: they inherit the mask, so that the signals come here.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals
        .thread_block()
        .map_err(|errno| Error::Demo(errno.into()))?;

    let directory = Directory::new(arguments.mountpoint.as_deref()).map_err(Error::Demo)?;
    let emulator = Emulator::start(Options::default()).map_err(Error::Demo)?;
    for (name, value) in SECRETS {
        emulator.set_secret(name, value);
    }
    mount(emulator.endpoints(), directory.path())?;
    let mount = Mount(directory.path());
    println!("{}", walk(directory.path()));
    signals.wait().map_err(|errno| Error::Demo(errno.into()))?;
    drop(mount);
    Ok(())
}

fn mount(endpoints: &Endpoints, mountpoint: &Path) -> Result<(), Error> {
    let options = [
        format!("--identity-endpoint={}", endpoints.imds),
        format!("--resource={}", endpoints.resource),
        format!("--ca-cert={}", endpoints.ca_cert.display()),
        endpoints.vault.clone(),
    ];
    let words: Vec<_> = options
        .iter()
        .map(AsRef::as_ref)
        .chain([mountpoint.as_os_str()])
        .collect();
    let (_, config) = configure(&[], UnknownWords::Refuse, &words)?;
    Ok(keeper::mount(config, false)?)
}

fn walk(mountpoint: &Path) -> String {
    let directory = mountpoint.display();
    format!(
        "A vault is mounted on {directory}. In another terminal, try:

  cat {directory}/SQLPasswd
  printf %s Helloworld > {directory}/MySecret
  cat {directory}/MySecret
  ls {directory}                 # refused: nothing is ever listed
  cat {directory}/NoSuchSecret   # there is none

Ctrl-C unmounts it and ends the demonstration."
    )
}

/// Where the demonstration mounts.
enum Directory {
    /// The user's.
    Given(PathBuf),
    /// Made for the demonstration, and removed with it.
    Made(PathBuf),
}

impl Directory {
    fn new(given: Option<&Path>) -> io::Result<Self> {
        match given {
            Some(path) => Ok(Self::Given(path.to_owned())),
            None => Ok(Self::Made(mkdtemp(
                &env::temp_dir().join("keyvaultfs-XXXXXX"),
            )?)),
        }
    }

    fn path(&self) -> &Path {
        let (Self::Given(path) | Self::Made(path)) = self;
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Self::Made(path) = self {
            // It is empty, or still mounted: then it has to stay.
            let _ = fs::remove_dir(path);
        }
    }
}

/// A mount that goes when this goes.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // One is for root, the other for the rest; neither minds a mount that is gone already.
        for (program, options) in [
            ("umount", ["-l"].as_slice()),
            ("fusermount3", &["-u", "-z"]),
        ] {
            let unmount = Command::new(program)
                .args(options)
                .arg(self.0)
                .stderr(Stdio::null())
                .status();
            if unmount.is_ok_and(|status| status.success()) {
                return;
            }
        }
    }
}
