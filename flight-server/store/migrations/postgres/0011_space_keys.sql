-- What the key of a project's space is derived from, beside the master secret: without its salt
-- nothing that was encrypted with a key can be read again, by whoever has both. New files take the
-- newest. A key that was dropped keeps its row, so that its number never means another one.
CREATE TABLE space_keys (
  project    TEXT NOT NULL REFERENCES projects (id),
  key_id     BIGINT NOT NULL CHECK (key_id > 0),
  salt       BYTEA,
  created_at BIGINT NOT NULL,
  dropped_at BIGINT,
  PRIMARY KEY (project, key_id),
  CHECK ((salt IS NULL) = (dropped_at IS NOT NULL))
);
-- A running server forgets what it derived.
CREATE TRIGGER space_keys_rights AFTER UPDATE OR DELETE ON space_keys
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER space_keys_dropped_for_good BEFORE UPDATE ON space_keys
FOR EACH ROW WHEN (OLD.salt IS NULL OR NEW.salt IS NOT NULL)
EXECUTE FUNCTION refuse_change();
