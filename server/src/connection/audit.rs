//! The trail of an operator's call: a line of the log, and a row of the table `audit` that is stored with what the call changes.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{Span, Value};

use crate::db::{Note, params};

/// The characters of a detail that are stored.
const MAX_CHARS: usize = 500;

/// The row is stored with the first write of the call, and those that follow find it.
const INSERT: &str = "INSERT INTO audit (id, app, at, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                      ON CONFLICT (id) DO NOTHING";

/// What a call is about.
#[derive(Clone, Debug, Default)]
struct About {
    app: i64,
    user: String,
    detail: String,
}

/// The trail of a call. Clones share it. Keys, tokens and secrets are never recorded.
#[derive(Clone, Debug)]
pub struct Audit {
    line: Span,
    about: Arc<Mutex<About>>,
}

/// A call of the operator.
#[derive(Clone, Debug)]
pub struct Call {
    /// The ID of the row, which is new.
    pub id: i64,
    /// When it came, Unix milliseconds.
    pub at: i64,
    /// Where it came from.
    pub actor: String,
    /// The RPC.
    pub action: &'static str,
}

impl Audit {
    /// A trail that goes nowhere.
    pub fn none() -> Self {
        Self::new(Span::none())
    }

    /// The trail with this line of the log.
    pub fn new(line: Span) -> Self {
        Self { line, about: Arc::default() }
    }

    /// Records a field of the trail: `app`, `user` or `detail`.
    pub fn record<V: Value + ToString>(&self, field: &'static str, value: V) {
        let text: String = value.to_string().chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect();
        self.line.record(field, value);
        let mut about = self.about.lock();
        match field {
            "app" => about.app = text.parse().unwrap_or(0),
            "user" => about.user = text,
            _ => about.detail = text,
        }
    }

    /// Returns the row of a call, to be stored beside what the call changes. It says what is recorded by then.
    pub fn note(&self, call: Call) -> Note {
        let about = Arc::clone(&self.about);
        Note::new(move || {
            let About { app, user, detail } = about.lock().clone();
            let Call { id, at, actor, action } = call.clone();
            (INSERT, params![id, app, at, actor, action, user, detail].to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_bounded_and_has_no_control_characters() {
        let audit = Audit::none();
        let shared = audit.clone();
        shared.record("app", 7_u32);
        shared.record("user", "an\0n");
        shared.record("detail", "x".repeat(MAX_CHARS + 1));
        let About { app, user, detail } = audit.about.lock().clone();
        assert_eq!((app, user.as_str(), detail.len()), (7, "ann", MAX_CHARS));
    }
}
