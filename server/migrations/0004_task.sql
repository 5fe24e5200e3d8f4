-- What the server does at a later time. Times are Unix milliseconds.

-- Something to do once, at a time. There is at most one for each kind and subject.
CREATE TABLE scheduled_task (
    -- The number of a `TaskKind`.
    kind BIGINT NOT NULL,
    -- The user, the app or whatever else the kind says.
    subject BIGINT NOT NULL,
    -- Rises when the task is replaced, so that a worker that read the task before does not run it.
    generation BIGINT NOT NULL,
    -- When it is due.
    at BIGINT NOT NULL,
    -- When it runs next: `at`, or later after a failure. The largest value: it has failed too often, and waits for the operator.
    next_at BIGINT NOT NULL,
    -- How often it has failed, and why the last time.
    attempts BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    PRIMARY KEY (kind, subject)
);

CREATE INDEX scheduled_task_next ON scheduled_task (next_at);

CREATE INDEX scheduled_task_failed ON scheduled_task (kind, subject) WHERE attempts > 0;

-- What leaves the deployment, at least once.
CREATE TABLE outbox (
    -- Receivers recognise by it what they get twice.
    id BIGINT PRIMARY KEY,
    -- The number of an `OutboxKind`.
    kind BIGINT NOT NULL,
    -- What it is about, as the kind says.
    cause BIGINT NOT NULL,
    -- The last recipient who has got it: they are read in pages.
    cursor BIGINT NOT NULL,
    -- As in `scheduled_task`.
    next_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    last_error TEXT NOT NULL
);

CREATE INDEX outbox_next ON outbox (next_at);

CREATE INDEX outbox_failed ON outbox (kind, id) WHERE attempts > 0;

-- Custom statuses that end, subscriptions, and old secrets, as the builds before this one left them.
INSERT INTO scheduled_task (kind, subject, generation, at, next_at, attempts, last_error)
SELECT 1, account, 1, custom_ends_at, custom_ends_at, 0, '' FROM presence WHERE custom_ends_at > 0;

INSERT INTO scheduled_task (kind, subject, generation, at, next_at, attempts, last_error)
SELECT 2, account, 1, MIN(expires_at), MIN(expires_at), 0, '' FROM subscription GROUP BY account;

INSERT INTO scheduled_task (kind, subject, generation, at, next_at, attempts, last_error)
SELECT 5, id, 1, 0, 0, 0, '' FROM app WHERE old_app_sign <> '' OR old_server_secret <> '';

-- The tasks replace them.
DROP INDEX presence_ends;

DROP INDEX subscription_expires;
