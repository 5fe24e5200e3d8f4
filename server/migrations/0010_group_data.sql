-- What a group is can change, members have a name of their own for it, and it and its members can be muted.

-- The name that the user alone sees for a group.
ALTER TABLE member ADD COLUMN alias TEXT NOT NULL DEFAULT '';

-- `GroupMuteMode`; until when, Unix milliseconds, -1: for good; and a JSON array of the roles that are muted.
ALTER TABLE chat_group ADD COLUMN mute_mode SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE chat_group ADD COLUMN mute_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE chat_group ADD COLUMN mute_roles TEXT NOT NULL DEFAULT '[]';

-- Until when the member may not write, Unix milliseconds; 0: they may, -1: never again.
ALTER TABLE group_member ADD COLUMN mute_until BIGINT NOT NULL DEFAULT 0;

-- The same of somebody who has left: who returns is muted as before.
ALTER TABLE member ADD COLUMN mute_until BIGINT NOT NULL DEFAULT 0;

CREATE INDEX group_member_muted ON group_member (conversation, place) WHERE mute_until <> 0;

-- Orders the groups of a user: the position in the user's feed at which they entered.
ALTER TABLE group_member ADD COLUMN list_place BIGINT NOT NULL DEFAULT 0;

-- Each entrance was an entry in the feed, so these are below all positions to come.
UPDATE group_member SET list_place = (SELECT COUNT(*) FROM group_member o
    WHERE o.account = group_member.account AND o.conversation <= group_member.conversation);

CREATE INDEX group_member_list ON group_member (account, list_place);

-- The server's limit of members, as of its last start: a group without a limit of its own has this one.
ALTER TABLE deployment ADD COLUMN max_group_members BIGINT NOT NULL DEFAULT 0;

-- Applications: of a user to join a group, or of a member to bring a user in.
CREATE TABLE group_application (
    id BIGINT PRIMARY KEY,
    conversation BIGINT NOT NULL,
    -- Who would enter.
    account BIGINT NOT NULL,
    -- The member who asks; 0: the user applies.
    inviter BIGINT NOT NULL,
    -- `GroupApplicationState`, without regard to the expiry.
    state SMALLINT NOT NULL,
    wording TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- Who invited or decided; 0: nobody yet.
    operator BIGINT NOT NULL,
    -- Orders the lists by the time of the last change.
    place BIGINT NOT NULL
);

CREATE UNIQUE INDEX group_application_user ON group_application (conversation, account, inviter);
CREATE INDEX group_application_of ON group_application (account, place);
CREATE INDEX group_application_by ON group_application (inviter, place);
CREATE INDEX group_application_to ON group_application (conversation, inviter, place);
CREATE INDEX group_application_place ON group_application (place);
CREATE INDEX group_member_above ON group_member (conversation, place) WHERE role <= 2;
CREATE INDEX group_member_decides ON group_member (account) WHERE role <= 2;
