//! The credentials for an object store, in a file such as `~/.aws/credentials`.

use std::fmt;

/// The credentials for an object store. They are neither printed nor logged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(super) key_id: String,
    pub(super) secret_key: String,
    /// Of temporary credentials.
    pub(super) token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads a file of credentials.
    ///
    /// # Errors
    /// The file cannot be read, or has no credentials; the text says so.
    pub(crate) fn read(file: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("media.store: credentials is {file}, which cannot be read: {error}"))?;
        Self::parse(&text).ok_or_else(|| {
            format!(
                "media.store: credentials is {file}, which must have the lines aws_access_key_id = … and \
                 aws_secret_access_key = … in the section [default]"
            )
        })
    }

    /// Reads the section `[default]`, or what comes before any section.
    fn parse(text: &str) -> Option<Self> {
        let (mut is_default, mut found) = (true, [const { None }; 3]);
        let names = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if line.starts_with('[') {
                is_default = line == "[default]";
                continue;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| is_default) else { continue };
            let known = names.iter().position(|known| *known == name.trim());
            if let Some(place) = known.and_then(|index| found.get_mut(index)) {
                *place = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            }
        }
        let [key_id, secret_key, token] = found;
        Some(Self { key_id: key_id?, secret_key: secret_key?, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_those_of_aws() {
        let expected = Credentials { key_id: "id".to_owned(), secret_key: "se=cret".to_owned(), token: None };
        let plain = "aws_access_key_id=id\naws_secret_access_key = se=cret\n";
        for text in
            [plain, &format!("[default]\n{plain}"), &format!("[other]\naws_access_key_id = x\n[default]\n{plain}")]
        {
            assert_eq!(Credentials::parse(text).as_ref(), Some(&expected), "{text}");
        }
        let with_token = Credentials::parse(&format!("{plain}aws_session_token = t\n# aws_session_token = u")).unwrap();
        assert_eq!(with_token.token.as_deref(), Some("t"));
        for none in
            ["", "aws_access_key_id = id", "aws_access_key_id = id\naws_secret_access_key =", &format!("[a]\n{plain}")]
        {
            assert_eq!(Credentials::parse(none), None, "{none}");
        }
        assert!(!format!("{with_token:?}").contains("cret"));
    }

    #[test]
    fn a_file_without_credentials_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "aws_secret_access_key = hunter2").unwrap();
        let path = file.path().to_str().unwrap();
        let problem = Credentials::read(path).unwrap_err();
        assert!(problem.contains(path) && problem.contains("aws_access_key_id") && !problem.contains("hunter2"));
        assert!(Credentials::read("/nowhere/at-all").unwrap_err().contains("cannot be read"));
    }
}
