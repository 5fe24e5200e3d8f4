//! Conversations and messages that are deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Wake, Waker};

use zim_protocol::{ConversationDeleteConfig, ErrorCode, Event};

use super::Login;
use crate::apply::Deleted;
use crate::conversation::delete;
use crate::error::Error;
use crate::types::Name;

/// Whether a future was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// The call finds a conversation that only this device has. Before it hides that, the first message is stored. So the conversation is in
/// the lists of the user's other devices, and the server has to delete it.
#[tokio::test]
async fn a_conversation_whose_first_message_is_stored_meanwhile_is_deleted_by_the_server() {
    let login = Login::online().await;
    login.fake.0.lock().holds_answers = true;
    let answer = login.send("bob", "1");
    login.until(|login| login.fake.0.lock().len("bob") == 1).await;

    // The store is busy, so the call does not get further than to what it reads first.
    let ((begin, begun), (end, ended)) = (channel(), channel::<()>());
    let account = Arc::clone(&login.account);
    let busy = tokio::spawn(async move {
        let read = account.store().read(move |_| {
            begin.send(()).unwrap();
            ended.recv().unwrap();
            Ok(())
        });
        read.await.unwrap();
    });
    login.until(|_| begun.try_recv().is_ok()).await;
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let config = ConversationDeleteConfig { is_also_delete_server_conversation: true };
    let mut deleting = Box::pin(delete(&login.account, Name::new(0, "bob"), config));
    assert!(deleting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    end.send(()).unwrap();
    busy.await.unwrap();
    login.until(|_| woken.0.load(Ordering::Acquire)).await;

    login.fake.0.lock().holds_answers = false;
    answer.await.unwrap().unwrap();
    deleting.await.unwrap();
    let requests = login.fake.0.lock().requests.clone();
    assert_eq!(requests.iter().filter(|path| **path == "Conversation/DeleteConversation").count(), 1, "{requests:?}");
    assert!(login.list().await.is_empty());
}

/// The conversations of which the app was told that messages are gone.
fn told(login: &Login) -> Vec<String> {
    login.events(|event| match event {
        Event::MessageDeleted(event) => Some(event.conversation_id.clone()),
        _ => None,
    })
}

/// This device is about to delete all messages of all conversations. Another one has deleted those of one, and the app hears of it only if
/// this device does not delete them: there is no other event.
#[tokio::test]
async fn what_another_device_has_deleted_is_told_when_the_own_request_has_failed() {
    let late = Err(Error::new(ErrorCode::NetworkModuleRequestTimeout, "late"));
    for (answer, is_told) in [(Some(Ok(())), false), (Some(late), true), (None, true)] {
        let login = Login::online().await;
        let message = login.fake.0.lock().write("bob", "bob", "1");
        login.frame(message).await;
        login.until(|login| login.received().len() == 1).await;
        let own = login.account.deletes(Deleted::All(7));
        let cleared = login.fake.0.lock().clear_messages("bob", 1);
        login.frame(cleared).await;
        // The account does this after what came before.
        login.account.store_users(Vec::new()).await.unwrap();
        assert!(told(&login).is_empty());
        match answer {
            Some(answer) => drop(own.done(answer)),
            // The app does not wait any more.
            None => drop(own),
        }
        login.account.store_users(Vec::new()).await.unwrap();
        if is_told {
            login.until(|login| told(login) == ["bob"]).await;
        }
        assert_eq!(told(&login).len(), usize::from(is_told));
    }
}
