//! Streams that fetch page after page.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};

use crate::error::Error;

/// A stream of all items of a list, which it fetches in pages as they are needed. It ends after the last item, or after an
/// error.
pub struct Items<T>(BoxStream<'static, Result<T, Error>>);

impl<T: Send + 'static> Items<T> {
    /// `fetch` returns a page, and where the next one begins if there is one.
    pub(super) fn of_pages<S, F, P>(start: S, mut fetch: F) -> Self
    where
        S: Send + 'static,
        F: FnMut(S) -> P + Send + 'static,
        P: Future<Output = Result<(Vec<T>, Option<S>), Error>> + Send + 'static,
    {
        let pages = stream::try_unfold(Some(start), move |at| {
            let page = at.map(&mut fetch);
            async move {
                let Some(page) = page else { return Ok::<_, Error>(None) };
                let (items, next) = page.await?;
                Ok(Some((stream::iter(items.into_iter().map(Ok)), next)))
            }
        });
        Self(pages.try_flatten().fuse().boxed())
    }

    /// Returns the next item, or `None` at the end. This method is cancel safe.
    ///
    /// # Errors
    /// Those of the method that returned the stream.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        StreamExt::next(&mut self.0).await
    }
}

impl<T> Stream for Items<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl<T> std::fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}
