//! A node stops although its database no longer responds.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::FutureExt;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use zim_integration_tests::nats::Nats;
use zim_integration_tests::soon;
use zim_server::Server;
use zim_server::config::Config;
use zim_server::db::{Scope, Tx};

use super::{Deployment, quiet};

/// A way to a database or a bus that can become silent while its connections stay open, and can lose its connections.
pub(super) struct Relay {
    pub(super) url: String,
    is_silent: watch::Sender<bool>,
    cuts: watch::Sender<()>,
}

impl Relay {
    pub(super) async fn to(url: &str) -> Self {
        let (account, place) = url.split_once('@').unwrap();
        let (server, name) = place.split_once('/').unwrap();
        Self::at(server, |address| format!("{account}@{address}/{name}")).await
    }

    pub(super) async fn to_bus(url: &str) -> Self {
        let (scheme, server) = url.split_once("://").unwrap();
        Self::at(server, |address| format!("{scheme}://{address}")).await
    }

    async fn at(server: &str, url: impl FnOnce(SocketAddr) -> String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = url(listener.local_addr().unwrap());
        let ((is_silent, silence), (cuts, cut)) = (watch::channel(false), watch::channel(()));
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server.clone(), silence.clone(), cut.clone()));
            }
        });
        Self { url, is_silent, cuts }
    }

    /// Passes nothing on any more.
    pub(super) fn silence(&self) {
        self.is_silent.send_replace(true);
    }

    /// Loses all connections. New ones are possible.
    pub(super) fn cut(&self) {
        self.cuts.send_replace(());
    }
}

async fn relay(
    mut client: TcpStream,
    server: String,
    mut silence: watch::Receiver<bool>,
    mut cut: watch::Receiver<()>,
) {
    // Earlier cuts were of other connections.
    cut.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let is_silent = async { drop(silence.wait_for(|is_silent| *is_silent).await) };
    tokio::select! {
        biased;
        () = is_silent => std::future::pending().await,
        _ = cut.changed() => {}
        _ = copy_bidirectional(&mut client, &mut server) => {}
    }
}

#[tokio::test]
async fn a_node_stops_whether_its_database_is_lost_before_or_meanwhile() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("stop", &bus);
    for (node, is_lost_before) in [true, false].into_iter().enumerate() {
        let relay = Relay::to(&deployment.url).await;
        let database = relay.url.parse().unwrap();
        let config = Config { database, node_lease_ms: 3_000, ..quiet(deployment.config(node)) };
        let server = Server::start(config).await.unwrap();
        relay.silence();
        let waiting = server.app().db.submit(Scope::none(), async |tx: &mut Tx<'_>| {
            tx.fetch("SELECT 1", &[]).await?;
            Ok(())
        });
        if is_lost_before {
            soon(server.database_lost()).await;
        }
        soon(server.stop()).await;
        // A server that waited for its database would have waited for this as well.
        assert!(waiting.now_or_never().is_none(), "is lost before: {is_lost_before}");
    }
}
