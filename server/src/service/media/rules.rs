//! Which files are accepted, without a store.

use std::net::IpAddr;

use zim_protocol::MessageType;

use crate::config::Limits;
use crate::error::Error;

/// The longest name of a file, as the reference's server API has it.
const NAME_BYTES: usize = 150;

/// Returns how many bytes the file of a message may have.
pub(super) fn max_bytes(kind: MessageType, limits: &Limits) -> Option<u32> {
    Some(match kind {
        MessageType::Image => limits.max_image_bytes,
        MessageType::File => limits.max_file_bytes,
        MessageType::Audio => limits.max_audio_bytes,
        MessageType::Video => limits.max_video_bytes,
        _ => return None,
    })
}

/// Checks what is announced of a file.
pub(super) fn check(kind: MessageType, size: i64, limits: &Limits) -> Result<MessageType, Error> {
    let most = max_bytes(kind, limits);
    let most = i64::from(most.ok_or_else(|| Error::params_invalid("type must be 11, 12, 13 or 14"))?);
    if !(1..=most).contains(&size) {
        return Err(Error::file_size_invalid(size, most));
    }
    Ok(kind)
}

/// Returns what the URLs of files begin with, if the settings do not say it.
pub(super) fn base(host: &str, port: u16) -> Result<String, Error> {
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    match host.parse() {
        Ok(IpAddr::V6(address)) => Ok(format!("https://[{address}]:{port}")),
        Ok(IpAddr::V4(address)) => Ok(format!("https://{address}:{port}")),
        Err(_) if is_name(host) => Ok(format!("https://{host}:{port}")),
        Err(_) => Err(Error::params_invalid("host must be the name or the address by which you know the server")),
    }
}

/// Returns the name of a file without its folder, and without what no name has.
pub(super) fn name(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = last.chars().filter(|c| !c.is_control()).collect();
    while name.len() > NAME_BYTES {
        name.pop();
    }
    if name == "." || name == ".." { String::new() } else { name }
}

/// Whether a URL begins with what those of this server's files begin with: `public`, or, if the settings do not say it, with
/// any host, because clients may know the server by many names, and the port of the server.
pub(super) fn is_own(url: &str, public: &str, port: u16) -> bool {
    if !public.is_empty() {
        return url.strip_prefix(public).is_some_and(|rest| rest.starts_with('/'));
    }
    let host = url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    // An IPv6 address has colons as well.
    let (_, of_url) = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((host, "443"));
    of_url.parse() == Ok(port)
}

/// Returns the secret in the URL of a file of this server. What its URLs begin with may have a path of any kind.
pub(super) fn secret_of(url: &str) -> Option<&str> {
    let (_, path) = url.strip_prefix("https://")?.rsplit_once("/media/")?;
    let secret = path.split('/').next()?;
    (secret.len() == super::SECRET_BYTES * 2 && secret.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(secret)
}

/// Checks the URL of a file that is elsewhere.
pub(super) fn check_url(url: &str) -> Result<(), Error> {
    /// As the reference's server API has it.
    const MOST: usize = 500;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if url.len() > MOST || rest.is_none_or(str::is_empty) || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::params_invalid("fileDownloadUrl must be an http or https URL of at most 500 bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use zim_protocol::ErrorCode;

    use super::*;

    #[test]
    fn each_type_has_its_limit() {
        let limits = Limits::default();
        for (kind, most) in [
            (MessageType::Image, 10 << 20),
            (MessageType::File, 100 << 20),
            (MessageType::Audio, 6 << 20),
            (MessageType::Video, 100 << 20),
        ] {
            assert!(check(kind, 1, &limits).is_ok() && check(kind, most, &limits).is_ok());
            for size in [0, most + 1] {
                let refused = check(kind, size, &limits).unwrap_err();
                assert_eq!(refused.code(), ErrorCode::MessageModuleFileSizeInvalid);
            }
        }
        assert_eq!(check(MessageType::Text, 1, &limits).unwrap_err().code(), ErrorCode::CommonModuleParamsInvalid);
    }

    #[test]
    fn a_url_has_the_host_of_the_client() {
        assert_eq!(base("chat.example", 4710).unwrap(), "https://chat.example:4710");
        assert_eq!(base("127.0.0.1", 1).unwrap(), "https://127.0.0.1:1");
        assert_eq!(base("::1", 1).unwrap(), "https://[::1]:1");
        for bad in ["", "a b", "evil/path", "user@host", "host:1", "[::1]"] {
            assert!(base(bad, 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_has_no_folder() {
        assert_eq!(name("/home/ann/cat.jpg"), "cat.jpg");
        assert_eq!(name("C:\\cats\\cat\n.jpg"), "cat.jpg");
        assert_eq!((name(".."), name("a/"), name("")), (String::new(), String::new(), String::new()));
        assert_eq!(name(&"é".repeat(100)).len(), 150);
    }

    #[test]
    fn a_url_is_of_this_server_by_its_beginning() {
        for (url, is_own_port) in [
            ("https://h:4710/media/1", true),
            ("https://h:4711/media/1", false),
            ("https://h/media/1", false),
            ("https://[::1]:4710/media/1", true),
            ("https://[::4710]/media/1", false),
            ("http://h:4710/media/1", false),
        ] {
            assert_eq!(is_own(url, "", 4710), is_own_port, "{url}");
        }
        assert!(is_own("https://h/media/1", "", 443) && is_own("https://[::1]/media/1", "", 443));
        let public = "https://h/media";
        assert!(is_own("https://h/media/media/1", public, 1) && !is_own("https://h:1/media/1", public, 1));
        assert!(!is_own("https://h/medias/1", public, 1));
    }

    #[test]
    fn only_a_url_of_a_file_has_its_secret() {
        let secret = "0123456789abcdef0123456789abcdef";
        assert_eq!(secret_of(&format!("https://h:1/media/{secret}")), Some(secret));
        assert_eq!(secret_of(&format!("https://h:1/media/{secret}/large")), Some(secret));
        assert_eq!(secret_of(&format!("https://h/media/of/chat/media/{secret}/large")), Some(secret));
        for other in
            [format!("http://h/media/{secret}"), format!("https://h/media/{secret}0"), "https://h/media/".into()]
        {
            assert_eq!(secret_of(&other), None);
        }
        assert!(check_url("https://elsewhere.example/cat.jpg").is_ok());
        assert!(check_url(&format!("https://h/{}", "x".repeat(490))).is_ok());
        for bad in ["", "ftp://h/x", "https://", "https://h/a b", &format!("https://h/{}", "x".repeat(491))] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
