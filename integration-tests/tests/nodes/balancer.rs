//! Load balancers between clients and nodes: one that reads connection IDs as the QUIC-LB draft says, and one that knows only
//! addresses.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use zim_client_sdk::{Config as ClientConfig, Event, Trust};
use zim_integration_tests::nats::Nats;
use zim_integration_tests::{Device, Proxy, soon};
use zim_protocol::{ConnectionState, Message};
use zim_server::Server;

use super::{Deployment, logged_in, quiet, user};

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
/// The longest datagram, bytes.
const DATAGRAM: usize = 65_536;
/// The part of the first octet of a connection ID that says how many octets follow.
const LENGTH: u8 = 0b0001_1111;

/// How a balancer chooses the node for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// By the server ID in the connection ID; by the address if there is none.
    ConnectionId,
    /// By the address of the client: the addresses go to the nodes in turn.
    Address,
}

/// What a balancer sees of the first packet of a datagram.
struct Header<'a> {
    is_long: bool,
    id: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(datagram: &'a [u8]) -> Option<Self> {
        let (first, rest) = datagram.split_first()?;
        let is_long = first & 0b1000_0000 != 0;
        let id = if is_long {
            // The version is four octets long.
            let length = usize::from(*rest.get(4)?);
            rest.get(5..5 + length)?
        } else {
            let length = 1 + usize::from(rest.first()? & LENGTH);
            rest.get(..length)?
        };
        Some(Self { is_long, id })
    }

    /// The server ID, one octet long, of configuration 0. An ID that a client chose at random says another length, almost always.
    fn node(&self) -> Option<u8> {
        let (first, rest) = self.id.split_first()?;
        (usize::from(*first) == rest.len()).then(|| rest.first().copied())?
    }
}

/// What a balancer has seen.
#[derive(Default)]
struct Seen {
    /// The addresses of clients.
    addresses: usize,
    /// The packets after the handshake: the node that got each, and the connection ID that it was sent to.
    packets: Vec<(u8, Vec<u8>)>,
}

struct Balancer {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Balancer {
    async fn to(nodes: &[Server], rule: Rule) -> Self {
        let front = Arc::new(UdpSocket::bind(ANY).await.unwrap());
        let address = front.local_addr().unwrap();
        let nodes = nodes.iter().map(|node| (number(node), node.local_addr())).collect();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let task = tokio::spawn(balance(front, nodes, rule, Arc::clone(&seen)));
        Self { address, seen, task }
    }

    fn packets(&self) -> Vec<(u8, Vec<u8>)> {
        self.seen.lock().packets.clone()
    }
}

/// A client as the balancer knows it: by its address.
struct Flow {
    /// The node that its first packet goes to.
    first: u8,
    sockets: HashMap<u8, Arc<UdpSocket>>,
    answers: Vec<JoinHandle<()>>,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.answers.iter().for_each(JoinHandle::abort);
    }
}

impl Flow {
    async fn open(client: SocketAddr, first: u8, nodes: &[(u8, SocketAddr)], front: &Arc<UdpSocket>) -> Self {
        let (mut sockets, mut answers) = (HashMap::new(), Vec::new());
        for (number, address) in nodes {
            let socket = Arc::new(UdpSocket::bind(ANY).await.unwrap());
            socket.connect(address).await.unwrap();
            answers.push(tokio::spawn(answer(Arc::clone(&socket), Arc::clone(front), client)));
            sockets.insert(*number, socket);
        }
        Self { first, sockets, answers }
    }
}

async fn answer(from: Arc<UdpSocket>, to: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM];
    // Fails when the node has stopped.
    while let Ok(length) = from.recv(&mut buffer).await {
        // The client may have gone.
        let _ = to.send_to(&buffer[..length], client).await;
    }
}

async fn balance(front: Arc<UdpSocket>, nodes: Vec<(u8, SocketAddr)>, rule: Rule, seen: Arc<Mutex<Seen>>) {
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // Linux reports the error of an earlier datagram here; the next one may succeed.
        let Ok((length, client)) = front.recv_from(&mut buffer).await else { continue };
        let datagram = &buffer[..length];
        let Some(header) = Header::read(datagram) else { continue };
        let before = flows.len();
        let flow = match flows.entry(client) {
            Entry::Occupied(flow) => flow.into_mut(),
            Entry::Vacant(place) => {
                seen.lock().addresses = before + 1;
                let (first, _) = nodes[before % nodes.len()];
                place.insert(Flow::open(client, first, &nodes, &front).await)
            }
        };
        let by_id = if rule == Rule::ConnectionId { header.node() } else { None };
        let node = by_id.filter(|node| flow.sockets.contains_key(node)).unwrap_or(flow.first);
        if !header.is_long {
            seen.lock().packets.push((node, header.id.to_vec()));
        }
        // The node may have stopped.
        let _ = flow.sockets[&node].send(datagram).await;
    }
}

fn number(server: &Server) -> u8 {
    server.app().db.lease().unwrap().number()
}

/// Logs a user in at an address that leads to one of the nodes.
async fn user_via(address: SocketAddr, node: &Server, name: &str) -> Device {
    let app = node.first_app();
    let config = ClientConfig::new(app.app_id, address.to_string())
        .trust(Trust::Fingerprint(node.fingerprint().0))
        .app_sign(app.app_sign.clone());
    logged_in(config, name).await
}

async fn two_nodes(deployment: &Deployment) -> [Server; 2] {
    let first = deployment.start(0).await;
    [first, Server::start(quiet(deployment.config(1))).await.unwrap()]
}

fn is_interruption(event: &Event) -> bool {
    matches!(event, Event::ConnectionStateChanged(changed) if changed.state() == ConnectionState::Reconnecting)
}

#[tokio::test]
async fn packets_of_clients_carry_the_number_of_their_node() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("numbers", &bus);
    let nodes = two_nodes(&deployment).await;
    // This balancer does not read what it is about.
    let balancer = Balancer::to(&nodes, Rule::Address).await;
    let ann = user_via(balancer.address, &nodes[0], "ann").await;
    let bob = user_via(balancer.address, &nodes[0], "bob").await;
    assert_eq!(nodes.each_ref().map(|node| node.app().fanout.len()), [1, 1]);
    ann.say("bob", "one").await;
    bob.receives("one").await;
    bob.say("ann", "two").await;
    ann.receives("two").await;
    let packets = balancer.packets();
    assert_ne!(number(&nodes[0]), number(&nodes[1]));
    for node in &nodes {
        let number = number(node);
        let ids: HashSet<&[u8]> = packets.iter().filter(|(to, _)| *to == number).map(|(_, id)| &id[..]).collect();
        assert!(!ids.is_empty(), "no packets to node {number}");
        for id in ids {
            assert!(id.len() == 10 && id.starts_with(&[9, number]), "{id:?} at node {number}");
        }
    }
    for device in [ann, bob] {
        device.quit().await;
    }
    for node in nodes {
        assert_eq!(node.stop().await, 0);
    }
}

#[tokio::test]
async fn behind_a_balancer_that_reads_connection_ids_a_client_may_change_its_address() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("migration", &bus);
    let nodes = two_nodes(&deployment).await;
    let balancer = Balancer::to(&nodes, Rule::ConnectionId).await;
    let nat = Proxy::to(balancer.address, 1).await;
    let (ann, bob) = (user_via(nat.address(), &nodes[0], "ann").await, user(&nodes[1], "bob").await);
    for round in 0..3 {
        nat.change_source_ports();
        ann.say("bob", &format!("from address {round}")).await;
        bob.receives(&format!("from address {round}")).await;
        bob.say("ann", &format!("to address {round}")).await;
        ann.receives(&format!("to address {round}")).await;
    }
    assert!(!ann.seen().iter().any(is_interruption), "the connection was interrupted");
    assert_eq!(nodes.each_ref().map(|node| node.app().fanout.len()), [1, 1]);
    // New addresses go to the nodes in turn: two of the four to the node where the client is not.
    assert_eq!(balancer.seen.lock().addresses, 4);
    let own = number(&nodes[0]);
    assert!(balancer.packets().iter().all(|(to, id)| (*to, id[1]) == (own, own)));
    for device in [ann, bob] {
        device.quit().await;
    }
    for node in nodes {
        assert_eq!(node.stop().await, 0);
    }
}

#[tokio::test]
async fn behind_a_balancer_that_knows_only_addresses_a_client_that_changes_its_own_must_connect_again() {
    let bus = Nats::start().unwrap();
    let deployment = Deployment::new("rebinding", &bus);
    let nodes = two_nodes(&deployment).await;
    let balancer = Balancer::to(&nodes, Rule::Address).await;
    let nat = Proxy::to(balancer.address, 1).await;
    let (ann, bob) = (user_via(nat.address(), &nodes[0], "ann").await, user(&nodes[1], "bob").await);
    let [own, other] = nodes.each_ref().map(number);
    nat.change_source_ports();
    let sent = ann.send("bob", Message::text("from the new address"));
    ann.until("the interruption", |seen| seen.iter().any(is_interruption).then_some(())).await;
    let is_astray = |(to, id): &(u8, Vec<u8>)| *to == other && id[1] == own;
    assert!(balancer.packets().iter().any(is_astray), "all packets arrived at the node that they were for");
    // The other node does not answer for one that runs, so it takes some seconds. Nothing is lost.
    soon(sent).await.unwrap();
    bob.receives("from the new address").await;
    bob.say("ann", "to the new address").await;
    ann.receives("to the new address").await;
    for device in [ann, bob] {
        device.quit().await;
    }
    for node in nodes {
        assert_eq!(node.stop().await, 0);
    }
}
