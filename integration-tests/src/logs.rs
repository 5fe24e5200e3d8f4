//! Captures what the server and the SDK log while a test runs. An error that the test did not expect fails it, even if
//! every assertion holds. `ZIM_TEST_LOG=debug` (or another filter) prints the log.

use std::fmt::{Debug, Write};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// The targets of the server's log that tests read besides errors: warnings and the audit trail.
const SERVER: &str = "zim_server";
const AUDIT: &str = "zim_server::audit";
/// The object store of tests. It answers some requests that overlap with an error, and the server asks again.
const OBJECT_STORE: &str = "s3s";

/// The lines that were logged in this process.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    errors: Arc<Mutex<Vec<String>>>,
    warnings: Arc<Mutex<Vec<String>>>,
    audit: Arc<Mutex<Vec<String>>>,
}

impl Logged {
    /// Captures the log of this process, which runs one test: nextest starts a process for each.
    pub(crate) fn capture() -> Self {
        static LOGGED: OnceLock<Logged> = OnceLock::new();
        LOGGED
            .get_or_init(|| {
                let logged = Self::default();
                let shown = std::env::var("ZIM_TEST_LOG")
                    .ok()
                    .map(|filter| fmt::layer().with_test_writer().with_filter(EnvFilter::new(filter)));
                // Fails where a test installed its own subscriber; then nothing is captured.
                let _ = tracing_subscriber::registry().with(logged.clone()).with(shown).try_init();
                logged
            })
            .clone()
    }

    /// Takes the errors logged so far.
    pub fn errors(&self) -> Vec<String> {
        std::mem::take(&mut self.errors.lock())
    }

    /// Takes the server's warnings logged so far.
    pub fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock())
    }

    /// Takes the lines of the audit trail logged so far.
    pub fn audit(&self) -> Vec<String> {
        std::mem::take(&mut self.audit.lock())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Logged {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() == AUDIT
            && let Some(span) = context.span(id)
        {
            let mut line = Line::default();
            attributes.record(&mut line);
            span.extensions_mut().insert(line);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(line) = span.extensions_mut().get_mut::<Line>()
        {
            values.record(line);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let to = match level {
            Level::ERROR if target.starts_with(OBJECT_STORE) => return,
            Level::ERROR => &self.errors,
            Level::WARN if target.starts_with(SERVER) => &self.warnings,
            _ if target == AUDIT => &self.audit,
            _ => return,
        };
        let mut line = Line(target.to_owned());
        event.record(&mut line);
        if let Some(span) = context.event_span(event)
            && let Some(Line(of_span)) = span.extensions().get()
        {
            line.0.push_str(of_span);
        }
        to.lock().push(line.0);
    }
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
