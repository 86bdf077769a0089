//! Does the vault have an address, answer over trusted TLS, agree on the time, and let this
//! identity in?

#![forbid(unsafe_code)]

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::report::{Check, Finding};
use crate::config::Config;
use crate::secrets::{Failure, StoreError};

/// How far the clocks may be apart: Entra tolerates five minutes in a token's times.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// What came of asking the vault for anything: its clock, if it shows one.
type Reached = Result<Option<SystemTime>, StoreError>;

/// What the vault's host resolves to.
pub(super) fn name(config: &Config) -> Finding {
    let host = config.vault.host();
    if let Some(proxy) = &config.proxy {
        let proxy = proxy.host_str().unwrap_or_default();
        return Finding::skipped(Check::Name, format!("the proxy {proxy} looks it up"));
    }
    match addresses(config) {
        Some(addresses) => {
            let list: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
            let private = addresses.iter().any(is_private);
            let kind = if private { ", a private endpoint" } else { "" };
            Finding::passed(Check::Name, format!("{host} is {}{kind}", list.join(", ")))
        }
        None => {
            let vault = host.split('.').next().unwrap_or_default();
            Finding::failed(
                Check::Name,
                format!("{host} has no address"),
                Some(format!(
                    "is there such a vault? az keyvault show --name {vault}\n\
                     if there is, this machine's DNS does not know it: getent hosts {host}"
                )),
            )
        }
    }
}

/// The addresses of the vault's host. The look-up is given up on after `--timeout`: left to
/// itself it may take a minute.
fn addresses(config: &Config) -> Option<Vec<IpAddr>> {
    // A URL writes an IPv6 address in brackets.
    let host = config.vault.host().trim_matches(['[', ']']).to_owned();
    let port = config.vault.url().port_or_known_default()?;
    let (found, wait) = mpsc::channel();
    thread::spawn(move || {
        let looked_up = (host.as_str(), port).to_socket_addrs();
        // Nobody waits any longer: then nobody needs to know.
        let _ = found.send(looked_up.map(|all| all.map(|one| one.ip()).collect::<Vec<_>>()));
    });
    let mut addresses = wait.recv_timeout(config.timeout).ok()?.ok()?;
    addresses.dedup();
    Some(addresses)
}

/// Whether the vault answered at all.
pub(super) fn connection(config: &Config, reached: Option<&Reached>) -> Finding {
    let host = config.vault.host();
    match reached {
        None => Finding::skipped(Check::Connection, "it takes an address"),
        Some(Ok(_)) => {
            let through = match &config.proxy {
                Some(proxy) => format!(" through {}", proxy.host_str().unwrap_or_default()),
                None => String::new(),
            };
            Finding::passed(
                Check::Connection,
                format!("{host} answers{through}, with a certificate that is trusted"),
            )
        }
        Some(Err(error)) => Finding::failed(Check::Connection, error.to_string(), remedy(error)),
    }
}

/// How far this machine's clock is from the vault's.
pub(super) fn clock(reached: Option<&Reached>) -> Finding {
    let Some(Ok(Some(theirs))) = reached else {
        return Finding::skipped(Check::Clock, "the vault's clock was not seen");
    };
    let ours = SystemTime::now();
    let (apart, direction) = match ours.duration_since(*theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if apart <= SKEW {
        return Finding::passed(Check::Clock, "agrees with the vault's");
    }
    Finding::failed(
        Check::Clock,
        format!("{} minutes {direction} the vault's", apart.as_secs() / 60),
        Some("timedatectl set-ntp true, and look with: timedatectl timesync-status"),
    )
}

/// Whether a permission is granted; `None` if that could not be asked.
pub(super) fn permission(check: Check, asked: Option<Result<(), StoreError>>) -> Finding {
    match asked {
        None => Finding::skipped(check, "it takes a token and a vault that answers"),
        Some(Ok(())) => Finding::passed(check, "granted"),
        Some(Err(error)) => Finding::failed(check, error.to_string(), remedy(&error)),
    }
}

/// What mends `error`: the client's own hint, or what the doctor knows beyond it.
fn remedy(error: &StoreError) -> Option<String> {
    let known = match error.failure {
        Failure::Throttled => {
            "the vault has too many requests, from whomever: wait, read less often, or spread \
             secrets over several vaults"
        }
        Failure::TimedOut => {
            "a firewall, a proxy (see --proxy) or a private endpoint stands between: \
             curl -v the vault's URL from here"
        }
        Failure::Unauthorized => {
            "the vault does not take this identity's tokens: is the vault of the same tenant? \
             az keyvault show --query properties.tenantId --name VAULT"
        }
        Failure::ServerError | Failure::SigningKeyUnresolved => {
            "the trouble is Azure's: try again, and look at https://azure.status.microsoft"
        }
        _ => return error.hint.clone(),
    };
    error.hint.clone().or_else(|| Some(known.to_owned()))
}

fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn clocks_may_be_five_minutes_apart() {
        let seen = |theirs: SystemTime| clock(Some(&Ok(Some(theirs))));
        let now = SystemTime::now();
        assert_eq!(seen(now - Duration::from_secs(200)).outcome, Outcome::Pass);
        let behind = seen(now + Duration::from_secs(3630));
        assert_eq!(behind.outcome, Outcome::Fail);
        assert_eq!(behind.seen, "60 minutes behind the vault's");
        let ahead = seen(now - Duration::from_secs(3630));
        assert_eq!(ahead.seen, "60 minutes ahead of the vault's");
        assert_eq!(clock(Some(&Ok(None))).outcome, Outcome::Skip);
    }

    #[test]
    fn a_clients_own_hint_comes_first() {
        let error = StoreError::new(Failure::Throttled, "x");
        assert!(remedy(&error).unwrap().contains("too many requests"));
        let error = error.with_hint("wait");
        assert_eq!(remedy(&error).as_deref(), Some("wait"));
    }
}
