//! Geofencing: which areas clients may use.

use zim_protocol::GeofencingType;

use crate::fence;
use crate::zim::Zim;

impl Zim {
    /// Sets the areas that clients may use (reference: `setGeofencingConfig`): only these, or all but these. It holds for clients
    /// that are created afterwards, so it has to come before [`Zim::create`]. Returns false, and changes nothing, if there is an
    /// instance already, if no area is given, or an unknown one. The type `None` lifts the fence.
    ///
    /// The areas are 2 mainland China, 3 North America, 4 Europe, 5 Asia without mainland China and India, 6 India. A client uses
    /// the first of its servers ([`server`](crate::Config::server), [`server_in`](crate::Config::server_in)) that is in an area that
    /// it may use, and sends no packet to any other one, not even to look up its name. If there is none, the client cannot be created. With a fence, a
    /// server without an area cannot be used, and the connection to one that says it is elsewhere ends.
    ///
    /// Files are not fetched from the other servers either, whatever leads there: their names, their addresses if those are in the
    /// settings, or any other address without a name. What a client cannot know is that another name belongs to one of them.
    pub fn set_geofencing_config(area_list: &[i64], kind: GeofencingType) -> bool {
        Self::get_instance().is_none() && fence::set(area_list, kind)
    }
}
