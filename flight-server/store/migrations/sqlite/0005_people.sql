-- What rights rest on is counted: `revision` grows in the transaction that changes any of it,
-- whoever writes, so that a server notices what another process withdrew by reading one number.
-- A sequence would not do: it counts before the change can be seen.
CREATE TABLE rights (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  revision INTEGER NOT NULL
) STRICT;
INSERT INTO rights (one, revision) VALUES (1, 0);

CREATE TRIGGER persons_update_rights AFTER UPDATE OF active, is_admin, token_epoch ON persons
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER persons_delete_rights AFTER DELETE ON persons
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER projects_update_rights AFTER UPDATE OF valid_from, valid_to ON projects
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER projects_delete_rights AFTER DELETE ON projects
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER members_insert_rights AFTER INSERT ON members
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER members_update_rights AFTER UPDATE ON members
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER members_delete_rights AFTER DELETE ON members
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER habilitations_insert_rights AFTER INSERT ON habilitations
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER habilitations_update_rights AFTER UPDATE ON habilitations
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER habilitations_delete_rights AFTER DELETE ON habilitations
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER tokens_update_rights AFTER UPDATE ON tokens
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER tokens_delete_rights AFTER DELETE ON tokens
BEGIN UPDATE rights SET revision = revision + 1; END;

-- Persons whose rows nobody sees, hub-wide: their identifiers as the datasets store them, because a
-- scan compares values. Only the server and the administrator's commands read this table.
CREATE TABLE oppositions (
  domain     TEXT NOT NULL,
  value      TEXT NOT NULL,
  entered_at INTEGER NOT NULL,
  PRIMARY KEY (domain, value)
) STRICT;
CREATE TRIGGER oppositions_insert_rights AFTER INSERT ON oppositions
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER oppositions_delete_rights AFTER DELETE ON oppositions
BEGIN UPDATE rights SET revision = revision + 1; END;
