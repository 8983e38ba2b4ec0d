-- Logical bytes of each column of a file, a JSON map by name: what reading it is charged by.
-- Files that were written before have none and are read free of charge.
ALTER TABLE space_files ADD COLUMN column_bytes TEXT NOT NULL DEFAULT '{}';
