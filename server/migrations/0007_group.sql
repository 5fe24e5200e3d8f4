-- Groups: members come and go, so a member may have had several stays in a conversation, and sees only what belongs to them.

-- The earlier stays of a member. The present or last one is in `member`.
CREATE TABLE span (
    account BIGINT NOT NULL,
    conversation BIGINT NOT NULL,
    from_seq BIGINT NOT NULL,
    from_rev BIGINT NOT NULL,
    to_seq BIGINT NOT NULL,
    to_rev BIGINT NOT NULL,
    PRIMARY KEY (account, conversation, from_rev)
);

-- The messages that a member deleted for themselves.
CREATE TABLE hidden (
    account BIGINT NOT NULL,
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (account, conversation, seq)
);

-- The users whom a targeted message names. The flags of the message say whether only they see it or all others.
CREATE TABLE target (
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    account BIGINT NOT NULL,
    PRIMARY KEY (conversation, seq, account)
);

-- The last change of a message: outside a present stay, a message that changed after the stay is served without content.
ALTER TABLE message ADD COLUMN rev BIGINT NOT NULL DEFAULT 0;

-- What happened, for kinds that do not follow from the subject: an encoded record, without names.
ALTER TABLE change ADD COLUMN detail BYTEA;

-- A client that is far behind skips the changes of the roster.
CREATE INDEX change_kind ON change (conversation, kind, rev);

CREATE TABLE chat_group (
    conversation BIGINT PRIMARY KEY,
    group_name TEXT NOT NULL,
    avatar_url TEXT NOT NULL,
    notice TEXT NOT NULL,
    -- A JSON object.
    attributes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- 0: the server's limit applies.
    max_members BIGINT NOT NULL,
    join_mode SMALLINT NOT NULL,
    invite_mode SMALLINT NOT NULL,
    be_invite_mode SMALLINT NOT NULL,
    -- The number of rows in `group_member`, so that a limit is checked without reading them.
    members BIGINT NOT NULL
);

-- The present members of a group.
CREATE TABLE group_member (
    conversation BIGINT NOT NULL,
    account BIGINT NOT NULL,
    -- 1 owner, 2 administrator, 3 member, or a number of the app's own.
    role BIGINT NOT NULL,
    nickname TEXT NOT NULL,
    -- `GroupEnterType`, when, and by whom; 0: by themselves.
    enter_type SMALLINT NOT NULL,
    entered_at BIGINT NOT NULL,
    operator BIGINT NOT NULL,
    -- Orders the list by the time of entering.
    place BIGINT NOT NULL,
    PRIMARY KEY (conversation, account)
);

CREATE UNIQUE INDEX group_member_place ON group_member (conversation, place);

-- The groups of a user.
CREATE INDEX group_member_account ON group_member (account, conversation);
