//! A TCP relay between a node and a service that it needs: PostgreSQL, or NATS. It breaks connections, or lets them hang. It runs on
//! a thread of its own, so that nodes do not wait while the harness does.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::statements::{Edit, Statements};

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// They work.
    Open,
    /// Nothing arrives, and nothing is lost.
    Hangs,
    /// They end at once.
    Broken,
}

/// The thread on which relays run.
#[derive(Debug)]
pub(super) struct Relays(Option<Runtime>);

impl Relays {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(Some(Builder::new_multi_thread().worker_threads(1).enable_all().build()?)))
    }

    /// Starts a relay to `to`; `edit` changes the statements of a client of PostgreSQL.
    ///
    /// # Errors
    /// There is no port.
    pub(super) fn link(&self, to: SocketAddr, edit: Option<Edit>) -> anyhow::Result<Link> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let way = Arc::new(watch::Sender::new(Way::Open));
        let runtime = self.0.as_ref().context("the relays have ended")?;
        runtime.spawn(accept(listener, to, Arc::clone(&way), edit));
        Ok(Link { address, way })
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // It may not wait here for its tasks.
            runtime.shutdown_background();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    address: SocketAddr,
    way: Arc<watch::Sender<Way>>,
}

impl Link {
    /// Returns the address that the node connects to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens to connections from now on.
    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Whether connections work.
    pub(super) fn is_open(&self) -> bool {
        *self.way.borrow() == Way::Open
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, way: Arc<watch::Sender<Way>>, edit: Option<Edit>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(connection(client, to, way.subscribe(), edit));
    }
}

async fn connection(client: TcpStream, to: SocketAddr, mut way: watch::Receiver<Way>, edit: Option<Edit>) {
    let relayed = relay(client, to, way.clone(), edit);
    tokio::select! {
        _ = way.wait_for(|way| *way == Way::Broken) => {}
        _ = relayed => {}
    }
}

async fn relay(client: TcpStream, to: SocketAddr, mut way: watch::Receiver<Way>, edit: Option<Edit>) -> Option<()> {
    until_not_hanging(&mut way).await?;
    // The service may be down; then the connection ends.
    let service = TcpStream::connect(to).await.ok()?;
    // A small packet that waits for another would slow every statement down.
    client.set_nodelay(true).ok()?;
    service.set_nodelay(true).ok()?;
    let ((from_client, to_client), (from_service, to_service)) = (client.into_split(), service.into_split());
    tokio::join!(
        pump(from_client, to_service, way.clone(), edit.map(Statements::new)),
        pump(from_service, to_client, way, None),
    );
    Some(())
}

async fn until_not_hanging(way: &mut watch::Receiver<Way>) -> Option<()> {
    way.wait_for(|way| *way != Way::Hangs).await.ok().map(drop)
}

/// Passes bytes on until one side ends its direction.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    mut statements: Option<Statements>,
) -> Option<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = from.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        until_not_hanging(&mut way).await?;
        match &mut statements {
            None => to.write_all(&buffer[..length]).await.ok()?,
            Some(statements) => to.write_all(&statements.pass(&buffer[..length])).await.ok()?,
        }
    }
}
