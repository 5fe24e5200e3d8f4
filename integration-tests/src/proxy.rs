//! A UDP proxy between clients and the server. It drops, duplicates, delays and reorders datagrams, can be cut and
//! restored, and can change the source ports that the server sees.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinHandle};

use crate::random::Random;

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
/// The longest datagram, bytes.
const DATAGRAM: usize = 65_536;

/// What happens to datagrams, in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkConditions {
    /// Dropped, per thousand.
    pub lost: u32,
    /// Duplicated, per thousand.
    pub duplicated: u32,
    /// Delayed while others overtake, per thousand.
    pub delayed: u32,
    /// The longest delay, milliseconds.
    pub delay_ms: u64,
}

impl NetworkConditions {
    /// As bad as a connection survives.
    pub const LOSSY: Self = Self { lost: 80, duplicated: 50, delayed: 150, delay_ms: 30 };
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    conditions: NetworkConditions,
    is_cut: bool,
    /// Drops the datagrams of the server.
    is_cut_back: bool,
    /// Drops the datagrams of the clients.
    is_cut_forth: bool,
    random: Random,
    /// Counts the changes of source ports.
    generation: u64,
}

/// A UDP proxy. See the module.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts a proxy to `server`; `seed` determines which datagrams are dropped, duplicated and delayed.
    ///
    /// # Panics
    /// No port can be bound.
    pub async fn to(server: SocketAddr, seed: u64) -> Self {
        let front = Arc::new(UdpSocket::bind(ANY).await.unwrap());
        let address = front.local_addr().unwrap();
        let random = Random::new(seed);
        let state = State {
            server,
            conditions: NetworkConditions::default(),
            is_cut: false,
            is_cut_back: false,
            is_cut_forth: false,
            random,
            generation: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let task = tokio::spawn(relay(front, Arc::clone(&state)));
        Self { address, state, task }
    }

    pub(crate) fn task(&self) -> AbortHandle {
        self.task.abort_handle()
    }

    /// Returns the address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops every datagram from now on.
    pub fn cut(&self) {
        self.state.lock().is_cut = true;
    }

    /// Drops the server's datagrams from now on: the server receives from the client, and the client acknowledges nothing.
    pub fn cut_back(&self) {
        self.state.lock().is_cut_back = true;
    }

    /// Drops the clients' datagrams from now on: a client receives from the server, and the server hears nothing.
    pub fn cut_forth(&self) {
        self.state.lock().is_cut_forth = true;
    }

    /// Forwards datagrams again after [`Proxy::cut`], [`Proxy::cut_back`] or [`Proxy::cut_forth`].
    pub fn restore(&self) {
        let mut state = self.state.lock();
        (state.is_cut, state.is_cut_back, state.is_cut_forth) = (false, false, false);
    }

    /// Sets the network conditions from now on.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        self.state.lock().conditions = conditions;
    }

    /// Sends the clients' datagrams to another server from now on. What the one before still sends is lost.
    pub fn set_server(&self, server: SocketAddr) {
        let mut state = self.state.lock();
        state.server = server;
        state.generation += 1;
    }

    /// Changes the ports that the server sees the clients come from, as after a change of networks.
    pub fn change_source_ports(&self) {
        self.state.lock().generation += 1;
    }
}

/// The socket through which the server sees a client.
struct Upstream {
    socket: Arc<UdpSocket>,
    generation: u64,
    back: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.back.abort();
    }
}

async fn relay(front: Arc<UdpSocket>, state: Arc<Mutex<State>>) {
    let mut upstreams: HashMap<SocketAddr, Upstream> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // Linux reports the error of an earlier datagram here; the next one may succeed.
        let Ok((length, client)) = front.recv_from(&mut buffer).await else { continue };
        let (server, generation) = {
            let state = state.lock();
            if state.is_cut_forth {
                continue;
            }
            (state.server, state.generation)
        };
        if upstreams.get(&client).is_none_or(|upstream| upstream.generation != generation) {
            let Ok(socket) = UdpSocket::bind(ANY).await else { continue };
            if socket.connect(server).await.is_err() {
                continue;
            }
            let socket = Arc::new(socket);
            let back = tokio::spawn(back(Arc::clone(&socket), Arc::clone(&front), client, Arc::clone(&state)));
            upstreams.insert(client, Upstream { socket, generation, back });
        }
        let Some(upstream) = upstreams.get(&client) else { continue };
        let socket = Arc::clone(&upstream.socket);
        forward(&state, buffer[..length].to_vec(), move |datagram| {
            // A full buffer drops the datagram, as in any network.
            let _ = socket.try_send(&datagram);
        });
    }
}

async fn back(from: Arc<UdpSocket>, to: Arc<UdpSocket>, client: SocketAddr, state: Arc<Mutex<State>>) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok(length) = from.recv(&mut buffer).await else {
            // The port of a stopped server refuses datagrams; go on with the next one.
            tokio::task::yield_now().await;
            continue;
        };
        let to = Arc::clone(&to);
        if state.lock().is_cut_back {
            continue;
        }
        forward(&state, buffer[..length].to_vec(), move |datagram| {
            let _ = to.try_send_to(&datagram, client);
        });
    }
}

fn forward(state: &Mutex<State>, datagram: Vec<u8>, send: impl Fn(Vec<u8>) + Send + 'static) {
    let mut state = state.lock();
    let conditions = state.conditions;
    if state.is_cut || state.random.chance(conditions.lost) {
        return;
    }
    let is_duplicated = state.random.chance(conditions.duplicated);
    let delay_ms = state.random.chance(conditions.delayed).then(|| state.random.below(conditions.delay_ms + 1));
    drop(state);
    if is_duplicated {
        send(datagram.clone());
    }
    match delay_ms {
        None => send(datagram),
        Some(ms) => {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                send(datagram);
            });
        }
    }
}
