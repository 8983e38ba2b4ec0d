-- Whom a token of an OIDC provider stands for, by its issuer and the claim that names somebody
-- there, and whom a client certificate, by the SHA-256 of its DER under the issuer `certificate`.
-- Nobody is let in by an identity that is not here.
CREATE TABLE identities (
  issuer  TEXT NOT NULL,
  subject TEXT NOT NULL,
  person  TEXT NOT NULL REFERENCES persons (id),
  PRIMARY KEY (issuer, subject)
) STRICT;
CREATE TRIGGER identities_update_rights AFTER UPDATE ON identities
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER identities_delete_rights AFTER DELETE ON identities
BEGIN UPDATE rights SET revision = revision + 1; END;
