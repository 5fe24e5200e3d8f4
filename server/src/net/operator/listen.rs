//! Where the operator's service listens: a Unix socket that only its owner can connect to, or a port.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use tokio::net::TcpListener;

use crate::config::AdminListen;
use crate::folder::Folder;
use crate::net::bounded_listener;

/// The name of the socket in the data folder.
const SOCKET: &str = "admin.sock";
/// The default port, for systems without Unix sockets.
const PORT: u16 = 4_712;

/// The address of the operator's service. It is displayed as a URL that `zim admin --admin-url` accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddr {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port that only this machine can reach, without TLS.
    Loopback(SocketAddr),
    /// A port with TLS.
    Tls(SocketAddr),
}

impl AdminAddr {
    fn tcp(address: SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() { Self::Loopback(address) } else { Self::Tls(address) }
    }
}

impl fmt::Display for AdminAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => write!(f, "http://{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
        }
    }
}

/// The listener of the operator's service.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) address: AdminAddr,
    pub(super) listener: Listener,
}

#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(unix::Socket),
}

/// Listens as configured. An error comes with the address that it concerns.
pub(crate) async fn bind(listen: &AdminListen, folder: &Folder) -> Result<Option<Listening>, (AdminAddr, io::Error)> {
    let address = match listen {
        AdminListen::Off => return Ok(None),
        AdminListen::Tcp(address) => AdminAddr::tcp(*address),
        AdminListen::Unix(path) => AdminAddr::Unix(path.clone()),
        AdminListen::Local if cfg!(unix) => AdminAddr::Unix(folder.file(SOCKET)),
        AdminListen::Local => AdminAddr::tcp(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT))),
    };
    match open(&address).await {
        Ok(listening) => Ok(Some(listening)),
        Err(error) => Err((address, error)),
    }
}

async fn open(address: &AdminAddr) -> io::Result<Listening> {
    match address {
        #[cfg(unix)]
        AdminAddr::Unix(path) => {
            let socket = unix::Socket::bind(path).await?;
            Ok(Listening { address: AdminAddr::Unix(socket.path().to_owned()), listener: Listener::Unix(socket) })
        }
        #[cfg(not(unix))]
        AdminAddr::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        AdminAddr::Loopback(address) | AdminAddr::Tls(address) => {
            let listener = bounded_listener::listen(*address)?;
            Ok(Listening { address: AdminAddr::tcp(listener.local_addr()?), listener: Listener::Tcp(listener) })
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::io;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
    use std::os::unix::net::UnixListener as StdUnixListener;
    use std::path::{Path, PathBuf};

    use socket2::{Domain, SockAddr, Type};
    use tokio::net::{UnixListener, UnixStream};

    use crate::net::peer::Peer;
    use crate::net::timed_stream::{Accept, Stream};

    /// Connections that wait to be accepted.
    const BACKLOG: i32 = 128;
    /// Only the owner can connect.
    const MODE: u32 = 0o600;

    /// A listening Unix socket. Dropping it removes its file.
    #[derive(Debug)]
    pub(in crate::net::operator) struct Socket {
        listener: UnixListener,
        path: PathBuf,
        /// Distinguishes its file from one that another process has put there.
        inode: (u64, u64),
    }

    impl Socket {
        pub(super) async fn bind(path: &Path) -> io::Result<Self> {
            let path = std::path::absolute(path)?;
            let address = SockAddr::unix(&path).map_err(|error| {
                let length = path.as_os_str().len();
                let hint = "use a short path, such as --admin unix:/run/zim/admin.sock";
                io::Error::new(error.kind(), format!("its path of {length} bytes is too long; {hint}"))
            })?;
            remove_stale(&path).await?;
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&address)?;
            // Nobody can connect before `listen`, and then the file has its mode.
            fs::set_permissions(&path, fs::Permissions::from_mode(MODE))?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let listener = UnixListener::from_std(StdUnixListener::from(socket))?;
            Ok(Self { listener, inode: inode(&path)?, path })
        }

        pub(super) fn path(&self) -> &Path {
            &self.path
        }
    }

    impl Drop for Socket {
        fn drop(&mut self) {
            if inode(&self.path).is_ok_and(|inode| inode == self.inode)
                && let Err(error) = fs::remove_file(&self.path)
            {
                tracing::warn!(%error, path = %self.path.display(), "the operator's socket cannot be removed");
            }
        }
    }

    fn inode(path: &Path) -> io::Result<(u64, u64)> {
        let file = fs::symlink_metadata(path)?;
        Ok((file.dev(), file.ino()))
    }

    /// Removes the socket of a server that was killed. Any other file stays.
    async fn remove_stale(path: &Path) -> io::Result<()> {
        let file = match fs::symlink_metadata(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if !file.file_type().is_socket() {
            let kind = io::ErrorKind::AlreadyExists;
            return Err(io::Error::new(kind, "the path exists and is not a socket: remove it if it is not needed"));
        }
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            // Another process listens, or the state is unknown.
            _ => Err(io::ErrorKind::AddrInUse.into()),
        }
    }

    impl Accept for Socket {
        type Io = UnixStream;

        async fn accept(&mut self) -> io::Result<(UnixStream, Peer)> {
            let (stream, _) = self.listener.accept().await?;
            let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
            Ok((stream, Peer::Unix(user)))
        }
    }

    impl Stream for UnixStream {
        fn reset_on_drop(&self) {}
    }
}
