-- Call invitations.
CREATE TABLE chat_call (
    id BIGINT PRIMARY KEY,
    -- The ID that clients see.
    public_id BIGINT NOT NULL,
    -- The caller.
    account BIGINT NOT NULL,
    -- `CallInvitationMode`.
    mode SMALLINT NOT NULL,
    -- `CallState`.
    state SMALLINT NOT NULL,
    -- 1: the users of the call are told who has not received the invitation in time.
    checks_received SMALLINT NOT NULL,
    -- How long an invitee has for the answer, seconds.
    timeout_s BIGINT NOT NULL,
    extended_data TEXT NOT NULL,
    -- Who cancelled or ended the call, and what they said; 0: nobody.
    operator BIGINT NOT NULL,
    operated_data TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- 0: it has not ended.
    ended_at BIGINT NOT NULL,
    -- When the call ends that nobody ends; 0: it ends by the answers.
    closes_at BIGINT NOT NULL,
    -- When the task of the call runs; 0: it has none.
    timer_at BIGINT NOT NULL,
    -- Orders the lists of calls by `created_at`.
    place BIGINT NOT NULL
);

CREATE INDEX chat_call_started ON chat_call (account) WHERE state = 1;

-- Who was ever in a call, or asked into it.
CREATE TABLE call_user (
    call BIGINT NOT NULL,
    account BIGINT NOT NULL,
    -- Orders the users of the call: the caller is 0.
    number SMALLINT NOT NULL,
    -- `CallUserState`.
    state SMALLINT NOT NULL,
    -- What the user said last.
    extended_data TEXT NOT NULL,
    inviter BIGINT NOT NULL,
    -- The installation on which the user is in the call; empty: none.
    device BYTEA NOT NULL,
    -- When the user came into the call; 0: never.
    accepted_at BIGINT NOT NULL,
    -- When the invitation ends; 0: there was none.
    expires_at BIGINT NOT NULL,
    -- When the others are told that the invitation is not received; 0: never.
    check_at BIGINT NOT NULL,
    -- That of the call.
    place BIGINT NOT NULL,
    PRIMARY KEY (call, account)
);

CREATE INDEX call_user_place ON call_user (account, place);
