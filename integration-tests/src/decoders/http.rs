//! The two TCP ports of a server, for machines (HTTP) and for its operator (gRPC), as strangers meet them.

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

/// Whatever comes, it is answered or closed by then.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How an HTTP/2 connection begins: the preface and empty settings.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A server that runs as long as the process, and the operator's connection to it.
struct Served {
    runtime: Runtime,
    server: Server,
    http: SocketAddr,
    admin: SocketAddr,
    operator: Channel,
    key: String,
}

static SERVED: Mutex<Option<Served>> = Mutex::new(None);

/// By the first byte: bytes for the HTTP port, bytes for the operator's port, the same after an HTTP/2 preface, or a request
/// of the operator himself. The server answers or closes; what it answers is HTTP and never its own trouble.
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

/// Says something and receives the other side out.
async fn exchange(to: SocketAddr, said: &[&[u8]]) -> Vec<u8> {
    let mut heard = Vec::new();
    let whole = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::V4(SocketAddrV4::new(next_address(), 0))).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        // It may have closed already; what it said before counts.
        let _ = stream.write_all(&said.concat()).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut heard).await;
    };
    timeout(TIMEOUT, whole).await.expect("it neither answers nor closes");
    heard
}

/// Ports of one address are not to be had again at once: each connection comes from another one of this machine's.
fn next_address() -> Ipv4Addr {
    static LAST: AtomicU32 = AtomicU32::new(0);
    if !cfg!(target_os = "linux") {
        return Ipv4Addr::LOCALHOST;
    }
    let number = LAST.fetch_add(1, Ordering::Relaxed) % 65_000;
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + number)
}

/// The operator's call of a method with any bytes. Making apps is left out: there would be no end to them.
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
    let code = timeout(TIMEOUT, call).await.expect("it does not answer").err().map_or(Code::Ok, |status| status.code());
    let expected: &[Code] = if can_be_read {
        &[Code::Ok, Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition]
    } else {
        // What gRPC says of a message that cannot be read.
        &[Code::Internal]
    };
    assert!(expected.contains(&code), "{path}: {code:?}");
}

/// Messages as they are.
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
