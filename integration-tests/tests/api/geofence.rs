//! Which servers a client may send anything to.

use futures_util::FutureExt;
use tokio::net::{TcpListener, UdpSocket};
use zim_client_sdk::{Area, Trust, Zim};
use zim_integration_tests::{World, refusal, soon};
use zim_protocol::message::Body;
use zim_protocol::{ErrorCode, FileMessage, GeofencingType, MediaDownloadConfig, MediaFileType, Message, MessageType};

const INCLUDE: GeofencingType = GeofencingType::Include;
const EXCLUDE: GeofencingType = GeofencingType::Exclude;

/// A server elsewhere: nothing may arrive here.
async fn elsewhere() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn packets(socket: &UdpSocket) -> usize {
    let mut packet = [0; 2_048];
    std::iter::from_fn(|| socket.try_recv(&mut packet).ok()).count()
}

/// One test, because the fence is that of the process.
#[tokio::test]
async fn set_geofencing_config_keeps_every_packet_away_from_other_areas() {
    let world = World::with(|config| config.area = 4).await;
    let _bob = world.user("bob").await;
    let (in_india, _) = elsewhere().await;
    let india = format!("localhost:{}", in_india.local_addr().unwrap().port());
    let files = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (plain, anywhere) = elsewhere().await;
    let ((address, app_id), trust) = ((world.address().to_string(), world.app_id()), world.server().fingerprint().0);
    let config = |config: zim_client_sdk::Config| {
        config.server(&anywhere).server_in(Area::India, &india).server_in(Area::Europe, &address)
    };
    for (areas, kind) in [(&[4][..], INCLUDE), (&[3, 4], INCLUDE), (&[6], EXCLUDE), (&[2, 3, 5, 6], EXCLUDE)] {
        assert!(Zim::set_geofencing_config(areas, kind));
        let ann = world.login(world.client_with(config), "ann").await;
        ann.say("bob", "hi").await;
        // Neither does it fetch a file from there, nor from an address of which nobody knows whose it is.
        for host in ["localhost", "LOCALHOST.", "127.0.0.2"] {
            let file_download_url = format!("https://{host}:{}/cat", files.local_addr().unwrap().port());
            let file = FileMessage { file_download_url, file_name: "cat".into(), ..FileMessage::default() };
            let cat =
                Message { r#type: MessageType::File as i32, body: Some(Body::File(file.into())), ..Message::default() };
            let (original, config) = (MediaFileType::OriginalFile, MediaDownloadConfig::default());
            let refused = soon(ann.download_media_file(&cat, original, config, |_, _, _| {})).await;
            let error = refused.unwrap_err();
            assert_eq!(error.code(), ErrorCode::MessageModuleFileDownloadFailed);
            assert!(error.to_string().contains("in an area that the app may not use"), "{host}: {error}");
            assert!(files.accept().now_or_never().is_none());
        }
        ann.quit().await;
    }
    assert_eq!((packets(&in_india), packets(&plain)), (0, 0));
    // None of the servers is in such an area: there is no client.
    for (areas, kind) in [(&[2, 3][..], INCLUDE), (&[4, 6], EXCLUDE)] {
        assert!(Zim::set_geofencing_config(areas, kind));
        let refused = Zim::new(config(zim_client_sdk::Config::new(app_id, "")));
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    }
    // A server that says it is elsewhere is refused, whatever the app believes.
    assert!(Zim::set_geofencing_config(&[6], INCLUDE));
    let lying = |config: zim_client_sdk::Config| config.server("").server_in(Area::India, &address);
    let client = world.client_with(lying);
    let refused = soon(client.login("ann", world.with_token("ann"))).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    // What is no area changes nothing, and neither does anything while there is an instance.
    for (areas, kind) in [(&[][..], INCLUDE), (&[1], INCLUDE), (&[4, 7], EXCLUDE), (&[], EXCLUDE)] {
        assert!(!Zim::set_geofencing_config(areas, kind), "{areas:?}");
    }
    let mine = config(zim_client_sdk::Config::new(app_id, "")).trust(Trust::Fingerprint(trust));
    let instance = Zim::create(mine).unwrap();
    assert!(!Zim::set_geofencing_config(&[4], INCLUDE));
    instance.close().await;
    assert_eq!(packets(&plain), 0);
    // Without a fence, the first server is the one.
    assert!(Zim::set_geofencing_config(&[], GeofencingType::None));
    let client = world.client_with(|given| config(given).connect_timeout_ms(300));
    let refused = soon(client.login("ann", world.with_token("ann"))).await;
    assert_eq!(refusal(refused), ErrorCode::NetworkModuleRequestTimeout);
    assert!(packets(&plain) > 0 && packets(&in_india) == 0);
    world.end().await;
}
