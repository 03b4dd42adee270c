-- Barque's durable state, version 2.
--
-- SQLite holds rows and references; blobs and layers are plain files beside it. The foreign keys are the
-- invariants: "image in use", "volume in use", "network has endpoints" and "address taken" are constraints,
-- never scans. RESTRICT guards what somebody uses, CASCADE follows what somebody owns.
--
-- Ids and digests are 64 lower-case hexadecimal digits without an algorithm. Times are nanoseconds since the
-- Unix epoch. JSON columns (spec, document, state, definition, labels, options) belong to the engine and are
-- opaque here.
--
--   lease ─< lease_item (kind, item)
--   blob ─< layer_blob >─ (diff_id) layer ─parent─> layer
--   blob ─< manifest_blob >─ manifest ─> image ─< image_layer >─ layer
--                                        image ─< image_name
--                                        image <─ container ─> snapshot ─parent─> layer
--                                                 container ─< endpoint >─ network
--                                                 container ─< volume_use >─ volume
--   build_cache ─> layer

CREATE TABLE kv (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- In-flight work. Whatever a lease names is not collected before the lease is dropped or has expired.
CREATE TABLE lease (
    id         TEXT PRIMARY KEY,
    purpose    TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lease_item (
    lease TEXT NOT NULL REFERENCES lease (id) ON DELETE CASCADE,
    kind  TEXT NOT NULL CHECK (kind IN ('blob', 'layer', 'ingest')),
    item  TEXT NOT NULL,
    PRIMARY KEY (lease, kind, item)
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_item_item ON lease_item (kind, item);

-- Files under blobs/sha256/, complete and verified.
-- `synced` (here and below) is 0 until the files are known to have reached the disk.
CREATE TABLE blob (
    digest     TEXT PRIMARY KEY CHECK (length(digest) = 64),
    size       INTEGER NOT NULL CHECK (size >= 0),
    synced     INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Unpacked layers. `path` overrides layers/<chain_id>/diff (the host's own root file system).
CREATE TABLE layer (
    chain_id   TEXT PRIMARY KEY CHECK (length(chain_id) = 64),
    diff_id    TEXT NOT NULL CHECK (length(diff_id) = 64),
    parent     TEXT REFERENCES layer (chain_id) ON DELETE RESTRICT,
    size       INTEGER NOT NULL CHECK (size >= 0),
    path       TEXT,
    synced     INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_parent ON layer (parent);
CREATE INDEX layer_diff ON layer (diff_id);

-- Blobs that unpack to a diff id, however compressed: those that manifests name, or one.
CREATE TABLE layer_blob (
    diff_id    TEXT NOT NULL CHECK (length(diff_id) = 64),
    digest     TEXT NOT NULL REFERENCES blob (digest) ON DELETE CASCADE,
    media_type TEXT NOT NULL,
    PRIMARY KEY (diff_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_blob_digest ON layer_blob (digest);

-- `config` holds the exact bytes whose digest is the id.
CREATE TABLE image (
    id         TEXT PRIMARY KEY CHECK (length(id) = 64),
    created_at INTEGER NOT NULL,
    added_at   INTEGER NOT NULL,
    platform   TEXT NOT NULL,
    size       INTEGER NOT NULL CHECK (size >= 0),
    parent     TEXT REFERENCES image (id) ON DELETE SET NULL,
    config     BLOB NOT NULL
) STRICT;
CREATE INDEX image_parent ON image (parent);

CREATE TABLE image_layer (
    image    TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    position INTEGER NOT NULL CHECK (position >= 0),
    chain_id TEXT NOT NULL REFERENCES layer (chain_id) ON DELETE RESTRICT,
    PRIMARY KEY (image, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layer_chain ON image_layer (chain_id);

-- Fully qualified names, such as docker.io/library/python:3.7; `digested` ones end in @sha256:….
-- `manifest` is the digest of the one that the name came with: an image may have come under several.
CREATE TABLE image_name (
    name     TEXT PRIMARY KEY,
    image    TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    digested INTEGER NOT NULL,
    manifest TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX image_name_image ON image_name (image);

-- Original manifests and indexes, byte for byte: those that names came with, or the last.
CREATE TABLE manifest (
    digest     TEXT NOT NULL CHECK (length(digest) = 64),
    image      TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    media_type TEXT NOT NULL,
    bytes      BLOB NOT NULL,
    is_index   INTEGER NOT NULL,
    PRIMARY KEY (image, digest)
) STRICT;
CREATE INDEX manifest_digest ON manifest (digest);

CREATE TABLE manifest_blob (
    image    TEXT NOT NULL,
    manifest TEXT NOT NULL,
    position INTEGER NOT NULL,
    digest   TEXT NOT NULL REFERENCES blob (digest) ON DELETE RESTRICT,
    PRIMARY KEY (image, manifest, position),
    FOREIGN KEY (image, manifest) REFERENCES manifest (image, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_blob_digest ON manifest_blob (digest);

-- Writable layers: snapshots/<id>/{upper,work} over `parent`.
CREATE TABLE snapshot (
    id         TEXT PRIMARY KEY CHECK (length(id) = 64),
    parent     TEXT REFERENCES layer (chain_id) ON DELETE RESTRICT,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_parent ON snapshot (parent);

CREATE TABLE container (
    id         TEXT PRIMARY KEY CHECK (length(id) = 64),
    name       TEXT NOT NULL UNIQUE,
    image      TEXT REFERENCES image (id) ON DELETE RESTRICT,
    image_ref  TEXT NOT NULL,
    snapshot   TEXT REFERENCES snapshot (id) ON DELETE RESTRICT,
    created_at INTEGER NOT NULL,
    spec       TEXT NOT NULL,
    document   TEXT NOT NULL,
    state      TEXT NOT NULL
) STRICT;
CREATE INDEX container_image ON container (image);
CREATE INDEX container_snapshot ON container (snapshot);

CREATE TABLE network (
    id         TEXT PRIMARY KEY CHECK (length(id) = 64),
    name       TEXT NOT NULL UNIQUE,
    driver     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    definition TEXT NOT NULL
) STRICT;

-- Addresses are unique per network: the table is the allocator's truth.
CREATE TABLE endpoint (
    container  TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    network    TEXT NOT NULL REFERENCES network (id) ON DELETE RESTRICT,
    ip4        TEXT,
    ip6        TEXT,
    mac        TEXT,
    definition TEXT NOT NULL,
    PRIMARY KEY (container, network),
    UNIQUE (network, ip4),
    UNIQUE (network, ip6)
) STRICT;

CREATE TABLE volume (
    name       TEXT PRIMARY KEY CHECK (length(name) > 0),
    driver     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    anonymous  INTEGER NOT NULL,
    labels     TEXT NOT NULL,
    options    TEXT NOT NULL,
    mountpoint TEXT NOT NULL
) STRICT;

CREATE TABLE volume_use (
    container TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    volume    TEXT NOT NULL REFERENCES volume (name) ON DELETE RESTRICT ON UPDATE CASCADE,
    PRIMARY KEY (container, volume)
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_use_volume ON volume_use (volume);

-- `record` belongs to the builder. A record dies with its layer.
CREATE TABLE build_cache (
    key        TEXT PRIMARY KEY,
    record     TEXT NOT NULL,
    layer      TEXT REFERENCES layer (chain_id) ON DELETE CASCADE,
    size       INTEGER NOT NULL CHECK (size >= 0),
    created_at INTEGER NOT NULL,
    last_used  INTEGER NOT NULL,
    uses       INTEGER NOT NULL
) STRICT;
CREATE INDEX build_cache_layer ON build_cache (layer);
CREATE INDEX build_cache_last_used ON build_cache (last_used);
