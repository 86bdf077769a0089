//! Makes a keeper of this process: with a mount of its own, or with the one that an older
//! program served in this process before.

use std::io;
use std::sync::Arc;
use std::thread;

use nix::unistd::geteuid;

use super::error::MountError;
use super::events;
use super::mounted::{self, Mounted};
use super::readiness::Readiness;
use super::relay::Relay;
use super::renewal::State;
use super::restarts::Restarts;
use super::signals::Signals;
use super::succession::HandOver;
use super::supervise::Supervisor;
use super::worker_process::{Worker, Workers};
use crate::config::{Config, DEFAULT_WORKER_USERS};
use crate::sys::descriptors::{inherited, reserve_up_to};
use crate::sys::process::{self, FIRST_DESCRIPTOR, Identity};
use crate::sys::{memory, privileges};

/// The last descriptor that a worker or a keeper is started with.
pub(super) const LAST_DESCRIPTOR: i32 = FIRST_DESCRIPTOR + 2;

/// Mounts and serves until the mount ends; tells `readiness` how it begins.
pub(super) fn serve(
    config: Config,
    foreground: bool,
    mut readiness: Readiness,
) -> Result<(), MountError> {
    // Held to the end: nothing else may get the numbers that workers find their sockets on.
    let _reserved = reserve_up_to(LAST_DESCRIPTOR).map_err(keeper_failed)?;
    let outcome = mount(config, foreground, &mut readiness).and_then(Supervisor::run);
    readiness.tell(&outcome);
    outcome
}

/// Goes on with a mount where another program left off in this process.
pub(super) fn resume(state: State) -> Result<(), MountError> {
    let _reserved = reserve_up_to(LAST_DESCRIPTOR).map_err(keeper_failed)?;
    let mut readiness = Readiness::resumed();
    let supervisor = take_over(state, &mut readiness).map_err(keeper_failed)?;
    supervisor.readiness.changed();
    tracing::info!("the keeper is a new one");
    supervisor.run()
}

/// Something this process could not do for itself.
pub(super) fn keeper_failed(error: io::Error) -> MountError {
    MountError::KeeperFailed(error.to_string())
}

fn mount(
    config: Config,
    foreground: bool,
    readiness: &mut Readiness,
) -> Result<Supervisor<'_>, MountError> {
    let identity = identity(&config)?;
    let signals = prepare().map_err(keeper_failed)?;
    let (device, mounted) = mounted::mount(&config)?;
    let begun = (|| {
        if geteuid().is_root() {
            privileges::keep_keepers()?;
        }
        let (events, inbox) = events::channel()?;
        let relay = Arc::new(Relay::new(device, events.clone())?);
        let binary = std::env::current_exe()?;
        start_relay(&relay)?;
        Ok((events, inbox, relay, binary))
    })();
    let (events, inbox, relay, binary) = begun.map_err(|error| {
        mounted.unmount();
        keeper_failed(error)
    })?;
    readiness.watch();
    Ok(Supervisor {
        common: workers(&config, &mounted, identity),
        config,
        foreground,
        binary,
        mounted,
        relay,
        events,
        inbox,
        signals,
        readiness,
        workers: Vec::new(),
        generation: 0,
        init: None,
        init_reply: None,
        restarts: Restarts::default(),
        hand_over: HandOver::default(),
        heir: None,
        renewal: None,
        postponed: None,
        watched: Vec::new(),
        end: None,
    })
}

fn take_over(state: State, readiness: &mut Readiness) -> io::Result<Supervisor<'_>> {
    let identity = identity(&state.config).map_err(io::Error::other)?;
    let signals = prepare()?;
    let (events, inbox) = events::channel()?;
    let relay = Arc::new(Relay::new(inherited(state.device)?, events.clone())?);
    relay.restore(state.relay);
    let common = workers(&state.config, &state.mounted, identity);
    let worker = Worker::resumed(state.worker, &common.device, &relay, &events)?;
    relay.traffic.lock().current = Some(Arc::clone(&worker.line));
    start_relay(&relay)?;
    readiness.watch();
    Ok(Supervisor {
        common,
        config: state.config,
        foreground: state.foreground,
        binary: state.binary,
        mounted: state.mounted,
        relay,
        events,
        inbox,
        signals,
        readiness,
        workers: vec![worker],
        generation: state.generation,
        init: Some(state.init),
        init_reply: Some(state.init_reply),
        restarts: Restarts::default(),
        hand_over: HandOver::default(),
        heir: None,
        renewal: None,
        postponed: None,
        watched: state.watched,
        end: None,
    })
}

/// What every keeper does for itself before it has threads.
fn prepare() -> io::Result<Signals> {
    let signals = Signals::listen()?;
    process::set_name();
    process::make_interruptible()?;
    process::harden()?;
    memory::lock();
    Ok(signals)
}

/// Starts the thread that hears the kernel and the workers.
fn start_relay(relay: &Arc<Relay>) -> io::Result<()> {
    let relay = Arc::clone(relay);
    thread::Builder::new()
        .name("relay".into())
        .spawn(move || relay.pump())?;
    Ok(())
}

fn workers(config: &Config, mounted: &Mounted, identity: Option<Identity>) -> Workers {
    Workers {
        identity,
        device: mounted.device.clone(),
        shown: [config.source.clone().into(), config.mountpoint.clone()],
    }
}

/// Whom workers run as: `None` for as whom the keeper does.
fn identity(config: &Config) -> Result<Option<Identity>, MountError> {
    if !geteuid().is_root() {
        return match &config.user {
            None => Ok(None),
            Some(user) => Err(MountError::NoSuchUser(format!(
                "only root may run it as another user, {user}"
            ))),
        };
    }
    let named = |name: &str| Identity::named(name);
    let found = match &config.user {
        Some(user) => named(user),
        None => {
            let [first, second] = DEFAULT_WORKER_USERS;
            named(first).or_else(|_| named(second))
        }
    };
    let identity = found.map_err(|error| MountError::NoSuchUser(error.to_string()))?;
    Ok(Some(match &config.group {
        Some(group) => identity.in_group(group),
        None => identity,
    }))
}
