//! What is told of panics.

use std::any::Any;
use std::panic;

const WITHHELD: &str = "its message is withheld";

/// What may be told of a panic that was caught.
///
/// The message of a panic is made of what its code had at hand: payloads, and secrets among them. So
/// it is withheld; only a text without arguments, which stands in the program itself, is repeated.
///
/// ```
/// use icp_core::telemetry::panic_words;
///
/// let told = |work: fn()| panic_words(&*std::panic::catch_unwind(work).unwrap_err());
/// assert_eq!(told(|| panic!("the table is empty")), "the table is empty");
/// assert_eq!(told(|| panic!("{} is no number", "hush".repeat(1))), "its message is withheld");
/// ```
#[must_use]
pub fn panic_words(panic: &(dyn Any + Send)) -> &'static str {
    panic.downcast_ref::<&'static str>().copied().unwrap_or(WITHHELD)
}

/// Has the panics of this process told to the log, by the place in the code and by
/// [`panic_words`], in place of standard error, where the message would be.
///
/// A panic hook belongs to the process, so this is for who owns it: a server calls it once, after
/// its log was set up. Without it, what the code of a host says as it panics is written by the hook
/// that the host has, whoever catches the panic.
pub fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let words = info.payload().downcast_ref::<&'static str>().copied();
        tracing::error!(
            file = info.location().map(panic::Location::file),
            line = info.location().map(panic::Location::line),
            panic = words.unwrap_or(WITHHELD),
            "a task panicked"
        );
    }));
}
