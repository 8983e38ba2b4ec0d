-- Linkage groups whose pseudonyms took a new key, and how often; all others are at generation 1.
CREATE TABLE linkage_keys (
  project TEXT NOT NULL REFERENCES projects (id),
  linkage_group TEXT NOT NULL,
  generation INTEGER NOT NULL,
  rotated_at INTEGER NOT NULL,
  PRIMARY KEY (project, linkage_group)
) STRICT;
CREATE TRIGGER linkage_keys_insert_rights AFTER INSERT ON linkage_keys
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER linkage_keys_update_rights AFTER UPDATE ON linkage_keys
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER linkage_keys_only_grow BEFORE UPDATE ON linkage_keys
WHEN NEW.generation <= OLD.generation
BEGIN SELECT RAISE(ABORT, 'a generation is never taken twice'); END;
CREATE TRIGGER linkage_keys_stay BEFORE DELETE ON linkage_keys
BEGIN SELECT RAISE(ABORT, 'a generation is never taken twice'); END;
