//! How a watch ends. Invariant: each signal takes it one step further out, and none is taken back.

use serde_json::json;

use super::Watch;
use crate::cli::out::Tone;
use crate::cli::watch::one::Stage;
use crate::core::event::PauseCause;

impl Watch {
    /// A signal: Ctrl-C pauses, drops, exits; SIGTERM lets runs end first. False if there is nothing left
    /// to wait for.
    pub(super) fn stop(&mut self, asked: u32, cause: PauseCause) -> bool {
        let now = self.stage.borrow().clone();
        let next = match (now, &cause) {
            (Stage::Go, PauseCause::Terminated) => Stage::Drain,
            (Stage::Go | Stage::Drain, _) => Stage::Pause(cause),
            (Stage::Pause(_), _) => Stage::Drop,
            (Stage::Drop, _) => return false,
        };
        let text = match &next {
            Stage::Drain => "nothing new starts; runs at work may end, for up to 30 s",
            Stage::Pause(_) => "nothing new starts; calls in flight may end, for up to 30 s. Ctrl-C again drops them",
            Stage::Drop | Stage::Go => "calls in flight are dropped (they may still be billed)",
        };
        if asked == 1 || next == Stage::Drop {
            self.face.say("stopping", Tone::Warn, text, json!({}));
        }
        self.stage.send_replace(next);
        true
    }

    /// The grace of a stage is over; true if there is another one.
    pub(super) fn escalate(&mut self) -> bool {
        let (next, more) = match self.stage.borrow().clone() {
            Stage::Drain => (Stage::Pause(PauseCause::Terminated), true),
            Stage::Go | Stage::Pause(_) | Stage::Drop => (Stage::Drop, false),
        };
        self.stage.send_replace(next);
        more
    }
}
