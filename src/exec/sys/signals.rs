//! Signals as something that a thread can wait for.

use std::io;

/// The signals that ask a program to end, held back from their usual effect in this thread and in every thread that
/// it starts afterwards. Programs that are started do not inherit this.
#[derive(Debug)]
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Holds the signals back, and SIGWINCH with them, which [`crate::exec::Executor::attach`] follows. To be called before other threads are started: one that was there before would still
    /// be ended by them.
    #[allow(unsafe_code)]
    pub fn hold() -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut held = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises both sets, which the others only read and change.
        let failed = unsafe {
            for set in [&mut set, &mut held] {
                libc::sigemptyset(set.as_mut_ptr());
                libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
                libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            }
            libc::sigaddset(held.as_mut_ptr(), libc::SIGWINCH);
            libc::pthread_sigmask(libc::SIG_BLOCK, held.as_ptr(), std::ptr::null_mut())
        };
        match failed {
            // SAFETY: `sigemptyset` initialised it above, and cannot fail with a valid pointer.
            0 => Ok(Self(unsafe { set.assume_init() })),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Waits for SIGINT or SIGTERM and gives its number.
    #[allow(unsafe_code)]
    pub fn wait(&self) -> i32 {
        let mut signal = 0;
        // SAFETY: both point to initialised values of this frame. It fails only for a set of invalid signals.
        while unsafe { libc::sigwait(&self.0, &mut signal) } != 0 {}
        signal
    }
}
