//! The people of a day, their devices, and where they meet. The seed decides it.

use crate::random::Random;

/// The number of a device in its plan.
pub(super) type Number = u16;

/// Of this many users, [`DESKS`] have a second device.
const OF_USERS: usize = 5;
const DESKS: usize = 2;
/// How far the people whom a user knows are from them, in the circle of all users.
const FRIENDS: [usize; 8] = [1, 2, 3, 5, 8, 13, 21, 34];
/// The most members of a club.
const CLUB: usize = 20;

/// A device, before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Whose it is.
    pub(super) user: usize,
    /// It has its database in a folder, and sleeps.
    pub(super) sleeps: bool,
    /// The room that it is in all day.
    pub(super) room: Option<u16>,
}

/// A group that exists from the morning on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Club {
    pub(super) id: String,
    /// Its members all day; the first is the owner.
    pub(super) members: Vec<usize>,
    /// The user who comes and goes.
    pub(super) guest: usize,
}

/// Who the users are, and whom they know.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) users: usize,
    pub(super) devices: Vec<Place>,
    pub(super) clubs: Vec<Club>,
    pub(super) rooms: u16,
}

impl Plan {
    /// The plan of a seed. There are at least six users.
    pub(super) fn new(seed: u64, users: usize) -> Self {
        let users = users.max(6);
        let rooms = u16::try_from((users / 50).max(1)).unwrap_or(u16::MAX);
        let room_of = |user: usize| u16::try_from(user / 6 % usize::from(rooms)).ok();
        let mut devices: Vec<Place> = (0..users)
            .map(|user| Place { user, sleeps: user % 3 == 0, room: room_of(user).filter(|_| user % 6 == 1) })
            .collect();
        let desks = (0..users).filter(|user| user % OF_USERS < DESKS);
        devices.extend(desks.map(|user| Place { user, sleeps: false, room: None }));
        let mut random = Random::new(seed);
        let clubs = (0..(users / 25).max(2)).map(|number| club(number, users, &mut random)).collect();
        Self { seed, users, devices, clubs, rooms }
    }

    /// The ID of a user.
    pub(super) fn name(user: usize) -> String {
        format!("user-{user}")
    }

    /// The ID of a room.
    pub(super) fn room_id(room: u16) -> String {
        format!("room-{room}")
    }

    /// The devices of users.
    pub(super) fn devices_of(&self, users: &[usize]) -> Vec<Number> {
        let all = self.devices.iter().zip(0..);
        all.filter(|(place, _)| users.contains(&place.user)).map(|(_, number)| number).collect()
    }

    /// The users whom a user writes to.
    pub(super) fn friends(&self, user: usize) -> Vec<usize> {
        let mut friends: Vec<usize> = FRIENDS.iter().map(|step| (user + step) % self.users).collect();
        friends.retain(|friend| *friend != user);
        friends.sort_unstable();
        friends.dedup();
        friends
    }

    /// The numbers of the clubs of which a user is a member all day.
    pub(super) fn clubs_of(&self, user: usize) -> Vec<usize> {
        let numbered = self.clubs.iter().enumerate();
        numbered.filter(|(_, club)| club.members.contains(&user)).map(|(number, _)| number).collect()
    }

    /// The numbers of the clubs of which a user is the guest.
    pub(super) fn visits_of(&self, user: usize) -> Vec<usize> {
        let numbered = self.clubs.iter().enumerate();
        numbered.filter(|(_, club)| club.guest == user).map(|(number, _)| number).collect()
    }

    /// What a user does, and when.
    pub(super) fn random_of(&self, user: usize) -> Random {
        let user = u64::try_from(user).unwrap_or(0);
        Random::new(self.seed.wrapping_mul(1_000_003).wrapping_add(user))
    }
}

/// Draws the members of a club, and its guest.
fn club(number: usize, users: usize, random: &mut Random) -> Club {
    let mut all: Vec<usize> = (0..users).collect();
    // The first of a shuffle.
    for index in 0..users - 1 {
        let left = u64::try_from(users - index).unwrap_or(1);
        all.swap(index, index + usize::try_from(random.below(left)).unwrap_or(0));
    }
    let members = CLUB.min(users / 2);
    let guest = all.get(members).copied().unwrap_or(0);
    all.truncate(members);
    Club { id: format!("club-{number}"), members: all, guest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_plan() {
        let (one, other) = (Plan::new(7, 500), Plan::new(8, 500));
        assert_eq!(one.devices.len(), 700);
        assert_eq!(one.clubs, Plan::new(7, 500).clubs);
        assert_ne!(one.clubs, other.clubs);
        let (mut first, mut again) = (one.random_of(3), Plan::new(7, 500).random_of(3));
        assert_eq!(first.number(), again.number());
    }

    #[test]
    fn guests_are_no_members_and_nobody_knows_themselves() {
        for users in [0, 6, 12, 35, 500] {
            let plan = Plan::new(1, users);
            for club in &plan.clubs {
                assert!(!club.members.contains(&club.guest) && club.members.len() >= 3, "{club:?}");
                let mut members = club.members.clone();
                members.sort_unstable();
                members.dedup();
                assert_eq!(members.len(), club.members.len(), "{club:?}");
            }
            for user in 0..plan.users {
                let friends = plan.friends(user);
                assert!(!friends.is_empty() && !friends.contains(&user));
            }
        }
    }

    #[test]
    fn a_phone_that_is_in_a_room_all_day_does_not_sleep() {
        let plan = Plan::new(1, 500);
        let residents: Vec<&Place> = plan.devices.iter().filter(|place| place.room.is_some()).collect();
        assert!(residents.len() > 50 && residents.iter().all(|place| !place.sleeps));
        assert!(residents.iter().all(|place| place.room < Some(plan.rooms)));
    }
}
