//! A file that is read.

use std::io::{self, Read, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use tokio::fs::File;
use tokio::io::AsyncSeekExt;

use super::bucket::Bucket;

/// The bytes that tell the format of a small version.
pub(super) const FORMAT_BYTES: u64 = 16;
/// Bytes of a piece of a stream. Each takes a turn on another thread, and a download holds one or two of them.
const PIECE: u64 = 128 << 10;

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
        // Tokio's file would read into a buffer of its own first.
        Ok::<_, io::Error>(stream::try_unfold((file.into_std().await, length), read_piece))
    };
    stream::once(opened).try_flatten()
}

async fn read_piece((mut file, left): (std::fs::File, u64)) -> io::Result<Option<(Bytes, (std::fs::File, u64))>> {
    if left == 0 {
        return Ok(None);
    }
    let read = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or_default()];
        let read = file.read(&mut piece)?;
        piece.truncate(read);
        Ok::<_, io::Error>((piece, file))
    });
    let (piece, file) = read.await.map_err(io::Error::other)??;
    if piece.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let left = left - piece.len() as u64;
    Ok(Some((piece.into(), (file, left))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_streamed_in_pieces_until_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|index| (index / 7).to_le_bytes()[0]).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let content = async || {
            let file = File::open(file.path()).await.unwrap();
            Content::of_file(file, 300_000, Bytes::new())
        };
        let pieces: Vec<Bytes> = content().await.stream(5, 299_000).try_collect().await.unwrap();
        assert!(pieces.len() > 1 && pieces.concat() == bytes[5..299_005]);
        // It became shorter after it was opened.
        let pieces: Vec<io::Result<Bytes>> = content().await.stream(299_990, 11).collect().await;
        let [Ok(last), Err(error)] = &pieces[..] else { panic!("{pieces:?}") };
        assert_eq!((&last[..], error.kind()), (&bytes[299_990..], io::ErrorKind::UnexpectedEof));
    }
}
