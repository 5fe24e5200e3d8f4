//! Whether an object store works. A store that is full, or in which a right is missing, answers some requests and fails others: it
//! works again only when what has failed succeeds.

use std::io;

use parking_lot::Mutex;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::media) enum What {
    /// To read or list objects.
    Read,
    /// To store one.
    Write,
    /// To remove one.
    Delete,
}

/// Why the last requests of each kind failed, if they did.
#[derive(Debug, Default)]
pub(super) struct Working(Mutex<[Option<String>; 3]>);

impl Working {
    /// Notes that a request succeeded or failed.
    pub(super) fn note(&self, bucket: &str, what: What, failed: Option<&io::Error>) {
        let mut problems = self.0.lock();
        let was_up = problems.iter().all(Option::is_none);
        if let Some(problem) = problems.get_mut(what as usize) {
            *problem = failed.map(ToString::to_string);
        }
        let is_up = problems.iter().all(Option::is_none);
        match failed {
            Some(error) if was_up => {
                tracing::error!(bucket, %error, "the store of the files of messages does not work");
            }
            None if is_up && !was_up => tracing::info!(bucket, "the store of the files of messages works again"),
            _ => {}
        }
        metrics::gauge!("zim_media_store_up").set(if is_up { 1.0 } else { 0.0 });
    }

    /// Returns why the store does not work, if it is known not to.
    pub(super) fn problem(&self) -> Option<String> {
        self.0.lock().iter().flatten().next().cloned()
    }

    /// Whether only storing or removing something tells if the store works again.
    pub(super) fn must_probe(&self) -> bool {
        let [_, write, delete] = &*self.0.lock();
        write.is_some() || delete.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_failed_must_succeed() {
        let (working, full) = (Working::default(), io::Error::other("full"));
        let problem = |what, failed| {
            working.note("bucket", what, failed);
            (working.problem(), working.must_probe())
        };
        assert_eq!(problem(What::Read, None), (None, false));
        for what in [What::Write, What::Delete] {
            assert_eq!(problem(what, Some(&full)), (Some("full".to_owned()), true));
            assert_eq!(problem(What::Read, None), (Some("full".to_owned()), true), "it lists, but takes nothing");
            assert_eq!(problem(what, None), (None, false));
        }
        assert_eq!(problem(What::Read, Some(&full)), (Some("full".to_owned()), false));
        assert_eq!(problem(What::Write, None).0.as_deref(), Some("full"));
        assert_eq!(problem(What::Read, None), (None, false));
    }
}
