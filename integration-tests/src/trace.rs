//! What a process writes to a folder, and when it waits until the disk has it: its calls of the system, as `strace` reports them.
//!
//! What this module does not understand, it refuses: a file that is written through memory, or at an unknown position.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::program::installed;
use crate::wait::eventually;

/// The calls that change files, and those that move the position in one. Not every machine has those with `?`.
const CALLS: &str = "trace=openat,?open,?creat,read,readv,lseek,write,writev,pwrite64,pwritev,?pwritev2,ftruncate,?truncate,\
    fallocate,fsync,fdatasync,?rename,?renameat,renameat2,?unlink,unlinkat,?link,linkat,?symlink,symlinkat,?copy_file_range,\
    ?sendfile,mmap";
/// Each sync takes 20 ms. An answer that does not wait for it reaches its client while the sync lasts.
const SLOW_SYNC: &str = "inject=fsync,fdatasync:delay_enter=20000";
/// More than the bytes of any call.
const LONGEST: &str = "33554432";
/// More than the bytes of the last line.
const LAST_LINE: u64 = 200;
/// SQLite's index of the log is in memory that processes share. Who opens the database first builds it anew.
const INDEX: &str = "-shm";

/// Something that a process has done. Files and folders are relative to the folder; the folder itself is the empty path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Opened a file, which was created if there was none.
    Open { file: PathBuf, is_emptied: bool },
    /// Wrote to a file.
    Write { file: PathBuf, at: usize, bytes: Vec<u8> },
    /// Made a file longer or shorter.
    Resize { file: PathBuf, size: usize },
    /// Waited until the disk has what the operations before number `begun` did to a file, or to the names in a folder.
    Sync { path: PathBuf, begun: usize },
    /// Renamed a file.
    Rename { from: PathBuf, to: PathBuf },
    /// Removed a name.
    Remove { file: PathBuf },
    /// Printed something.
    Print(String),
}

/// Returns the command that runs a program and writes a trace of it. The process of the command is that of the program: `strace`
/// is its child.
pub(crate) fn traced(program: &str, trace: &Path) -> anyhow::Result<Command> {
    let strace = installed("strace").context("strace is not installed here: `apt-get install strace`")?;
    let mut command = Command::new(strace);
    // Follows threads, says which file is meant, and shows all bytes in hex.
    command.args(["-D", "-f", "-q", "-y", "-xx", "-s", LONGEST, "--seccomp-bpf", "-e", CALLS, "-e", SLOW_SYNC, "-o"]);
    command.arg(trace).arg(program);
    Ok(command)
}

/// Checks that a process that has printed something is traced.
///
/// # Errors
/// Its trace is empty. Where the system forbids `ptrace`, `strace` says so and lets the program run.
pub(crate) fn check(trace: &Path) -> anyhow::Result<()> {
    let length = std::fs::metadata(trace).map_or(0, |trace| trace.len());
    ensure!(
        length > 0,
        "strace cannot trace processes here, so no power can be cut; a container needs `--cap-add=SYS_PTRACE`, and a seccomp \
         profile that allows `ptrace`"
    );
    Ok(())
}

/// Reads what a process did in a folder, in the order in which the calls ended. It must be ending or have ended.
pub(crate) async fn operations(trace: &Path, folder: &Path) -> anyhow::Result<Vec<Operation>> {
    eventually("the end of the trace", async || has_ended(trace).unwrap_or(false).then_some(())).await;
    let mut reader = Reader { folder, operations: Vec::new(), unfinished: HashMap::new(), positions: HashMap::new() };
    for line in BufReader::new(File::open(trace)?).lines() {
        let line = line?;
        reader.line(&line).with_context(|| line.chars().take(300).collect::<String>())?;
    }
    Ok(reader.operations)
}

/// Whether the last line says that the process has ended. Those of its other threads come before.
fn has_ended(trace: &Path) -> anyhow::Result<bool> {
    let mut file = File::open(trace)?;
    let mut first = String::new();
    BufReader::new(&file).read_line(&mut first)?;
    let (process, _) = first.split_once(' ').context("no process")?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_LINE)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    let last = end.strip_suffix('\n').and_then(|end| end.rsplit('\n').next()).unwrap_or_default();
    Ok(last.split_once(' ').is_some_and(|(of, rest)| of == process && rest.trim_start().starts_with("+++ ")))
}

struct Reader<'a> {
    folder: &'a Path,
    operations: Vec<Operation>,
    /// By thread: how its present call begins, and how many operations had ended then.
    unfinished: HashMap<String, (String, usize)>,
    /// The positions in open files, by their numbers.
    positions: HashMap<u32, usize>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let (thread, rest) = line.split_once(' ').context("no thread")?;
        let rest = rest.trim_start();
        // Ends of threads, and signals.
        if rest.starts_with("+++ ") || rest.starts_with("--- ") {
            return Ok(());
        }
        if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
            self.unfinished.insert(thread.to_owned(), (begin.trim_end().to_owned(), self.operations.len()));
            return Ok(());
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let (_, end) = resumed.split_once(" resumed>").context("what is resumed?")?;
            let (begin, begun) = self.unfinished.remove(thread).context("nothing is unfinished")?;
            return self.call(&format!("{begin}{end}"), begun);
        }
        self.call(rest, self.operations.len())
    }

    fn call(&mut self, call: &str, begun: usize) -> anyhow::Result<()> {
        let (name, rest) = call.split_once('(').context("no call")?;
        let (arguments, answer) = rest.rsplit_once(" = ").context("no answer")?;
        let arguments = arguments.trim_end().strip_suffix(')').context("no end of the arguments")?;
        let digits = answer.find(|one: char| !one.is_ascii_digit()).unwrap_or(answer.len());
        // Otherwise the call has failed.
        let Ok(answered) = answer[..digits].parse::<usize>() else { return Ok(()) };
        let list: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let argument = |at: usize| list.get(at).copied().unwrap_or_default();
        let last = || argument(list.len() - 1).parse::<usize>();
        let operation = match name {
            "openat" | "open" => {
                let has = |flag: &str| argument(if name == "open" { 1 } else { 2 }).split('|').any(|one| one == flag);
                let Some((number, file)) = self.open_file(answer)? else { return Ok(()) };
                ensure!(!has("O_APPEND"), "a file to which the system appends");
                self.positions.insert(number, 0);
                let is_emptied = has("O_TRUNC");
                (is_emptied || has("O_CREAT")).then_some(Operation::Open { file, is_emptied })
            }
            "write" | "writev" if argument(0).starts_with("1<") => {
                let bytes = written(arguments, answered)?;
                Some(Operation::Print(String::from_utf8_lossy(&bytes).into_owned()))
            }
            "write" | "writev" => match self.open_file(argument(0))? {
                Some((number, file)) => {
                    let at = self.advance(number, answered)?;
                    Some(Operation::Write { file, at, bytes: written(arguments, answered)? })
                }
                None => None,
            },
            "pwrite64" | "pwritev" => match self.open_file(argument(0))? {
                Some((_, file)) => Some(Operation::Write { file, at: last()?, bytes: written(arguments, answered)? }),
                None => None,
            },
            "read" | "readv" => {
                if let Some((number, _)) = self.open_file(argument(0))? {
                    self.advance(number, answered)?;
                }
                None
            }
            "lseek" => {
                if let Some((number, _)) = self.open_file(argument(0))? {
                    self.positions.insert(number, answered);
                }
                None
            }
            "ftruncate" => match self.open_file(argument(0))? {
                Some((_, file)) => Some(Operation::Resize { file, size: last()? }),
                None => None,
            },
            "fsync" | "fdatasync" => self.open_file(argument(0))?.map(|(_, path)| Operation::Sync { path, begun }),
            "rename" => self.renamed(("", argument(0)), ("", argument(1)))?,
            "renameat" | "renameat2" => {
                ensure!(!arguments.contains("RENAME_EXCHANGE"), "two files change their names");
                self.renamed((argument(0), argument(1)), (argument(2), argument(3)))?
            }
            "unlink" => self.named("", argument(0))?.map(|file| Operation::Remove { file }),
            "unlinkat" => self.named(argument(0), argument(1))?.map(|file| Operation::Remove { file }),
            "mmap" => {
                let is_written = argument(2).contains("PROT_WRITE") && argument(3).contains("MAP_SHARED");
                ensure!(!is_written || self.open_file(argument(4))?.is_none(), "a file is written through memory");
                None
            }
            _ => {
                for argument in &list {
                    let is_own = if argument.starts_with('"') {
                        self.named("", argument)?.is_some()
                    } else {
                        self.open_file(argument)?.is_some()
                    };
                    ensure!(!is_own, "this call is not understood");
                }
                None
            }
        };
        self.operations.extend(operation);
        Ok(())
    }

    /// Returns the number and the path of an open file in the folder, such as `15</path>`; `None` for others, and for those that
    /// have no name any more.
    fn open_file(&self, text: &str) -> anyhow::Result<Option<(u32, PathBuf)>> {
        let Some((number, rest)) = text.split_once('<') else { return Ok(None) };
        let (path, after) = rest.split_once('>').context("no end of the path")?;
        if after.starts_with("(deleted)") {
            return Ok(None);
        }
        let Some(path) = self.relative(&path_of(path)?) else { return Ok(None) };
        // The present folder has no number.
        Ok(number.parse().ok().map(|number| (number, path)))
    }

    /// Returns the path of a name in an open folder, if it is in the folder.
    fn named(&self, open: &str, name: &str) -> anyhow::Result<Option<PathBuf>> {
        let mut path = path_of(name.trim_matches('"'))?;
        if let Some((_, open)) = open.split_once('<') {
            // An absolute path stays what it is.
            path = path_of(open.trim_end_matches('>'))?.join(path);
        }
        ensure!(path.is_absolute(), "a path relative to an unknown folder");
        Ok(self.relative(&path))
    }

    fn renamed(&self, from: (&str, &str), to: (&str, &str)) -> anyhow::Result<Option<Operation>> {
        match (self.named(from.0, from.1)?, self.named(to.0, to.1)?) {
            (Some(from), Some(to)) => Ok(Some(Operation::Rename { from, to })),
            (None, None) => Ok(None),
            _ => bail!("a file leaves the folder or comes into it"),
        }
    }

    fn relative(&self, path: &Path) -> Option<PathBuf> {
        let path = path.strip_prefix(self.folder).ok()?;
        (!path.to_string_lossy().ends_with(INDEX)).then(|| path.to_owned())
    }

    /// Moves the position in an open file; returns where it was.
    fn advance(&mut self, number: u32, by: usize) -> anyhow::Result<usize> {
        let position = self.positions.get_mut(&number).context("a file at an unknown position")?;
        *position += by;
        Ok(*position - by)
    }
}

/// Decodes text such as `\x61\x62`.
fn decoded(text: &str) -> anyhow::Result<Vec<u8>> {
    let byte = |piece: &[u8]| {
        let digits = std::str::from_utf8(piece.strip_prefix(b"\\x")?).ok()?;
        u8::from_str_radix(digits, 16).ok()
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(4).map(byte).collect();
    bytes.with_context(|| format!("{:?} is not in hex", text.chars().take(100).collect::<String>()))
}

fn path_of(text: &str) -> anyhow::Result<PathBuf> {
    Ok(String::from_utf8_lossy(&decoded(text)?).into_owned().into())
}

/// Returns the first `count` bytes between quotes.
fn written(arguments: &str, count: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for quoted in arguments.split('"').skip(1).step_by(2) {
        bytes.extend(decoded(quoted)?);
    }
    ensure!(bytes.len() >= count, "the trace has {} of {count} bytes", bytes.len());
    bytes.truncate(count);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes what is between backticks as `strace` does.
    fn encoded(line: &str) -> String {
        let mut text = String::new();
        for (number, piece) in line.split('`').enumerate() {
            if number % 2 == 0 {
                text.push_str(piece);
            } else {
                text.extend(piece.bytes().map(|byte| format!("\\x{byte:02x}")));
            }
        }
        text
    }

    async fn read(lines: &[&str]) -> anyhow::Result<Vec<Operation>> {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace");
        let text: String = lines.iter().map(|line| encoded(line) + "\n").collect();
        std::fs::write(&trace, text + "7     +++ exited with 0 +++\n").unwrap();
        operations(&trace, Path::new("/data")).await
    }

    #[tokio::test]
    async fn a_trace_is_read() {
        let found = read(&[
            r#"7     openat(AT_FDCWD<`/`>, "`/data/a.new`", O_RDWR|O_CREAT|O_EXCL, 0600) = 3<`/data/a.new`>"#,
            r#"7     write(3<`/data/a.new`>, "`x, "`", 4) = 4"#,
            r#"7     write(3<`/data/a.new`>, "`yz`", 2) = 1"#,
            r#"8     fsync(3<`/data/a.new`> <unfinished ...>"#,
            r#"7     pwrite64(4<`/data/a`>, "`q`", 1, 4096 <unfinished ...>"#,
            r#"9     write(1<`pipe:[1]`>, "`done`", 4) = 4"#,
            r#"7     <... pwrite64 resumed>)           = 1"#,
            r#"8     <... fsync resumed>)              = 0"#,
            r#"7     renameat(AT_FDCWD<`/`>, "`/data/a.new`", AT_FDCWD<`/data`>, "`a`") = 0"#,
            r#"7     ftruncate(4<`/data/a`>, 5) = 0"#,
            r#"7     fsync(5<`/data`>) = 0 (DELAYED)"#,
            r#"7     lseek(3<`/data/a`>, 1, SEEK_SET) = 1"#,
            r#"7     read(3<`/data/a`>, "`z`", 10) = 1"#,
            r#"7     writev(3<`/data/a`>, [{iov_base="`p`", iov_len=1}, {iov_base="`r`", iov_len=1}], 2) = 2"#,
            // None of these changes a file of the folder that has a name.
            r#"7     write(6<`/other`>, "`x`", 1) = 1"#,
            r#"7     write(6<`/data/gone`>(deleted), "`x`", 1) = 1"#,
            r#"7     openat(AT_FDCWD<`/`>, "`/data/missing`", O_RDONLY) = -1 ENOENT (No such file or directory)"#,
            r#"7     mmap(NULL, 32768, PROT_READ|PROT_WRITE, MAP_SHARED, 9<`/data/zim.db-shm`>, 0) = 0x7f00"#,
            r#"7     mmap(NULL, 32768, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f00"#,
            r#"7     --- SIGTERM {} ---"#,
            r#"7     unlink("`/data/a`") = 0"#,
            r#"8     fsync(4<`/data/a`> <unfinished ...>"#,
        ])
        .await
        .unwrap();
        let write = |file: &str, at, bytes: &str| Operation::Write { file: file.into(), at, bytes: bytes.into() };
        let expected = [
            Operation::Open { file: "a.new".into(), is_emptied: false },
            write("a.new", 0, "x, \""),
            // The system has taken only one byte.
            write("a.new", 4, "y"),
            Operation::Print("done".into()),
            write("a", 4_096, "q"),
            // It began before the last write ended.
            Operation::Sync { path: "a.new".into(), begun: 3 },
            Operation::Rename { from: "a.new".into(), to: "a".into() },
            Operation::Resize { file: "a".into(), size: 5 },
            Operation::Sync { path: "".into(), begun: 8 },
            write("a", 2, "pr"),
            Operation::Remove { file: "a".into() },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_process_that_cannot_be_traced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace");
        assert!(check(&trace).unwrap_err().to_string().contains("SYS_PTRACE"));
        std::fs::write(&trace, "").unwrap();
        assert!(check(&trace).is_err());
        std::fs::write(&trace, "7 write(1</out>, \"x\", 1) = 1\n").unwrap();
        assert!(check(&trace).is_ok());
    }

    #[tokio::test]
    async fn what_is_not_understood_is_refused() {
        for (line, why) in [
            (r#"7 write(3<`/data/a`>, "`x`", 1) = 1"#, "unknown position"),
            (r#"7 pwrite64(3<`/data/a`>, "`x`"..., 2, 0) = 2"#, "1 of 2 bytes"),
            (r#"7 openat(AT_FDCWD<`/`>, "`/data/a`", O_WRONLY|O_APPEND) = 3<`/data/a`>"#, "appends"),
            (r#"7 mmap(NULL, 9, PROT_READ|PROT_WRITE, MAP_SHARED, 9<`/data/a`>, 0) = 0x7f00"#, "through memory"),
            (r#"7 rename("`/data/a`", "`/other`") = 0"#, "leaves the folder"),
            (r#"7 fallocate(3<`/data/a`>, 0, 0, 9) = 0"#, "not understood"),
            (r#"7 linkat(AT_FDCWD<`/`>, "`/data/a`", AT_FDCWD<`/`>, "`/other`", 0) = 0"#, "not understood"),
            (r#"7 pwrite64(3<`/data/a`>, "x", 1, 0) = 1"#, "not in hex"),
        ] {
            let error = format!("{:#}", read(&[line]).await.unwrap_err());
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
