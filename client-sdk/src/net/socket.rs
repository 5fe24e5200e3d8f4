//! A socket that can be replaced below an endpoint without the endpoint noticing.
//!
//! Why not `Endpoint::rebind`: it notifies each connection. A connection that a stateless reset has just ended (the
//! server was killed while the network changed) then sends an endpoint event for a connection that the endpoint has
//! forgotten. quinn-proto 0.11.19 treats that as impossible and panics, which ends the task that reads for all
//! connections (found by the fault campaign, once in 200 runs). Rebinding would also switch to a new connection id;
//! here the server sees the old id from a new address, as after a NAT rebinding.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::RwLock;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

/// A socket that can be replaced while it is read and written.
#[derive(Debug)]
pub(super) struct Replaceable {
    now: RwLock<Arc<dyn AsyncUdpSocket>>,
    /// The reader: the endpoint.
    reader: AtomicWaker,
}

impl Replaceable {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self { now: RwLock::new(TokioRuntime.wrap_udp_socket(socket)?), reader: AtomicWaker::new() })
    }

    /// Replaces the socket by one of the same family. Packets to the old socket are lost, as if by the network.
    pub(super) fn replace(&self, socket: UdpSocket) -> io::Result<()> {
        *self.now.write() = TokioRuntime.wrap_udp_socket(socket)?;
        self.reader.wake();
        Ok(())
    }

    fn now(&self) -> Arc<dyn AsyncUdpSocket> {
        self.now.read().clone()
    }
}

impl AsyncUdpSocket for Replaceable {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let of = self.now();
        Box::pin(Poller { poller: of.clone().create_io_poller(), of, socket: self })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.now.read().try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // Registered before the poll, so that a replacement in between is not missed.
        self.reader.register(cx.waker());
        self.now.read().poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.now.read().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.now.read().max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.now.read().max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.now.read().may_fragment()
    }
}

/// Waits until the socket is writable. A waiter on a socket that was replaced polls again when the next timer of the
/// connection fires, which is soon because packets are unacknowledged.
#[derive(Debug)]
struct Poller {
    socket: Arc<Replaceable>,
    of: Arc<dyn AsyncUdpSocket>,
    poller: Pin<Box<dyn UdpPoller>>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.socket.now();
        if !Arc::ptr_eq(&now, &self.of) {
            self.poller = now.clone().create_io_poller();
            self.of = now;
        }
        self.poller.as_mut().poll_writable(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn any_socket() -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// Receives the next datagram.
    async fn next(socket: &Replaceable) -> Vec<u8> {
        let mut buffer = [0; 2_000];
        let mut meta = [RecvMeta::default()];
        let read = poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)).await;
        assert_eq!(read.unwrap(), 1);
        buffer[..meta[0].len].to_vec()
    }

    #[tokio::test]
    async fn reader_and_writer_move_to_the_new_socket() {
        let peer = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let socket = Arc::new(Replaceable::new(any_socket()).unwrap());
        let before = socket.local_addr().unwrap();
        let mut poller = socket.clone().create_io_poller();
        let reader = tokio::spawn({
            let socket = socket.clone();
            async move { next(&socket).await }
        });
        // The reader waits on the old socket by now.
        tokio::task::yield_now().await;
        socket.replace(any_socket()).unwrap();
        let after = socket.local_addr().unwrap();
        assert_ne!(before, after);
        peer.send_to(b"lost", before).await.unwrap();
        peer.send_to(b"here", after).await.unwrap();
        let read = timeout(Duration::from_secs(10), reader).await.expect("the reader was not woken").unwrap();
        assert_eq!(read, b"here");
        poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.unwrap();
        let destination = peer.local_addr().unwrap();
        let transmit = Transmit { destination, ecn: None, contents: b"back", segment_size: None, src_ip: None };
        socket.try_send(&transmit).unwrap();
        let mut buffer = [0; 2_000];
        let (len, from) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], from), (b"back".as_slice(), after));
    }
}
