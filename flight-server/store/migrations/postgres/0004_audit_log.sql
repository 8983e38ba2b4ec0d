-- The audit as a Merkle log. Each entry has its place in the tree (leaf), the hash of its leaf,
-- and the salted hash of what of it can be erased: person, client, sql_sha256, sealed_sha256.
-- Entries that were written before have none of these until the ledger is opened next, which
-- takes them into the tree in the order of seq, before any other.

ALTER TABLE audit
  ADD COLUMN detail TEXT,
  ADD COLUMN sealed_sha256 TEXT,
  ADD COLUMN leaf BIGINT,
  ADD COLUMN leaf_hash BYTEA,
  ADD COLUMN payload_hash BYTEA,
  ADD COLUMN salt BYTEA;
-- The writer numbers the entries, under the lock of the tree's state: a number that the
-- database gives may become visible after a higher one, or never.
ALTER TABLE audit ALTER COLUMN seq DROP IDENTITY;

-- The state of the tree; `note` is the signed checkpoint of it, empty for the empty tree.
-- Entries up to `adopt_to` are those that were written before there was a tree.
CREATE TABLE audit_head (
  id       BIGINT PRIMARY KEY CHECK (id = 1),
  size     BIGINT NOT NULL,
  last_seq BIGINT NOT NULL,
  adopt_to BIGINT NOT NULL,
  frontier BYTEA NOT NULL,
  note     TEXT NOT NULL
) WITH (fillfactor = 10);
INSERT INTO audit_head (id, size, last_seq, adopt_to, frontier, note)
SELECT 1, 0, 0, COALESCE(MAX(seq), 0), '', '' FROM audit;

CREATE TABLE audit_checkpoints (
  id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  size BIGINT NOT NULL,
  at   BIGINT NOT NULL,
  seal TEXT UNIQUE,
  note TEXT NOT NULL
);
CREATE INDEX audit_checkpoints_size ON audit_checkpoints (size, id);

-- What may be erased: entries and texts before `before_at`, which lies at least 365 days
-- before the purge was asked for.
CREATE TABLE audit_purges (
  before_at BIGINT PRIMARY KEY,
  purged_at BIGINT NOT NULL,
  CHECK (purged_at - before_at >= 31536000000000)
);

-- Public keys that texts of statements are sealed to; holder is `project:<id>` or `auditors`.
-- The newest one of a holder is in force.
CREATE TABLE text_keys (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  holder     TEXT NOT NULL,
  public_key BYTEA NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX text_keys_holder ON text_keys (holder, seq);

DROP TRIGGER audit_immutable ON audit;
-- Only two changes are allowed: an entry that is not yet in the tree is taken into it, and the
-- payload of an entry is erased as a purge allows.
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  tree    CONSTANT TEXT[] := ARRAY['leaf', 'leaf_hash', 'payload_hash', 'salt', 'sealed_sha256'];
  payload CONSTANT TEXT[] := ARRAY['person', 'client', 'sql_sha256', 'sealed_sha256', 'salt'];
BEGIN
  IF OLD.leaf_hash IS NULL AND NEW.leaf_hash IS NOT NULL
    AND to_jsonb(NEW) - tree = to_jsonb(OLD) - tree THEN
    RETURN NEW;
  END IF;
  IF to_jsonb(NEW) - payload = to_jsonb(OLD) - payload
    AND NEW.person IS NULL AND NEW.client = '' AND NEW.sql_sha256 IS NULL
    AND NEW.sealed_sha256 IS NULL AND NEW.salt IS NULL
    AND EXISTS (SELECT 1 FROM audit_purges WHERE before_at > OLD.at) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'an audit record is immutable';
END $$;
CREATE TRIGGER audit_immutable BEFORE UPDATE ON audit
FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_kept BEFORE DELETE ON audit
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_statement_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  payload CONSTANT TEXT[] := ARRAY['person', 'client', 'sql_sha256', 'sql_sealed', 'tags'];
BEGIN
  IF to_jsonb(NEW) - payload = to_jsonb(OLD) - payload
    AND NEW.person = '' AND NEW.client = '' AND NEW.sql_sha256 = ''
    AND NEW.sql_sealed = '' AND NEW.tags = '{}'
    AND EXISTS (SELECT 1 FROM audit_purges WHERE before_at > OLD.opened_at) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a statement is immutable';
END $$;
CREATE TRIGGER statements_immutable
BEFORE UPDATE OF seq, statement_id, person, project, organisation, kind, client, sql_sha256,
  sql_sealed, tags, opened_at, expires_at ON statements
FOR EACH ROW EXECUTE FUNCTION refuse_statement_change();

CREATE TRIGGER audit_checkpoints_immutable BEFORE UPDATE OR DELETE ON audit_checkpoints
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_purges_immutable BEFORE UPDATE OR DELETE ON audit_purges
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER text_keys_immutable BEFORE UPDATE OR DELETE ON text_keys
FOR EACH ROW EXECUTE FUNCTION refuse_change();
