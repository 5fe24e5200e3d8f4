//! The hosts that a geofence keeps a client away from: for files it connects to none of them, whatever a URL, a redirection or the
//! name service says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::host::Host;

/// The hosts of the servers that may not be used, and that of the one that is.
#[derive(Clone, Debug)]
pub(super) struct Fenced {
    own: Host,
    forbidden: Vec<Host>,
}

impl Fenced {
    pub(super) fn new(own: &str, forbidden: Vec<Host>) -> Self {
        Self { own: Host::new(own), forbidden }
    }

    /// Whether a URL may not be used. With a fence, one with an address may not, unless it is that of the own server: nobody knows
    /// whose it is, because the names of the other servers are not looked up.
    pub(super) fn forbids(&self, host: &str) -> bool {
        let host = Host::new(host);
        if self.forbidden.is_empty() || host == self.own {
            return false;
        }
        matches!(host, Host::Address(_)) || self.forbidden.contains(&host)
    }

    /// Returns what looks names up, if some addresses may not be used.
    pub(super) fn resolver(&self) -> Option<Arc<Resolver>> {
        let addresses: Vec<IpAddr> = self
            .forbidden
            .iter()
            .filter_map(|host| match host {
                Host::Address(address) => Some(*address),
                Host::Name(_) => None,
            })
            .collect();
        (!addresses.is_empty()).then(|| Arc::new(Resolver(addresses.into())))
    }
}

/// Looks names up, and leaves out the addresses of servers that may not be used.
#[derive(Debug)]
pub(super) struct Resolver(Arc<[IpAddr]>);

impl Resolver {
    fn allowed(forbidden: &[IpAddr], found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        found.filter(|address| !forbidden.contains(&address.ip().to_canonical())).collect()
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let forbidden = Arc::clone(&self.0);
        Box::pin(async move {
            let found = Self::allowed(&forbidden, tokio::net::lookup_host((name.as_str(), 0)).await?);
            match found.is_empty() {
                true => Err("it is a server in an area that the app may not use".into()),
                false => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_forbidden_however_it_is_written() {
        let hosts = |hosts: &[&str]| hosts.iter().map(|host| Host::new(host)).collect::<Vec<_>>();
        let fenced = Fenced::new("eu.example", hosts(&["in.example", "10.0.0.1"]));
        for forbidden in ["in.example", "IN.example.", "10.0.0.1", "[::ffff:10.0.0.1]", "10.0.0.2", "[::1]"] {
            assert!(fenced.forbids(forbidden), "{forbidden}");
        }
        for allowed in ["eu.example", "files.example", "notin.example"] {
            assert!(!fenced.forbids(allowed), "{allowed}");
        }
        let by_address = Fenced::new("10.0.0.9", hosts(&["in.example"]));
        assert_eq!((by_address.forbids("10.0.0.9"), by_address.forbids("10.0.0.8")), (false, true));
        // Without a fence, any host may be used.
        assert!(!Fenced::new("eu.example", Vec::new()).forbids("10.0.0.1"));
    }

    #[test]
    fn a_name_does_not_lead_to_a_forbidden_address() {
        let found: [SocketAddr; 3] = ["10.0.0.1:1", "10.0.0.2:1", "[::ffff:10.0.0.1]:1"].map(|at| at.parse().unwrap());
        let forbidden = ["10.0.0.1".parse().unwrap()];
        assert_eq!(Resolver::allowed(&forbidden, found.into_iter()), found[1..2]);
    }
}
