//! What fuser calls an error and is none.

use std::io;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Leaves out what fuser calls an error and is none: the kernel says ENOENT to an answer that it no longer waits for,
/// such as one to an interrupt whose request has been answered meanwhile, or to a request that an unmount dropped.
pub(super) struct Unawaited;

impl<S: Subscriber> Layer<S> for Unawaited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let by_fuser = event.normalized_metadata().is_some_and(|theirs| theirs.target() == "fuser::reply");
        let mut found = Unsent { unawaited: false };
        if by_fuser {
            event.record(&mut found);
        }
        !found.unawaited
    }
}

/// Whether fuser's message is of an answer that nobody waits for.
struct Unsent {
    unawaited: bool,
}

impl Visit for Unsent {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let unawaited =
                format!("Failed to send FUSE reply: {}", io::Error::from_raw_os_error(libc::ENOENT));
            self.unawaited = format!("{value:?}") == unawaited;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    /// What is written of these records of fuser's, each as (target, message).
    fn written(records: &[(&str, String)]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Mutex::new(file.reopen().unwrap());
        let log = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish().with(Unawaited);
        tracing::subscriber::with_default(log, || {
            for (target, message) in records {
                let message = format_args!("{message}");
                let record =
                    log::Record::builder().target(target).level(log::Level::Error).args(message).build();
                tracing_log::format_trace(&record).unwrap();
            }
        });
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_no_error_and_others_are() {
        let unsent = |errno| format!("Failed to send FUSE reply: {}", io::Error::from_raw_os_error(errno));
        assert_eq!(written(&[("fuser::reply", unsent(libc::ENOENT))]), "");
        assert!(written(&[("fuser::reply", unsent(libc::EINVAL))]).contains("Invalid argument"));
        assert!(written(&[("fuser::other", unsent(libc::ENOENT))]).contains("No such file"));
    }
}
