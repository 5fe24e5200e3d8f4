//! The address of a server: what the app gives, and what is connected to.

use std::borrow::Cow;
use std::net::IpAddr;

use rustls::pki_types::ServerName;
use zim_protocol::ErrorCode;

use crate::config::Config;
use crate::error::Error;

/// The address of a server.
#[derive(Clone, Debug)]
pub struct Address {
    /// As the app gave it: errors name it.
    pub given: String,
    /// The host, in ASCII and without brackets.
    pub host: String,
    /// The UDP port.
    pub port: u16,
    /// The name that the certificate must have, in ASCII.
    pub name: String,
}

impl Address {
    /// Reads the address and the name of the certificate from the settings.
    ///
    /// # Errors
    /// [`ErrorCode::CommonModuleParamsInvalid`]: the address cannot be used. The message names it as it was given.
    pub fn of(config: &Config) -> Result<Self, Error> {
        let given = config.server.clone();
        let wrong = |why: &str| {
            Error::new(ErrorCode::CommonModuleParamsInvalid, format!("the server's address is {given:?}; {why}"))
        };
        let Some((host, port)) = given.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
            return Err(wrong("it must have the form host:port"));
        };
        let port: u16 = port.parse().map_err(|_| wrong("it must have the form host:port"))?;
        let host = ascii_host(host.trim_start_matches('[').trim_end_matches(']'))
            .ok_or_else(|| wrong("its host is not a valid name"))?
            .into_owned();
        if host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_unspecified()) {
            return Err(wrong(
                "a server listens on this address, but nothing can connect to it; give the address of the server's \
                              machine, such as 127.0.0.1 for this one",
            ));
        }
        if port == 0 {
            return Err(wrong("its port must not be 0"));
        }
        let wanted = config.server_name.as_deref().unwrap_or(&host);
        let name = ascii_host(wanted).filter(|name| ServerName::try_from(name.as_ref()).is_ok());
        let Some(name) = name.map(Cow::into_owned) else {
            return Err(match &config.server_name {
                Some(name) => wrong(&format!("{name:?} is not a name that its certificate can have")),
                None => wrong("its host is not a valid name"),
            });
        };
        Ok(Self { given, host, port, name })
    }
}

/// Converts an internationalized host name to its ASCII form, `xn--…`. Returns `None` for one that has none.
pub fn ascii_host(host: &str) -> Option<Cow<'_, str>> {
    if host.is_ascii() { Some(host.into()) } else { idna::domain_to_ascii(host).ok().map(Cow::Owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(server: &str) -> Result<Address, String> {
        Address::of(&Config::new(1, server)).map_err(|error| {
            assert_eq!(error.code(), ErrorCode::CommonModuleParamsInvalid);
            error.message().to_owned()
        })
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (given, host, port) in [
            ("[::1]:1", "::1", 1),
            ("127.0.0.1:4710", "127.0.0.1", 4710),
            ("chat_server:65535", "chat_server", 65535),
            ("bücher.example:4710", "xn--bcher-kva.example", 4710),
            ("チャット.例え:1", "xn--7ckep0i.xn--r8jz45g", 1),
        ] {
            let address = address(given).unwrap();
            assert_eq!((address.host.as_str(), address.port, address.name.as_str()), (host, port, host));
            assert_eq!(address.given, given);
        }
        let named = Config::new(1, "10.0.0.5:1").server_name("bücher.example");
        assert_eq!(Address::of(&named).unwrap().name, "xn--bcher-kva.example");
    }

    #[test]
    fn an_address_that_cannot_be_used_is_named() {
        for given in ["", "host", ":1", "host:", "host:port", "host:99999", "host:65536"] {
            let message = address(given).unwrap_err();
            assert!(message.contains(&format!("{given:?}; it must have the form host:port")), "{message}");
        }
        for (given, expected) in [
            ("0.0.0.0:4710", "nothing can connect to it"),
            ("[::]:4710", "nothing can connect to it"),
            ("[::ffff:0.0.0.0]:4710", "nothing can connect to it"),
            ("host:0", "its port must not be 0"),
            ("a b:1", "is not a valid name"),
            ("bü cher:1", "is not a valid name"),
        ] {
            let message = address(given).unwrap_err();
            assert!(message.contains(&format!("{given:?}; ")) && message.contains(expected), "{message}");
        }
        let error = Address::of(&Config::new(1, "host:1").server_name("a b")).unwrap_err();
        assert!(error.message().contains("\"a b\" is not a name that its certificate can have"), "{error}");
    }
}
