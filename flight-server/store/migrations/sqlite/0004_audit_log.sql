-- The audit as a Merkle log. Each entry has its place in the tree (leaf), the hash of its leaf,
-- and the salted hash of what of it can be erased: person, client, sql_sha256, sealed_sha256.
-- Entries that were written before have none of these until the ledger is opened next, which
-- takes them into the tree in the order of seq, before any other.

ALTER TABLE audit ADD COLUMN detail TEXT;
ALTER TABLE audit ADD COLUMN sealed_sha256 TEXT;
ALTER TABLE audit ADD COLUMN leaf INTEGER;
ALTER TABLE audit ADD COLUMN leaf_hash BLOB;
ALTER TABLE audit ADD COLUMN payload_hash BLOB;
ALTER TABLE audit ADD COLUMN salt BLOB;

-- The state of the tree; `note` is the signed checkpoint of it, empty for the empty tree.
-- Entries up to `adopt_to` are those that were written before there was a tree.
CREATE TABLE audit_head (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  size     INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  adopt_to INTEGER NOT NULL,
  frontier BLOB NOT NULL,
  note     TEXT NOT NULL
) STRICT;
INSERT INTO audit_head (id, size, last_seq, adopt_to, frontier, note)
SELECT 1, 0, 0, COALESCE(MAX(seq), 0), x'', '' FROM audit;

CREATE TABLE audit_checkpoints (
  id   INTEGER PRIMARY KEY AUTOINCREMENT,
  size INTEGER NOT NULL,
  at   INTEGER NOT NULL,
  seal TEXT UNIQUE,
  note TEXT NOT NULL
) STRICT;
CREATE INDEX audit_checkpoints_size ON audit_checkpoints (size, id);

-- What may be erased: entries and texts before `before_at`, which lies at least 365 days
-- before the purge was asked for.
CREATE TABLE audit_purges (
  before_at INTEGER PRIMARY KEY,
  purged_at INTEGER NOT NULL,
  CHECK (purged_at - before_at >= 31536000000000)
) STRICT;

-- Public keys that texts of statements are sealed to; holder is `project:<id>` or `auditors`.
-- The newest one of a holder is in force.
CREATE TABLE text_keys (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,
  holder     TEXT NOT NULL,
  public_key BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX text_keys_holder ON text_keys (holder, seq);

DROP TRIGGER audit_immutable;
-- Only two changes are allowed: an entry that is not yet in the tree is taken into it, and the
-- payload of an entry is erased as a purge allows.
CREATE TRIGGER audit_immutable BEFORE UPDATE ON audit
WHEN NOT (
  NEW.seq = OLD.seq AND NEW.at = OLD.at AND NEW.event = OLD.event
  AND NEW.project IS OLD.project AND NEW.statement_id IS OLD.statement_id
  AND NEW.attempt IS OLD.attempt AND NEW.habilitations = OLD.habilitations
  AND NEW.datasets = OLD.datasets AND NEW.columns = OLD.columns
  AND NEW.outcome = OLD.outcome AND NEW.error_kind IS OLD.error_kind
  AND NEW.rows_returned = OLD.rows_returned AND NEW.bytes_returned = OLD.bytes_returned
  AND NEW.detail IS OLD.detail
  AND ((OLD.leaf_hash IS NULL AND NEW.leaf_hash IS NOT NULL
        AND NEW.person IS OLD.person AND NEW.client = OLD.client
        AND NEW.sql_sha256 IS OLD.sql_sha256)
    OR (NEW.leaf IS OLD.leaf AND NEW.leaf_hash IS OLD.leaf_hash
        AND NEW.payload_hash IS OLD.payload_hash
        AND NEW.person IS NULL AND NEW.client = '' AND NEW.sql_sha256 IS NULL
        AND NEW.sealed_sha256 IS NULL AND NEW.salt IS NULL
        AND EXISTS (SELECT 1 FROM audit_purges WHERE before_at > OLD.at)))
)
BEGIN SELECT RAISE(ABORT, 'an audit record is immutable'); END;
CREATE TRIGGER audit_kept BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'an audit record is kept'); END;

CREATE TRIGGER statements_immutable
BEFORE UPDATE OF seq, statement_id, person, project, organisation, kind, client, sql_sha256,
  sql_sealed, tags, opened_at, expires_at ON statements
WHEN NOT (
  NEW.seq = OLD.seq AND NEW.statement_id = OLD.statement_id AND NEW.project IS OLD.project
  AND NEW.organisation IS OLD.organisation AND NEW.kind = OLD.kind
  AND NEW.opened_at = OLD.opened_at AND NEW.expires_at = OLD.expires_at
  AND NEW.person = '' AND NEW.client = '' AND NEW.sql_sha256 = ''
  AND NEW.sql_sealed = x'' AND NEW.tags = '{}'
  AND EXISTS (SELECT 1 FROM audit_purges WHERE before_at > OLD.opened_at)
)
BEGIN SELECT RAISE(ABORT, 'a statement is immutable'); END;

CREATE TRIGGER audit_checkpoints_immutable BEFORE UPDATE ON audit_checkpoints
BEGIN SELECT RAISE(ABORT, 'a checkpoint is immutable'); END;
CREATE TRIGGER audit_checkpoints_kept BEFORE DELETE ON audit_checkpoints
BEGIN SELECT RAISE(ABORT, 'a checkpoint is kept'); END;
CREATE TRIGGER audit_purges_immutable BEFORE UPDATE ON audit_purges
BEGIN SELECT RAISE(ABORT, 'a purge is immutable'); END;
CREATE TRIGGER audit_purges_kept BEFORE DELETE ON audit_purges
BEGIN SELECT RAISE(ABORT, 'a purge is kept'); END;
CREATE TRIGGER text_keys_immutable BEFORE UPDATE ON text_keys
BEGIN SELECT RAISE(ABORT, 'a key is immutable'); END;
CREATE TRIGGER text_keys_kept BEFORE DELETE ON text_keys
BEGIN SELECT RAISE(ABORT, 'a key is kept'); END;
