-- The identity face. Lists of texts are JSON; revisions begin at 1.
-- A removed service type stays, marked, until the rows that belong to it are
-- purged: what reads those looks at the mark. Its name is free at once. The keys of
-- an identity stand first in their indexes, so that it is found on all hosts too.
-- The times of authentications are whole seconds, in the same unit.

-- +goose Up
CREATE TABLE service_types (
    id          INTEGER PRIMARY KEY,
    uuid        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    removed     INTEGER NOT NULL DEFAULT 0,
    hosts       TEXT    NOT NULL,
    auth_types  TEXT    NOT NULL,
    auth_method TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL
);
CREATE UNIQUE INDEX service_types_name ON service_types (name) WHERE removed = 0;
CREATE UNIQUE INDEX service_types_uuid ON service_types (uuid) WHERE removed = 0;
CREATE INDEX service_types_removed ON service_types (id) WHERE removed = 1;

CREATE TABLE auth_methods (
    id          INTEGER PRIMARY KEY,
    uuid        TEXT    NOT NULL,
    service_row INTEGER NOT NULL,
    host        TEXT    NOT NULL,
    port        INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    seal_key    INTEGER,
    material    BLOB
);
CREATE UNIQUE INDEX auth_methods_host ON auth_methods (service_row, host);

CREATE TABLE identity_bindings (
    id          INTEGER PRIMARY KEY,
    uuid        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    service_row INTEGER NOT NULL,
    host        TEXT    NOT NULL,
    auth_type   TEXT    NOT NULL,
    identifier  TEXT    NOT NULL,
    exact_key   TEXT    NOT NULL,
    old_key     TEXT    NOT NULL,
    issuer      TEXT    NOT NULL,
    issuer_key  TEXT    NOT NULL,
    unique_key  TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    last_auth   INTEGER NOT NULL
);
CREATE UNIQUE INDEX identity_bindings_name ON identity_bindings (name);
CREATE UNIQUE INDEX identity_bindings_exact ON identity_bindings (exact_key, service_row, host, auth_type);
CREATE UNIQUE INDEX identity_bindings_old ON identity_bindings (old_key, service_row, host, auth_type) WHERE old_key <> '';
CREATE INDEX identity_bindings_host ON identity_bindings (service_row, host, id);

CREATE TABLE authentications (
    id          INTEGER PRIMARY KEY,
    binding_row INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    count       INTEGER NOT NULL
);
CREATE UNIQUE INDEX authentications_second ON authentications (binding_row, outcome, at);
CREATE INDEX authentications_binding ON authentications (binding_row, id);
CREATE INDEX authentications_at ON authentications (at);

-- +goose Down
DROP TABLE authentications;
DROP TABLE identity_bindings;
DROP TABLE auth_methods;
DROP TABLE service_types;
