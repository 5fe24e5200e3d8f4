//! What all tasks of a day share: the plan, the devices, the record. And how a user spends the day.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::RwLockReadGuard;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use zim_client_sdk::Zim;

use super::device::Device;
use super::ledger::Ms;
use super::plan::{Number, Plan};
use super::record::Record;
use crate::random::Random;

/// What users do, each as often in a thousand times.
const ACTIONS: [(Action, u64); 11] = [
    (Action::Write, 380),
    (Action::Club, 240),
    (Action::Read, 100),
    (Action::React, 80),
    (Action::Room, 80),
    (Action::File, 30),
    (Action::Call, 25),
    (Action::Rename, 10),
    (Action::Create, 5),
    (Action::Visit, 20),
    (Action::Sleep, 30),
];

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Writes to a user they know.
    Write,
    /// Writes to a group.
    Club,
    /// Sends a receipt.
    Read,
    React,
    /// Says something in the room, or visits one.
    Room,
    File,
    Call,
    Rename,
    Create,
    /// Comes into a group, writes and leaves.
    Visit,
    /// Puts a phone to sleep, or logs it out.
    Sleep,
}

impl Action {
    fn draw(random: &mut Random) -> Self {
        let all = ACTIONS.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(all);
        for (action, weight) in ACTIONS {
            match at.checked_sub(weight) {
                Some(left) => at = left,
                None => return action,
            }
        }
        Self::Write
    }
}

/// A device that a user holds, which does not fall asleep meanwhile.
pub(super) type Held<'a> = (&'a Arc<Device>, RwLockReadGuard<'a, Zim>);

/// A day while it lasts.
#[derive(Debug)]
pub(super) struct Town {
    pub(super) plan: Plan,
    pub(super) devices: Vec<Arc<Device>>,
    pub(super) record: Arc<Record>,
    /// For the files that are sent.
    pub(super) files: PathBuf,
    /// How long a user pauses, on average.
    pub(super) pause: Duration,
    /// When the day begins: everybody is logged in, and all groups exist.
    pub(super) morning: Ms,
    /// When it ends.
    pub(super) evening: Ms,
}

impl Town {
    /// Returns the devices of users, without one.
    pub(super) fn others(&self, users: &[usize], by: Number) -> Vec<Number> {
        let mut devices = self.plan.devices_of(users);
        devices.retain(|device| *device != by);
        devices
    }

    /// Returns one of a user's devices that is awake.
    pub(super) fn held(&self, user: usize, random: &mut Random) -> Option<Held<'_>> {
        let mut numbers = self.plan.devices_of(&[user]);
        if random.chance(500) {
            numbers.reverse();
        }
        numbers.into_iter().find_map(|number| {
            let device = &self.devices[usize::from(number)];
            Some((device, device.awake()?))
        })
    }

    /// Returns one of some users.
    pub(super) fn one_of(users: &[usize], random: &mut Random) -> Option<usize> {
        let index = random.below(u64::try_from(users.len()).unwrap_or(0));
        users.get(usize::try_from(index).unwrap_or(0)).copied()
    }

    /// What is left of the day, at most `time`.
    pub(super) fn at_most(&self, time: Duration) -> Duration {
        time.min(Duration::from_millis(self.evening.saturating_sub(self.record.now())))
    }

    /// A time around an average.
    fn around(average: Duration, random: &mut Random) -> Duration {
        average / 2 + average.mul_f64(random.below(1_000) as f64 / 1_000.0)
    }

    /// Lets a user live until the evening.
    pub(super) async fn live(self: Arc<Self>, user: usize) {
        let mut random = self.plan.random_of(user);
        let mut nap: Option<JoinHandle<()>> = None;
        loop {
            sleep(self.at_most(Self::around(self.pause, &mut random))).await;
            if self.record.now() >= self.evening {
                break;
            }
            let action = Action::draw(&mut random);
            if action == Action::Sleep {
                if nap.as_ref().is_none_or(JoinHandle::is_finished) {
                    let (logs_out, time) = (random.chance(300), Self::around(self.pause * 3, &mut random));
                    let phone = self.devices[user].place.sleeps.then(|| Arc::clone(&self.devices[user]));
                    nap = phone.map(|phone| tokio::spawn(Arc::clone(&self).nap(phone, logs_out, time)));
                }
                continue;
            }
            Box::pin(self.act(user, action, &mut random)).await;
        }
        if let Some(nap) = nap
            && nap.await.is_err()
        {
            self.record.note(format!("a nap of user {user} panicked"));
        }
    }

    /// Lets a user do something, on one of their devices that is awake.
    async fn act(&self, user: usize, action: Action, random: &mut Random) {
        let Some((device, zim)) = self.held(user, random) else { return };
        match action {
            Action::Write => self.write(device, &zim, random).await,
            Action::Club => self.write_to_club(device, &zim, random).await,
            Action::Read => self.read(device, &zim, random).await,
            Action::React => self.react(device, &zim, random).await,
            Action::Room => self.talk_in_room(device, &zim, random).await,
            Action::File => self.send_file(device, &zim, random).await,
            Action::Call => self.call(device, &zim, random).await,
            Action::Rename => self.rename(device, &zim, random).await,
            Action::Create => self.create(device, &zim, random).await,
            Action::Visit => self.visit(device, &zim, random).await,
            Action::Sleep => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_drawn_about_as_often_as_it_should() {
        let mut random = Random::new(1);
        let drawn: Vec<Action> = (0..10_000).map(|_| Action::draw(&mut random)).collect();
        assert_eq!(ACTIONS.iter().map(|(_, weight)| weight).sum::<u64>(), 1_000);
        for (action, weight) in ACTIONS {
            let times = drawn.iter().filter(|other| **other == action).count() as u64;
            assert!(times > weight * 5 && times < weight * 20, "{action:?}: {times}");
        }
    }
}
