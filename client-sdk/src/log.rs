//! The SDK's log: rotating files, or standard error. The SDK logs through `tracing`; an app with its own subscriber
//! gets the log there and does not need this module.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::zim::Zim;

/// The number of files, as in the reference.
const FILES: usize = 3;
/// The size of each file in bytes, as in the reference.
const FILE_BYTES: u64 = 5 << 20;

/// The level of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Normal operation.
    #[default]
    Info,
    /// Possible problems.
    Warn,
    /// Errors.
    Error,
    /// The reference's level for reports. Here the same as `Error`.
    Report,
    /// Nothing.
    Disable,
}

/// The reference's `ZIMLogConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The level of the log.
    pub log_level: LogLevel,
    /// The folder of the files `zim.log`, `zim.1.log` and `zim.2.log`, of 5 MB each. Other users cannot read them.
    /// `None`: standard error.
    pub log_path: Option<PathBuf>,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error | Self::Report => LevelFilter::ERROR,
            Self::Disable => LevelFilter::OFF,
        }
    }
}

static FILTER: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
static OUTPUT: Mutex<Option<Rotating>> = Mutex::new(None);

impl Zim {
    /// Sets the level and the place of the log (reference: `setLogConfig`). The first call installs a global `tracing`
    /// subscriber for the process. If the app has installed one, this call has no effect on it.
    pub fn set_log_config(&self, config: &LogConfig) {
        *OUTPUT.lock() = config.log_path.as_deref().map(Rotating::new);
        let level = config.log_level.filter();
        if let Some(filter) = FILTER.get() {
            // Fails only when the subscriber is gone, and the log with it.
            let _ = filter.reload(level);
            return;
        }
        let (filter, handle) = reload::Layer::new(level);
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Output).with_filter(filter);
        if tracing_subscriber::registry().with(layer).try_init().is_ok() {
            // `set` cannot fail: `try_init` succeeds only once per process.
            let _ = FILTER.set(handle);
        }
    }
}

/// Returns whether the log goes to files.
pub(crate) fn is_in_a_folder() -> bool {
    OUTPUT.lock().is_some()
}

/// A folder, and files in it that are open, with their names.
pub(crate) type OpenFiles = (PathBuf, Vec<(String, File)>);

/// Opens the log files that are there, oldest first, with their names, and returns the folder. `None`: the log goes to no folder.
///
/// What is open stays so when the files are rotated: reading them takes longer, and nothing is logged while this runs.
pub(crate) fn open_files() -> io::Result<Option<OpenFiles>> {
    let output = OUTPUT.lock();
    output.as_ref().map(|files| Ok((files.folder.clone(), files.open_all()?))).transpose()
}

/// The current destination of the log.
struct Output;

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *OUTPUT.lock() {
            Some(files) => files.write(line),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log file that is rotated when it is full.
struct Rotating {
    folder: PathBuf,
    file: Option<(File, u64)>,
}

impl Rotating {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: None }
    }

    fn path(&self, age: usize) -> PathBuf {
        self.folder.join(if age == 0 { "zim.log".to_owned() } else { format!("zim.{age}.log") })
    }

    fn open_all(&self) -> io::Result<Vec<(String, File)>> {
        let mut open = Vec::new();
        for path in (0..FILES).rev().map(|age| self.path(age)) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => open.push((name, file?)),
            }
        }
        Ok(open)
    }

    fn open(&self) -> io::Result<(File, u64)> {
        zim_files::create_folder(&self.folder)?;
        for age in 1..FILES {
            zim_files::close_to_others(&self.path(age));
        }
        let file = zim_files::open(&self.path(0), OpenOptions::new().create(true).append(true))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // First: a file that the app has left full is full for this line, too.
        let (mut file, mut length) = match self.file.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if length + line.len() as u64 > FILE_BYTES {
            drop(file);
            for age in (1..FILES).rev() {
                // The older one may not be there yet.
                let _ = std::fs::rename(self.path(age - 1), self.path(age));
            }
            (file, length) = self.open()?;
        }
        // After a failure the file is opened again.
        let written = file.write(line)?;
        self.file = Some((file, length + written as u64));
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_files_are_kept_and_none_exceeds_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Rotating::new(folder.path());
        let line = vec![b'x'; 1 << 20];
        for _ in 0..23 {
            log.write(&line).unwrap();
        }
        let mut sizes: Vec<u64> =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [3 << 20, 5 << 20, 5 << 20]);
    }

    #[test]
    fn a_full_file_of_an_earlier_run_is_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let size = |age: usize| std::fs::metadata(Rotating::new(folder.path()).path(age)).map_or(0, |file| file.len());
        let mut first = Rotating::new(folder.path());
        first.write(&vec![b'x'; usize::try_from(FILE_BYTES).unwrap()]).unwrap();
        drop(first);
        // Each line of an app that runs for a moment only.
        for _ in 0..2 {
            Rotating::new(folder.path()).write(b"line").unwrap();
        }
        assert_eq!([size(0), size(1), size(2)], [8, FILE_BYTES, 0]);
    }

    #[test]
    fn the_files_that_are_read_are_those_of_one_moment() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Rotating::new(folder.path());
        let line = |letter: u8| vec![letter; 3 << 20];
        for letter in *b"abc" {
            log.write(&line(letter)).unwrap();
        }
        let files = log.open_all().unwrap();
        // Each is one file older now.
        log.write(&line(b'd')).unwrap();
        let read = files.into_iter().map(|(name, mut file)| {
            let mut content = Vec::new();
            io::Read::read_to_end(&mut file, &mut content).unwrap();
            (name, content == line(content[0]), content[0])
        });
        let expected = [("zim.2.log", b'a'), ("zim.1.log", b'b'), ("zim.log", b'c')];
        assert_eq!(read.collect::<Vec<_>>(), expected.map(|(name, letter)| (name.to_owned(), true, letter)));
    }

    #[cfg(unix)]
    #[test]
    fn other_users_cannot_read_the_log_even_of_an_older_version() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let mut log = Rotating::new(&folder.path().join("log"));
        log.write(b"line").unwrap();
        assert_eq!((mode(&log.folder), mode(&log.path(0))), (0o700, 0o600));
        for age in 0..FILES {
            std::fs::write(log.path(age), "old").unwrap();
            std::fs::set_permissions(log.path(age), std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        Rotating::new(&log.folder).write(b"line").unwrap();
        assert_eq!([0, 1, 2].map(|age| mode(&log.path(age))), [0o600; FILES]);
    }
}
