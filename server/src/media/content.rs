//! A file that is read.

use std::io::{self, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::bucket::Bucket;

/// The bytes that tell the format of a small version.
pub(super) const FORMAT_BYTES: u64 = 16;
/// Bytes of a piece of a stream.
const PIECE: u64 = 64 << 10;

/// A file that is open for reading.
#[derive(Debug)]
pub(crate) struct Content {
    size: u64,
    first: Bytes,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(File),
    Object(Arc<Bucket>, Path),
}

impl Content {
    pub(super) fn of_file(file: File, size: u64, first: Bytes) -> Self {
        Self { size, first, source: Source::File(file) }
    }

    pub(super) fn of_object(bucket: Arc<Bucket>, path: Path, size: u64, first: Bytes) -> Self {
        Self { size, first, source: Source::Object(bucket, path) }
    }

    /// Returns the number of its bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns the bytes that it begins with: as many as tell its format, or more.
    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Returns `length` bytes from `at` on, a piece at a time. It must have them.
    pub(crate) fn stream(self, at: u64, length: u64) -> BoxStream<'static, io::Result<Bytes>> {
        if length == 0 {
            return stream::empty().boxed();
        }
        match self.source {
            Source::File(file) => of_file(file, at, length).boxed(),
            Source::Object(bucket, path) => {
                let range = at..at + length;
                let known = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
                match known.filter(|(_, end)| *end <= self.first.len()) {
                    // A thumbnail is read by one request.
                    Some((begin, end)) => stream::iter([Ok(self.first.slice(begin..end))]).boxed(),
                    None => bucket.stream(path, range),
                }
            }
        }
    }

    /// Reads up to `most` bytes from `at` on.
    pub(crate) async fn read(self, at: u64, most: u64) -> io::Result<Bytes> {
        let length = most.min(self.size.saturating_sub(at));
        let mut pieces = self.stream(at, length);
        let mut read = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            read.extend_from_slice(&piece);
        }
        Ok(read.into())
    }
}

fn of_file(file: File, at: u64, length: u64) -> impl StreamExt<Item = io::Result<Bytes>> + Send + 'static {
    let opened = async move {
        let mut file = file;
        file.seek(SeekFrom::Start(at)).await?;
        Ok::<_, io::Error>(stream::try_unfold((file, length), read_piece))
    };
    stream::once(opened).try_flatten()
}

async fn read_piece((mut file, left): (File, u64)) -> io::Result<Option<(Bytes, (File, u64))>> {
    if left == 0 {
        return Ok(None);
    }
    let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or_default()];
    let read = file.read(&mut piece).await?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    piece.truncate(read);
    Ok(Some((Bytes::from(piece), (file, left - read as u64))))
}
