-- Times are microseconds since 1970 in UTC, money is decimal text, lists and maps are JSON
-- text, booleans are 0 or 1. The same columns exist in the SQLite folder.

CREATE TABLE organisations (
  id   TEXT PRIMARY KEY,
  name TEXT NOT NULL
);

CREATE TABLE persons (
  id            TEXT PRIMARY KEY,
  name          TEXT NOT NULL,
  password_hash TEXT,
  active        BIGINT NOT NULL,
  is_admin      BIGINT NOT NULL,
  token_epoch   BIGINT NOT NULL DEFAULT 0,
  created_at    BIGINT NOT NULL
);

CREATE TABLE projects (
  id                TEXT PRIMARY KEY,
  title             TEXT NOT NULL,
  purpose           TEXT NOT NULL,
  organisation      TEXT NOT NULL REFERENCES organisations (id),
  valid_from        BIGINT NOT NULL,
  valid_to          BIGINT NOT NULL,
  space_quota_bytes BIGINT NOT NULL,
  budget            TEXT,
  space_snapshot    BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE members (
  project TEXT NOT NULL REFERENCES projects (id),
  person  TEXT NOT NULL REFERENCES persons (id),
  role    TEXT NOT NULL,
  PRIMARY KEY (project, person)
);
CREATE INDEX members_person ON members (person);

CREATE TABLE habilitations (
  id         TEXT NOT NULL,
  version    BIGINT NOT NULL,
  project    TEXT NOT NULL REFERENCES projects (id),
  dataset    TEXT NOT NULL,
  body       TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  revoked_at BIGINT,
  PRIMARY KEY (id, version)
);
CREATE INDEX habilitations_project ON habilitations (project);

CREATE TABLE tokens (
  id         TEXT PRIMARY KEY,
  person     TEXT NOT NULL REFERENCES persons (id),
  project    TEXT NOT NULL REFERENCES projects (id),
  name       TEXT NOT NULL,
  hash       BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT
);
CREATE INDEX tokens_person ON tokens (person);

CREATE TABLE keys (
  name       TEXT PRIMARY KEY,
  value      BYTEA NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE space_snapshots (
  project      TEXT NOT NULL REFERENCES projects (id),
  snapshot     BIGINT NOT NULL,
  statement_id TEXT NOT NULL,
  created_at   BIGINT NOT NULL,
  PRIMARY KEY (project, snapshot)
);

CREATE TABLE space_objects (
  project          TEXT NOT NULL REFERENCES projects (id),
  name             TEXT NOT NULL,
  kind             TEXT NOT NULL,
  schema_ipc       BYTEA NOT NULL,
  view_sql         TEXT,
  labels           TEXT NOT NULL,
  added_snapshot   BIGINT NOT NULL,
  removed_snapshot BIGINT,
  PRIMARY KEY (project, name, added_snapshot)
);

CREATE TABLE space_files (
  project          TEXT NOT NULL REFERENCES projects (id),
  object           TEXT NOT NULL,
  file             TEXT NOT NULL,
  rows             BIGINT NOT NULL,
  bytes            BIGINT NOT NULL,
  added_snapshot   BIGINT NOT NULL,
  removed_snapshot BIGINT,
  PRIMARY KEY (project, file)
);
CREATE INDEX space_files_object ON space_files (project, object);

CREATE TABLE visible_sizes (
  dataset     TEXT NOT NULL,
  version     BIGINT NOT NULL,
  view_digest TEXT NOT NULL,
  table_name  TEXT NOT NULL,
  column_name TEXT NOT NULL,
  bytes       BIGINT NOT NULL,
  PRIMARY KEY (dataset, version, view_digest, table_name, column_name)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'a row of % is immutable', TG_TABLE_NAME; END $$;
CREATE TRIGGER habilitations_immutable BEFORE UPDATE OF id, version, project, dataset, body, created_at ON habilitations
FOR EACH ROW EXECUTE FUNCTION refuse_change();
