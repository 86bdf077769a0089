//! Processes: starting keepers and workers, and closing them to the eyes of others.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{
    Gid, Group, Pid, Uid, User, execv, getpid, getppid, setgid, setgroups, setsid, setuid,
};

/// The signal that interrupts a thread.
const INTERRUPTION: Signal = Signal::SIGUSR2;

/// The first descriptor that [`Start::descriptors`] become.
pub const FIRST_DESCRIPTOR: i32 = 3;

/// A user to run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    uid: Uid,
    gid: Gid,
    /// The one supplementary group.
    other: Option<Gid>,
}

/// How a program is to be started.
pub struct Start<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments, the name first.
    pub arguments: &'a [&'a OsStr],
    /// What it finds on its descriptors 3, 4 and so on. Their own numbers must lie above those
    /// (see [`super::descriptors::reserve_up_to`]). It inherits no others but 0, 1 and 2.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// Which of this process's environment variables it gets.
    pub environment: &'a dyn Fn(&str) -> bool,
    /// Whom it runs as, in no groups but those; as this process does if `None`.
    pub identity: Option<Identity>,
    /// In a session of its own, away from the terminal, or only in a process group of its own,
    /// which the terminal's Ctrl-C does not reach.
    pub own_session: bool,
    /// Killed when the thread that calls [`Start::spawn`] ends, and never given privileges.
    pub dependent: bool,
    /// Whether it shares standard error; standard input and output are /dev/null.
    pub shares_stderr: bool,
}

impl Identity {
    /// The user of this name.
    pub fn named(name: &str) -> io::Result<Self> {
        match User::from_name(name)? {
            Some(user) => Ok(Self {
                uid: user.uid,
                gid: user.gid,
                other: None,
            }),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("there is no user {name:?}"),
            )),
        }
    }

    /// The same in this group too, if there is such a group and it is not root's.
    #[must_use]
    pub fn in_group(self, name: &str) -> Self {
        // One that cannot be looked up is as good as none.
        let group = Group::from_name(name).ok().flatten();
        let other = group.map(|group| group.gid).filter(|gid| gid.as_raw() != 0);
        Self { other, ..self }
    }
}

impl Start<'_> {
    /// Starts the program.
    pub fn spawn(&self) -> io::Result<Child> {
        let last = FIRST_DESCRIPTOR + i32::try_from(self.descriptors.len()).unwrap_or(i32::MAX);
        let sources: Vec<i32> = self.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        if sources.iter().any(|&source| source < last) {
            return Err(io::Error::other("a descriptor lies where another is to be"));
        }
        let mut command = Command::new(self.program);
        if let Some((name, rest)) = self.arguments.split_first() {
            command.arg0(name).args(rest);
        }
        // None whose name is no UTF-8 is one that anybody asked for.
        let kept = |(name, _): &(OsString, OsString)| name.to_str().is_some_and(self.environment);
        command.env_clear().envs(std::env::vars_os().filter(kept));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if !self.shares_stderr {
            command.stderr(Stdio::null());
        }
        let identity = self.identity;
        let own_session = self.own_session;
        if !own_session {
            command.process_group(0);
        }
        let dependent = self.dependent;
        let parent = getpid();
        // SAFETY: between fork and exec the closure only makes system calls that are
        // async-signal-safe, on its own copies of plain numbers; it allocates nothing.
        unsafe {
            command.pre_exec(move || {
                if own_session {
                    setsid()?;
                }
                for (target, &source) in (FIRST_DESCRIPTOR..).zip(&sources) {
                    if libc::dup2(source, target) == -1 {
                        return Err(io::Error::last_os_error());
                    }
                }
                if let Some(identity) = identity {
                    setgroups(identity.other.as_slice())?;
                    setgid(identity.gid)?;
                    // The last: it takes all capabilities.
                    setuid(identity.uid)?;
                }
                // What a shell or a service manager leaked to us ends here. A kernel without
                // the call (before 5.11) lets it pass.
                libc::syscall(
                    libc::SYS_close_range,
                    last,
                    u32::MAX,
                    libc::CLOSE_RANGE_CLOEXEC,
                );
                if dependent {
                    // After the change of user, which clears it.
                    prctl::set_pdeathsig(Signal::SIGKILL)?;
                    prctl::set_no_new_privs()?;
                    if getppid() != parent {
                        return Err(io::Error::other("the parent is gone"));
                    }
                }
                Ok(())
            });
        }
        command.spawn()
    }
}

/// Becomes another program, with the same process id, children, blocked and pending signals.
/// It finds `state` on the first descriptor and `kept` on their own; all others are closed.
/// Returns only if that fails, and then nothing has changed but the first descriptor.
pub fn replace(
    program: &Path,
    arguments: &[&OsStr],
    state: BorrowedFd<'_>,
    kept: &[BorrowedFd<'_>],
) -> io::Error {
    let inherit = |yes: bool| {
        let flags = if yes {
            FdFlag::empty()
        } else {
            FdFlag::FD_CLOEXEC
        };
        kept.iter()
            .try_for_each(|descriptor| fcntl(descriptor, FcntlArg::F_SETFD(flags)).map(drop))
    };
    let text = |text: &OsStr| CString::new(text.as_bytes());
    let becoming = || -> io::Result<Infallible> {
        let path = text(program.as_os_str())?;
        let arguments: Result<Vec<_>, _> = arguments.iter().copied().map(text).collect();
        inherit(true)?;
        // SAFETY: both are numbers of open descriptors; the first is reserved for programs that
        // are started (`reserve_up_to`), and nothing in this one reads it.
        if unsafe { libc::dup2(state.as_raw_fd(), FIRST_DESCRIPTOR) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(execv(&path, &arguments?)?)
    };
    let error = match becoming() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // A descriptor that cannot be changed back could not be changed in the first place.
    let _ = inherit(false);
    error
}

/// Makes [`interrupt_thread`] do what it says. Once for the process.
pub fn make_interruptible() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        // Without SA_RESTART, or the system call would go on.
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: a handler that does nothing is safe at any time.
    unsafe { sigaction(INTERRUPTION, &action) }?;
    Ok(())
}

/// Makes the system call in which a thread of this process sleeps, if it does, fail with EINTR.
/// A thread that has ended is no error.
pub fn interrupt_thread(thread: Pid) {
    // SAFETY: takes three numbers; the kernel checks that the thread is of this process.
    unsafe {
        libc::syscall(
            libc::SYS_tgkill,
            getpid().as_raw(),
            thread.as_raw(),
            INTERRUPTION as libc::c_int,
        )
    };
}

/// Whether this process ignores a signal, as `nohup` and shells make programs do.
pub fn is_ignored(signal: Signal) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes the present one, where there is room.
    let asked = unsafe { libc::sigaction(signal as i32, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: it was written, since the call succeeded.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Gives this process its name in `ps`, which exec took from the path it was started by.
pub fn set_name() {
    // Fails only for a bad address.
    let _ = prctl::set_name(c"keyvaultfs");
}

/// Closes this process to debuggers and core dumps, also those of its own user. Lost on exec.
pub fn harden() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    Ok(())
}
