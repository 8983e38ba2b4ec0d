-- What the key of a project's space is derived from, beside the master secret: without its salt
-- nothing that was encrypted with a key can be read again, by whoever has both. New files take the
-- newest. A key that was dropped keeps its row, so that its number never means another one.
CREATE TABLE space_keys (
  project    TEXT NOT NULL REFERENCES projects (id),
  key_id     INTEGER NOT NULL CHECK (key_id > 0),
  salt       BLOB,
  created_at INTEGER NOT NULL,
  dropped_at INTEGER,
  PRIMARY KEY (project, key_id),
  CHECK ((salt IS NULL) = (dropped_at IS NOT NULL))
) STRICT;
-- A running server forgets what it derived.
CREATE TRIGGER space_keys_update_rights AFTER UPDATE ON space_keys
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER space_keys_delete_rights AFTER DELETE ON space_keys
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER space_keys_dropped_for_good BEFORE UPDATE ON space_keys
WHEN OLD.salt IS NULL OR NEW.salt IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a key of a space is dropped once, and never changed'); END;
