//! Folding an agent. Invariant: facts from outside are legal in every state; after a task's end they
//! change nothing here.

use super::*;

impl Agent {
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        match event {
            Event::Run(run) => self.apply_run(run),
            Event::Task(task) => return self.apply_task(event, task),
            Event::Call(call) => return self.apply_call(event, call),
            Event::Tool(tool) => self.apply_tool(tool),
            Event::Interrupt(interrupt) => self.apply_interrupt(interrupt),
            Event::Ledger(LedgerEvent::Degraded { step, .. }) => self.degraded = *step,
            Event::Ledger(_) => {}
        }
        Ok(())
    }

    fn apply_run(&mut self, event: &RunEvent) {
        self.control.apply(event);
        if let (RunEvent::Resumed { .. }, Some(job)) = (event, &mut self.job)
            && matches!(job.phase, Phase::Blocked | Phase::Queued)
        {
            job.phase = Phase::Ready;
        }
    }

    fn apply_task(&mut self, event: &Event, task: &TaskEvent) -> Result<(), IllegalEvent> {
        match task {
            TaskEvent::Assigned { step, work, degraded, tainted, .. } => {
                if self.job.is_some() {
                    return Err(self.illegal(event, "it already has a task"));
                }
                self.degraded = *degraded;
                self.begin(step.clone(), work, tainted.clone());
            }
            TaskEvent::AttemptFailed { step, variation, .. } => {
                let Some(job) = self.job.as_mut().filter(|job| &job.step == step) else {
                    return Err(self.illegal(event, "it has no such task"));
                };
                job.again((**variation).clone());
                let (base, told) = (job.base, variation.prompt.or(job.user));
                self.tell_anew(base, told);
                self.memory.extend(variation.note);
                self.hear_again();
            }
            TaskEvent::NeedsReview { step, .. } => {
                self.job_of(step).into_iter().for_each(|job| job.phase = Phase::Review);
            }
            TaskEvent::Retried { step, .. } => self.looked_at(step, None),
            TaskEvent::Accepted { step, answer, .. } => self.looked_at(step, Some(**answer)),
            TaskEvent::FellBack { step, model, .. } => {
                self.job_of(step).into_iter().for_each(|job| job.fell_back(model));
            }
            TaskEvent::Cooling { step, model, .. } => self.job_of(step).into_iter().for_each(|j| j.left_alone(model)),
            TaskEvent::Cooled { step, model, .. } => self.job_of(step).into_iter().for_each(|j| j.cooled(model)),
            TaskEvent::Finished { step, .. } => {
                if let Some(job) = self.job.take_if(|job| &job.step == step)
                    && let Phase::Judging { answer, .. }
                    | Phase::Accepted { answer }
                    | Phase::Asked { answer: Some(answer), .. } = job.phase
                {
                    self.memory.push(answer);
                }
            }
            TaskEvent::Shrunk { replaced, dropped, .. } => {
                self.shrink(replaced, *dropped);
                self.job.iter_mut().for_each(|job| job.shrunk());
            }
            TaskEvent::Summarising { turns, ask, max_output, .. } => {
                self.job.iter_mut().for_each(|job| job.sum_up(*turns, *ask, *max_output));
            }
            TaskEvent::Summarised { dropped, with, .. } => self.summed_up(*dropped, *with),
            TaskEvent::Concluding { note, .. } => self.concludes(*note),
            TaskEvent::DelegationRefused { from, index, content, tainted, .. } => {
                self.reads(tainted.as_deref());
                self.returned(from, *index, *content);
            }
            TaskEvent::Returned { from, index, content, spent, tainted, .. } => {
                self.reads(tainted.as_deref());
                if let Some(job) = &mut self.job {
                    job.spent = job.spent.plus(*spent);
                }
                self.returned(from, *index, *content);
            }
            TaskEvent::Woken { step, .. } => self.job_of(step).into_iter().for_each(Job::woken),
            TaskEvent::Told { message, .. } => self.told.push(*message),
            TaskEvent::Heard { with, answered, .. } => self.heard(*with, *answered),
            TaskEvent::FannedOut { .. } | TaskEvent::CrewStarted { .. } | TaskEvent::Skipped { .. } => {}
            TaskEvent::RoundDecided { .. } | TaskEvent::Delegated { .. } | TaskEvent::Parked { .. } => {}
            TaskEvent::FileWritten { .. } | TaskEvent::FileFailed { .. } | TaskEvent::Crashed { .. } => {}
        }
        Ok(())
    }

    fn concludes(&mut self, note: Msg) {
        self.memory.push(note);
        if let Some(job) = &mut self.job {
            job.concluding = true;
            job.ease();
        }
    }

    fn job_of(&mut self, step: &Step) -> Option<&mut Job> {
        self.job.as_deref_mut().filter(|job| &job.step == step)
    }

    /// A person has looked: the step starts over, or has its result.
    fn looked_at(&mut self, step: &Step, accepted: Option<Msg>) {
        let Some(job) = self.job.as_mut().filter(|job| &job.step == step) else { return };
        match accepted {
            Some(answer) => job.phase = Phase::Accepted { answer },
            None => {
                job.again(Variation::default());
                (job.attempt, job.deaths, job.fallen, job.refusals) = (1, 0, None, 0);
            }
        }
        let (base, told) = (job.base, job.user);
        self.tell_anew(base, told);
        self.hear_again();
        self.known = None;
    }

    /// Starts a task. `carries` keeps the turns of the last round; a clean start forgets them, unless
    /// the agent's memory is the run's.
    fn begin(&mut self, step: Step, work: &Work, brought: Option<String>) {
        self.begins_with(work, brought.as_deref());
        let mut once = None;
        let (mut told, mut retold) = (None, Vec::new());
        let phase = match work {
            Work::Prompt { system, user, carries, retry } => {
                (told, retold) = (Some(*user), retry.clone());
                if !carries || self.memory.is_empty() {
                    self.memory.clear();
                    self.memory.push(*system);
                    self.known = None;
                } else if self.memory[0] != *system {
                    self.memory[0] = *system;
                    self.known = None;
                }
                self.memory.push(*user);
                Phase::Ready
            }
            Work::Tool { tool, arguments } => {
                once = Some((tool.clone(), *arguments));
                Phase::ToolTask { tool: tool.clone(), arguments: *arguments, state: ToolTask::Due }
            }
        };
        let base = self.memory.len().saturating_sub(1);
        let job = Job::begun(step, phase, base, (once, told, retold));
        self.job = Some(Box::new(Job { brought, ..job }));
    }

    fn apply_call(&mut self, event: &Event, call: &CallEvent) -> Result<(), IllegalEvent> {
        if let CallEvent::Failed { failure, .. } = call
            && failure.class.stops_the_run()
        {
            self.control.refused(failure.class != FailureClass::Credentials, &failure.message);
        }
        let Some(job) = &mut self.job else { return Ok(()) };
        match call {
            CallEvent::Held(held) if held.call.step == job.step => {
                if !matches!(job.phase, Phase::Ready | Phase::Queued) {
                    return Err(self.illegal(event, "it did not ask for a call"));
                }
                (job.calls, job.held_under) = (held.call.number, self.degraded);
                job.phase = Phase::Calling { held: held.clone() };
            }
            CallEvent::Queued { call, .. } if call.step == job.step => job.phase = Phase::Queued,
            CallEvent::Exhausted { call, summary: true, .. } if call.step == job.step => job.no_summary(),
            CallEvent::Exhausted { call, finish: true, .. } if call.step == job.step => {
                job.finishing += 1;
                job.phase = Phase::Ready;
            }
            CallEvent::Exhausted { call, node, limit, pause, .. } if call.step == job.step => {
                let message = format!("the {limit} budget of {node} cannot pay for another call");
                job.phase = if *pause { Phase::Blocked } else { Phase::OverBudget { message } };
            }
            CallEvent::Answered(answered) if job.in_flight(&answered.call) => {
                job.active_ms += answered.elapsed_ms;
                job.spent = job.spent.plus(answered.cost);
                (job.hiccups, job.refusals) = (0, 0);
                self.answered(answered);
            }
            CallEvent::Failed { call, failure, elapsed_ms, .. } if job.in_flight(call) => {
                job.active_ms += elapsed_ms;
                job.failed(failure);
            }
            CallEvent::Lost { call, cause, elapsed_ms, .. } if job.in_flight(call) => {
                job.active_ms += elapsed_ms;
                job.lost(*cause);
            }
            // A call of a task that is over, or of another attempt: only money, which is the ledger's.
            CallEvent::Held(_) | CallEvent::Queued { .. } | CallEvent::Exhausted { .. } => {}
            CallEvent::Answered(_) | CallEvent::Failed { .. } | CallEvent::Lost { .. } => {}
            CallEvent::Settled { .. } => {}
        }
        Ok(())
    }

    fn answered(&mut self, answered: &crate::core::event::Answered) {
        let messages = self.memory.len();
        let Some(job) = &mut self.job else { return };
        let tools = !job.concluding;
        let (answer, finish) = (answered.message, answered.finish);
        job.phase = Phase::Judging { call: answered.call.clone(), answer, finish, asks: answered.asks, tools };
        if job.summary.is_some() {
            // Another prompt than the memory's.
            return;
        }
        // Usage that was estimated says nothing about the prefix.
        if let Some((input, output)) = totals(&answered.usage) {
            let (unit, model) = (answered.call.step.with_round(None), answered.model.clone());
            self.known = Some(Known { unit, model, tools, messages, input, output, answer: answer.message });
        }
    }

    fn apply_tool(&mut self, event: &ToolEvent) {
        let Some(job) = &mut self.job else { return };
        match event {
            ToolEvent::Started { call, index, of, tool, ask, arguments, key, tainted, .. } if call.step == job.step => {
                let (key, tainted) = (key.clone(), tainted.clone());
                if let Phase::ToolTask { state, arguments: given, .. } = &mut job.phase {
                    *state = ToolTask::Running { call: call.clone(), key, tainted };
                    // A person may have changed them.
                    *given = *arguments;
                    job.calls = call.number;
                    return;
                }
                *job.used.entry(tool.clone()).or_default() += 1;
                if !job.awaits(call, *index) {
                    *job.seen.entry(same(tool, arguments)).or_default() += 1;
                }
                let (tool, ask) = (tool.clone(), ask.clone());
                job.ask(call, *index, *of, Ask::Running { tool, ask, arguments: *arguments, key, tainted });
            }
            ToolEvent::Refused { call, index, of, refusal, content, .. } if call.step == job.step => {
                match refusal {
                    ToolRefusal::Repeat => job.looped = true,
                    // Counted once a turn: the turn's first bad call.
                    ToolRefusal::UnknownTool | ToolRefusal::BadArguments => job.bad_now = true,
                    ToolRefusal::TooMany | ToolRefusal::Limit => {}
                    ToolRefusal::Rejected | ToolRefusal::Expired => {}
                }
                job.ask(call, *index, *of, Ask::Done(*content));
                self.turn_over();
            }
            ToolEvent::Returned { call, index, content, outcome, elapsed_ms, .. } if call.step == job.step => {
                job.turn_ms = job.turn_ms.max(*elapsed_ms);
                let tainted = job.taint_of_result(call, *index);
                if let Phase::ToolTask { state, .. } = &mut job.phase {
                    *state = ToolTask::Returned(*outcome, *content);
                    return self.reads(tainted.as_deref());
                }
                if *outcome == Outcome::Unknown {
                    job.unknown_effect = true;
                }
                self.reads(tainted.as_deref());
                self.returned(call, *index, *content);
            }
            ToolEvent::Started { .. } | ToolEvent::Refused { .. } | ToolEvent::Returned { .. } => {}
        }
    }

    /// A result for one tool call of the turn; the last one ends the turn.
    pub(super) fn returned(&mut self, call: &CallId, index: u32, content: Msg) {
        if let Some(Job { phase: Phase::Tools { call: open, asks, .. }, .. }) = self.job.as_deref_mut()
            && open == call
            && let Some(ask) = asks.get_mut(&index)
        {
            *ask = Ask::Done(content);
            self.turn_over();
        }
    }

    /// With every result in, the turn enters the memory: the answer, then the results in the order asked.
    fn turn_over(&mut self) {
        let Some(job) = &mut self.job else { return };
        let Phase::Tools { answer, of, asks, .. } = &job.phase else { return };
        let done: Vec<Msg> = asks.values().filter_map(Ask::done).collect();
        if done.len() < *of as usize {
            return;
        }
        self.memory.push(*answer);
        self.memory.extend(done);
        job.turns += 1;
        job.active_ms += std::mem::take(&mut job.turn_ms);
        job.bad_turns = if job.bad_now { job.bad_turns + 1 } else { 0 };
        job.bad_now = false;
        job.phase = if job.unknown_effect { Phase::Failed(Trouble::UnknownEffect) } else { Phase::Ready };
    }
}

impl Ask {
    fn done(&self) -> Option<Msg> {
        match self {
            Ask::Done(message) => Some(*message),
            Ask::Running { .. } | Ask::Waiting(_) => None,
        }
    }
}

/// Identity of a tool call for the loop guard.
pub(super) fn same(tool: &str, arguments: &BlobId) -> BlobId {
    BlobId::of(format!("{tool} {arguments}").as_bytes())
}
