//! The way between a client and the server, with its weather: a UDP relay that loses, doubles, delays and reorders datagrams,
//! is cut and mended, and lets a client turn up under another address.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinHandle};

use crate::random::Random;

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
/// No datagram is longer.
const DATAGRAM: usize = 65_536;

/// What befalls datagrams, in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Lost, of a thousand.
    pub lost: u32,
    /// Arriving twice, of a thousand.
    pub doubled: u32,
    /// Held back by `delay_ms` while others overtake, of a thousand.
    pub late: u32,
    /// How long those that are late are late.
    pub delay_ms: u64,
}

impl Weather {
    /// As bad as a connection can be and live.
    pub const STORM: Self = Self { lost: 80, doubled: 50, late: 150, delay_ms: 30 };
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    weather: Weather,
    is_cut: bool,
    /// For the datagrams of the server.
    is_cut_back: bool,
    random: Random,
    /// Counts the client's addresses as the server sees them.
    generation: u64,
    passed: u64,
}

/// A relay. See the module.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// A way to `server`; `seed` decides what chance does.
    ///
    /// # Panics
    /// The system gives no port.
    pub async fn to(server: SocketAddr, seed: u64) -> Self {
        let front = Arc::new(UdpSocket::bind(ANY).await.unwrap());
        let address = front.local_addr().unwrap();
        let random = Random::new(seed);
        let state = State {
            server,
            weather: Weather::default(),
            is_cut: false,
            is_cut_back: false,
            random,
            generation: 0,
            passed: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let task = tokio::spawn(relay(front, Arc::clone(&state)));
        Self { address, state, task }
    }

    pub(crate) fn task(&self) -> AbortHandle {
        self.task.abort_handle()
    }

    /// What a client connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        self.state.lock().is_cut = true;
    }

    /// Nothing comes back any more: the server hears the client, and the client acknowledges nothing.
    pub fn cut_back(&self) {
        self.state.lock().is_cut_back = true;
    }

    /// Datagrams pass again.
    pub fn mend(&self) {
        let mut state = self.state.lock();
        (state.is_cut, state.is_cut_back) = (false, false);
    }

    /// From now on.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// The server sees the clients come from other ports, as after a change of networks.
    pub fn change_addresses(&self) {
        self.state.lock().generation += 1;
    }

    /// The server is elsewhere now.
    pub fn lead_to(&self, server: SocketAddr) {
        let mut state = self.state.lock();
        state.server = server;
        state.generation += 1;
    }

    /// How many datagrams have passed.
    pub fn passed(&self) -> u64 {
        self.state.lock().passed
    }
}

/// A client's way on: the socket under which the server knows it.
struct Side {
    socket: Arc<UdpSocket>,
    generation: u64,
    back: JoinHandle<()>,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.back.abort();
    }
}

async fn relay(front: Arc<UdpSocket>, state: Arc<Mutex<State>>) {
    let mut sides: HashMap<SocketAddr, Side> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // Linux reports what an earlier datagram met; the next one may fare better.
        let Ok((length, client)) = front.recv_from(&mut buffer).await else { continue };
        let (server, generation) = {
            let state = state.lock();
            (state.server, state.generation)
        };
        if sides.get(&client).is_none_or(|side| side.generation != generation) {
            let Ok(socket) = UdpSocket::bind(ANY).await else { continue };
            if socket.connect(server).await.is_err() {
                continue;
            }
            let socket = Arc::new(socket);
            let back = tokio::spawn(back(Arc::clone(&socket), Arc::clone(&front), client, Arc::clone(&state)));
            sides.insert(client, Side { socket, generation, back });
        }
        let Some(side) = sides.get(&client) else { continue };
        let socket = Arc::clone(&side.socket);
        pass(&state, buffer[..length].to_vec(), move |datagram| {
            // Full buffers lose datagrams, as everywhere.
            let _ = socket.try_send(&datagram);
        });
    }
}

async fn back(from: Arc<UdpSocket>, to: Arc<UdpSocket>, client: SocketAddr, state: Arc<Mutex<State>>) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok(length) = from.recv(&mut buffer).await else {
            // A server that is gone refuses; wait for the next thing to say to it.
            tokio::task::yield_now().await;
            continue;
        };
        let to = Arc::clone(&to);
        if state.lock().is_cut_back {
            continue;
        }
        pass(&state, buffer[..length].to_vec(), move |datagram| {
            let _ = to.try_send_to(&datagram, client);
        });
    }
}

fn pass(state: &Mutex<State>, datagram: Vec<u8>, send: impl Fn(Vec<u8>) + Send + 'static) {
    let mut state = state.lock();
    let weather = state.weather;
    if state.is_cut || state.random.chance(weather.lost) {
        return;
    }
    state.passed += 1;
    let doubled = state.random.chance(weather.doubled);
    let late = state.random.chance(weather.late).then(|| state.random.below(weather.delay_ms + 1));
    drop(state);
    if doubled {
        send(datagram.clone());
    }
    match late {
        None => send(datagram),
        Some(ms) => {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                send(datagram);
            });
        }
    }
}
