//! The threads that write the files of uploads in a folder, and wait for the disk.
//!
//! They are few: many uploads at once share them, so their number decides how much is in memory and how much the disk has to do at
//! once. The others wait, and so do their clients by flow control. They have a lower priority than the other threads: while the
//! processors are busy, messages go first.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// The most threads: some wait for the disk while others write.
const THREADS: usize = 4;
/// How much lower their priority is, as `nice` counts.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Work that is done by one of the threads.
type Work = Box<dyn FnOnce() + Send>;

/// The threads. They are started when they are needed first, and end with this value, after what they were given.
#[derive(Default)]
pub(super) struct Disk(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    threads: usize,
    /// The threads that have nothing to do.
    idle: usize,
    is_ending: bool,
}

/// Work that is done in the order in which it was given, by one thread at a time. The next begins when the one before ends, without waiting
/// until whoever gave it has heard of that.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    /// Whether a thread does some of it now.
    is_busy: bool,
}

/// Work that was begun. It is done even if nobody waits for the result.
#[derive(Debug)]
pub(super) struct Begun<T>(oneshot::Receiver<io::Result<T>>);

impl<T> Begun<T> {
    /// Waits for the result.
    pub(super) async fn done(self) -> io::Result<T> {
        self.0.await.map_err(|_| io::Error::other("a thread that writes files ended before its time"))?
    }
}

/// Returns work together with the wait for its result.
fn promised<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> (Work, Begun<T>) {
    let (done, begun) = oneshot::channel();
    let work: Work = Box::new(move || {
        // Fails if nobody waits for it any more.
        drop(done.send(work()));
    });
    (work, Begun(begun))
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// Gives work to the threads. What is given first is begun first.
    pub(super) fn begin<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Begun<T> {
        let (work, begun) = promised(work);
        self.0.give(work);
        begun
    }

    /// Gives work to the threads that is done after what was given to the same line before.
    pub(super) fn begin_in<T: Send + 'static>(
        &self,
        line: &Line,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Begun<T> {
        let (work, begun) = promised(work);
        line.0.lock().work.push_back(work);
        if !self.0.give(self.0.turn_of(line)) {
            line.0.lock().work.clear();
        }
        begun
    }

    /// Does some work, and waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.begin(work).done().await
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.0.queue.lock().is_ending = true;
        self.0.more.notify_all();
    }
}

impl Shared {
    /// Queues work. Returns false if there is no thread to do it: then whoever waits for it gets an error.
    fn give(self: &Arc<Self>, work: Work) -> bool {
        let mut queue = self.queue.lock();
        queue.work.push_back(work);
        // Those that were woken and have not begun yet count as idle.
        if queue.work.len() > queue.idle && queue.threads < THREADS {
            let shared = Arc::clone(self);
            let thread = std::thread::Builder::new().name("zim-files".to_owned());
            match thread.spawn(move || shared.run()) {
                Ok(_) => queue.threads += 1,
                Err(_) if queue.threads == 0 => queue.work.clear(),
                Err(error) => tracing::debug!(%error, "there are fewer threads that write files than there could be"),
            }
        }
        self.more.notify_one();
        queue.threads > 0
    }

    /// Returns work that does what is next in a line. If a thread is busy with the line, that one goes on with it.
    fn turn_of(self: &Arc<Self>, line: &Line) -> Work {
        let (shared, line) = (Arc::clone(self), line.clone());
        Box::new(move || {
            let mut waiting = line.0.lock();
            if waiting.is_busy {
                return;
            }
            let Some(work) = waiting.work.pop_front() else { return };
            waiting.is_busy = true;
            // After a panic the line goes on.
            MutexGuard::unlocked(&mut waiting, || drop(catch_unwind(AssertUnwindSafe(work))));
            waiting.is_busy = false;
            if !waiting.work.is_empty() {
                // What others have given is done before. This thread looks for work right after this, so none needs to be woken.
                shared.queue.lock().work.push_back(shared.turn_of(&line));
            }
        })
    }

    /// What a thread does.
    fn run(&self) {
        // On Linux it is the priority of this thread. Where it cannot be lowered, it stays.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICENESS);
        let mut queue = self.queue.lock();
        loop {
            if let Some(work) = queue.work.pop_front() {
                // A panic ends what it is in, and whoever waits for that learns of it.
                MutexGuard::unlocked(&mut queue, || drop(catch_unwind(AssertUnwindSafe(work))));
            } else if queue.is_ending {
                return;
            } else {
                queue.idle += 1;
                self.more.wait(&mut queue);
                queue.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn few_threads_do_the_work_of_many_at_once() {
        let disk = Disk::default();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let begun: Vec<_> = (0..50)
            .map(|number| {
                let (now, most, gate) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&gate));
                disk.begin(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // It goes on when the test says so.
                    let gone = gate.lock().recv().is_ok();
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok((number, gone))
                })
            })
            .collect();
        for _ in 0..50 {
            go.send(()).unwrap();
        }
        for (number, begun) in begun.into_iter().enumerate() {
            assert_eq!(begun.done().await.unwrap(), (number, true));
        }
        let most = most.load(Ordering::SeqCst);
        assert!((1..=THREADS).contains(&most), "{most} at once");
        assert_eq!(disk.0.queue.lock().threads, THREADS);
    }

    #[tokio::test]
    async fn the_work_of_a_line_is_done_in_its_order_and_others_have_their_turns() {
        let disk = Disk::default();
        let (line, order) = (Line::default(), Arc::new(Mutex::new(Vec::new())));
        let note = |name: &'static str| {
            let order = Arc::clone(&order);
            move || -> io::Result<()> {
                order.lock().push(name);
                Ok(())
            }
        };
        // Work that tells when it is begun, and ends when the test says so.
        let held = || {
            let ((tell, begun), (end, gate)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
            let work = move || -> io::Result<()> {
                tell.send(()).unwrap();
                let _ended = gate.recv();
                Ok(())
            };
            (work, begun, end)
        };
        let (first, has_begun, end_first) = held();
        let first = disk.begin_in(&line, first);
        has_begun.recv().unwrap();
        let rest = [disk.begin_in(&line, note("second")), disk.begin_in(&line, note("third"))];
        // When the other threads are busy with this, they have left the rest of the line alone.
        let busy: Vec<_> = (1..THREADS)
            .map(|_| {
                let (work, has_begun, end) = held();
                let begun = disk.begin(work);
                has_begun.recv().unwrap();
                (begun, end)
            })
            .collect();
        let other = disk.begin(note("other"));
        end_first.send(()).unwrap();
        first.done().await.unwrap();
        for begun in rest {
            begun.done().await.unwrap();
        }
        other.done().await.unwrap();
        assert_eq!(*order.lock(), ["other", "second", "third"]);
        for (begun, end) in busy {
            drop(end);
            begun.done().await.unwrap();
        }
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_the_rest_is_done() {
        let disk = Disk::default();
        for _ in 0..=THREADS {
            let failed = disk.run::<()>(|| panic!("a test breaks it")).await.unwrap_err();
            assert_eq!(failed.kind(), io::ErrorKind::Other);
        }
        assert_eq!(disk.run(|| Ok(7)).await.unwrap(), 7);
        // A line goes on after it.
        let line = Line::default();
        let (failed, next) =
            (disk.begin_in::<()>(&line, || panic!("a test breaks it")), disk.begin_in(&line, || Ok(9)));
        assert_eq!(failed.done().await.unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(next.done().await.unwrap(), 9);
        // What was given is done, even if the server does not wait for it.
        let last = disk.begin(|| Ok(8));
        drop(disk);
        assert_eq!(last.done().await.unwrap(), 8);
    }
}
