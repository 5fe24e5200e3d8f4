//! The first frames of films. Decoders of films are large programs in C, so a film is decoded by a process of its own: the server
//! starts a program such as ffmpeg, and reads a picture from it. The film may be hostile. So the program has little time, little
//! memory, no network, no file to write to and no secret in its environment, and no shell reads its arguments.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

/// What comes before the film: of what it may consist, and how it is read. The formats of QuickTime are the only ones that are
/// tried, so no film can name other files or addresses.
const BEFORE: [&str; 17] = [
    "-nostdin",
    "-hide_banner",
    "-loglevel",
    "error",
    "-filter_threads",
    "1",
    "-threads",
    "1",
    "-protocol_whitelist",
    "file",
    "-f",
    "mov",
    // As by default: tracks in other files are not read.
    "-enable_drefs",
    "0",
    "-use_absolute_path",
    "0",
    "-i",
];
/// What comes after the film: its first frame as a PNG of at most 720 pixels on its longer side.
const AFTER: [&str; 15] = [
    "-map",
    "0:V:0",
    "-frames:v",
    "1",
    "-vf",
    "scale=w='min(720,iw)':h='min(720,ih)':force_original_aspect_ratio=decrease",
    "-threads",
    "1",
    "-pix_fmt",
    "rgb24",
    "-c:v",
    "png",
    "-f",
    "image2pipe",
    "pipe:1",
];
/// The memory of the program. A film in 4K takes some 200 MB.
const MEMORY: u64 = 512 << 20;
/// What is reserved without being used, such as the code of libraries, counts as well here.
const ADDRESSES: u64 = 4;
/// The files that it has open. The server itself may have very many.
const FILES: u64 = 256;
/// The most pixels of a frame: the program may make another picture than the one it is asked for.
pub(super) const PIXELS: u32 = 720 * 720;
/// The most bytes of a frame.
const MOST: u64 = 8 << 20;
/// The bytes that are kept of what the program says.
const TEXT: u64 = 300;
/// How long the system may take to end a process that was killed.
const REAP: Duration = Duration::from_secs(1);

/// Why there is no first frame.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The program cannot be started, or not be limited.
    Missing(io::Error),
    /// It takes too long.
    Slow,
    /// There is no picture, or none that can be read.
    Failed(String),
    /// Other films are being unpacked.
    Busy,
    /// The film cannot be read, or the frame not be stored.
    Store(io::Error),
}

impl FrameError {
    /// The label of the metric.
    fn label(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Slow => "slow",
            Self::Failed(_) => "failed",
            Self::Busy => "busy",
            Self::Store(_) => "store",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(error) => write!(f, "the program cannot be run: {error}"),
            Self::Slow => f.write_str("the program takes too long"),
            // What the program says may come from the film.
            Self::Failed(text) => write!(f, "there is no picture that can be read: {text:?}"),
            Self::Busy => f.write_str("too many films come at once"),
            Self::Store(error) => write!(f, "the store of the files fails: {error}"),
        }
    }
}

/// Makes first frames.
#[derive(Debug)]
pub(super) struct Frames {
    program: PathBuf,
    pub(super) within: Duration,
    memory: u64,
    /// Whether the operator has been told that a frame is missing.
    is_told: AtomicBool,
}

impl Frames {
    /// `within` is the time that a film may take.
    pub(super) fn new(program: PathBuf, within: Duration) -> Self {
        Self { program, within, memory: MEMORY, is_told: AtomicBool::new(false) }
    }

    /// Counts a frame that was made, or is missing. The first one that is missing is told.
    pub(super) fn note(&self, failed: Option<&FrameError>) {
        let result = failed.map_or("made", FrameError::label);
        metrics::counter!("zim_media_frames_total", "result" => result).increment(1);
        let Some(error) = failed else { return };
        if self.is_told.swap(true, Ordering::Relaxed) {
            tracing::debug!(%error, "the first frame of a film is missing");
        } else {
            tracing::warn!(
                program = %self.program.display(),
                %error,
                "the first frame of a film is missing, and its message is sent without it; more of them are counted only \
                 (zim_media_frames_total)"
            );
        }
    }

    /// Returns the first frame of a film, as a picture that nobody has checked.
    pub(super) async fn of(&self, film: &Path) -> Result<Vec<u8>, FrameError> {
        let mut input = OsString::from("file:");
        input.push(film);
        let mut command = Command::new(&self.program);
        command
            .args(BEFORE)
            .arg(input)
            .args(AFTER)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            // What each thread would reserve for itself.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Whatever it starts ends with it.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(FrameError::Missing)?;
        let id = child.id().unwrap_or_default();
        // Dropped before the child is: its number may belong to another process later.
        let group = Group(id);
        limit(id, self.memory, self.within).map_err(FrameError::Missing)?;
        // A program that waits for the end of its input is limited by then.
        drop(child.stdin.take());
        let (Some(picture), Some(text)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(FrameError::Missing(io::ErrorKind::BrokenPipe.into()));
        };
        let read = timeout(self.within, async { tokio::try_join!(picture_of(picture), text_of(text)) }).await;
        drop(group);
        drop(timeout(REAP, child.wait()).await);
        let (picture, text) = read.map_err(|_| FrameError::Slow)??;
        if picture.is_empty() { Err(FrameError::Failed(text)) } else { Ok(picture) }
    }
}

async fn picture_of(output: impl AsyncRead + Unpin) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::new();
    let read = output.take(MOST + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| FrameError::Failed(error.to_string()))?;
    if bytes.len() as u64 > MOST { Err(FrameError::Failed("it is too large".to_owned())) } else { Ok(bytes) }
}

/// Returns the first line that the program says. The rest is read, so that the program does not wait.
async fn text_of(mut output: impl AsyncRead + Unpin) -> Result<String, FrameError> {
    let mut bytes = Vec::new();
    let read = async {
        (&mut output).take(TEXT).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut output, &mut tokio::io::sink()).await
    };
    read.await.map_err(|error| FrameError::Failed(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned())
}

/// The process of the program, and all that it has started. They are killed when it is dropped.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "elsewhere the program is not kept, and ends alone"))]
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(pid) = pid(self.0) {
            // It fails if all of them have ended.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(target_os = "linux")]
fn pid(id: u32) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(id).ok()?)
}

/// Limits what a process can take. It may have begun, but what it takes later counts.
#[cfg(target_os = "linux")]
fn limit(id: u32, memory: u64, within: Duration) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let pid = pid(id).ok_or(io::ErrorKind::NotFound)?;
    for (resource, most) in [
        (Resource::Data, memory),
        (Resource::As, memory.saturating_mul(ADDRESSES)),
        // It writes to its output only.
        (Resource::Fsize, 0),
        (Resource::Nofile, FILES),
        (Resource::Core, 0),
        (Resource::Cpu, within.as_secs() + 1),
    ] {
        // Nobody may raise what the server itself is limited to.
        let most = Some(getrlimit(resource).maximum.map_or(most, |own| own.min(most)));
        prlimit(Some(pid), resource, Rlimit { current: most, maximum: most })?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn limit(_: u32, _: u64, _: Duration) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "its memory can be limited on Linux only"))
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// Longer than any of these programs needs.
    const LONG: Duration = Duration::from_secs(60);

    /// A program that waits until it is limited, and does this then.
    fn frames(dir: &TempDir, script: &str, within: Duration) -> Frames {
        let program = dir.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\nread _\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        Frames { memory: 64 << 20, ..Frames::new(program, within) }
    }

    async fn run(script: &str) -> Result<Vec<u8>, FrameError> {
        let dir = tempfile::tempdir().unwrap();
        frames(&dir, script, LONG).of(Path::new("/nowhere/film")).await
    }

    fn told(result: Result<Vec<u8>, FrameError>) -> String {
        match result {
            Err(FrameError::Failed(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_program_gets_the_film_as_one_argument_and_no_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let frames = frames(&dir, "printf '<%s>\\n' \"$@\"\nenv", LONG);
        let output = frames.of(Path::new("/a film; $(exit 1) '-y'")).await.unwrap();
        let output = String::from_utf8(output).unwrap();
        let lines: Vec<&str> = output.lines().collect();
        assert!(lines.contains(&"<file:/a film; $(exit 1) '-y'>"), "{output}");
        let at = |argument: &str| lines.iter().position(|line| *line == format!("<{argument}>")).unwrap();
        assert!(at("-protocol_whitelist") < at("-i") && at("file") < at("-i"), "{output}");
        assert!(at("-enable_drefs") < at("-i"), "{output}");
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the environment has something");
        assert!(!lines.iter().any(|line| line.starts_with("CARGO_")), "{output}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_ends_with_all_that_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let script = format!("exec 3>'{}'\n(while :; do sleep 1; done) &\nwait", pipe.display());
        // It ends when nobody has the other end of the pipe any more.
        let ended = tokio::task::spawn_blocking(move || std::fs::read(pipe));
        let hanging = frames(&dir, &script, Duration::from_secs(3)).of(Path::new("film")).await;
        assert!(matches!(hanging, Err(FrameError::Slow)), "{hanging:?}");
        assert!(timeout(LONG, ended).await.unwrap().unwrap().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_program_that_fails_is_told_with_its_first_line() {
        assert_eq!(told(run("echo 'no film' >&2\necho 'nor sound' >&2\nexit 1").await), "no film");
        // What it says does not hold it up.
        assert!(told(run("head -c 1000000 /dev/zero >&2").await).starts_with('\0'));
        let missing = Frames::new(PathBuf::from("/nowhere/program"), LONG);
        let missing = missing.of(Path::new("film")).await;
        assert!(matches!(missing, Err(FrameError::Missing(_))), "{missing:?}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_stop_writing_is_ended() {
        assert_eq!(told(run("head -c 8388609 /dev/zero").await), "it is too large");
        assert_eq!(told(run("yes").await), "it is too large");
        assert_eq!(run("head -c 8388608 /dev/zero").await.unwrap().len(), 8_388_608);
    }

    #[tokio::test]
    async fn a_program_has_few_files() {
        let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let most = own.map_or(FILES, |own| own.min(FILES));
        assert_eq!(run("ulimit -n").await.unwrap(), format!("{most}\n").as_bytes());
    }

    #[tokio::test]
    async fn a_program_that_takes_memory_is_stopped() {
        let takes = |bytes: u32| format!("x=$(head -c {bytes} /dev/zero | tr '\\0' x) || exit 1\necho \"${{#x}}\"");
        assert_eq!(run(&takes(1_000)).await.unwrap(), b"1000\n");
        told(run(&takes(200_000_000)).await);
    }

    #[tokio::test]
    async fn a_program_that_writes_to_a_file_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let writes = format!("head -c 1000 /dev/zero >'{}' && echo picture", file.display());
        told(run(&writes).await);
        assert_eq!(std::fs::metadata(file).unwrap().len(), 0);
    }
}
