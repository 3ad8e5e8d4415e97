//! Debates. Invariant: whoever speaks sees what each other said last, of this round or of the one before, by
//! name and fenced, and goes on from its own turns; whoever closes sees the last words of all.
//!
//! A debate is a loop over the tasks of its speakers (see `adapters::crewfile`): budget, resume, failures and
//! replay are those of loops. A speaker that is out of attempts needs review, like every task, and the debate
//! waits. Of a debate that is optional, what was said before stands, and it is closed with that.

use super::*;
use crate::core::crew::{Loop, Who};
use crate::core::machine::{MissingText, World};
use crate::core::template::{ResultView, Scope};

impl Plan {
    /// The debate that a task speaks in or closes.
    pub(super) fn debate_of(&self, task: usize) -> Option<&Loop> {
        let own = self.crew.tasks[task].in_loop.map(|at| &self.crew.loops[at]);
        let own = own.filter(|looped| looped.debate.is_some());
        own.or_else(|| self.crew.loops.iter().find(|looped| looped.debate == Some(task)))
    }

    /// Does it judge a debate in which nobody has said anything?
    pub(super) fn has_heard_nobody(&self, task: usize) -> bool {
        let Some(looped) = self.debate_of(task).filter(|looped| !looped.body.contains(&task)) else { return false };
        let mut said = looped.body.iter().filter_map(|speaker| self.spoken(*speaker));
        // All left out by `when`: so is whoever judges them.
        said.clone().any(|result| result.error.is_some()) && !said.any(|result| result.status.has_result())
    }

    /// Is what that task said part of the debate's own words?
    pub(super) fn is_voice(&self, task: usize, other: &Name) -> bool {
        let other = self.crew.index_of(other);
        self.debate_of(task).zip(other).is_some_and(|(looped, other)| looped.body.contains(&other))
    }

    /// What a speaker said last.
    pub(super) fn spoken(&self, speaker: usize) -> Option<&TaskResult> {
        let unit = self.unit(&self.address(speaker, None))?;
        unit.result.as_ref().or(unit.previous.as_ref())
    }

    fn voices(&self, world: World<'_>, looped: &Loop) -> Result<Vec<(usize, Name, Option<ResultView>)>, MissingText> {
        let mut all = Vec::with_capacity(looped.body.len());
        for speaker in &looped.body {
            let Who::Agent(name) = &self.crew.tasks[*speaker].who else { continue };
            all.push((*speaker, name.clone(), super::prompt::view(world, self.spoken(*speaker))?));
        }
        Ok(all)
    }

    /// Everyone's last words under the names of who spoke them, and `round`.
    pub(super) fn put_voices(&self, world: World<'_>, scope: &mut Scope, task: usize) -> Result<(), MissingText> {
        let Some(looped) = self.debate_of(task) else { return Ok(()) };
        for (_, name, said) in self.voices(world, looped)? {
            match said {
                Some(said) => scope.result(name.to_string(), said),
                None => scope.none(name.to_string()),
            }
        }
        scope.json("round", self.debate_round(looped).into());
        scope.none("feedback");
        Ok(())
    }

    fn debate_round(&self, looped: &Loop) -> u32 {
        self.state.loops.get(&self.address(looped.judge, None)).map_or(1, |run| run.round)
    }

    /// The words of the debate for one who speaks in it or closes it: `None`, if the task's own template has
    /// words for what was said.
    pub(super) fn debate_words(
        &self,
        world: World<'_>,
        task: usize,
        names: &BTreeSet<String>,
    ) -> Result<Option<String>, MissingText> {
        let Some(looped) = self.debate_of(task) else { return Ok(None) };
        let voices = self.voices(world, looped)?;
        if voices.iter().any(|(_, name, _)| names.contains(name.as_str())) {
            return Ok(None);
        }
        let speaks = looped.body.contains(&task);
        let own = voices.iter().find(|(speaker, ..)| *speaker == task).map(|(_, name, _)| name.to_string());
        let others = voices.iter().filter(|(speaker, ..)| *speaker != task);
        let others = others.map(|(_, name, said)| {
            let said = said.as_ref().map(|said| said.text.to_string());
            serde_json::json!({ "name": name.as_str(), "said": said })
        });
        let others: serde_json::Value = others.collect();
        let mut scope = Scope::default();
        scope.json("round", self.debate_round(looped).into());
        scope.json("rounds", looped.max_rounds.into());
        scope.json("name", own.into());
        scope.json(if speaks { "others" } else { "voices" }, others);
        Ok(Some(self.crew.templates.builtin(if speaks { "debate" } else { "debated" }, &scope)))
    }
}
