//! Clients that run apart from others, on threads and sockets of their own: the pair that is measured, and the load beside it. The
//! clients of a load stand for other machines, so their threads have the lowest priority. Otherwise they would take the processors
//! from the pair and from the server, and the latency of the pair would say how busy this machine is.

use std::future::poll_fn;
use std::sync::Arc;

use clap::Args;
use tokio::runtime::{Builder, Handle, Runtime};

use super::process;
use super::raw::{Dialer, SharedDialer};
use super::target::Target;
use crate::exit::Failure;
use crate::output::Output;

/// The priority of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// That of the benchmark itself.
    Same,
    /// Everybody else goes first.
    Lowest,
}

/// The option of benchmarks that measure others beside a load.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PriorityArgs {
    /// Give the clients of the load the priority of those who are measured meanwhile [default: on Linux the lowest, because
    /// they stand for other machines]
    #[arg(long)]
    same_priority: bool,
}

impl PriorityArgs {
    pub(crate) fn priority(self) -> Priority {
        Priority::of_load(self.same_priority)
    }
}

impl Priority {
    /// Returns the priority of the clients of a load.
    pub(crate) fn of_load(is_same: bool) -> Self {
        if is_same { Self::Same } else { Self::Lowest }
    }

    /// Gives it to this thread. Only Linux has priorities of threads: elsewhere the others of this process would get it, too.
    fn give(self) {
        if self == Self::Lowest && cfg!(target_os = "linux") {
            process::lower_priority();
        }
    }
}

/// Threads with a priority, which run nothing else.
#[derive(Debug)]
struct Threads {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Threads {
    fn start(count: usize, priority: Priority) -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .on_thread_start(move || priority.give())
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// See [`Apart::within`].
    fn within<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        let mut work = Box::pin(work);
        poll_fn(move |context| {
            let _within = self.handle.enter();
            work.as_mut().poll(context)
        })
    }

    async fn niceness(&self) -> Option<i32> {
        self.handle.spawn(async { process::niceness() }).await.ok().flatten()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime cannot wait for another one to shut down.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// How many threads and sockets clients have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) threads: usize,
    pub(crate) sockets: usize,
}

/// Clients that share no thread and no socket with others. Their tasks end with this.
#[derive(Debug)]
pub(crate) struct Apart {
    threads: Threads,
    dialer: SharedDialer,
}

impl Apart {
    pub(crate) fn new(target: &Target, size: Size, priority: Priority) -> Result<Self, Failure> {
        let threads = Threads::start(size.threads, priority)?;
        let dialer = {
            // Sockets are served by the runtime in which they are created.
            let _within = threads.handle.enter();
            Arc::new(Dialer::new(target, size.sockets)?)
        };
        Ok(Self { threads, dialer })
    }

    /// Returns the clients of the pairs whose latency is measured. They have the priority of the benchmark.
    pub(crate) fn pairs(target: &Target) -> Result<Self, Failure> {
        Self::new(target, Size { threads: 1, sockets: 1 }, Priority::Same)
    }

    /// Runs `work` here, and what it starts on the threads of these clients: the tasks that it spawns, its connections and timers.
    pub(crate) fn within<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        self.threads.within(work)
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.threads.handle
    }

    pub(crate) fn dialer(&self) -> &SharedDialer {
        &self.dialer
    }

    /// Returns the priority of the threads, if it is known: 19 is the lowest.
    pub(crate) async fn niceness(&self) -> Option<i32> {
        self.threads.niceness().await
    }
}

/// Says which priority the clients of a load had.
pub(crate) fn show(who: &str, niceness: Option<i32>, output: Output) -> Result<(), Failure> {
    output.line(said(who, niceness, process::niceness()))
}

/// The same with the priority of the pair, which is that of the benchmark.
fn said(who: &str, of_load: Option<i32>, of_pair: Option<i32>) -> String {
    match of_load.zip(of_pair) {
        Some((of_load, of_pair)) if of_load > of_pair => format!(
            "priority {who} have the lowest (niceness {of_load}), because they stand for other machines; the pair has {of_pair}"
        ),
        _ => format!("priority {who} have the same as the pair"),
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use super::*;

    /// Returns the thread of a task and its priority.
    async fn task() -> (ThreadId, Option<i32>) {
        let seen = || (std::thread::current().id(), process::niceness());
        // A task that a task has spawned.
        tokio::spawn(async move { tokio::spawn(async move { seen() }).await.unwrap() }).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_threads_of_a_load_have_the_lowest_priority() {
        let (here, own) = (std::thread::current().id(), process::niceness());
        let load = Threads::start(1, Priority::Lowest).unwrap();
        let pairs = Threads::start(1, Priority::of_load(true)).unwrap();
        let lowest = if cfg!(target_os = "linux") { Some(19) } else { own };
        let (of_load, niceness) = load.within(task()).await;
        assert_eq!((niceness, load.niceness().await), (lowest, lowest));
        let (of_pairs, niceness) = pairs.within(task()).await;
        assert_eq!((niceness, pairs.niceness().await, process::niceness()), (own, own, own));
        assert!(of_load != here && of_pairs != here && of_load != of_pairs, "{of_load:?} {of_pairs:?} {here:?}");
        // So have those for work that blocks.
        let blocking = load.within(async { tokio::task::spawn_blocking(process::niceness).await.unwrap() }).await;
        assert_eq!(blocking, lowest);
        // What is not within them is not theirs.
        let (outside, niceness) = task().await;
        assert_eq!((outside, niceness), (here, own));
    }

    #[tokio::test]
    async fn an_error_of_a_load_reaches_its_caller() {
        let load = Threads::start(1, Priority::Lowest).unwrap();
        let failing = async { tokio::spawn(async { Err::<(), _>(Failure::other("full")) }).await.unwrap() };
        assert_eq!(load.within(failing).await.unwrap_err().message, "full");
    }

    #[tokio::test]
    async fn the_tasks_of_a_load_end_with_it() {
        let load = Threads::start(1, Priority::Lowest).unwrap();
        let (held, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let started = async {
            tokio::spawn(async move {
                held.send(()).await.unwrap();
                std::future::pending::<()>().await;
            });
            ended.recv().await
        };
        assert_eq!(load.within(started).await, Some(()));
        drop(load);
        assert_eq!(ended.recv().await, None);
    }

    #[test]
    fn a_report_says_who_goes_first() {
        let lowest =
            "priority they have the lowest (niceness 19), because they stand for other machines; the pair has 0";
        assert_eq!(said("they", Some(19), Some(0)), lowest);
        for (of_load, of_pair) in [(Some(0), Some(0)), (Some(19), Some(19)), (None, Some(0)), (None, None)] {
            assert_eq!(said("they", of_load, of_pair), "priority they have the same as the pair");
        }
    }
}
