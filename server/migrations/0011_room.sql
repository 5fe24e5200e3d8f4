-- Rooms: conversations that end when their last member has left. Then their rows are deleted, and the ID may name another room.

CREATE TABLE room (
    -- Also the row of `conversation`, whose `name` is the ID of the room and whose `rev` counts its changes.
    conversation BIGINT PRIMARY KEY,
    room_name TEXT NOT NULL,
    -- Seconds that the room lasts without members.
    destroy_delay BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- The number of rows in `room_member`, so that a limit is checked without reading them.
    members BIGINT NOT NULL,
    -- 1: messages are kept.
    keeps_history SMALLINT NOT NULL
);

-- A user is in a room with one device.
CREATE TABLE room_member (
    conversation BIGINT NOT NULL,
    account BIGINT NOT NULL,
    device BYTEA NOT NULL,
    -- The change of the room with which the user entered. It orders the list.
    place BIGINT NOT NULL,
    -- The device has no connection, and the user leaves at this time; 0: it has one.
    leaves_at BIGINT NOT NULL,
    PRIMARY KEY (conversation, account)
);

CREATE UNIQUE INDEX room_member_place ON room_member (conversation, place);

-- The rooms of a user.
CREATE INDEX room_member_account ON room_member (account, conversation);

CREATE INDEX room_member_leaves ON room_member (conversation, leaves_at) WHERE leaves_at > 0;

CREATE TABLE room_attribute (
    conversation BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    owner BIGINT NOT NULL,
    -- 1: it is removed when the owner leaves.
    goes_with_owner SMALLINT NOT NULL,
    PRIMARY KEY (conversation, key)
);

-- Attributes of members, and of users who have left and will have them again.
CREATE TABLE room_member_attribute (
    conversation BIGINT NOT NULL,
    account BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    goes_with_owner SMALLINT NOT NULL,
    PRIMARY KEY (conversation, account, key)
);
