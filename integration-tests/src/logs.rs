//! What the server and the SDK log while a test runs. An error that no test asked for is a failure, even if every assertion
//! holds. `ZIM_TEST_LOG=debug` (or any other filter) shows it all.

use std::fmt::{Debug, Write};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// The errors that were logged so far in this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Errors(Arc<Mutex<Vec<String>>>);

impl Errors {
    /// Those of this process, which is one test's: nextest starts one for each.
    pub(crate) fn listen() -> Self {
        static ERRORS: OnceLock<Errors> = OnceLock::new();
        ERRORS
            .get_or_init(|| {
                let errors = Self::default();
                let shown = std::env::var("ZIM_TEST_LOG")
                    .ok()
                    .map(|filter| fmt::layer().with_test_writer().with_filter(EnvFilter::new(filter)));
                // Fails where a test installed a subscriber of its own; then nobody listens.
                let _ = tracing_subscriber::registry().with(errors.clone()).with(shown).try_init();
                errors
            })
            .clone()
    }

    /// Takes what has gathered.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl<S: Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            let mut line = Line(event.metadata().target().to_owned());
            event.record(&mut line);
            self.0.lock().push(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
