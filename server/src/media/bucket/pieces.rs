//! The pieces of an upload. Each is an object whose name says where it begins, and ends with a part that is no other's. So two
//! requests, on one node or on two, overwrite nothing of each other, and how much has arrived is the longest chain of pieces. That
//! the bytes are the right ones is checked when the pieces are joined.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutPayload};
use sha2::{Digest, Sha256};
use zim_protocol::media::HEAD_BYTES;

use super::{Bucket, What, failure};
use crate::media::Version;

/// Pieces that are read at the same time for one file.
const READ_AHEAD: usize = 4;
/// Bytes of each part of a large file but the last. The least that S3 takes is 5 MiB.
const PART: usize = 8 << 20;

/// A piece of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    path: Path,
    at: u64,
    size: u64,
}

/// Returns the longest chain of pieces from the start of the file on.
fn chain(mut found: Vec<Piece>) -> Vec<Piece> {
    found.sort_unstable_by_key(|piece| piece.at);
    // By the end of a chain: its last piece. Whatever ends where a piece begins comes before it.
    let mut chains: HashMap<u64, Piece> = HashMap::new();
    for piece in found.into_iter().filter(|piece| piece.size > 0) {
        if piece.at == 0 || chains.contains_key(&piece.at) {
            chains.entry(piece.at + piece.size).or_insert(piece);
        }
    }
    let mut at = chains.keys().max().copied().unwrap_or(0);
    let mut chain = Vec::new();
    while let Some(piece) = chains.remove(&at) {
        at = piece.at;
        chain.push(piece);
    }
    chain.reverse();
    chain
}

/// Returns where the piece with this name begins.
fn place_of(path: &Path) -> Option<u64> {
    path.filename()?.split_once('-')?.0.parse().ok()
}

impl Bucket {
    fn folder_of_pieces(&self, id: i64) -> Path {
        Path::from(format!("{}.parts", self.path(id, Version::Original)))
    }

    /// Returns all pieces of an upload; if there are too many, one more than there may be.
    async fn pieces(&self, id: i64) -> io::Result<Vec<Piece>> {
        let folder = self.folder_of_pieces(id);
        let listed = self.store.list(Some(&folder)).take(self.max_pieces + 1).try_collect::<Vec<_>>();
        let found = self.asked(What::Read, listed).await?.into_iter().filter_map(|object| {
            let at = place_of(&object.location)?;
            Some(Piece { path: object.location, at, size: object.size })
        });
        Ok(found.collect())
    }

    /// Returns how many bytes of an upload have arrived. `None`: in too many pieces, so none of them count, and it begins again.
    async fn arrived(&self, id: i64) -> io::Result<Option<u64>> {
        let found = self.pieces(id).await?;
        let is_valid = found.len() <= self.max_pieces;
        Ok(is_valid.then(|| chain(found).last().map_or(0, |piece| piece.at + piece.size)))
    }

    /// Returns how many bytes of an upload have arrived.
    pub(in crate::media) async fn received(&self, id: i64) -> io::Result<u64> {
        Ok(self.arrived(id).await?.unwrap_or(0))
    }

    /// Returns how many bytes of an upload have arrived, to whoever may write and begins at `at`. Too many pieces are removed: each
    /// is an object, which costs more than its bytes.
    pub(in crate::media) async fn begin(&self, id: i64, at: u64) -> io::Result<u64> {
        if let Some(arrived) = self.arrived(id).await? {
            return Ok(arrived);
        }
        self.truncate(id, 0).await?;
        if at == 0 {
            return Ok(0);
        }
        let text = format!("an upload has more than {} pieces; it begins again, with larger ones", self.max_pieces);
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, text))
    }

    /// Stores a piece.
    pub(in crate::media) async fn put_piece(&self, id: i64, at: u64, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut own = [0; 4];
        getrandom::fill(&mut own).map_err(io::Error::other)?;
        let path = Path::from(format!("{}/{at:012}-{}", self.folder_of_pieces(id), zim_protocol::id::hex(&own)));
        self.asked(What::Write, self.store.put(&path, bytes.into())).await.map(drop)
    }

    /// Removes the pieces that begin at `bytes` or later.
    pub(in crate::media) async fn truncate(&self, id: i64, bytes: u64) -> io::Result<()> {
        loop {
            let found = self.pieces(id).await?;
            let has_more = found.len() > self.max_pieces;
            let removed = found.into_iter().filter(|piece| piece.at >= bytes).map(|piece| piece.path);
            stream::iter(removed)
                .map(|path| self.delete(path))
                .buffer_unordered(READ_AHEAD)
                .try_collect::<()>()
                .await?;
            if !has_more {
                return Ok(());
            }
        }
    }

    /// Joins the pieces of a file in its place, and returns what it begins with; `None`: it does not have this hash.
    pub(in crate::media) async fn join(&self, id: i64, size: u64, hash: &[u8]) -> io::Result<Option<Vec<u8>>> {
        // Never closed. Each takes a few megabytes.
        let _permit = self.joins.acquire().await.ok();
        let pieces = chain(self.pieces(id).await?);
        if pieces.last().map_or(0, |piece| piece.at + piece.size) != size {
            // Another node has joined and removed them, or the store has lost some: the upload goes on before them.
            return Err(io::ErrorKind::NotFound.into());
        }
        let to = self.path(id, Version::Original);
        if size <= PART as u64 {
            return self.join_small(pieces, hash, &to).await;
        }
        let mut upload =
            self.asked(What::Write, self.store.put_multipart_opts(&to, PutMultipartOptions::default())).await?;
        let joined = self.join_large(pieces, hash, &mut *upload).await;
        if !matches!(joined, Ok(Some(_)))
            && let Err(error) = upload.abort().await.map_err(failure::of)
        {
            tracing::debug!(%error, "the parts of a file that is not complete are left in the bucket");
        }
        joined
    }

    async fn join_small(&self, pieces: Vec<Piece>, hash: &[u8], to: &Path) -> io::Result<Option<Vec<u8>>> {
        let (mut file, mut read) = (Vec::new(), self.read(pieces));
        while let Some(bytes) = read.try_next().await? {
            file.extend_from_slice(&bytes);
        }
        drop(read);
        let (file, found) = hashed(Sha256::new(), file.into()).await?;
        if found.finalize()[..] != *hash {
            return Ok(None);
        }
        let head = file.get(..HEAD_BYTES).unwrap_or(&file).to_vec();
        self.asked(What::Write, self.store.put(to, file.into())).await?;
        Ok(Some(head))
    }

    async fn join_large(
        &self,
        pieces: Vec<Piece>,
        hash: &[u8],
        upload: &mut dyn MultipartUpload,
    ) -> io::Result<Option<Vec<u8>>> {
        let (mut found, mut head, mut part) = (Sha256::new(), Vec::new(), Vec::with_capacity(PART));
        let mut read = self.read(pieces);
        while let Some(bytes) = read.try_next().await? {
            let (bytes, so_far) = hashed(found, bytes).await?;
            found = so_far;
            let missing = HEAD_BYTES.saturating_sub(head.len());
            head.extend_from_slice(bytes.get(..missing).unwrap_or(&bytes));
            part.extend_from_slice(&bytes);
            // All parts but the last have the same size: some stores ask for that.
            while part.len() >= PART {
                let rest = part.split_off(PART);
                let full = PutPayload::from(std::mem::replace(&mut part, rest));
                self.asked(What::Write, upload.put_part(full)).await?;
            }
        }
        if found.finalize()[..] != *hash {
            return Ok(None);
        }
        if !part.is_empty() {
            self.asked(What::Write, upload.put_part(part.into())).await?;
        }
        self.asked(What::Write, upload.complete()).await?;
        Ok(Some(head))
    }

    /// Reads pieces in their order.
    fn read(&self, pieces: Vec<Piece>) -> stream::BoxStream<'_, io::Result<Bytes>> {
        stream::iter(pieces).map(|piece| self.bytes(piece.path)).buffered(READ_AHEAD).boxed()
    }
}

/// Adds bytes to a hash, on a thread that may be busy.
async fn hashed(mut hash: Sha256, bytes: Bytes) -> io::Result<(Bytes, Sha256)> {
    let hashed = tokio::task::spawn_blocking(move || {
        hash.update(&bytes);
        (bytes, hash)
    });
    hashed.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_chain_has_arrived() {
        let pieces = |given: &[(u64, u64)]| {
            let piece = |(at, size)| Piece { path: Path::from(format!("{at}-{size}")), at, size };
            given.iter().copied().map(piece).collect::<Vec<_>>()
        };
        let of = |given: &[(u64, u64)]| chain(pieces(given));
        assert!(of(&[]).is_empty() && of(&[(5, 5)]).is_empty() && of(&[(0, 0)]).is_empty());
        assert_eq!(of(&[(4, 4), (0, 4), (9, 1)]), pieces(&[(0, 4), (4, 4)]));
        // A request that was slow has put a shorter piece, and one that leads nowhere.
        assert_eq!(of(&[(0, 4), (4, 1), (4, 8), (5, 2), (12, 3)]), pieces(&[(0, 4), (4, 8), (12, 3)]));
        assert_eq!(of(&[(0, 2), (0, 8), (2, 3), (5, 9)]), pieces(&[(0, 2), (2, 3), (5, 9)]));
    }

    #[test]
    fn a_piece_says_where_it_begins() {
        assert_eq!(place_of(&Path::from("a/0f/77.parts/000000262144-0a1b2c3d")), Some(262_144));
        for other in ["a/0f/77", "a/0f/77.parts/x-1", "a/0f/77.large"] {
            assert_eq!(place_of(&Path::from(other)), None, "{other}");
        }
    }
}
