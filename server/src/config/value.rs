//! Types of settings that have a text form.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An address to listen on, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

const OFF: &str = "off";

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == OFF {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_| {
            format!("{text:?} is not an address to listen on; give one such as 127.0.0.1:4711 or [::]:4711, or {OFF:?}")
        })
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(address) => to.collect_str(&address),
            None => to.serialize_str(OFF),
        }
    }
}

/// The address of the public HTTPS listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublicListen {
    /// The address and the port number at which QUIC listens.
    #[default]
    Auto,
    /// A TCP port.
    Tcp(SocketAddr),
    /// There is no such listener.
    Off,
}

const AUTO: &str = "auto";

impl FromStr for PublicListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            OFF => Ok(Self::Off),
            AUTO => Ok(Self::Auto),
            _ => text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "{text:?} is not an address for HTTPS; give {AUTO:?}, an address such as 0.0.0.0:4710, or {OFF:?}"
                )
            }),
        }
    }
}

impl fmt::Display for PublicListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Tcp(address) => address.fmt(f),
            Self::Off => f.write_str(OFF),
        }
    }
}

impl<'de> Deserialize<'de> for PublicListen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for PublicListen {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// The address of the operator's service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdminListen {
    /// The Unix socket `admin.sock` in the data folder. On systems without Unix sockets: port 4712 on loopback.
    #[default]
    Local,
    /// The Unix socket with this path.
    Unix(PathBuf),
    /// A TCP port, with TLS unless the address is a loopback address.
    Tcp(SocketAddr),
    /// The service does not run.
    Off,
}

const LOCAL: &str = "local";
const UNIX: &str = "unix:";

impl AdminListen {
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Unix(path) if path.as_os_str().is_empty() => {
                Some("admin is unix: without a path; give the path of the socket".to_owned())
            }
            Self::Unix(_) if cfg!(not(unix)) => Some(format!("admin is {self}; this system has no Unix sockets")),
            _ => None,
        }
    }
}

impl FromStr for AdminListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix(UNIX)) {
            (OFF, _) => Ok(Self::Off),
            (LOCAL, _) => Ok(Self::Local),
            (_, Some(path)) => Ok(Self::Unix(path.into())),
            _ => text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "{text:?} is not an address for the operator's service; give {LOCAL:?}, a socket such as \
                     unix:/run/zim/admin.sock, an address such as 127.0.0.1:4712, or {OFF:?}"
                )
            }),
        }
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str(LOCAL),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
            Self::Off => f.write_str(OFF),
        }
    }
}

impl<'de> Deserialize<'de> for AdminListen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for AdminListen {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// The address of a database. Its password is neither printed nor logged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DatabaseUrl(String);

const SQLITE: &str = "sqlite://";
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];
/// The parameters of a PostgreSQL address that name files.
const FILES: [&str; 7] = ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];

impl From<String> for DatabaseUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl DatabaseUrl {
    /// Returns the address of an SQLite file.
    pub(crate) fn sqlite_file(file: &Path) -> Self {
        Self(format!("{SQLITE}{}", file.display()))
    }

    /// Returns the file of an SQLite database; `None` for PostgreSQL or an empty address.
    pub fn sqlite(&self) -> Option<&Path> {
        self.0.strip_prefix(SQLITE).map(Path::new)
    }

    /// Returns the address of a PostgreSQL database, with its password.
    pub fn postgres(&self) -> Option<&str> {
        POSTGRES.iter().any(|scheme| self.0.starts_with(scheme)).then_some(self.0.as_str())
    }

    /// Whether the address contains a password.
    pub(crate) fn has_password(&self) -> bool {
        let Some((_, rest)) = self.postgres().and_then(|url| url.split_once("://")) else { return false };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let user = place.rsplit_once('@').map_or("", |(user, _)| user);
        user.contains(':') || query.split('&').any(|pair| pair.starts_with("password="))
    }

    /// Returns the files that the address of a PostgreSQL database names, with the names of their parameters. A name with
    /// escaped characters is left out.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        let query =
            self.postgres().and_then(|url| url.split('#').next()?.split_once('?')).map_or("", |(_, query)| query);
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, file)| FILES.contains(name) && !file.contains('%'))
    }

    pub(super) fn problem(&self) -> Option<String> {
        if self.0 == SQLITE {
            return Some("database is sqlite:// without a file; name one".to_owned());
        }
        let known = self.0.is_empty() || self.sqlite().is_some() || self.postgres().is_some();
        (!known).then(|| format!("database is {self}; it must begin with sqlite:// or postgres://"))
    }
}

impl FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without user and password, and without parameters, which may also contain them.
        let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let scheme = self.0.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
        let (scheme, rest) = scheme.map_or(("", self.0.as_str()), |(scheme, rest)| (scheme, rest));
        if !scheme.is_empty() {
            write!(f, "{scheme}://")?;
        }
        match (rest.find('?'), rest.rsplit_once('@')) {
            (_, None) => f.write_str(rest.split('?').next().unwrap_or_default()),
            // Either character may be part of a password.
            (Some(mark), Some((secret, _))) if mark < secret.len() => f.write_str("…"),
            (_, Some((_, host))) => write!(f, "…@{}", host.split('?').next().unwrap_or_default()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_displayed_without_its_password() {
        let shown = |text: &str| text.parse::<DatabaseUrl>().unwrap().to_string();
        assert_eq!(shown("sqlite://data/zim.db"), "sqlite://data/zim.db");
        assert_eq!(shown("postgres://zim:p@ss@db:5432/zim?password=x"), "postgres://…@db:5432/zim");
        assert_eq!(shown("postgres://db/zim?user=zim&password=x"), "postgres://db/zim");
        assert_eq!(shown(""), "");
        // Missing or unescaped parts do not reveal a password either.
        assert_eq!(shown("postgres://zim:hunter?2@db/zim"), "postgres://…");
        assert_eq!(shown("postgres://db/zim?password=hunter@2"), "postgres://…");
        assert_eq!(shown("zim:hunter2@db/zim"), "…@db/zim");
        assert_eq!(shown("zim:hunter://2@db/zim"), "…@db/zim");
    }

    #[test]
    fn a_password_is_found_in_every_part_of_an_address() {
        let has = |text: &str| text.parse::<DatabaseUrl>().unwrap().has_password();
        assert!(has("postgres://zim:hunter2@db/zim"));
        assert!(has("postgresql://db:5432/zim?user=zim&password=hunter2"));
        for without in ["", "sqlite://a:b@c", "postgres://zim@db:5432/zim", "postgres://db:5432/zim?sslmode=require"] {
            assert!(!has(without), "{without}");
        }
    }

    #[test]
    fn the_files_of_an_address_are_found() {
        let files = |text: &str| {
            let url: DatabaseUrl = text.parse().unwrap();
            url.files().map(|(name, file)| format!("{name}={file}")).collect::<Vec<_>>()
        };
        assert_eq!(
            files("postgres://db/zim?sslmode=verify-ca&sslrootcert=/ca.pem&sslkey=k.pem"),
            ["sslrootcert=/ca.pem", "sslkey=k.pem"]
        );
        for without in ["sqlite://a?sslrootcert=b", "postgres://db/zim", "postgres://db/zim?sslrootcert=a%20b"] {
            assert!(files(without).is_empty(), "{without}");
        }
    }

    #[test]
    fn the_operators_address_has_four_forms() {
        for (text, expected) in [
            ("local", AdminListen::Local),
            ("off", AdminListen::Off),
            ("unix:/run/zim/admin.sock", AdminListen::Unix("/run/zim/admin.sock".into())),
            ("[::1]:4712", AdminListen::Tcp("[::1]:4712".parse().unwrap())),
        ] {
            assert_eq!((text.parse(), expected.to_string().as_str()), (Ok(expected), text));
        }
        assert!("localhost:4712".parse::<AdminListen>().unwrap_err().contains("unix:/run/zim/admin.sock"));
        assert!(AdminListen::Unix(PathBuf::new()).problem().is_some());
        assert_eq!(AdminListen::Unix("a".into()).problem().is_some(), cfg!(not(unix)));
    }

    #[test]
    fn the_public_address_has_three_forms() {
        for (text, expected) in [
            ("auto", PublicListen::Auto),
            ("off", PublicListen::Off),
            ("[::1]:443", PublicListen::Tcp("[::1]:443".parse().unwrap())),
        ] {
            assert_eq!((text.parse(), expected.to_string().as_str()), (Ok(expected), text));
        }
        assert!("443".parse::<PublicListen>().unwrap_err().contains("0.0.0.0:4710"));
    }

    #[test]
    fn an_address_can_be_off() {
        assert_eq!("off".parse(), Ok(Listen(None)));
        assert!("[::1]:0".parse::<Listen>().unwrap().0.is_some());
        assert!("localhost".parse::<Listen>().is_err());
    }
}
