//! Memory and processor time of a process on this machine.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Memory and processor time of a process at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at: Instant,
    rss_bytes: u64,
    cpu: Duration,
}

/// Memory and processor time of a process between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cost {
    pub(crate) rss_before_bytes: u64,
    pub(crate) rss_bytes: u64,
    /// 100 is one core.
    pub(crate) cpu_percent: f64,
}

impl Sample {
    /// Returns a sample of a process; `None` if there is none, or on other systems than Linux.
    #[cfg(target_os = "linux")]
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let ticks = cpu_ticks(&read("stat")?)?;
        let per_second = rustix::param::clock_ticks_per_second();
        let cpu = Duration::from_millis(ticks.checked_mul(1_000)?.checked_div(per_second)?);
        Some(Self { at: Instant::now(), rss_bytes: rss_bytes(&read("status")?)?, cpu })
    }

    /// Returns `None`: samples need Linux.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_pid: u32) -> Option<Self> {
        None
    }

    /// Returns the processor time of the process so far.
    pub(crate) fn cpu(self) -> Duration {
        self.cpu
    }

    pub(crate) fn rss_bytes(self) -> u64 {
        self.rss_bytes
    }

    pub(crate) fn until(self, later: Self) -> Cost {
        let elapsed = later.at.duration_since(self.at).as_secs_f64().max(0.001);
        let cpu_percent = later.cpu.saturating_sub(self.cpu).as_secs_f64() / elapsed * 100.0;
        Cost {
            rss_before_bytes: self.rss_bytes,
            rss_bytes: later.rss_bytes,
            cpu_percent: (cpu_percent * 10.0).round() / 10.0,
        }
    }
}

/// Returns the processor time of a process and of its children that run; `None` on other systems than Linux.
#[cfg(target_os = "linux")]
pub(crate) fn cpu_with_children(pid: u32) -> Option<Duration> {
    let processes =
        std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    // One that ends meanwhile has no time any more.
    let is_child = |process: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok();
        stat.and_then(|stat| parent(&stat)) == Some(pid)
    };
    let children: Duration = processes.filter(is_child).filter_map(Sample::of).map(Sample::cpu).sum();
    Some(Sample::of(pid)?.cpu().saturating_add(children))
}

/// Returns `None`: it needs Linux.
#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_with_children(_pid: u32) -> Option<Duration> {
    None
}

/// The lowest priority: a processor that somebody else wants is hardly ever for such a thread.
#[cfg(unix)]
const LOWEST: i32 = 19;

/// Lets all others run before this thread and those that it starts; elsewhere than on Linux before the process. Does nothing if the
/// system refuses it.
pub(crate) fn lower_priority() {
    #[cfg(unix)]
    let _ = rustix::process::nice(LOWEST);
}

/// Returns the priority of this thread, from -20, the highest, to 19; `None` on other systems than Unix.
#[cfg(unix)]
pub(crate) fn niceness() -> Option<i32> {
    rustix::process::getpriority_process(None).ok()
}

/// Returns `None`: it needs Unix.
#[cfg(not(unix))]
pub(crate) fn niceness() -> Option<i32> {
    None
}

/// Parses `VmRSS:     1234 kB` in /proc/PID/status.
#[cfg(target_os = "linux")]
fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// Parses utime and stime in /proc/PID/stat: fields 14 and 15, counted from the end of the name, which may contain anything.
#[cfg(target_os = "linux")]
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    user.checked_add(system)
}

/// Parses the parent in /proc/PID/stat: field 4.
#[cfg(target_os = "linux")]
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_processor_time() {
        let sample = Sample::of(std::process::id()).unwrap();
        assert!(sample.rss_bytes > 100_000);
        let cost = sample.until(Sample::of(std::process::id()).unwrap());
        assert!(cost.rss_bytes > 100_000 && cost.cpu_percent >= 0.0);
        assert!(Sample::of(u32::MAX).is_none());
    }

    #[test]
    fn a_thread_of_the_lowest_priority_leaves_that_of_others_alone() {
        let before = niceness();
        let lowered = std::thread::spawn(|| {
            lower_priority();
            (niceness(), std::thread::spawn(niceness).join().unwrap())
        });
        assert_eq!(lowered.join().unwrap(), (Some(LOWEST), Some(LOWEST)));
        assert_eq!(niceness(), before);
    }

    #[test]
    fn the_time_of_children_is_included() {
        // It takes processor time until it is ended.
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        while Sample::of(child.id()).unwrap().cpu() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        let (own, all) =
            (Sample::of(std::process::id()).unwrap().cpu(), cpu_with_children(std::process::id()).unwrap());
        let alone = cpu_with_children(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(all >= own + Duration::from_millis(50), "{all:?} of {own:?}");
        assert!(alone >= Duration::from_millis(50) && cpu_with_children(u32::MAX).is_none());
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_is_skipped() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 40 2 13";
        assert_eq!((cpu_ticks(stat), parent(stat)), (Some(42), Some(1)));
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t    12 kB\n"), Some(12_288));
    }
}
