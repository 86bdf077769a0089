//! Log lines: one an event, as text or JSON, to stderr or to syslog.
//!
//! Only this crate's own events are logged. What libraries would say at `debug` is theirs to
//! choose, and a request's header or body must never be among it.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use nix::sys::stat::fstat;
use parking_lot::Mutex;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::{LogConfig, LogFormat, LogLevel};

/// The identity under which syslog files the lines.
const IDENTITY: &str = env!("CARGO_PKG_NAME");

/// syslog's socket, the journal's too.
const SYSLOG_SOCKET: &str = "/dev/log";

/// `LOG_DAEMON` of syslog(3), shifted into its place.
const FACILITY_DAEMON: u8 = 3 << 3;

/// The connection that [`reopen`] renews.
static SYSLOG: OnceLock<Arc<Mutex<Syslog>>> = OnceLock::new();

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// For a process in the foreground.
    Stderr,
    /// For a process in the background, whose stderr is closed.
    Syslog,
}

/// Starts logging; called once, early, by each process. A second call changes nothing.
///
/// Syslog is connected now, so that lines still arrive once the process is confined; where there
/// is none, lines are dropped.
pub fn start(config: LogConfig, destination: Destination) {
    let sink = match destination {
        Destination::Stderr => Sink::stderr(),
        Destination::Syslog => Sink::syslog(),
    };
    let lines = lines(config.format, sink);
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level(config.level));
    // It fails only if logging has been started before.
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(ours)
        .try_init();
}

/// Connects to syslog anew, if that is where lines go: for a log daemon that has been replaced.
pub fn reopen() {
    if let Some(syslog) = SYSLOG.get() {
        syslog.lock().reconnect();
    }
}

/// The layer that writes events to `sink`. Times are left out where the receiver notes them.
fn lines(format: LogFormat, sink: Sink) -> Box<dyn Layer<Registry> + Send + Sync> {
    let timed = matches!(sink, Sink::Stderr { journal: false, .. });
    let coloured = matches!(sink, Sink::Stderr { terminal: true, .. });
    let layer = fmt::layer().with_target(false).with_writer(sink);
    match (format, timed) {
        (LogFormat::Text, true) => layer.with_ansi(coloured).boxed(),
        (LogFormat::Text, false) => layer.with_ansi(coloured).without_time().boxed(),
        (LogFormat::Json, true) => layer.json().flatten_event(true).boxed(),
        (LogFormat::Json, false) => layer.json().flatten_event(true).without_time().boxed(),
    }
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

/// Who takes the lines.
enum Sink {
    Stderr {
        /// Colours are fine.
        terminal: bool,
        /// systemd's journal reads it: it notes the time, and takes the severity as a prefix.
        journal: bool,
    },
    Syslog(Arc<Mutex<Syslog>>),
}

impl Sink {
    fn stderr() -> Self {
        Self::Stderr {
            terminal: io::stderr().is_terminal(),
            journal: stderr_is_journal(),
        }
    }

    fn syslog() -> Self {
        let connected = || Arc::new(Mutex::new(Syslog::at(Path::new(SYSLOG_SOCKET))));
        Self::Syslog(Arc::clone(SYSLOG.get_or_init(connected)))
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            sink: self,
            level: Level::INFO,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line {
            sink: self,
            level: *metadata.level(),
        }
    }
}

/// The one line of one event, which tracing hands over in one piece.
struct Line<'a> {
    sink: &'a Sink,
    level: Level,
}

impl Write for Line<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let severity = severity(self.level);
        match self.sink {
            Sink::Stderr { terminal, journal } => {
                let prefix = if *journal {
                    format!("<{severity}>")
                } else {
                    String::new()
                };
                let line = one_line(prefix, event, *terminal) + "\n";
                io::stderr().write_all(line.as_bytes())?;
            }
            Sink::Syslog(syslog) => {
                let priority = FACILITY_DAEMON | severity;
                let process = std::process::id();
                let prefix = format!("<{priority}>{IDENTITY}[{process}]: ");
                let line = one_line(prefix, event, false);
                syslog.lock().send(line.as_bytes())?;
            }
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `event` behind `prefix`, with everything that could end the line early, or play with a
/// terminal, made into a blank.
fn one_line(prefix: String, event: &[u8], coloured: bool) -> String {
    let text = String::from_utf8_lossy(event);
    let plain = |c: char| match c {
        '\x1b' if coloured => c,
        c if c.is_control() => ' ',
        c => c,
    };
    prefix + &text.trim_end().chars().map(plain).collect::<String>()
}

/// A connection to syslog.
struct Syslog {
    path: &'static Path,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    fn at(path: &'static Path) -> Self {
        let socket = connect(path).ok();
        Self { path, socket }
    }

    /// Sends a line; if syslog was restarted meanwhile, to the new one.
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(socket) = &self.socket
            && socket.send(line).is_ok()
        {
            return Ok(());
        }
        let socket = connect(self.path)?;
        socket.send(line)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Leaves the connection for a new one, or, if there is none to be had, as it is.
    fn reconnect(&mut self) {
        if let Ok(socket) = connect(self.path) {
            self.socket = Some(socket);
        }
    }
}

/// Connects to a syslog. A full queue must not hold up a file operation: lines are lost then.
fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

/// Whether systemd's journal reads stderr: `JOURNAL_STREAM` (systemd.exec(5)) is inherited by
/// children whose stderr goes elsewhere, so it has to name this very file.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Severities of syslog(3), which sd-daemon(3) shares.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_on_its_line() {
        let event = b"WARN secret=\"a\nERROR forged\" \x1b[31m\r\n";
        assert_eq!(
            one_line("<4>".to_owned(), event, false),
            "<4>WARN secret=\"a ERROR forged\"  [31m"
        );
    }

    /// The next line that a syslog gets.
    fn received(server: &UnixDatagram) -> Vec<u8> {
        let mut line = [0; 256];
        let length = server.recv(&mut line).unwrap();
        line[..length].to_vec()
    }

    /// What syslog receives of one warning.
    fn warning_in_syslog(format: LogFormat) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path: &'static Path = Box::leak(directory.path().join("log").into());
        let server = UnixDatagram::bind(path).unwrap();
        let sink = Sink::Syslog(Arc::new(Mutex::new(Syslog::at(path))));
        let subscriber = tracing_subscriber::registry().with(lines(format, sink));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(secret = "db", errno = 13, "open failed");
        });
        let line = String::from_utf8(received(&server)).unwrap();
        line.replace(&format!("[{}]", std::process::id()), "[PID]")
    }

    #[test]
    fn syslog_gets_priority_identity_and_one_line_without_a_time() {
        assert_eq!(
            warning_in_syslog(LogFormat::Text),
            r#"<28>keyvaultfs[PID]:  WARN open failed secret="db" errno=13"#
        );
        assert_eq!(
            warning_in_syslog(LogFormat::Json),
            r#"<28>keyvaultfs[PID]: {"level":"WARN","message":"open failed","secret":"db","errno":13}"#
        );
    }

    #[test]
    fn a_syslog_that_was_restarted_gets_the_line() {
        let directory = tempfile::tempdir().unwrap();
        let path: &'static Path = Box::leak(directory.path().join("log").into());
        let old = UnixDatagram::bind(path).unwrap();
        let mut syslog = Syslog::at(path);
        syslog.send(b"one").unwrap();
        assert_eq!(received(&old), b"one");
        drop(old);
        std::fs::remove_file(path).unwrap();
        assert!(syslog.send(b"lost").is_err());
        let new = UnixDatagram::bind(path).unwrap();
        syslog.send(b"two").unwrap();
        assert_eq!(received(&new), b"two");
    }

    #[test]
    fn a_log_that_is_reopened_follows_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let path: &'static Path = Box::leak(directory.path().join("log").into());
        let old = UnixDatagram::bind(path).unwrap();
        let mut syslog = Syslog::at(path);
        // Moved away but still listening: only a reopening makes the difference.
        std::fs::rename(path, directory.path().join("old")).unwrap();
        syslog.reconnect();
        syslog.send(b"one").unwrap();
        let new = UnixDatagram::bind(path).unwrap();
        syslog.reconnect();
        syslog.send(b"two").unwrap();
        assert_eq!(received(&old), b"one");
        assert_eq!(received(&new), b"two");
    }
}
