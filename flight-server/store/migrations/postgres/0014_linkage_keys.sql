-- Linkage groups whose pseudonyms took a new key, and how often; all others are at generation 1.
CREATE TABLE linkage_keys (
  project TEXT NOT NULL REFERENCES projects (id),
  linkage_group TEXT NOT NULL,
  generation BIGINT NOT NULL,
  rotated_at BIGINT NOT NULL,
  PRIMARY KEY (project, linkage_group)
);
CREATE TRIGGER linkage_keys_rotated_rights AFTER INSERT OR UPDATE ON linkage_keys
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER linkage_keys_only_grow BEFORE UPDATE ON linkage_keys
FOR EACH ROW WHEN (NEW.generation <= OLD.generation)
EXECUTE FUNCTION refuse_change();
CREATE TRIGGER linkage_keys_stay BEFORE DELETE ON linkage_keys
FOR EACH ROW EXECUTE FUNCTION refuse_change();
