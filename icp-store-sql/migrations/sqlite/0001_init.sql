-- Ids are 16-byte blobs, moments are milliseconds since 1970, states follow DeliveryState::ALL.

CREATE TABLE icp_event (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    org TEXT NOT NULL,
    unit TEXT,
    event_type TEXT NOT NULL,
    content_type TEXT NOT NULL,
    idempotency_key TEXT,
    ordering_key TEXT,
    received_at INTEGER NOT NULL,
    due_at INTEGER,
    expires_at INTEGER,
    traceparent TEXT,
    tracestate TEXT,
    subject TEXT,
    config_revision INTEGER NOT NULL,
    fan_out INTEGER NOT NULL,
    -- How many of the deliveries it was fanned out to are removed.
    pruned INTEGER NOT NULL DEFAULT 0,
    erased_at INTEGER,
    body BLOB NOT NULL,
    UNIQUE (org, id)
) STRICT;
CREATE INDEX icp_event_key ON icp_event (org, idempotency_key, id)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX icp_event_subject ON icp_event (org, subject, id) WHERE subject IS NOT NULL;

CREATE TABLE icp_outbox (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    org TEXT NOT NULL,
    unit TEXT,
    event_type TEXT NOT NULL,
    content_type TEXT NOT NULL,
    idempotency_key TEXT,
    ordering_key TEXT,
    received_at INTEGER NOT NULL,
    due_at INTEGER,
    expires_at INTEGER,
    traceparent TEXT,
    tracestate TEXT,
    subject TEXT,
    config_revision INTEGER NOT NULL,
    fan_out INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE icp_idempotency (
    org TEXT NOT NULL,
    key TEXT NOT NULL,
    event BLOB NOT NULL,
    body_hash BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (org, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE icp_delivery (
    id BLOB NOT NULL PRIMARY KEY,
    org TEXT NOT NULL,
    event BLOB NOT NULL,
    integration TEXT NOT NULL,
    lane BLOB NOT NULL,
    fifo INTEGER NOT NULL,
    state INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    throttles INTEGER NOT NULL,
    rescues INTEGER NOT NULL,
    owner BLOB,
    lease_until INTEGER,
    expires_at INTEGER,
    replay_of BLOB,
    reason_code TEXT,
    reason_message TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    round INTEGER NOT NULL DEFAULT 0,
    -- Of a dead one: 1 given up, 2 repeated by an automatic round, else 0.
    letter INTEGER NOT NULL DEFAULT 0,
    letter_due INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX icp_delivery_ready ON icp_delivery (lane, due_at, id) WHERE state = 0;
CREATE INDEX icp_delivery_fifo ON icp_delivery (lane, id) WHERE state = 0 AND fifo = 1;
CREATE INDEX icp_delivery_ordered ON icp_delivery (lane) WHERE fifo = 1;
CREATE INDEX icp_delivery_leased ON icp_delivery (owner) WHERE state = 1;
CREATE INDEX icp_delivery_dead ON icp_delivery (org, id) WHERE state = 3;
CREATE INDEX icp_delivery_letter ON icp_delivery (letter_due) WHERE state = 3 AND letter = 0;
CREATE UNIQUE INDEX icp_delivery_round ON icp_delivery (replay_of) WHERE round > 0;
CREATE INDEX icp_delivery_expiry ON icp_delivery (expires_at)
    WHERE state = 0 AND expires_at IS NOT NULL;
CREATE INDEX icp_delivery_event ON icp_delivery (event);
CREATE INDEX icp_delivery_integration ON icp_delivery (org, integration, id);

CREATE TABLE icp_attempt (
    delivery BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,
    dns INTEGER,
    connect INTEGER,
    first_byte INTEGER,
    total INTEGER NOT NULL,
    exchange TEXT,
    message TEXT,
    transcript TEXT,
    PRIMARY KEY (delivery, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE icp_letter (
    delivery BLOB NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE icp_letter_note (
    delivery BLOB NOT NULL,
    at INTEGER NOT NULL,
    author TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (delivery, at, author, text)
) STRICT, WITHOUT ROWID;

-- Leased deliveries of erased events.
CREATE TABLE icp_erasing (
    delivery BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE icp_lane (
    id BLOB NOT NULL PRIMARY KEY,
    org TEXT NOT NULL,
    integration TEXT NOT NULL,
    order_key TEXT,
    fifo INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    pass INTEGER NOT NULL,
    runnable INTEGER NOT NULL,
    next_due INTEGER,
    in_flight INTEGER NOT NULL,
    max_in_flight INTEGER NOT NULL,
    blocked_until INTEGER,
    paused INTEGER NOT NULL,
    allowed INTEGER NOT NULL,
    rules TEXT,
    health TEXT,
    pace_minute INTEGER NOT NULL DEFAULT 0,
    pace_ended INTEGER NOT NULL DEFAULT 0,
    pace_before INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
-- Rules that are the default and health that is good are null. Of what a lane may lease at most,
-- `allowed` is what its health leaves.
-- `paused` adds up why a lane rests: 1 its integration is off, 2 it is paused, 4 its organization is.
-- The same reasons by integration, and by '' for all of an organization, for lanes yet to be made.
CREATE TABLE icp_rest (
    org TEXT NOT NULL,
    integration TEXT NOT NULL,
    why INTEGER NOT NULL,
    PRIMARY KEY (org, integration, why)
) STRICT, WITHOUT ROWID;
-- Lanes that are full, blocked or paused are not in the claimer's index, so they cost nothing.
CREATE INDEX icp_lane_eligible ON icp_lane (pass, id)
    WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL AND in_flight < allowed;
CREATE INDEX icp_lane_pass ON icp_lane (pass)
    WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL;
CREATE INDEX icp_lane_busy ON icp_lane (org)
    WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL;
CREATE INDEX icp_lane_due ON icp_lane (next_due) WHERE next_due IS NOT NULL;
CREATE INDEX icp_lane_blocked ON icp_lane (blocked_until) WHERE blocked_until IS NOT NULL;
CREATE INDEX icp_lane_ill ON icp_lane (id) WHERE health IS NOT NULL;
CREATE INDEX icp_lane_org ON icp_lane (org, integration);
CREATE INDEX icp_lane_list ON icp_lane (org, id);

CREATE TABLE icp_meter (
    org TEXT NOT NULL,
    integration TEXT NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (org, integration)
) STRICT, WITHOUT ROWID;

-- What else stands in `job` is told by these columns where it is looked for.
CREATE TABLE icp_replay (
    id BLOB NOT NULL PRIMARY KEY,
    org TEXT NOT NULL,
    state INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    owner BLOB,
    lease_until INTEGER,
    ended_at INTEGER,
    job TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX icp_replay_open ON icp_replay (next_at, id) WHERE state < 2;
CREATE INDEX icp_replay_org ON icp_replay (org, id);
CREATE INDEX icp_replay_ended ON icp_replay (org, ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE icp_replay_delivery (
    job BLOB NOT NULL,
    delivery BLOB NOT NULL,
    PRIMARY KEY (job, delivery)
) STRICT, WITHOUT ROWID;

CREATE TABLE icp_session (
    id BLOB NOT NULL PRIMARY KEY,
    beat INTEGER NOT NULL,
    beaten_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE icp_history (
    revision INTEGER PRIMARY KEY,
    org TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT,
    labels TEXT NOT NULL,
    spec TEXT NOT NULL,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted INTEGER NOT NULL
) STRICT;
CREATE INDEX icp_history_resource ON icp_history (org, kind, id, revision);

CREATE TABLE icp_resource (
    kind TEXT NOT NULL,
    org TEXT NOT NULL,
    id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    PRIMARY KEY (kind, org, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE icp_audit (
    revision INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    request_id TEXT,
    action TEXT NOT NULL,
    org TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    spec_before TEXT,
    spec_after TEXT,
    note TEXT,
    acting_as TEXT,
    number INTEGER NOT NULL,
    chain TEXT NOT NULL
) STRICT;
CREATE INDEX icp_audit_org ON icp_audit (org, revision);

-- The newest row of each organization, and the last that was pruned.
CREATE TABLE icp_audit_head (
    org TEXT NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    number INTEGER NOT NULL,
    chain TEXT NOT NULL,
    pruned_revision INTEGER NOT NULL,
    pruned_number INTEGER NOT NULL,
    pruned_chain TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX icp_audit_head_revision ON icp_audit_head (revision);

-- By which texts a resource is found, in UTF-8, whichever organization asks.
CREATE TABLE icp_handle (
    handle BLOB NOT NULL PRIMARY KEY,
    org TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX icp_handle_resource ON icp_handle (org, kind, id);

CREATE TABLE icp_slot (
    name BLOB NOT NULL PRIMARY KEY,
    value BLOB NOT NULL,
    version INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX icp_slot_expiry ON icp_slot (expires_at);

-- Sums of outcomes by integration and hour (grain 0) or day (grain 1): how they ended, and how many
-- attempts took how long, by the buckets of `LATENCY_BOUNDS`.
CREATE TABLE icp_rollup (
    org TEXT NOT NULL,
    grain INTEGER NOT NULL,
    begins INTEGER NOT NULL,
    integration TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    retried INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    throttled INTEGER NOT NULL DEFAULT 0,
    t0 INTEGER NOT NULL DEFAULT 0,
    t1 INTEGER NOT NULL DEFAULT 0,
    t2 INTEGER NOT NULL DEFAULT 0,
    t3 INTEGER NOT NULL DEFAULT 0,
    t4 INTEGER NOT NULL DEFAULT 0,
    t5 INTEGER NOT NULL DEFAULT 0,
    t6 INTEGER NOT NULL DEFAULT 0,
    t7 INTEGER NOT NULL DEFAULT 0,
    t8 INTEGER NOT NULL DEFAULT 0,
    t9 INTEGER NOT NULL DEFAULT 0,
    t10 INTEGER NOT NULL DEFAULT 0,
    t11 INTEGER NOT NULL DEFAULT 0,
    t12 INTEGER NOT NULL DEFAULT 0,
    t13 INTEGER NOT NULL DEFAULT 0,
    t14 INTEGER NOT NULL DEFAULT 0,
    t15 INTEGER NOT NULL DEFAULT 0,
    t16 INTEGER NOT NULL DEFAULT 0,
    t17 INTEGER NOT NULL DEFAULT 0,
    t18 INTEGER NOT NULL DEFAULT 0,
    t19 INTEGER NOT NULL DEFAULT 0,
    t20 INTEGER NOT NULL DEFAULT 0,
    t21 INTEGER NOT NULL DEFAULT 0,
    t22 INTEGER NOT NULL DEFAULT 0,
    t23 INTEGER NOT NULL DEFAULT 0,
    t24 INTEGER NOT NULL DEFAULT 0,
    t25 INTEGER NOT NULL DEFAULT 0,
    t26 INTEGER NOT NULL DEFAULT 0,
    t27 INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (org, grain, begins, integration)
) STRICT, WITHOUT ROWID;

CREATE TABLE icp_rollup_failure (
    org TEXT NOT NULL,
    grain INTEGER NOT NULL,
    begins INTEGER NOT NULL,
    integration TEXT NOT NULL,
    class TEXT NOT NULL,
    failures INTEGER NOT NULL,
    PRIMARY KEY (org, grain, begins, integration, class)
) STRICT, WITHOUT ROWID;

-- The last batch of sums of each session.
CREATE TABLE icp_rollup_seen (
    session BLOB NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
