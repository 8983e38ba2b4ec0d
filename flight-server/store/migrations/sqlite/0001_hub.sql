-- Times are microseconds since 1970 in UTC, money is decimal text, lists and maps are JSON
-- text, booleans are 0 or 1. The same columns exist in the PostgreSQL folder.

CREATE TABLE organisations (
  id   TEXT PRIMARY KEY,
  name TEXT NOT NULL
) STRICT;

CREATE TABLE persons (
  id            TEXT PRIMARY KEY,
  name          TEXT NOT NULL,
  password_hash TEXT,
  active        INTEGER NOT NULL,
  is_admin      INTEGER NOT NULL,
  token_epoch   INTEGER NOT NULL DEFAULT 0,
  created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE projects (
  id                TEXT PRIMARY KEY,
  title             TEXT NOT NULL,
  purpose           TEXT NOT NULL,
  organisation      TEXT NOT NULL REFERENCES organisations (id),
  valid_from        INTEGER NOT NULL,
  valid_to          INTEGER NOT NULL,
  space_quota_bytes INTEGER NOT NULL,
  budget            TEXT,
  space_snapshot    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE members (
  project TEXT NOT NULL REFERENCES projects (id),
  person  TEXT NOT NULL REFERENCES persons (id),
  role    TEXT NOT NULL,
  PRIMARY KEY (project, person)
) STRICT;
CREATE INDEX members_person ON members (person);

CREATE TABLE habilitations (
  id         TEXT NOT NULL,
  version    INTEGER NOT NULL,
  project    TEXT NOT NULL REFERENCES projects (id),
  dataset    TEXT NOT NULL,
  body       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  revoked_at INTEGER,
  PRIMARY KEY (id, version)
) STRICT;
CREATE INDEX habilitations_project ON habilitations (project);
CREATE TRIGGER habilitations_immutable
BEFORE UPDATE OF id, version, project, dataset, body, created_at ON habilitations
BEGIN SELECT RAISE(ABORT, 'a habilitation version is immutable'); END;

CREATE TABLE tokens (
  id         TEXT PRIMARY KEY,
  person     TEXT NOT NULL REFERENCES persons (id),
  project    TEXT NOT NULL REFERENCES projects (id),
  name       TEXT NOT NULL,
  hash       BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER
) STRICT;
CREATE INDEX tokens_person ON tokens (person);

CREATE TABLE keys (
  name       TEXT PRIMARY KEY,
  value      BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE space_snapshots (
  project      TEXT NOT NULL REFERENCES projects (id),
  snapshot     INTEGER NOT NULL,
  statement_id TEXT NOT NULL,
  created_at   INTEGER NOT NULL,
  PRIMARY KEY (project, snapshot)
) STRICT;

CREATE TABLE space_objects (
  project          TEXT NOT NULL REFERENCES projects (id),
  name             TEXT NOT NULL,
  kind             TEXT NOT NULL,
  schema_ipc       BLOB NOT NULL,
  view_sql         TEXT,
  labels           TEXT NOT NULL,
  added_snapshot   INTEGER NOT NULL,
  removed_snapshot INTEGER,
  PRIMARY KEY (project, name, added_snapshot)
) STRICT;

CREATE TABLE space_files (
  project          TEXT NOT NULL REFERENCES projects (id),
  object           TEXT NOT NULL,
  file             TEXT NOT NULL,
  rows             INTEGER NOT NULL,
  bytes            INTEGER NOT NULL,
  added_snapshot   INTEGER NOT NULL,
  removed_snapshot INTEGER,
  PRIMARY KEY (project, file)
) STRICT;
CREATE INDEX space_files_object ON space_files (project, object);

CREATE TABLE visible_sizes (
  dataset     TEXT NOT NULL,
  version     INTEGER NOT NULL,
  view_digest TEXT NOT NULL,
  table_name  TEXT NOT NULL,
  column_name TEXT NOT NULL,
  bytes       INTEGER NOT NULL,
  PRIMARY KEY (dataset, version, view_digest, table_name, column_name)
) STRICT;
