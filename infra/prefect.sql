-- Prefect's own database beside MLflow's; it searches by trigrams.
CREATE DATABASE prefect;
\connect prefect
CREATE EXTENSION IF NOT EXISTS pg_trgm;
