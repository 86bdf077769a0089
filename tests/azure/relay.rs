//! A TCP relay to a service of this machine, which can break connections as networks do, and
//! which answers CONNECT like a proxy if it is one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A relay; it ends with the test's runtime.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    tunnels: AtomicUsize,
    poisoned: AtomicUsize,
    refuse: AtomicBool,
}

/// What a relay does with a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It passes all bytes on to this port.
    Plain(u16),
    /// It waits for a CONNECT and passes on what follows, to the port named in it.
    Proxy,
}

impl Relay {
    /// Starts listening.
    pub(crate) async fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                    tokio::spawn(serve(kind, client, number, Arc::clone(&shared)));
                }
            }
        });
        Self {
            address,
            shared,
            task,
        }
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of them became tunnels.
    pub(crate) fn tunnels(&self) -> usize {
        self.shared.tunnels.load(Ordering::SeqCst)
    }

    /// Resets the connections there are now as soon as a client writes on them, as a service does
    /// that gave them up while they were idle. New ones are in order.
    pub(crate) fn poison(&self) {
        let now = self.connections();
        self.shared.poisoned.store(now, Ordering::SeqCst);
    }

    /// From now on a proxy refuses to connect.
    pub(crate) fn refuse(&self) {
        self.shared.refuse.store(true, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(kind: Kind, mut client: TcpStream, number: usize, shared: Arc<Shared>) {
    let port = match kind {
        Kind::Plain(port) => port,
        Kind::Proxy => match connect(&mut client, &shared).await {
            Some(port) => port,
            None => return,
        },
    };
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (mut from_server, mut to_server) = server.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let back = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        to_client
    });
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
        if number <= shared.poisoned.load(Ordering::SeqCst) {
            drop(to_server);
            let Ok(to_client) = back.await else { return };
            let client = from_client.reunite(to_client).unwrap();
            // With no time to linger, closing sends a reset.
            client.set_zero_linger().unwrap();
            return;
        }
        if to_server.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Answers a CONNECT to localhost; the port it names.
async fn connect(client: &mut TcpStream, shared: &Shared) -> Option<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.strip_prefix("CONNECT localhost:")?;
    let port = target.split(' ').next()?.parse().ok()?;
    if shared.refuse.load(Ordering::SeqCst) {
        let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        client.write_all(refusal).await.ok()?;
        return None;
    }
    shared.tunnels.fetch_add(1, Ordering::SeqCst);
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    Some(port)
}
