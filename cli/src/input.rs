//! Lines of standard input, each of them a message. A file is read and checked to its end before the first message is sent.
//! A pipe may never end, so its lines are read and checked one after the other.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader, Stdin};
use zim_protocol::ErrorCode;

use crate::exit::{Exit, Failure};
use crate::text::without_mark;

/// The size limit of a message: no server accepts more.
pub(crate) const MAX_BYTES: usize = 32 << 10;

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The place in the input, from 1.
    pub(crate) number: usize,
    /// The text, without the line break.
    pub(crate) text: String,
}

impl Line {
    pub(crate) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// A line that cannot be sent, and why.
#[derive(Debug)]
pub(crate) struct BadLine {
    pub(crate) number: usize,
    pub(crate) failure: Failure,
}

impl BadLine {
    /// Returns the failure of the command, which names the line. `sent` is the number of messages sent before.
    pub(crate) fn after(self, sent: usize) -> Failure {
        let Self { number, failure } = self;
        if failure.exit == Exit::Done {
            return failure;
        }
        let before = match sent {
            0 => "nothing was sent".to_owned(),
            1 => "1 message was sent before it, none after it".to_owned(),
            many => format!("{many} messages were sent before it, none after it"),
        };
        Failure { message: format!("line {number}: {} ({before})", failure.message), ..failure }
    }
}

/// Checks the text of a line before it is sent.
pub(crate) type Check = Box<dyn Fn(&str) -> Result<(), Failure>>;

/// The lines of standard input.
pub(crate) struct Lines {
    source: Source,
    check: Check,
    /// The limit of the server.
    max_bytes: usize,
}

enum Source {
    /// The lines of a file that are not blank.
    File(std::vec::IntoIter<Line>),
    Pipe(Reader<BufReader<Stdin>>),
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl Lines {
    /// Opens standard input. If it is a file, reads and checks all of its lines.
    pub(crate) async fn open(check: Check) -> Result<Self, Failure> {
        let mut reader = Reader::new(BufReader::new(tokio::io::stdin()));
        if !is_file() {
            return Ok(Self { source: Source::Pipe(reader), check, max_bytes: MAX_BYTES });
        }
        let mut lines = Vec::new();
        while let Some(line) = reader.checked(&check).await.map_err(|bad| bad.after(0))? {
            if !line.is_blank() {
                lines.push(line);
            }
        }
        Ok(Self { source: Source::File(lines.into_iter()), check, max_bytes: MAX_BYTES })
    }

    /// Returns the number of lines that are left; `None` for a pipe.
    pub(crate) fn left(&self) -> Option<usize> {
        match &self.source {
            Source::File(lines) => Some(lines.len()),
            Source::Pipe(_) => None,
        }
    }

    /// Returns the next line, or `None` at the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Line>, BadLine> {
        match &mut self.source {
            Source::File(lines) => Ok(lines.next()),
            Source::Pipe(reader) => {
                let line = reader.checked(&self.check).await?;
                line.map(|line| limited(line, self.max_bytes)).transpose()
            }
        }
    }

    /// Sets the limit of the server, and checks the lines of a file against it.
    pub(crate) fn limit(&mut self, max_bytes: u32) -> Result<(), Failure> {
        self.max_bytes = usize::try_from(max_bytes).ok().filter(|max| *max > 0).unwrap_or(MAX_BYTES);
        let lines = match &mut self.source {
            Source::File(lines) => lines,
            Source::Pipe(_) => return Ok(()),
        };
        let checked: Result<Vec<_>, _> = lines.by_ref().map(|line| limited(line, self.max_bytes)).collect();
        *lines = checked.map_err(|bad| bad.after(0))?.into_iter();
        Ok(())
    }
}

/// Fails if a line is longer than the server allows, with the server's error.
fn limited(line: Line, max_bytes: usize) -> Result<Line, BadLine> {
    let bytes = line.text.len();
    if bytes <= max_bytes {
        return Ok(line);
    }
    let failure = too_long(format!("message is {bytes} bytes long; at most {max_bytes} are allowed"));
    Err(BadLine { number: line.number, failure })
}

fn too_long(message: String) -> Failure {
    Failure::coded(ErrorCode::CommonModuleParamsInvalid as i32, message)
}

/// Returns true if standard input is a file.
fn is_file() -> bool {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned();
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned();
    handle.and_then(|handle| std::fs::File::from(handle).metadata()).is_ok_and(|found| found.is_file())
}

/// Splits bytes into lines.
struct Reader<R> {
    reader: R,
    /// The beginning of the next line.
    partial: Vec<u8>,
    number: usize,
}

impl<R: AsyncBufRead + Unpin> Reader<R> {
    fn new(reader: R) -> Self {
        Self { reader, partial: Vec::new(), number: 0 }
    }

    async fn checked(&mut self, check: &Check) -> Result<Option<Line>, BadLine> {
        let line = match self.next().await {
            Ok(Some(line)) if !line.is_blank() => line,
            Ok(none_or_blank) => return Ok(none_or_blank),
            Err(failure) => return Err(BadLine { number: self.number, failure }),
        };
        match check(&line.text) {
            Ok(()) => Ok(Some(line)),
            Err(failure) => Err(BadLine { number: line.number, failure }),
        }
    }

    /// Reads the next line. Cancel safe: what is read of a line is kept in `partial`. After a failure, `number` is that of
    /// the failed line.
    async fn next(&mut self) -> Result<Option<Line>, Failure> {
        let mut is_whole = false;
        while !is_whole {
            let read = self.reader.fill_buf().await.inspect_err(|_| self.number += 1)?;
            let end = read.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(read.len(), |end| end + 1);
            if used == 0 && self.partial.is_empty() {
                return Ok(None);
            }
            self.partial.extend(read.iter().take(used));
            self.reader.consume(used);
            is_whole = used == 0 || end.is_some();
            if !is_whole && self.partial.len() > MAX_BYTES {
                self.number += 1;
                return Err(too_long(format!("message is more than {MAX_BYTES} bytes long")));
            }
        }
        self.number += 1;
        let bytes = std::mem::take(&mut self.partial);
        let bytes = bytes.strip_suffix(b"\n").map_or(&*bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let text = std::str::from_utf8(bytes).map_err(|_| Failure::usage("is not text in UTF-8"))?;
        let text = if self.number == 1 { without_mark(text) } else { text };
        Ok(Some(Line { number: self.number, text: text.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines, and the failure after them. The check refuses `bad`.
    async fn read(bytes: &[u8]) -> (Vec<(usize, String)>, String) {
        let check: Check = Box::new(|text| if text == "bad" { Err(Failure::other("is bad")) } else { Ok(()) });
        // One byte at a time.
        let mut reader = Reader::new(BufReader::with_capacity(1, bytes));
        let mut lines = Vec::new();
        loop {
            match reader.checked(&check).await {
                Ok(Some(line)) => lines.push((line.number, line.text)),
                Ok(None) => return (lines, String::new()),
                Err(bad) => return (lines, bad.after(1).message),
            }
        }
    }

    fn texts(lines: &[(usize, String)]) -> Vec<&str> {
        lines.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[tokio::test]
    async fn lines_end_with_a_line_break_or_the_input() {
        let (lines, failure) = read(b"one\r\n\ntwo\rthree\n four").await;
        assert_eq!(texts(&lines), ["one", "", "two\rthree", " four"]);
        assert_eq!((lines[3].0, failure.as_str()), (4, ""));
        let (lines, _) = read("\u{feff}a\n\u{feff}b\n".as_bytes()).await;
        assert_eq!(texts(&lines), ["a", "\u{feff}b"]);
        assert!(read(b"").await.0.is_empty());
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_sent_is_named() {
        for (bytes, expected) in [
            (&b"one\n\xff\nthree"[..], "line 2: is not text in UTF-8 (1 message was sent before it, none after it)"),
            (b"one\n\nbad", "line 3: is bad (1 message was sent before it, none after it)"),
        ] {
            let (lines, failure) = read(bytes).await;
            assert_eq!((lines[0].1.as_str(), failure.as_str()), ("one", expected));
        }
        let (lines, failure) = read(&[b"one\n", &[b'x'; MAX_BYTES + 1][..]].concat()).await;
        assert_eq!(texts(&lines), ["one"]);
        assert!(failure.starts_with("line 2: message is more than 32768 bytes long"), "{failure}");
    }
}
