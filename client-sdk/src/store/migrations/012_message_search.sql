-- Finds messages by what they say; see store/message_search.rs. Rows are added later, in batches.
CREATE VIRTUAL TABLE message_search USING fts5
    (words, content='', contentless_delete=1, tokenize='ascii', prefix='4 8');

-- What is in the index. `doc` is its row there; it follows the time of the message, so that the index itself is in the order of
-- the results.
CREATE TABLE message_doc (
    doc INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    conversation INTEGER NOT NULL
);

CREATE UNIQUE INDEX message_doc_message ON message_doc (message);

-- Messages up to the row `through` were indexed, except those in `message_unindexed`. `shift` is the most by which a `doc` is
-- greater than its time says.
CREATE TABLE message_indexed (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    through INTEGER NOT NULL,
    shift INTEGER NOT NULL
);

INSERT INTO message_indexed (id, through, shift) VALUES (1, 0, 0);

CREATE TABLE message_unindexed (
    message INTEGER PRIMARY KEY
);

-- The id of a row that was deleted is used again. `OR IGNORE` does not help here: the statement that fires a trigger decides.
CREATE TRIGGER message_search_added AFTER INSERT ON message
WHEN new.id <= (SELECT through FROM message_indexed) BEGIN
    INSERT INTO message_unindexed (message)
        SELECT new.id WHERE NOT EXISTS (SELECT 1 FROM message_unindexed WHERE message = new.id);
END;

-- What a message said leaves the index at once: it may have been revoked.
CREATE TRIGGER message_search_changed AFTER UPDATE OF kind, content, ts ON message
WHEN new.id <= (SELECT through FROM message_indexed)
    AND (new.kind <> old.kind OR new.ts <> old.ts OR new.content <> old.content) BEGIN
    DELETE FROM message_search WHERE rowid IN (SELECT doc FROM message_doc WHERE message = new.id);
    DELETE FROM message_doc WHERE message = new.id;
    INSERT INTO message_unindexed (message)
        SELECT new.id WHERE NOT EXISTS (SELECT 1 FROM message_unindexed WHERE message = new.id);
END;

CREATE TRIGGER message_search_removed AFTER DELETE ON message
WHEN old.id <= (SELECT through FROM message_indexed) BEGIN
    DELETE FROM message_search WHERE rowid IN (SELECT doc FROM message_doc WHERE message = old.id);
    DELETE FROM message_doc WHERE message = old.id;
    DELETE FROM message_unindexed WHERE message = old.id;
END;
