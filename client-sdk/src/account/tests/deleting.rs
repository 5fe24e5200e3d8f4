//! Conversations that are deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Wake, Waker};

use zim_protocol::ConversationDeleteConfig;

use super::Login;
use crate::conversation::delete;
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
