-- What rights rest on is counted: `revision` grows in the transaction that changes any of it,
-- whoever writes, so that a server notices what another process withdrew by reading one number.
-- A sequence would not do: it counts before the change can be seen.
CREATE TABLE rights (
  one      BIGINT PRIMARY KEY CHECK (one = 1),
  revision BIGINT NOT NULL
);
INSERT INTO rights (one, revision) VALUES (1, 0);
CREATE FUNCTION count_rights() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE rights SET revision = revision + 1; RETURN NULL; END $$;

CREATE TRIGGER persons_rights AFTER UPDATE OF active, is_admin, token_epoch OR DELETE ON persons
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER projects_rights AFTER UPDATE OF valid_from, valid_to OR DELETE ON projects
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER members_rights AFTER INSERT OR UPDATE OR DELETE ON members
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER habilitations_rights AFTER INSERT OR UPDATE OR DELETE ON habilitations
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER tokens_rights AFTER UPDATE OR DELETE ON tokens
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();

-- Persons whose rows nobody sees, hub-wide: their identifiers as the datasets store them, because a
-- scan compares values. Only the server and the administrator's commands read this table.
CREATE TABLE oppositions (
  domain     TEXT NOT NULL,
  value      TEXT NOT NULL,
  entered_at BIGINT NOT NULL,
  PRIMARY KEY (domain, value)
);
CREATE TRIGGER oppositions_rights AFTER INSERT OR UPDATE OR DELETE ON oppositions
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
