//! Reads the secrets that a command needs. Every user of the machine can see arguments (`ps`), so each secret can also come
//! from an environment variable, a file or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zim_files::{Others, Owner};

use crate::exit::Failure;
use crate::output::Output;
use crate::text::without_mark;

/// The value, or file name, that stands for standard input.
const STDIN: &str = "-";
/// More than the size of any secret.
const MAX_BYTES: u64 = 64 << 10;

/// Returns the contents of the file if one is given, else the value; `-` reads standard input in either place.
pub(crate) fn read(given: Option<String>, file: Option<&Path>, output: Output) -> Result<Option<String>, Failure> {
    match (given, file) {
        (_, Some(file)) if file.as_os_str() != STDIN => from_file(file, output).map(Some),
        (Some(value), None) if value != STDIN => Ok(Some(value)),
        (None, None) => Ok(None),
        _ => read_one(io::stdin().lock(), "standard input").map(Some),
    }
}

fn from_file(path: &Path, output: Output) -> Result<String, Failure> {
    let name = path.display().to_string();
    let failed = |error: io::Error| Failure::other(format!("{name}: {error}"));
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    // Others cannot read a `<(…)` of a shell.
    if found.is_file()
        && let Err(exposed) = Owner::this_user().check(path, &found, Others::Nothing)
    {
        output.warn(format!("{exposed}: {}", exposed.repair()));
    }
    read_one(file, &name)
}

fn read_one(from: impl Read, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    from.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| Failure::other(format!("{name}: {error}")))?;
    match without_mark(&text).trim() {
        "" => Err(Failure::usage(format!("there is no secret in {name}"))),
        secret if secret.contains('\n') => {
            Err(Failure::usage(format!("{name} has more than one line, so it is not a secret")))
        }
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_file(text: &str) -> Result<Option<String>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        zim_files::write(&file, text.as_bytes()).unwrap();
        read(Some("value".into()), Some(&file), Output::from_env(None))
    }

    #[test]
    fn a_file_takes_precedence_over_a_value() {
        assert_eq!(read_file(" secret\r\n").unwrap().as_deref(), Some("secret"));
        let output = Output::from_env(None);
        assert_eq!(read(Some("value".into()), None, output).unwrap().as_deref(), Some("value"));
        assert_eq!(read(None, None, output).unwrap(), None);
        assert!(read(None, Some(Path::new("not/there")), output).unwrap_err().message.contains("not/there"));
        assert!(read_file("\n").unwrap_err().message.contains("no secret in"));
        // A configuration file, such as the server's first-app.toml.
        assert!(read_file("app_id = 7\napp_sign = \"x\"").unwrap_err().message.contains("more than one line"));
    }
}
