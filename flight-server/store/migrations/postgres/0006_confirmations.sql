-- A confirmation does not count while who gave it is a member of the project. Then, and only
-- then, another person may confirm in their place.
CREATE FUNCTION refuse_second_confirmation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.entered_by IS NULL OR (OLD.confirmed_by IS NOT NULL AND (NEW.confirmed_by IS NULL
    OR NOT EXISTS (SELECT 1 FROM members WHERE project = OLD.project AND person = OLD.confirmed_by)))
  THEN
    RAISE EXCEPTION 'a habilitation is confirmed once';
  END IF;
  RETURN NEW;
END $$;
DROP TRIGGER habilitations_confirmed_once ON habilitations;
CREATE TRIGGER habilitations_confirmed_once BEFORE UPDATE OF confirmed_by, confirmed_at ON habilitations
FOR EACH ROW EXECUTE FUNCTION refuse_second_confirmation();
