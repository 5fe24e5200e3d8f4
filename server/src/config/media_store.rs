//! Where the files of messages are.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::media::{BucketAddress, Location};

const S3: &str = "s3://";
/// The parameters of the address of a bucket.
const PARAMETERS: [&str; 3] = ["credentials", "endpoint", "region"];

/// Where the files are: a folder, or `s3://BUCKET/PREFIX` with parameters. What may be a secret in it is neither printed nor logged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MediaStore(String);

impl MediaStore {
    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let query = self.0.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// Returns the bucket of the files, if they are in one.
    pub(crate) fn bucket(&self) -> Option<BucketAddress<'_>> {
        let place = self.0.strip_prefix(S3)?.split('?').next()?;
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        let parameter = |name| self.parameters().find(|(given, _)| *given == name).map(|(_, value)| value);
        let [credentials, endpoint, region] = PARAMETERS.map(parameter);
        Some(BucketAddress { name, prefix: prefix.trim_matches('/'), endpoint, region, credentials })
    }

    /// Returns where the files are.
    pub(crate) fn location(&self, data_dir: &Path) -> Location<'_> {
        match self.bucket() {
            Some(bucket) => Location::Bucket(bucket),
            None if self.0.is_empty() => Location::Folder(data_dir.join("media")),
            None => Location::Folder(self.0.as_str().into()),
        }
    }

    pub(super) fn problem(&self) -> Option<String> {
        let wrong = |what: &str| Some(format!("media.store is {self}; {what}"));
        let Some(bucket) = self.bucket() else {
            return if self.0.contains("://") { wrong("it must be a folder, or s3://BUCKET/PREFIX") } else { None };
        };
        // Before anything else: what is wrong is not repeated.
        if self.0.contains('@') {
            return wrong(
                "credentials do not belong into it: name a file with ?credentials=FILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            );
        }
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if bucket.name.is_empty() || !is_plain(bucket.name) {
            return wrong("the name of the bucket must have letters, digits, dots and hyphens");
        }
        let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && is_plain(part);
        if !bucket.prefix.is_empty() && !bucket.prefix.split('/').all(is_part) {
            return wrong("each part of the prefix must have letters, digits, dots, hyphens and underscores");
        }
        if let Some((name, _)) = self.parameters().find(|(name, _)| !PARAMETERS.contains(name)) {
            return wrong(&format!("it has the parameter {name}; endpoint, region and credentials are known"));
        }
        if self.parameters().any(|(_, value)| value.is_empty()) {
            return wrong("a parameter of it has no value");
        }
        let has_host = |url: &str| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        };
        if bucket.endpoint.is_some_and(|endpoint| !has_host(endpoint)) {
            return wrong("its endpoint must be https://HOST or http://HOST:PORT");
        }
        None
    }
}

impl FromStr for MediaStore {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for MediaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a folder, everything is shown. Of an address, neither what may be a user and a password, nor the parameters.
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(&self.0) };
        let shown = match rest.rsplit_once('@') {
            Some((_, host)) => format!("…@{}", host.split('?').next().unwrap_or_default()),
            None => rest.split('?').next().unwrap_or_default().to_owned(),
        };
        write!(f, "{scheme}://{shown}")
    }
}

impl fmt::Debug for MediaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl<'de> Deserialize<'de> for MediaStore {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

impl Serialize for MediaStore {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(text: &str) -> MediaStore {
        text.parse().unwrap()
    }

    #[test]
    fn a_store_is_a_folder_or_a_bucket() {
        for (text, expected) in [("", "data/media"), ("/shared/media", "/shared/media")] {
            let store = store(text);
            let Location::Folder(folder) = store.location(Path::new("data")) else { panic!("{text}") };
            assert_eq!(folder, Path::new(expected));
        }
        assert!(store("/shared/media").bucket().is_none() && store("").bucket().is_none());
        let full = store("s3://chat/zim/media/?endpoint=https://s3.example:9000&region=eu-1&credentials=/etc/zim/s3");
        let bucket = full.bucket().unwrap();
        assert_eq!((bucket.name, bucket.prefix), ("chat", "zim/media"));
        assert_eq!((bucket.endpoint, bucket.region), (Some("https://s3.example:9000"), Some("eu-1")));
        assert_eq!(bucket.credentials, Some("/etc/zim/s3"));
        let short = store("s3://chat");
        let bucket = short.bucket().unwrap();
        assert_eq!((bucket.name, bucket.prefix, bucket.endpoint, bucket.region), ("chat", "", None, None));
        for valid in [full, short, store(""), store("C:\\media"), store("media")] {
            assert_eq!(valid.problem(), None, "{valid}");
        }
    }

    #[test]
    fn an_address_that_is_wrong_is_told_without_its_secrets() {
        for (wrong, what) in [
            ("s3://", "the name of the bucket"),
            ("s3://a b", "the name of the bucket"),
            ("s3://chat/../x", "each part of the prefix"),
            ("s3://chat/a//b", "each part of the prefix"),
            ("s3://chat?endpoint=ftp://h", "its endpoint must be"),
            ("s3://chat?endpoint=https://", "its endpoint must be"),
            ("s3://chat?region=", "has no value"),
            ("s3://chat?secret=hunter2", "it has the parameter secret"),
            ("s3://key:hunter2@chat/x", "credentials do not belong into it"),
            ("s3://chat?endpoint=http://key:hunter2@h", "credentials do not belong into it"),
            ("gs://chat", "it must be a folder, or s3://"),
            ("https://key:hunter2@chat", "it must be a folder, or s3://"),
        ] {
            let problem = store(wrong).problem().unwrap();
            assert!(problem.contains(what) && !problem.contains("hunter2"), "{wrong}: {problem}");
        }
        assert_eq!(store("s3://chat/zim?endpoint=http://h").to_string(), "s3://chat/zim");
        assert_eq!(format!("{:?}", store("s3://key:hunter2@chat/x?region=a")), "\"s3://…@chat/x\"");
    }
}
