//! The fence: which areas a client may send anything to. The server is chosen before the first packet, so no name of a server
//! elsewhere is looked up.

use parking_lot::Mutex;
use zim_protocol::{ErrorCode, GeofencingType, Welcome};

use crate::config::{Area, Config};
use crate::error::Error;
use crate::host::Host;

/// The areas that clients may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fence {
    /// All, and servers without one.
    #[default]
    None,
    Include(Vec<Area>),
    Exclude(Vec<Area>),
}

/// The fence of the clients that are created from now on.
static FENCE: Mutex<Fence> = Mutex::new(Fence::None);

impl Fence {
    fn new(areas: &[i64], kind: GeofencingType) -> Option<Self> {
        let known: Option<Vec<Area>> = areas.iter().map(|area| Area::of(*area)).collect();
        let known = known.filter(|areas| !areas.is_empty());
        match kind {
            GeofencingType::None => Some(Self::None),
            GeofencingType::Include => known.map(Self::Include),
            GeofencingType::Exclude => known.map(Self::Exclude),
        }
    }

    /// Whether a server in this area may be used. Of one without an area nobody knows where it is.
    fn allows(&self, area: Option<Area>) -> bool {
        match (self, area) {
            (Self::None, _) => true,
            (_, None) => false,
            (Self::Include(areas), Some(area)) => areas.contains(&area),
            (Self::Exclude(areas), Some(area)) => !areas.contains(&area),
        }
    }

    /// Chooses the first server that may be used.
    fn choose(&self, config: &Config) -> Result<String, Error> {
        let plain = (!config.server.is_empty()).then_some((None, &config.server));
        let listed = config.servers.iter().map(|(area, server)| (Some(*area), server));
        let chosen = plain.into_iter().chain(listed).find(|(area, _)| self.allows(*area));
        chosen.map(|(_, server)| server.clone()).ok_or_else(|| {
            let message = match self {
                Self::None => "no server is set",
                _ => "setGeofencingConfig allows none of the servers: add those of other areas with Config::server_in",
            };
            Error::new(ErrorCode::CommonModuleParamsInvalid, message)
        })
    }

    /// The hosts of the servers that may not be used: no file is fetched from them either.
    fn forbidden_hosts(&self, config: &Config, chosen: &str) -> Vec<Host> {
        let plain = (!config.server.is_empty()).then_some((None, &config.server));
        let listed = config.servers.iter().map(|(area, server)| (Some(*area), server));
        let forbidden = plain.into_iter().chain(listed).filter(|(area, _)| !self.allows(*area));
        forbidden.map(|(_, server)| Host::of(server)).filter(|other| *other != Host::of(chosen)).collect()
    }

    /// Checks where a server says that it is.
    pub(crate) fn check(&self, welcome: &Welcome) -> Result<(), Error> {
        if welcome.area == 0 || self.allows(Area::of(welcome.area.into())) {
            return Ok(());
        }
        let message =
            format!("the server says that it is in area {}, which setGeofencingConfig does not allow", welcome.area);
        Err(Error::new(ErrorCode::CommonModuleParamsInvalid, message).with_detail("reason", "area"))
    }
}

/// Sets the server of a client that is about to be created, and returns the fence that holds for it.
pub(crate) fn apply(config: &mut Config) -> Result<Fence, Error> {
    let fence = FENCE.lock().clone();
    let chosen = fence.choose(config)?;
    config.forbidden_hosts = fence.forbidden_hosts(config, &chosen);
    config.server = chosen;
    Ok(fence)
}

/// Sets the fence of the clients that are created from now on. Returns false if areas are missing or unknown.
pub(crate) fn set(areas: &[i64], kind: GeofencingType) -> bool {
    let Some(fence) = Fence::new(areas, kind) else { return false };
    *FENCE.lock() = fence;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(1, "plain:1").server_in(Area::Europe, "eu:1").server_in(Area::India, "in:1")
    }

    #[test]
    fn the_first_server_that_may_be_used_is_chosen() {
        let chosen =
            |areas: &[i64], kind| Fence::new(areas, kind).unwrap().choose(&config()).map_err(|error| error.code());
        let none = Err(ErrorCode::CommonModuleParamsInvalid);
        assert_eq!(chosen(&[], GeofencingType::None), Ok("plain:1".to_owned()));
        assert_eq!(chosen(&[6, 4], GeofencingType::Include), Ok("eu:1".to_owned()));
        assert_eq!(chosen(&[6], GeofencingType::Include), Ok("in:1".to_owned()));
        assert_eq!(chosen(&[3], GeofencingType::Include), none);
        assert_eq!(chosen(&[3], GeofencingType::Exclude), Ok("eu:1".to_owned()));
        assert_eq!(chosen(&[2, 4], GeofencingType::Exclude), Ok("in:1".to_owned()));
        assert_eq!(chosen(&[4, 6], GeofencingType::Exclude), none);
        let only = Config::new(1, "").server_in(Area::Asia, "as:1");
        assert_eq!(Fence::None.choose(&only).unwrap(), "as:1");
    }

    #[test]
    fn files_are_not_fetched_from_servers_that_may_not_be_used() {
        let forbidden =
            |areas: &[i64]| Fence::new(areas, GeofencingType::Include).unwrap().forbidden_hosts(&config(), "eu:1");
        let names = |names: &[&str]| names.iter().map(|name| Host::new(name)).collect::<Vec<_>>();
        assert_eq!(forbidden(&[4]), names(&["plain", "in"]));
        assert_eq!(forbidden(&[4, 6]), names(&["plain"]));
        assert!(Fence::None.forbidden_hosts(&config(), "plain:1").is_empty());
        let v6 = Config::new(1, "[::1]:1").server_in(Area::Europe, "eu:1");
        assert_eq!(Fence::Include(vec![Area::Europe]).forbidden_hosts(&v6, "eu:1"), names(&["::1"]));
        let same = Config::new(1, "EU.:2").server_in(Area::Europe, "eu:1");
        assert!(Fence::Include(vec![Area::Europe]).forbidden_hosts(&same, "eu:1").is_empty(), "it is one machine");
    }

    #[test]
    fn a_fence_needs_areas_that_exist() {
        for kind in [GeofencingType::Include, GeofencingType::Exclude] {
            for bad in [&[][..], &[1], &[7], &[4, 0], &[-1]] {
                assert_eq!(Fence::new(bad, kind), None, "{bad:?}");
            }
            assert!(Fence::new(&[2, 3, 4, 5, 6, 6], kind).is_some());
        }
    }

    #[test]
    fn a_server_that_says_it_is_elsewhere_is_refused() {
        let fence = Fence::new(&[4], GeofencingType::Include).unwrap();
        let code =
            |fence: &Fence, area| fence.check(&Welcome { area, ..Welcome::default() }).map_err(|error| error.code());
        assert_eq!((code(&fence, 4), code(&fence, 0)), (Ok(()), Ok(())));
        assert_eq!(code(&fence, 3), Err(ErrorCode::CommonModuleParamsInvalid));
        assert_eq!(code(&fence, 9), Err(ErrorCode::CommonModuleParamsInvalid), "an area of a later version");
        assert_eq!(code(&Fence::None, 3), Ok(()));
    }
}
