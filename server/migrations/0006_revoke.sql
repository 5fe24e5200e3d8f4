-- Revoked messages no longer count as unread, and are found without a look at the others. `member.deducted` is no longer read.
CREATE INDEX message_revoked ON message (conversation, seq) WHERE kind = 31;
