//! Where plans run: slots of compiled plans, and the way of a payload through one.

use std::rc::Rc;
use std::sync::Arc;

use icp_core::error::Violation;
use icp_core::lookup::Lookups;
use icp_core::transform::{Applied, Limits, Plan, PlanSpec, Step, TransformError};

use crate::call::{Answer, Ask, Failure, Notes, Scene};
use crate::desk::Desk;
use crate::engine::{self, Compiled, Deadline, Made, Run, Spare};
use crate::host::Host;
use crate::payload::Payload;

/// How many plans a worker holds.
pub(crate) const SLOTS: usize = 32;

/// The plans of one worker, and their limits. Lives on one thread.
#[derive(Debug)]
pub(crate) struct Runner {
    limits: Limits,
    slots: Vec<Slot>,
    desk: Arc<Desk>,
    spare: Spare,
}

/// A plan; compiled when it is first run.
#[derive(Debug, Default)]
struct Slot {
    text: String,
    compiled: Option<Rc<CompiledPlan>>,
}

#[derive(Debug)]
struct CompiledPlan {
    plan: Plan,
    programs: Vec<Compiled>,
}

/// An answer, with the body it goes with.
pub(crate) type Answered = (Answer, Vec<u8>);

impl Runner {
    /// A runner without plans, whose programs ask `host`.
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        let desk = Arc::new(Desk::new(host));
        Self { limits: Limits::default(), slots: Vec::new(), desk, spare: Spare::default() }
    }

    /// Makes every engine do what it does only once, before the process is confined.
    pub(crate) fn warm_up(&self) {
        engine::warm_up(&self.desk, &self.spare);
    }

    /// Prepares for the next call, after the answer of the last one is on its way.
    pub(crate) fn rest(&self) {
        self.spare.renew(&self.limits, &self.desk);
    }

    /// Does what is asked.
    pub(crate) fn take(&mut self, ask: Ask, body: Vec<u8>) -> Option<Answered> {
        match ask {
            Ask::Limits(limits) => {
                self.limits = limits;
                Some((Answer::Ready, Vec::new()))
            }
            Ask::Plan { slot } => {
                let text = String::from_utf8(body).unwrap_or_default();
                *self.slot(slot) = Slot { text, compiled: None };
                None
            }
            Ask::Check { number, slot } => {
                self.desk.begin(number);
                let failures = self.check(slot).into_iter().map(Failure::from).collect();
                Some((Answer::Checked { number, failures }, Vec::new()))
            }
            Ask::Run { number, slot, scene } => {
                self.desk.begin(number);
                Some(self.run(number, slot, body, &scene))
            }
            // Nobody asked.
            Ask::Reply { .. } => None,
        }
    }

    fn slot(&mut self, slot: usize) -> &mut Slot {
        self.slots.resize_with(SLOTS, Slot::default);
        // A host names no slot beyond the last.
        &mut self.slots[slot % SLOTS]
    }

    fn check(&mut self, slot: usize) -> Vec<TransformError> {
        let (limits, desk) = (self.limits.clone(), Arc::clone(&self.desk));
        let plan = match PlanSpec::compile_text(&self.slot(slot).text) {
            Err(found) => return vec![unreadable(&found)],
            Ok(plan) => plan,
        };
        let (mut programs, mut failures) = (Vec::new(), Vec::new());
        for (index, program) in plan.programs().enumerate() {
            desk.begins(index);
            match engine::compile(program, &limits, &desk) {
                Ok(compiled) => programs.push(compiled),
                Err(error) => failures.push(error),
            }
        }
        if failures.is_empty() {
            self.slot(slot).compiled = Some(Rc::new(CompiledPlan { plan, programs }));
        }
        failures
    }

    fn compiled(&mut self, slot: usize) -> Result<Rc<CompiledPlan>, TransformError> {
        let (limits, desk) = (self.limits.clone(), Arc::clone(&self.desk));
        let slot = self.slot(slot);
        if let Some(compiled) = &slot.compiled {
            return Ok(Rc::clone(compiled));
        }
        let plan = PlanSpec::compile_text(&slot.text).map_err(|found| unreadable(&found))?;
        let programs = plan.programs().map(|program| engine::compile(program, &limits, &desk));
        let programs = programs.collect::<Result<_, _>>()?;
        Ok(Rc::clone(slot.compiled.insert(Rc::new(CompiledPlan { plan, programs }))))
    }

    fn run(&mut self, number: u64, slot: usize, input: Vec<u8>, scene: &Scene) -> Answered {
        let deadline = Deadline::begin(&self.limits);
        let mut notes = Notes::default();
        let went = self.compiled(slot).and_then(|compiled| {
            let (limits, desk, spare) = (&self.limits, &self.desk, &self.spare);
            let notes = &mut notes;
            let run = Run { limits, scene, deadline, desk, spare, notes, last: true };
            compiled.run(input, run)
        });
        notes.cpu_micros = deadline.used_micros();
        match went {
            Ok(Made::Dropped(reason)) => {
                (Answer::Done { number, dropped: Some(reason), notes }, Vec::new())
            }
            Ok(Made::Payload(payload)) => match payload.into_text(&self.limits) {
                Ok(text) => (Answer::Done { number, dropped: None, notes }, text),
                Err(error) => failed(number, error, notes),
            },
            Err(error) => failed(number, error, notes),
        }
    }
}

impl CompiledPlan {
    fn run(&self, input: Vec<u8>, mut run: Run<'_>) -> Result<Made, TransformError> {
        let mut payload = match self.begins_with_a_value() {
            true => Payload::of_value(&input, run.limits)?,
            false => Payload::of_text(input, run.limits)?,
        };
        let mut programs = self.programs.iter().enumerate();
        // A part with programs looks nothing up.
        let tables = Lookups::default();
        for (at, step) in self.plan.steps().iter().enumerate() {
            run.last = at + 1 == self.plan.steps().len();
            let made = match step {
                Step::Map(mapping) => {
                    let (payload, warnings) = (payload.into_value()?, &mut run.notes.warnings);
                    match mapping.apply(payload, tables.view(None), warnings)? {
                        Applied::Value(value) => Made::Payload(Payload::Value(value)),
                        Applied::Dropped { reason } => Made::Dropped(reason),
                    }
                }
                Step::Program(program) => {
                    let Some((index, compiled)) = programs.next() else { continue };
                    if self.programs.len() > 1 {
                        run.desk.begins(index);
                    }
                    engine::run(compiled, program, payload, &mut run)?
                }
                _ => return Err(TransformError::new("compile", "the plan has an unknown step")),
            };
            payload = match made {
                Made::Payload(payload) => payload,
                dropped @ Made::Dropped(_) => return Ok(dropped),
            };
        }
        Ok(Made::Payload(payload))
    }

    /// Whether the first step reads the payload as a value, and not as text.
    fn begins_with_a_value(&self) -> bool {
        match self.plan.steps().first() {
            Some(Step::Map(_)) => true,
            Some(Step::Program(_)) => {
                matches!(self.programs.first(), Some(Compiled::Jmespath(_) | Compiled::Schema(_)))
            }
            _ => false,
        }
    }
}

fn failed(number: u64, error: TransformError, notes: Notes) -> Answered {
    let mut failure = Failure::from(error);
    if !notes.console.is_empty() {
        failure.origin.get_or_insert_default().console = notes.console;
    }
    (Answer::Failed { number, failure }, Vec::new())
}

fn unreadable(found: &[Violation]) -> TransformError {
    let first = found.first();
    let message = first.map_or("the plan cannot be read", |violation| &*violation.message);
    let error = TransformError::new("compile", message);
    match first {
        Some(violation) => error.at_pointer(&*violation.pointer),
        None => error,
    }
}
