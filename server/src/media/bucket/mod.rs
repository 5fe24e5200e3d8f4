//! The files in a bucket of an object store that speaks S3. The keys are the paths that files have in a folder, so files can be copied
//! from one to the other.

mod client;
mod failure;
mod fetch;
mod pieces;
mod working;

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{
    Attribute, Attributes, BackoffConfig, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, RetryConfig,
};
use tokio::sync::Semaphore;
use zim_protocol::media::MediaFormat;

use self::client::Connector;
pub(super) use self::working::What;
use self::working::Working;
use super::content::Content;
use super::{Credentials, Version, place};

/// Files that are put together at the same time.
const JOINS: usize = 4;
/// The bytes that are read to open a file: a thumbnail in most cases.
const FIRST: u64 = 64 << 10;
/// How often and how long a request is repeated that fails for no reason of its own. A client waits meanwhile.
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
const BACKOFF: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(2);
/// What the names of no objects begin with.
const PROBE: &str = "probe";

/// Where a bucket is, as the settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketAddress<'a> {
    pub(crate) name: &'a str,
    /// What the keys of its objects begin with, without slashes around it; may be empty.
    pub(crate) prefix: &'a str,
    /// The URL of the object store, if it is not that of AWS.
    pub(crate) endpoint: Option<&'a str>,
    /// If the settings say it.
    pub(crate) region: Option<&'a str>,
    /// The file with the credentials, if they are in one.
    pub(crate) credentials: Option<&'a str>,
}

/// A bucket of files.
pub(super) struct Bucket {
    store: AmazonS3,
    name: String,
    prefix: String,
    joins: Semaphore,
    /// The most pieces of an upload.
    max_pieces: usize,
    working: Working,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Bucket {
    /// Prepares the requests to a bucket. Nothing is asked yet.
    pub(super) fn open(address: BucketAddress<'_>, max_pieces: u32) -> Result<Self, String> {
        // A file says all there is; otherwise the variables of AWS do, or the machine.
        let mut builder = match address.credentials {
            Some(file) => {
                let Credentials { key_id, secret_key, token } = Credentials::read(file)?;
                let builder = AmazonS3Builder::new().with_access_key_id(key_id).with_secret_access_key(secret_key);
                token.into_iter().fold(builder, AmazonS3Builder::with_token)
            }
            None => AmazonS3Builder::from_env(),
        };
        if let Some(endpoint) = address.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = address.region {
            builder = builder.with_region(region);
        }
        let backoff = BackoffConfig { init_backoff: BACKOFF.start, max_backoff: BACKOFF.end, base: 2. };
        let connector = Connector::new().map_err(|error| format!("media.store: {error}"))?;
        let store = builder
            .with_bucket_name(address.name)
            .with_http_connector(connector)
            .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT })
            // Not all stores can delete several objects at once.
            .with_disable_bulk_delete(true)
            .build()
            .map_err(|error| format!("media.store: {}", failure::of(error)))?;
        Ok(Self {
            store,
            name: address.name.to_owned(),
            prefix: address.prefix.to_owned(),
            joins: Semaphore::new(JOINS),
            max_pieces: usize::try_from(max_pieces).unwrap_or(usize::MAX),
            working: Working::default(),
        })
    }

    /// Returns one of the folders over which files are spread.
    pub(super) fn folder(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    /// Returns what answers requests.
    pub(super) fn objects(&self) -> &AmazonS3 {
        &self.store
    }

    fn path(&self, id: i64, version: Version) -> Path {
        Path::from(format!("{}/{}", self.prefix, place(id, version)))
    }

    /// Waits for the answer to a request of this kind, and notes whether the store works.
    pub(super) async fn asked<T>(
        &self,
        what: What,
        answer: impl Future<Output = object_store::Result<T>>,
    ) -> io::Result<T> {
        let answer = answer.await.map_err(failure::of);
        // That there is no such object is an answer.
        let failed = answer.as_ref().err().filter(|error| error.kind() != io::ErrorKind::NotFound);
        self.working.note(&self.name, what, failed);
        answer
    }

    /// Returns why the store does not work, if it is known not to.
    pub(super) fn problem(&self) -> Option<String> {
        self.working.problem()
    }

    /// Asks whether the store works. What has failed last is tried: a store that is full still answers what it has.
    pub(super) async fn check(&self) {
        let probe = Path::from(format!("{}/{PROBE}", self.prefix));
        // The answer that there are none needs the bucket and the credentials.
        let listed = self.asked(What::Read, self.store.list(Some(&probe)).try_next()).await;
        if listed.is_err() || !self.working.must_probe() {
            return;
        }
        if self.asked(What::Write, self.store.put(&probe, Bytes::from_static(b"probe").into())).await.is_ok() {
            drop(self.delete(probe).await);
        }
    }

    async fn get(&self, path: &Path, range: Range<u64>) -> io::Result<GetResult> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        self.asked(What::Read, self.store.get_opts(path, options)).await
    }

    /// Returns an object, a piece at a time.
    async fn get_all(&self, path: &Path) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        let found = self.asked(What::Read, self.store.get(path)).await?;
        Ok(found.into_stream().map_err(failure::of).boxed())
    }

    async fn bytes(&self, path: Path) -> io::Result<Bytes> {
        self.asked(What::Read, async { self.store.get(&path).await?.bytes().await }).await
    }

    pub(super) async fn open_object(self: Arc<Self>, id: i64, version: Version) -> io::Result<Option<Content>> {
        let path = self.path(id, version);
        let found = match self.get(&path, 0..FIRST).await {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = found.meta.size;
        let first = self.asked(What::Read, found.bytes()).await?;
        Ok(Some(Content::of_object(self, path, size, first)))
    }

    /// Returns a part of an object, a piece at a time. The request is made when the first one is wanted.
    pub(super) fn stream(self: Arc<Self>, path: Path, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        let opened = async move {
            let found = self.get(&path, range).await?;
            Ok::<_, io::Error>(found.into_stream().map_err(failure::of))
        };
        stream::once(opened).try_flatten().boxed()
    }

    /// Returns all of a file.
    pub(super) async fn whole(&self, id: i64) -> io::Result<Bytes> {
        self.bytes(self.path(id, Version::Original)).await
    }

    /// Returns a URL that gives a file to whoever has it, for some time.
    pub(super) async fn url(
        &self,
        (id, version): (i64, Version),
        headers: &[(&str, &str)],
        valid: Duration,
    ) -> io::Result<String> {
        let headers = headers.iter().map(|(name, value)| (format!("response-{name}"), (*value).to_owned()));
        let (path, options) = (self.path(id, version), SignedUrlOptions::new().with_query(headers));
        let signed = self.store.signed_url_opts(reqwest::Method::GET, &path, valid, &options).await;
        signed.map(String::from).map_err(failure::of)
    }

    pub(super) async fn put_version(&self, id: i64, version: Version, bytes: Vec<u8>) -> io::Result<()> {
        let format = MediaFormat::detect(&bytes).map(MediaFormat::media_type).unwrap_or_default();
        let attributes = Attributes::from_iter([(Attribute::ContentType, format)]);
        let path = self.path(id, version);
        self.asked(What::Write, self.store.put_opts(&path, bytes.into(), attributes.into())).await.map(drop)
    }

    async fn delete(&self, path: Path) -> io::Result<()> {
        match self.asked(What::Delete, self.store.delete(&path)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    pub(super) async fn remove(&self, id: i64) -> io::Result<()> {
        self.truncate(id, 0).await?;
        for version in Version::ALL {
            self.delete(self.path(id, version)).await?;
        }
        Ok(())
    }
}
