//! Hosts of servers and files.

use std::net::IpAddr;

use reqwest::Url;

/// A host, in one form for all ways to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Reads a name or an address, as URLs and settings have it.
    pub(crate) fn new(text: &str) -> Self {
        let bare = text.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let bracketed = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        // As a URL has it: `0x7f.1` is an address, and `München` the same name as `xn--mnchen-3ya`.
        let url = Url::parse(&format!("https://{bracketed}/"));
        let written = url.as_ref().ok().and_then(Url::host_str).unwrap_or(bare);
        let written = written.trim_start_matches('[').trim_end_matches(']');
        match written.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Name(written.to_ascii_lowercase()),
        }
    }

    /// Reads that of `host:port`.
    pub(crate) fn of(server: &str) -> Self {
        Self::new(server.rsplit_once(':').map_or(server, |(host, _)| host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_same_in_whatever_way_it_is_written() {
        for (one, other) in [
            ("eu.example", "EU.Example."),
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("127.0.0.1", "0x7f.1"),
            ("127.0.0.1", "::ffff:127.0.0.1"),
            ("127.0.0.1", "127.0.0.1."),
            ("[::1]", "0:0:0:0:0:0:0:1"),
        ] {
            assert_eq!(Host::new(one), Host::new(other));
        }
        assert_eq!(Host::new("::1"), Host::Address(std::net::Ipv6Addr::LOCALHOST.into()));
        assert_ne!(Host::new("eu.example"), Host::new("in.example"));
    }
}
