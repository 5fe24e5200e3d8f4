//! Which areas a client sends packets to, in a capture.

use std::net::Ipv4Addr;

use tempfile::TempDir;
use zim_client_sdk::{Area, Config as ClientConfig, Zim};
use zim_integration_tests::{Capture, DataDir, Device, Packet, Protocol, World, eventually, free_port, soon};
use zim_protocol::message::Body;
use zim_protocol::{
    ConnectionState, FileMessage, GeofencingType, MediaDownloadConfig, MediaFileType, Message, MessageType,
};
use zim_server::config::Config;

use crate::log_upload::log_to;
use crate::media::{Files, download, receives, send};

/// An address in Europe and one in India. Only this process uses them, so that the capture has no packet of another
/// test.
fn addresses() -> (Ipv4Addr, Ipv4Addr) {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let high = high & 63;
    (Ipv4Addr::new(127, 64 + high, middle, low), Ipv4Addr::new(127, 128 + high, middle, low))
}

fn at(address: Ipv4Addr, area: u32) -> impl FnOnce(&mut Config) {
    move |config| {
        config.area = area;
        config.listen.set_ip(address.into());
    }
}

async fn is_in(device: &Device, state: ConnectionState) {
    eventually(&format!("{state:?}"), async || (device.connection_state() == state).then_some(())).await;
}

/// Ann and bob use the server in whatever way sends packets.
async fn chat(ann: &Device, bob: &Device, elsewhere: &str) {
    ann.say("bob", "hi").await;
    bob.receives("hi").await;
    bob.say("ann", "hello").await;
    ann.receives("hello").await;
    let files = Files::new();
    send(ann, Message::file(files.add("paper", b"paper"))).await.unwrap();
    download(bob, &receives(bob, MessageType::File).await, MediaFileType::OriginalFile).await.unwrap();
    let folder = TempDir::new().unwrap();
    log_to(ann, folder.path(), "a line");
    soon(ann.upload_log()).await.unwrap();
    // A message leads to a file elsewhere. Nobody has it.
    let file_download_url = format!("https://{elsewhere}/cat");
    let file = FileMessage { file_download_url, file_name: "cat".into(), ..FileMessage::default() };
    let cat = Message { r#type: MessageType::File as i32, body: Some(Body::File(file.into())), ..Message::default() };
    let config = MediaDownloadConfig::default();
    soon(ann.download_media_file(&cat, MediaFileType::OriginalFile, config, |_, _, _| {})).await.unwrap_err();
    // The connection moves to another socket.
    ann.network_changed();
    ann.say("bob", "from another network").await;
    bob.receives("from another network").await;
}

/// How many packets of this kind went to an address.
fn count(packets: &[Packet], to: Ipv4Addr, protocol: Protocol) -> usize {
    packets.iter().filter(|packet| packet.to.0 == to && packet.protocol == protocol).count()
}

/// The settings of the clients: the server in India comes first.
fn both<'a>(india: &'a str, europe: &'a str) -> impl Fn(ClientConfig) -> ClientConfig + Copy + 'a {
    move |config| {
        config.server("").server_in(Area::India, india).server_in(Area::Europe, europe).connect_timeout_ms(2_000)
    }
}

/// The fence is that of the process, and each test has a process of its own.
#[tokio::test]
async fn set_geofencing_config_in_a_capture_keeps_every_packet_away_from_other_areas() {
    let (in_europe, in_india) = addresses();
    let capture = Capture::start(&[in_europe, in_india]).unwrap();
    let mut world = World::with(at(in_europe, 4)).await;
    let (europe, india) = (world.address().to_string(), format!("{in_india}:{}", free_port()));
    let config = both(&india, &europe);
    let bob = world.user("bob").await;
    let before = capture.packets().await.len();
    assert!(Zim::set_geofencing_config(&[4], GeofencingType::Include));
    let dir = DataDir::default();
    let ann = world.login(world.client_at(dir.clone(), config), "ann").await;
    chat(&ann, &bob, &india).await;
    // The server is gone: the client tries this one only.
    world.stop_server().await;
    is_in(&ann, ConnectionState::Reconnecting).await;
    let gone = capture.packets().await.len();
    eventually("an attempt", async || (capture.packets().await.len() > gone + 1).then_some(())).await;
    world.start_server().await;
    is_in(&ann, ConnectionState::Connected).await;
    is_in(&bob, ConnectionState::Connected).await;
    ann.say("bob", "again").await;
    bob.receives("again").await;
    // The app starts again, with the settings that it has then.
    ann.quit().await;
    assert!(Zim::set_geofencing_config(&[6, 3], GeofencingType::Exclude));
    let ann = world.login(world.client_at(dir, config), "ann").await;
    ann.say("bob", "from the second start").await;
    bob.receives("from the second start").await;
    soon(ann.logout()).await;
    ann.quit().await;
    let packets = capture.packets().await;
    assert!(count(&packets[before..], in_europe, Protocol::Udp) > 0, "messages");
    assert!(count(&packets[before..], in_europe, Protocol::Tcp) > 0, "files");
    let elsewhere: Vec<&Packet> =
        packets.iter().filter(|packet| packet.to.0 == in_india || packet.from.0 == in_india).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    world.end().await;
    assert_eq!(capture.end().unwrap(), 0, "packets that the capture has missed");
}

/// The capture would have shown them.
#[tokio::test]
async fn set_geofencing_config_in_a_capture_lets_packets_go_to_an_area_that_may_be_used() {
    let (in_europe, in_india) = addresses();
    let capture = Capture::start(&[in_europe, in_india]).unwrap();
    let world = World::with(at(in_india, 6)).await;
    let (europe, india) = (format!("{in_europe}:{}", free_port()), world.address().to_string());
    let config = both(&india, &europe);
    assert!(Zim::set_geofencing_config(&[4, 6], GeofencingType::Include));
    let (ann, bob) = (world.client_with(config), world.client_with(config));
    let (ann, bob) = (world.login(ann, "ann").await, world.login(bob, "bob").await);
    chat(&ann, &bob, &europe).await;
    ann.quit().await;
    bob.quit().await;
    let packets = capture.packets().await;
    assert!(count(&packets, in_india, Protocol::Udp) > 0, "messages");
    assert!(count(&packets, in_india, Protocol::Tcp) > 0, "files");
    // The file that nobody has.
    assert!(count(&packets, in_europe, Protocol::Tcp) > 0 && count(&packets, in_europe, Protocol::Udp) == 0);
    world.end().await;
    assert_eq!(capture.end().unwrap(), 0, "packets that the capture has missed");
}
