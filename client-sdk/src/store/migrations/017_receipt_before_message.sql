-- The positions of messages that are read, and that this device had no row for when it heard so.
CREATE TABLE done_receipt (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    UNIQUE (conversation, seq)
);

-- When the files of a message that is being sent were uploaded, Unix milliseconds; 0: they are not, or it has none.
ALTER TABLE message ADD COLUMN uploaded_at INTEGER NOT NULL DEFAULT 0;

-- Which positions of the span the event has, as varints of their distances; empty: all. NULL: an earlier version stored it.
ALTER TABLE pending_event ADD COLUMN positions BLOB;

-- An epoch has begun, and the feed is read from its beginning: what it tells of receipts and deletions may be old.
ALTER TABLE device ADD COLUMN is_told_again INTEGER NOT NULL DEFAULT 0;

-- Such messages of peer conversations stayed unread.
UPDATE message SET receipt = 2 WHERE receipt = 1 AND seq > 0 AND seq <= (SELECT CASE WHEN c.name = message.sender
    THEN c.own_receipt_seq ELSE c.peer_receipt_seq END FROM conversation c WHERE c.id = message.conversation AND c.type = 0);
