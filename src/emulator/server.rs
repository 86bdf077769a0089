//! The emulator's thread: a port for every service, and HTTP on it, with TLS where Azure has it.
//!
//! A port that is closed stays the emulator's (bound, not listening), so that clients are refused
//! and nobody else can be given it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::answer;
use super::azure_arc::Agent;
use super::control;
use super::controls::{Controls, Endpoints};
use super::exchange::{Cut, exchange};
use super::request::{Request, Service};
use super::state::State;
use super::tls::{Authority, Certificate};
use super::wire::{self, Delivery, WireBody};

/// The longest body that is received.
const BODY_MAX: usize = 1024 * 1024;
/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What only the thread with the ports can do. Each is answered when it is done.
pub(super) enum Command {
    /// Close a service's port and all its connections, or open it again.
    Listen(Service, bool),
    /// Show another certificate from now on; connections that are open are closed.
    Show(Certificate),
}

/// A command and where to say that it is done.
pub(super) type Order = (Command, std::sync::mpsc::Sender<io::Result<()>>);

/// Serves until `stopped` is closed. Tells `ready` the controls, or why there are none.
pub(super) fn run(
    state: State,
    authority: Authority,
    mut stopped: mpsc::Receiver<()>,
    ready: &std::sync::mpsc::Sender<io::Result<Controls>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        let (mut ports, mut orders) = match Ports::open(state, authority) {
            Ok((ports, orders)) => (ports, orders),
            Err(error) => return drop(ready.send(Err(error))),
        };
        if ready.send(Ok(ports.controls.clone())).is_err() {
            return;
        }
        loop {
            tokio::select! {
                _ = stopped.recv() => return,
                Some((command, done)) = orders.recv() => {
                    // Whoever gave the order may have gone.
                    let _ = done.send(ports.carry_out(command).await);
                }
            }
        }
    });
}

/// A port per service.
struct Ports {
    controls: Controls,
    authority: Authority,
    /// What the vault shows now.
    tls: Arc<Mutex<TlsAcceptor>>,
    /// What Service Fabric and the directory show all the time.
    lasting: TlsAcceptor,
    ports: Vec<Port>,
}

struct Port {
    service: Service,
    /// Holds the port while nothing listens there: a client's socket, of whatever program, could
    /// be given its number in that moment.
    reservation: TcpSocket,
    /// What accepts connections; `None` while the service does not listen.
    open: Option<JoinHandle<()>>,
}

impl Ports {
    fn open(
        mut state: State,
        authority: Authority,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Order>)> {
        let mut listeners = Vec::new();
        for service in Service::ALL {
            let reservation = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            listeners.push((service, reservation.local_addr()?, reservation));
        }
        let port_of = |wanted: Service| {
            listeners
                .iter()
                .find_map(|(service, address, _)| (*service == wanted).then(|| address.port()))
                .unwrap_or_default()
        };
        let endpoints =
            Endpoints::new(port_of, &state.resource, &authority.pem, &state.credentials)?;
        state.arc = Agent::new(&endpoints.root);
        state.vault_url.clone_from(&endpoints.vault);
        let (give, orders) = mpsc::unbounded_channel();
        let mut ports = Self {
            controls: Controls::new(state, endpoints, give),
            tls: Arc::new(Mutex::new(TlsAcceptor::from(Arc::clone(&authority.first)))),
            lasting: TlsAcceptor::from(Arc::clone(&authority.first)),
            authority,
            ports: Vec::new(),
        };
        for (service, _, reservation) in listeners {
            ports.ports.push(Port {
                service,
                reservation,
                open: None,
            });
            ports.reopen(service)?;
        }
        Ok((ports, orders))
    }

    async fn carry_out(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Listen(service, false) => {
                self.close(service).await;
                Ok(())
            }
            Command::Listen(service, true) => self.reopen(service),
            Command::Show(certificate) => {
                let config: Arc<ServerConfig> = self.authority.server_config(certificate)?;
                *self.tls.lock() = TlsAcceptor::from(config);
                self.close(Service::KeyVault).await;
                self.reopen(Service::KeyVault)
            }
        }
    }

    async fn close(&mut self, service: Service) {
        let port = self.ports.iter_mut().find(|port| port.service == service);
        if let Some(task) = port.and_then(|port| port.open.take()) {
            task.abort();
            // Aborted on purpose; what matters is that the listener is gone.
            let _ = task.await;
        }
    }

    fn reopen(&mut self, service: Service) -> io::Result<()> {
        let Some(index) = self.ports.iter().position(|port| port.service == service) else {
            return Ok(());
        };
        if self.ports[index].open.is_none() {
            let address = self.ports[index].reservation.local_addr()?;
            let task = self.accept(service, bind(address)?.listen(BACKLOG)?);
            self.ports[index].open = Some(task);
        }
        Ok(())
    }

    /// Starts the task that accepts a service's connections; they end with it.
    fn accept(&self, service: Service, listener: TcpListener) -> JoinHandle<()> {
        let controls = self.controls.clone();
        let tls = match service {
            Service::KeyVault => Some(Arc::clone(&self.tls)),
            Service::ServiceFabric | Service::Entra | Service::ResourceManager => {
                Some(Arc::new(Mutex::new(self.lasting.clone())))
            }
            _ => None,
        };
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        // A client that went away before it was accepted concerns nobody.
                        let Ok((stream, _)) = accepted else { continue };
                        let acceptor = tls.as_ref().map(|tls| tls.lock().clone());
                        connections.spawn(connection(controls.clone(), service, stream, acceptor));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // The reservation and the listener have the same port.
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn connection(
    controls: Controls,
    service: Service,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
) {
    // Without it every answer waits for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => serve(controls, service, stream).await,
        Some(acceptor) => {
            // A failed handshake is the client's to report.
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(controls, service, stream).await;
            }
        }
    }
}

async fn serve<S>(controls: Controls, service: Service, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let answering = service_fn(|request: HttpRequest<Incoming>| {
        let controls = controls.clone();
        async move { answer_http(controls, service, request).await }
    });
    // It fails when a client goes away and when a fault cuts: both are as intended.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answering)
        .await;
}

async fn answer_http(
    controls: Controls,
    service: Service,
    request: HttpRequest<Incoming>,
) -> Result<Response<WireBody>, Cut> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        let answer = answer::error(service, 413, "BadParameter", None, "The body is too long.");
        return Ok(wire::response(answer, Delivery::Whole));
    };
    let request = Request {
        service,
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
    };
    if service != Service::Control {
        return exchange(&controls, &request).await;
    }
    // On a thread of its own: an order waits for the thread that this one runs on.
    let answer = tokio::task::spawn_blocking(move || control::answer(&controls, &request)).await;
    match answer {
        Ok(answer) => Ok(wire::response(answer, Delivery::Whole)),
        Err(_) => Err(Cut),
    }
}
