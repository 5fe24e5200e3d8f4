-- `MessageMentionedType` of a message of another user: 1 it mentions this user, 2 everybody, 3 both; 0: neither.
ALTER TABLE message ADD COLUMN mention INTEGER NOT NULL DEFAULT 0;

CREATE INDEX message_mention ON message (conversation, seq) WHERE mention > 0;
