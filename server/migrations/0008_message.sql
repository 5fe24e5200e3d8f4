-- What happens to a message: edits, pins, replies, reactions, receipts, deletions.

-- A row exists for a message that replies to another one, that asks the members of a group for receipts, or to which something
-- happened. `message.flags` has 128 then.
CREATE TABLE message_state (
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    -- The last change of this row, a position of the log of changes.
    rev BIGINT NOT NULL DEFAULT 0,
    edited_at BIGINT NOT NULL DEFAULT 0,
    editor BIGINT NOT NULL DEFAULT 0,
    pinned_at BIGINT NOT NULL DEFAULT 0,
    pinned_by BIGINT NOT NULL DEFAULT 0,
    -- The message that it replies to, and the first message of that tree.
    replied_seq BIGINT NOT NULL DEFAULT 0,
    root_seq BIGINT NOT NULL DEFAULT 0,
    -- Of a root: the direct and indirect replies that were not revoked.
    replies BIGINT NOT NULL DEFAULT 0,
    -- The number of types of reactions.
    reactions BIGINT NOT NULL DEFAULT 0,
    -- How many should send a receipt, how many have, and when the last of all did.
    receivers BIGINT NOT NULL DEFAULT 0,
    readers BIGINT NOT NULL DEFAULT 0,
    read_at BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation, seq)
);

CREATE INDEX message_state_pinned ON message_state (conversation, pinned_at) WHERE pinned_at > 0;

CREATE INDEX message_state_root ON message_state (conversation, root_seq, seq) WHERE root_seq > 0;

-- A user's reaction of one type. `place` is the change that added it, and orders the users.
CREATE TABLE reaction (
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    account BIGINT NOT NULL,
    type TEXT NOT NULL,
    count BIGINT NOT NULL,
    place BIGINT NOT NULL,
    PRIMARY KEY (conversation, seq, account, type)
);

CREATE UNIQUE INDEX reaction_place ON reaction (conversation, seq, type, place);

-- All reactions of one type to a message, so that they are never counted.
CREATE TABLE reaction_total (
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    type TEXT NOT NULL,
    users BIGINT NOT NULL,
    total BIGINT NOT NULL,
    place BIGINT NOT NULL,
    -- The keys of the first users, at most five, as 8 bytes each.
    first_users BYTEA NOT NULL,
    PRIMARY KEY (conversation, seq, type)
);

-- Who has sent a receipt for a message.
CREATE TABLE receipt (
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    account BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (conversation, seq, account)
);

-- Up to where a user of a peer conversation sent a receipt for everything, and when.
ALTER TABLE member ADD COLUMN receipt_seq BIGINT NOT NULL DEFAULT 0;

ALTER TABLE member ADD COLUMN receipt_at BIGINT NOT NULL DEFAULT 0;

-- The messages that a combined message combines: an encoded `CombineMessage`.
CREATE TABLE combine (
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (conversation, seq)
);

-- Also tells which member came last: what is older than that is not pushed to all members.
CREATE INDEX member_from ON member (conversation, from_seq);

DROP INDEX member_conversation;
