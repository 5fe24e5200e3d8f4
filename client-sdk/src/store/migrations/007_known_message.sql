-- Messages of ended epochs that this device had. When a restored server sends them again, they are not news. Those that are
-- too old to be news in any case are not kept.
CREATE TABLE known_message (
    message_id INTEGER PRIMARY KEY,
    ts INTEGER NOT NULL
);
