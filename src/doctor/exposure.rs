//! Who else on this machine can get the same token, and whether the worker can.
//!
//! An identity service of a virtual machine answers every local user; only a firewall rule on the
//! sender's user id keeps it to some. So a connection is tried as another user, in a process that
//! does nothing else.

#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::unistd::{User, geteuid};
use url::Url;

use super::report::{Check, Finding};
use crate::config::{Config, DEFAULT_WORKER_USERS};

/// The hidden argument that makes the program try a connection.
pub const ARGUMENT: &str = "@connect";

/// A user id that stands for any user without privileges: no account has it, no rule names it.
const ANYONE: u32 = 65_533;

const PATIENCE: Duration = Duration::from_secs(2);

/// Tries the connection that the word behind [`ARGUMENT`] names; success says that there is one.
pub fn exec_connect(address: &str) -> ExitCode {
    let connected = address
        .parse()
        .is_ok_and(|address: SocketAddr| TcpStream::connect_timeout(&address, PATIENCE).is_ok());
    if connected {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Looks who reaches the identity service at `endpoint`, once a token has been got from there.
pub(super) fn check(config: &Config, endpoint: &Url) -> Finding {
    let check = Check::Exposure;
    let Some(address) = address(endpoint) else {
        return Finding::skipped(check, "the identity service has no address");
    };
    if !geteuid().is_root() {
        return Finding::warned(
            check,
            "you are not root and got a token: so can every user of this machine",
            rules(address, &own_name()),
        );
    }
    let worker = worker_user(config);
    let worker_name = worker
        .as_ref()
        .map_or("keyvaultfs", |user| user.name.as_str());
    if let Some(user) = &worker
        && let Ok(false) = connects(address, user.uid.as_raw(), user.gid.as_raw())
    {
        return Finding::failed(
            check,
            format!("the worker runs as {worker_name}, who cannot reach {address}"),
            Some(accept(address, worker_name)),
        );
    }
    match connects(address, ANYONE, ANYONE) {
        Ok(true) => Finding::warned(
            check,
            format!("every user of this machine reaches {address} and can get the same token"),
            rules(address, worker_name),
        ),
        Ok(false) => Finding::passed(
            check,
            format!("{address} is closed to users without privileges"),
        ),
        Err(error) => Finding::skipped(check, format!("cannot act as another user: {error}")),
    }
}

fn address(endpoint: &Url) -> Option<SocketAddr> {
    let host = endpoint.host_str()?.trim_matches(['[', ']']);
    let port = endpoint.port_or_known_default()?;
    (host, port).to_socket_addrs().ok()?.next()
}

/// Who runs this, and would run the worker; iptables takes a number as well.
fn own_name() -> String {
    let uid = geteuid();
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

fn worker_user(config: &Config) -> Option<User> {
    let named = |name: &str| User::from_name(name).ok().flatten();
    match &config.user {
        Some(name) => named(name),
        None => DEFAULT_WORKER_USERS.into_iter().find_map(named),
    }
}

/// Whether a process of that user can connect.
fn connects(address: SocketAddr, uid: u32, gid: u32) -> io::Result<bool> {
    let status = Command::new("/proc/self/exe")
        .args([ARGUMENT, &address.to_string()])
        .uid(uid)
        .gid(gid)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// Rules that leave the service to root and `user`. The order counts: the last is inserted first.
fn rules(address: SocketAddr, user: &str) -> String {
    format!(
        "to leave it to root and {user} (who should be nobody else's account):\n{}\n{}\n{}",
        rule(address, "-j REJECT"),
        rule(address, "-m owner --uid-owner root -j ACCEPT"),
        accept(address, user),
    )
}

fn accept(address: SocketAddr, user: &str) -> String {
    rule(address, &format!("-m owner --uid-owner {user} -j ACCEPT"))
}

fn rule(address: SocketAddr, what: &str) -> String {
    let program = if address.is_ipv6() {
        "ip6tables"
    } else {
        "iptables"
    };
    let (ip, port) = (address.ip(), address.port());
    format!("{program} -I OUTPUT -d {ip} -p tcp --dport {port} {what}")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_tells_a_listener_from_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(exec_connect(&address), ExitCode::SUCCESS);
        drop(listener);
        assert_eq!(exec_connect(&address), ExitCode::FAILURE);
        assert_eq!(exec_connect("nonsense"), ExitCode::FAILURE);
    }

    #[test]
    fn one_is_called_what_id_says() {
        let said = Command::new("id").arg("-un").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), own_name());
    }

    #[test]
    fn the_rules_let_root_and_the_worker_in_before_they_refuse() {
        let text = rules("169.254.169.254:80".parse().unwrap(), "keyvaultfs");
        let rules: Vec<_> = text.lines().skip(1).collect();
        let start = "iptables -I OUTPUT -d 169.254.169.254 -p tcp --dport 80";
        assert_eq!(
            rules,
            [
                format!("{start} -j REJECT"),
                format!("{start} -m owner --uid-owner root -j ACCEPT"),
                format!("{start} -m owner --uid-owner keyvaultfs -j ACCEPT"),
            ]
        );
    }
}
