-- What a user has set for a conversation. A row outlives a stay in a group.
CREATE TABLE conversation_setting (
    account BIGINT NOT NULL,
    conversation BIGINT NOT NULL,
    -- When it was pinned, Unix milliseconds; 0: it is not.
    pinned_at BIGINT NOT NULL,
    -- `ConversationNotificationStatus`
    notification SMALLINT NOT NULL,
    -- A bit for each mark.
    marks BIGINT NOT NULL,
    -- Orders the conversations with marks by when they got their first: a position in the user's feed.
    marked_pos BIGINT NOT NULL,
    -- It was deleted from the list, and returns with a message at this position or after it. 0: it was not deleted.
    deleted_below BIGINT NOT NULL,
    -- It was deleted together with all others.
    is_deleted_with_all SMALLINT NOT NULL,
    PRIMARY KEY (account, conversation)
);

CREATE INDEX conversation_setting_pinned ON conversation_setting (account) WHERE pinned_at > 0;

CREATE INDEX conversation_setting_marked ON conversation_setting (account, marked_pos) WHERE marks <> 0;

-- The last time that a user deleted all conversations from the list. `number` counts the times.
CREATE TABLE all_deleted (
    account BIGINT PRIMARY KEY,
    number BIGINT NOT NULL,
    count BIGINT NOT NULL
);
