//! Crash points: places where a debug build can be told to die, to show what a crash there leaves.
//! Invariant: they decide nothing and leave no trace; in a release build they are not there.
//!
//! `BOSUN_CRASH_AT=name:n` (read in wiring) aborts the process at the n-th pass of the point `name`.
//! `tests/all/crashpoints.rs` lists the points from the source and dies at each of them.

#[cfg(debug_assertions)]
use std::sync::Arc;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

/// Which point is armed, if any. One per process.
#[derive(Clone, Default)]
pub struct CrashPoints {
    #[cfg(debug_assertions)]
    armed: Option<Arc<Armed>>,
}

#[cfg(debug_assertions)]
struct Armed {
    point: String,
    /// Passes left before it is time.
    passes: AtomicU64,
    die: fn() -> !,
}

impl CrashPoints {
    /// As `name:n` says, n from 1; `die` ends the process. A release build takes it and does not die.
    pub fn told(text: Option<&String>, die: fn() -> !) -> Result<CrashPoints, String> {
        let Some(text) = text else { return Ok(CrashPoints::default()) };
        let wrong = || format!("BOSUN_CRASH_AT is `{text}`: expected POINT:PASS, such as call_send:2");
        let (name, pass) = text.split_once(':').ok_or_else(wrong)?;
        let pass: u64 = pass.parse().ok().filter(|pass| *pass > 0).ok_or_else(wrong)?;
        Ok(CrashPoints::at(name, pass, die))
    }

    #[cfg(not(debug_assertions))]
    fn at(_: &str, _: u64, _: fn() -> !) -> CrashPoints {
        CrashPoints::default()
    }

    #[cfg(debug_assertions)]
    fn at(name: &str, pass: u64, die: fn() -> !) -> CrashPoints {
        CrashPoints { armed: Some(Arc::new(Armed { point: name.to_owned(), passes: AtomicU64::new(pass), die })) }
    }

    #[cfg(debug_assertions)]
    /// Dies if this is the point and the pass. As `kill -9`: nothing is flushed, nothing unwinds.
    pub fn pass(&self, name: &str) {
        let Some(armed) = self.armed.as_ref().filter(|armed| armed.point == name) else { return };
        if armed.passes.fetch_sub(1, Ordering::SeqCst) == 1 {
            (armed.die)();
        }
    }
}

/// A place where a debug build may be told to die.
macro_rules! crash_point {
    ($points:expr, $name:literal) => {
        #[cfg(debug_assertions)]
        $points.pass($name);
    };
}
pub(crate) use crash_point;
