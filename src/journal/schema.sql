-- The tables of journal.db. Keys and values of rows are encoded as in segments.

-- What the whole database is about, each value in postcard: see meta.rs.
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- The committed rows: the state after one slot.
CREATE TABLE base (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- The rows that have changed (or gone) in slots after meta's `changes-from`, each with the last such slot.
CREATE TABLE recent (key BLOB PRIMARY KEY, slot INTEGER NOT NULL) WITHOUT ROWID;

-- Uncommitted changes in order; `step` is the seq of the last change made with this one.
CREATE TABLE change (seq INTEGER PRIMARY KEY, step INTEGER NOT NULL, key BLOB NOT NULL, value BLOB);

-- Slots whose bytes are chosen and that are not known to be committed; `chosen` is postcard.
CREATE TABLE slot (slot INTEGER PRIMARY KEY, chosen BLOB NOT NULL);

-- Small contents. Those without a place are in no committed slot.
CREATE TABLE piece (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);

-- Where in the store a piece lies; such pieces are clean and may go.
CREATE TABLE place (
    blob BLOB NOT NULL, off INTEGER NOT NULL, id INTEGER NOT NULL UNIQUE, len INTEGER NOT NULL,
    PRIMARY KEY (blob, off)
) WITHOUT ROWID;

-- Bytes of all placed pieces: one row.
CREATE TABLE tally (clean INTEGER NOT NULL);
INSERT INTO tally VALUES (0);
CREATE TRIGGER place_in AFTER INSERT ON place BEGIN UPDATE tally SET clean = clean + NEW.len; END;
CREATE TRIGGER place_out AFTER DELETE ON place BEGIN UPDATE tally SET clean = clean - OLD.len; END;

-- Blobs that committed rows refer to, or did until slot `dead`.
CREATE TABLE blob (name BLOB PRIMARY KEY, live INTEGER NOT NULL, dead INTEGER) WITHOUT ROWID;

-- Facts of this machine that are no part of the session.
CREATE TABLE local (tbl TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tbl, key)) WITHOUT ROWID;
