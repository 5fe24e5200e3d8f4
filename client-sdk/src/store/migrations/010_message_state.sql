-- What happened to a message beside its content: an encoded `MessageState`; empty: nothing.
ALTER TABLE message ADD COLUMN state BLOB NOT NULL DEFAULT x'';

-- The message that it replies to.
ALTER TABLE message ADD COLUMN replied_seq INTEGER NOT NULL DEFAULT 0;

CREATE INDEX message_replied ON message (conversation, replied_seq) WHERE replied_seq > 0;

-- `MessageReceiptStatus` of a message that the server has stored.
ALTER TABLE message ADD COLUMN receipt INTEGER NOT NULL DEFAULT 0;

UPDATE message SET receipt = 1 WHERE (flags & 2) <> 0 AND seq > 0;

CREATE INDEX message_receipt ON message (conversation, seq) WHERE receipt = 1;

-- Up to where the other user of a peer conversation, and this user, sent a receipt for everything.
ALTER TABLE conversation ADD COLUMN peer_receipt_seq INTEGER NOT NULL DEFAULT 0;

ALTER TABLE conversation ADD COLUMN own_receipt_seq INTEGER NOT NULL DEFAULT 0;

-- Messages that were deleted on this device only. A message is deleted as well if neither its position nor its time is beyond
-- those of its conversation: positions may begin anew with an epoch, times do not.
CREATE TABLE deleted_message (
    message_id INTEGER PRIMARY KEY
);

ALTER TABLE conversation ADD COLUMN deleted_seq INTEGER NOT NULL DEFAULT 0;

ALTER TABLE conversation ADD COLUMN deleted_ts INTEGER NOT NULL DEFAULT 0;

-- The messages that the user deleted for themselves, and up to where all of them: what a push to everybody says of them is not
-- for this user.
CREATE TABLE hidden (
    conversation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;

ALTER TABLE conversation ADD COLUMN cleared_seq INTEGER NOT NULL DEFAULT 0;

-- Events about messages were raised up to this change.
ALTER TABLE conversation ADD COLUMN change_rev INTEGER NOT NULL DEFAULT 0;
