-- A number for each dead letter, by which it can be named, fixed and replayed.

-- +goose Up
ALTER TABLE ingestor.dead_letters ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
