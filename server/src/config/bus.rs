//! The address of the bus between the nodes of a deployment.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SCHEMES: [&str; 2] = ["nats://", "tls://"];
/// The parameters of an address, which name files.
const PARAMETERS: [&str; 2] = ["credentials", "ca"];

/// The address of the bus: empty for none, or `nats://HOST:PORT`, several of them separated by commas. Its password or token is
/// neither printed nor logged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BusUrl(String);

impl BusUrl {
    /// Whether there is a bus.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('?').unwrap_or((&self.0, ""))
    }

    /// Returns the addresses of the servers, without parameters.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.parts().0.split(',')
    }

    /// Returns the value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.parts().1.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    /// Returns the files that the address names, with the names of their parameters.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        PARAMETERS.into_iter().filter_map(|name| Some((name, self.parameter(name)?)))
    }

    pub(super) fn problem(&self) -> Option<String> {
        if !self.is_set() {
            return None;
        }
        let has_host = |server: &str| {
            let rest = SCHEMES.iter().find_map(|scheme| server.strip_prefix(scheme));
            rest.is_some_and(|rest| !rest.rsplit('@').next().unwrap_or_default().is_empty())
        };
        if !self.servers().all(has_host) {
            return Some(format!("bus is {self}; it must be nats://HOST:PORT or tls://HOST:PORT"));
        }
        let names = self.parts().1.split('&').filter(|pair| !pair.is_empty());
        let unknown = names.map(|pair| pair.split('=').next().unwrap_or_default()).find(|it| !PARAMETERS.contains(it));
        unknown.map(|name| format!("bus has the parameter {name}; credentials and ca are known, each with a file"))
    }
}

impl FromStr for BusUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for BusUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, server) in self.0.split(',').enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // What is before the last @ may contain a password or be a token. It may contain a question mark, too.
            match server.rsplit_once('@') {
                Some((secret, host)) => {
                    let scheme = secret.split_once("://").map_or("", |(scheme, _)| scheme);
                    write!(f, "{comma}{scheme}://…@{}", host.split('?').next().unwrap_or_default())?;
                }
                None => write!(f, "{comma}{}", server.split('?').next().unwrap_or_default())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for BusUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(text: &str) -> BusUrl {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_names_servers_and_files() {
        let set = bus("nats://one:4222,tls://two?credentials=/etc/zim/nats.creds&ca=ca.pem");
        assert_eq!(set.servers().collect::<Vec<_>>(), ["nats://one:4222", "tls://two"]);
        assert_eq!(set.files().collect::<Vec<_>>(), [("credentials", "/etc/zim/nats.creds"), ("ca", "ca.pem")]);
        assert_eq!((set.problem(), BusUrl::default().problem(), BusUrl::default().is_set()), (None, None, false));
        for wrong in
            ["one:4222", "http://one", "nats://", "nats://user:hunter2@", "nats://one?token=x", "nats://one,two"]
        {
            let problem = bus(wrong).problem().unwrap();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn passwords_and_tokens_are_not_displayed() {
        assert_eq!(bus("nats://zim:hunter2@bus:4222,tls://hunter2@two").to_string(), "nats://…@bus:4222,tls://…@two");
        assert_eq!(bus("nats://zim:hunter?2@bus?ca=x").to_string(), "nats://…@bus");
        assert_eq!(format!("{:?}", bus("tls://bus:4222?ca=x")), "\"tls://bus:4222\"");
    }
}
