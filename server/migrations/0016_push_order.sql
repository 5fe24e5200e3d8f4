-- What an entry of the outbox is delivered to, for those that are delivered to others: a slow receiver delays its own lane only.
ALTER TABLE outbox ADD COLUMN lane BIGINT NOT NULL DEFAULT 0;

CREATE INDEX outbox_lane ON outbox (kind, lane, next_at);

-- The pushes of a conversation in the order in which they replace each other on a device, and those that wait to be sent to it.
CREATE INDEX push_conversation_time ON push (conversation, created_at);

CREATE INDEX push_log_waiting ON push_log (push_id) WHERE state = 0;
