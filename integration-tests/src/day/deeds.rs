//! Calls, files, and devices that sleep.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_protocol::{
    CallAcceptConfig, CallEndConfig, CallInvitationMode, CallInviteConfig, ConversationType, Message, MessageSendConfig,
};

use super::device::{Device, content};
use super::failure::Area;
use super::ledger::{Kind, mark};
use super::plan::{Number, Plan};
use super::town::Town;
use crate::random::Random;

/// How long a call rings until it is answered anyway.
const RINGS: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// How long two users talk.
const TALK: Duration = Duration::from_secs(3);

impl Town {
    /// Calls a user, who answers when all their devices ring. One of the two ends the call.
    pub(super) async fn call(&self, device: &Device, zim: &Zim, random: &mut Random) {
        let user = device.place.user;
        let Some(friend) = Self::one_of(&self.plan.friends(user), random) else { return };
        // Nobody answers a phone that sleeps.
        let Some((other, other_zim)) = self.held(friend, random) else { return };
        let begun = self.record.now();
        let ringing = self.plan.devices_of(&[friend]);
        let ring = self.begin(device, Kind::Ring, &Plan::name(friend), None, ringing.clone());
        let mode = CallInvitationMode::Advanced as i32;
        let config = CallInviteConfig { mode, extended_data: mark(ring), ..CallInviteConfig::default() };
        let call_id = match Box::pin(zim.call_invite([Plan::name(friend)], config)).await {
            Ok(invited) => invited.call_id,
            Err(error) => return self.record.failed(Area::Call, begun, &[device.number], &error),
        };
        self.record.acknowledged(ring, 0);
        self.rings(ring, &ringing).await;
        let begun = self.record.now();
        if let Err(error) = Box::pin(other_zim.call_accept(&call_id, CallAcceptConfig::default())).await {
            return self.record.failed(Area::Call, begun, &[device.number, other.number], &error);
        }
        sleep(self.at_most(TALK)).await;
        let begun = self.record.now();
        let both = vec![device.number, other.number];
        let (ender, by) = if random.chance(500) { (zim, device) } else { (&*other_zim, &**other) };
        let may = self.plan.devices_of(&[user, friend]);
        let end = self.begin_with(by, (Kind::End, &Plan::name(friend), None), both.clone(), may);
        let config = CallEndConfig { extended_data: mark(end), ..CallEndConfig::default() };
        match Box::pin(ender.call_end(&call_id, config)).await {
            Ok(_) => self.record.acknowledged(end, 0),
            Err(error) => self.record.failed(Area::Call, begun, &both, &error),
        }
    }

    /// Waits until all devices ring that have a connection.
    async fn rings(&self, ring: u32, devices: &[Number]) {
        let begun = Instant::now();
        while begun.elapsed() < RINGS {
            let now = self.record.now();
            let all = devices.iter().all(|device| {
                let ledger = self.record.ledger();
                ledger.seen_by(*device, ring).is_some() || ledger.is_away(*device, now, now)
            });
            if all {
                return;
            }
            sleep(POLL).await;
        }
    }

    /// Sends a file to a user, whose phone downloads it.
    pub(super) async fn send_file(&self, device: &Device, zim: &Zim, random: &mut Random) {
        let user = device.place.user;
        let Some(friend) = Self::one_of(&self.plan.friends(user), random) else { return };
        let begun = self.record.now();
        let (to, audience) = (Plan::name(friend), self.others(&[user, friend], device.number));
        let number = self.begin(device, Kind::File, &to, None, audience);
        // The phone of a user has their number.
        self.record.ledger().downloads_by(number, Number::try_from(friend).unwrap_or(Number::MAX));
        let path = self.files.join(format!("{}.bin", mark(number)));
        if let Err(error) = tokio::fs::write(&path, content(self.plan.seed, number)).await {
            return self.record.note(format!("a file cannot be written: {error}"));
        }
        let message = Message::file(path.to_string_lossy());
        let (kind, config) = (ConversationType::Peer, MessageSendConfig::default());
        device.sends();
        let sent = zim.send_media_message(message, &to, kind, config, MessageSendNotification::default());
        match sent.await {
            Ok(sent) => {
                self.record.acknowledged(number, sent.message.map_or(0, |message| message.message_seq));
                device.is_acknowledged();
            }
            Err(error) => self.record.failed(Area::File, begun, &[device.number], &error),
        }
        // A file that stays takes room for the rest of the day.
        let _ = tokio::fs::remove_file(&path).await;
    }

    /// Lets a phone sleep for a while.
    pub(super) async fn nap(self: Arc<Self>, phone: Arc<Device>, logs_out: bool, time: Duration) {
        Box::pin(phone.sleep(logs_out)).await;
        sleep(self.at_most(time)).await;
        if let Err(error) = Box::pin(phone.wake()).await {
            self.record.note(format!("{error:#}"));
        }
    }
}
