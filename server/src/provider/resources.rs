//! What `resourcesID` stands for: the settings of a push service name how the pushes of such a name sound and look. A name that they do not
//! have is passed on as it is: the sound (APNs) or the channel (Android) of this name.

use std::collections::BTreeMap;

use serde::Deserialize;
use zim_protocol::PushConfig;

/// The most names of a push service, as the reference has it.
const MAX_NAMES: usize = 10;
/// The most characters of a name: as many as a `pushConfig` may have.
const MAX_CHARS: usize = 32;

/// What the pushes of a name are like. Each push service reads what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Resource {
    /// The sound; empty: the usual one.
    pub(super) sound: String,
    /// Android's channel.
    pub(super) channel: String,
    /// An extension of the app may change what is shown (APNs).
    pub(super) mutable_content: Option<bool>,
    /// 5 lets the device choose the time, and 10 is at once (APNs).
    pub(super) priority: Option<u8>,
    /// The device shows nothing itself, and the app gets the data (FCM).
    pub(super) data_only: bool,
}

/// The names of a push service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Resources(BTreeMap<String, Resource>);

impl Resources {
    /// Checks the names and what they stand for.
    ///
    /// # Errors
    /// Something is not valid; the text says what.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.0.len() > MAX_NAMES {
            return Err(format!("resources has {} names; at most {MAX_NAMES} are allowed", self.0.len()));
        }
        for (name, resource) in &self.0 {
            if name.is_empty() || name.chars().count() > MAX_CHARS {
                return Err(format!("resources: a name has 1 to {MAX_CHARS} characters"));
            }
            if !matches!(resource.priority, None | Some(5 | 10)) {
                return Err(format!("resources: {name}: priority must be 5 or 10"));
            }
        }
        Ok(())
    }

    /// Returns what a push is like. `unknown` says what a name stands for that the settings do not have.
    pub(super) fn of(&self, config: &PushConfig, unknown: impl FnOnce(String) -> Resource) -> Resource {
        let name = &config.resources_id;
        self.0.get(name).cloned().unwrap_or_else(|| unknown(name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Resources, String> {
        let resources: Resources = serde_json::from_str(text).map_err(|error| error.to_string())?;
        resources.check().map(|()| resources)
    }

    #[test]
    fn a_name_stands_for_what_the_settings_say_or_for_itself() {
        let resources = read(r#"{"loud":{"sound":"bell.wav","priority":5,"mutableContent":false}}"#).unwrap();
        let of = |name: &str| {
            let config = PushConfig { resources_id: name.to_owned(), ..PushConfig::default() };
            resources.of(&config, |channel| Resource { channel, ..Resource::default() })
        };
        assert_eq!((of("loud").sound.as_str(), of("loud").channel.as_str()), ("bell.wav", ""));
        assert_eq!((of("loud").priority, of("loud").mutable_content), (Some(5), Some(false)));
        assert_eq!(of("other"), Resource { channel: "other".to_owned(), ..Resource::default() });
        assert_eq!(of(""), Resource::default());
    }

    #[test]
    fn names_and_priorities_have_bounds() {
        let names =
            |count| format!("{{{}}}", (0..count).map(|n| format!("\"n{n}\":{{}}")).collect::<Vec<_>>().join(","));
        assert!(read(&names(MAX_NAMES)).is_ok() && read(&names(MAX_NAMES + 1)).is_err());
        assert!(read(&format!("{{\"{}\":{{}}}}", "é".repeat(MAX_CHARS))).is_ok());
        assert!(read(&format!("{{\"{}\":{{}}}}", "é".repeat(MAX_CHARS + 1))).is_err());
        for wrong in [r#"{"":{}}"#, r#"{"a":{"priority":7}}"#, r#"{"a":{"sounds":"x"}}"#, "[]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
