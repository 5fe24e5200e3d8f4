//! The load of `zim bench peer --sdk`: clients with the SDK.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use tokio::task::JoinSet;
use zim_client_sdk::{EventStream, MessageSendNotification, Zim};
use zim_protocol::{ConversationType, Event, Message, MessageSendConfig};

use super::histogram::Histogram;
use super::load::{Load, Running};
use super::meter::{Meter, SharedMeter, is_final, text};
use super::target::Target;
use crate::context::{Session, config, log_in};
use crate::exit::Failure;
use crate::profile::Profile;

const LOGINS_AT_ONCE: usize = 8;

/// Logs in the pairs and starts the load.
pub(crate) async fn load(
    load: &Load,
    target: &Target,
    meter: &SharedMeter,
    data: Option<&Path>,
) -> Result<Running, Failure> {
    let pairs: Vec<(Session, Session)> = stream::iter(0..load.pairs)
        .map(|pair| async move {
            let receiver = user(target, target.user(load.role, 2 * pair + 1), data).await?;
            let sender = user(target, target.user(load.role, 2 * pair), data).await?;
            Ok::<_, Failure>((sender, receiver))
        })
        .buffered(LOGINS_AT_ONCE)
        .try_collect()
        .await?;
    let mut running = Running { senders: JoinSet::new(), receivers: JoinSet::new() };
    for (sender, receiver) in pairs {
        let (to, load) = (receiver.user_id.clone(), load.clone());
        running.receivers.spawn(receive(receiver, Arc::clone(meter)));
        let meter = Arc::clone(meter);
        running.senders.spawn(async move {
            let mut mine = Histogram::default();
            let Session { zim, events, .. } = sender;
            // The events of the sender are not read.
            drop(events);
            if let Err(failure) = send(&zim, &to, &load, &meter, &mut mine).await {
                meter.fail(&failure);
            }
            meter.add(&mine, &Histogram::default());
            zim.destroy();
        });
    }
    Ok(running)
}

/// Logs in a user. Without a folder, what the client stores is in memory.
pub(crate) async fn user(target: &Target, user_id: String, data: Option<&Path>) -> Result<Session, Failure> {
    let folder = data.map(|data| data.join(&user_id));
    let profile = Profile { user_id: Some(user_id), ..target.profile.clone() };
    let config = config(&profile)?;
    let config = match folder {
        Some(folder) => config.data_dir(folder),
        None => config,
    };
    log_in(config, &profile).await
}

async fn send(zim: &Zim, to: &str, load: &Load, meter: &Meter, mine: &mut Histogram) -> Result<(), Failure> {
    let mut in_flight = FuturesUnordered::new();
    let next = || {
        let message = Message::text(text(meter.since, load.size));
        let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
        let began = Instant::now();
        let sending = zim.send_message(message, to, ConversationType::Peer, config, notification);
        async move { (sending.await, began.elapsed()) }
    };
    in_flight.extend(std::iter::repeat_with(next).take(load.window));
    while let Some((sent, took)) = in_flight.next().await {
        match sent.map_err(Failure::from) {
            Ok(_) => meter.acknowledge(took, mine),
            Err(failure) if is_final(&failure) => return Err(failure),
            Err(failure) => meter.fail(&failure),
        }
        if !meter.is_stopping() {
            in_flight.push(next());
        }
    }
    Ok(())
}

async fn receive(receiver: Session, meter: SharedMeter) {
    let mut mine = Histogram::default();
    let Session { zim, mut events, .. } = receiver;
    while let Some(event) = next(&mut events, &meter).await {
        if let Event::PeerMessageReceived(received) = event {
            for message in &received.message_list {
                meter.deliver(message.as_text().unwrap_or(""), &mut mine);
            }
        }
    }
    meter.add(&Histogram::default(), &mine);
    zim.destroy();
}

/// Waits for the next event; `None` at the end. Lost events of a slow reader are counted as errors.
async fn next(events: &mut EventStream, meter: &Meter) -> Option<Event> {
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Ok(event) => return Some(event),
                Err(lagged) => meter.fail(&Failure::other(lagged.to_string())),
            },
            () = meter.finished() => return None,
        }
    }
}
