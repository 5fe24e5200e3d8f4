//! The two TCP ports of a server, HTTP and the operator's gRPC, as an unauthenticated client reaches them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut};
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use zim_protocol::{DisconnectUserRequest, ListAppsRequest, ListSessionsRequest, MintTokenRequest};
use zim_server::config::{AdminListen, Config};
use zim_server::{AdminAddr, Server};

use super::folder;

/// The time within which every connection is answered or closed.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The start of an HTTP/2 connection: the preface and empty settings.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A server that runs as long as the process, with a connection of the operator.
struct Served {
    runtime: Runtime,
    server: Server,
    http: SocketAddr,
    admin: SocketAddr,
    operator: Channel,
    key: String,
}

static SERVED: Mutex<Option<Served>> = Mutex::new(None);

/// Sends, by the first byte, bytes to the HTTP port, bytes to the operator's port, the same after an HTTP/2 preface, or
/// a request with the operator's key. The server answers or closes; its answers are HTTP and never internal errors.
pub fn http(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let mut served = SERVED.lock();
    let Served { runtime, http, admin, operator, key, .. } = served.get_or_insert_with(serve);
    runtime.block_on(async {
        match mode % 4 {
            0 => {
                let answer = exchange(*http, &[rest]).await;
                let is_http =
                    answer.is_empty() || answer.starts_with(b"HTTP/1.") || rest.starts_with(b"PRI * HTTP/2.0");
                assert!(is_http && !answer.starts_with(b"HTTP/1.1 500"), "{}", answer.escape_ascii());
            }
            1 => drop(exchange(*admin, &[rest]).await),
            2 => drop(exchange(*admin, &[HTTP2, rest]).await),
            _ => operate(operator, key, rest).await,
        }
    });
}

/// Stops the server.
pub(super) fn end() {
    if let Some(Served { runtime, server, operator, .. }) = SERVED.lock().take() {
        drop(operator);
        assert_eq!(runtime.block_on(server.stop()), 0, "tasks are left");
    }
}

fn serve() -> Served {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let data = folder().join("server");
    let mut config = Config::local(&data);
    config.admin = AdminListen::Tcp(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)));
    let server = runtime.block_on(Server::start(config)).unwrap();
    let http = server.http_addr().unwrap();
    let Some(AdminAddr::Loopback(admin)) = server.admin_addr().cloned() else { panic!("no port") };
    let key = std::fs::read_to_string(data.join("admin.key")).unwrap();
    let operator = {
        let _inside = runtime.enter();
        Channel::from_shared(format!("http://{admin}")).unwrap().connect_lazy()
    };
    Served { runtime, server, http, admin, operator, key: key.trim().to_owned() }
}

/// Sends bytes and reads everything until the end of the connection.
async fn exchange(to: SocketAddr, request: &[&[u8]]) -> Vec<u8> {
    let mut response = Vec::new();
    let whole = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::V4(SocketAddrV4::new(next_address(), 0))).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        // The server may have closed already; what it sent before counts.
        let _ = stream.write_all(&request.concat()).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut response).await;
    };
    timeout(TIMEOUT, whole).await.expect("the server neither answers nor closes");
    response
}

/// Returns another loopback address for each connection, because the ports of one address cannot be reused at once.
fn next_address() -> Ipv4Addr {
    static LAST: AtomicU32 = AtomicU32::new(0);
    if !cfg!(target_os = "linux") {
        return Ipv4Addr::LOCALHOST;
    }
    let number = LAST.fetch_add(1, Ordering::Relaxed) % 65_000;
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + number)
}

/// Calls a method with the operator's key and any bytes. Leaves out the creation of apps, which would accumulate.
async fn operate(operator: &Channel, key: &str, input: &[u8]) {
    fn reads<T: Message + Default>(bytes: &[u8]) -> bool {
        T::decode(bytes).is_ok()
    }
    let Some((method, bytes)) = input.split_first() else { return };
    let (path, can_be_read) = match method % 4 {
        0 => ("/zim.v1.Admin/ListApps", reads::<ListAppsRequest>(bytes)),
        1 => ("/zim.v1.Admin/MintToken", reads::<MintTokenRequest>(bytes)),
        2 => ("/zim.v1.Admin/ListSessions", reads::<ListSessionsRequest>(bytes)),
        _ => ("/zim.v1.Admin/DisconnectUser", reads::<DisconnectUserRequest>(bytes)),
    };
    let mut client = tonic::client::Grpc::new(operator.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(bytes.to_vec());
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    let call = client.unary(request, path.parse().unwrap(), Bytes);
    let code = timeout(TIMEOUT, call)
        .await
        .expect("the server does not answer")
        .err()
        .map_or(Code::Ok, |status| status.code());
    let expected: &[Code] = if can_be_read {
        &[Code::Ok, Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition]
    } else {
        // gRPC's code for a message that cannot be decoded.
        &[Code::Internal]
    };
    assert!(expected.contains(&code), "{path}: {code:?}");
}

/// A codec of raw bytes.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
