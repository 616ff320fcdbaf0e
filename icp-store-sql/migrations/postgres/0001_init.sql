-- Ids are 16-byte blobs, moments are milliseconds since 1970, states follow DeliveryState::ALL.

CREATE TABLE IF NOT EXISTS icp_event (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id BYTEA NOT NULL,
    org TEXT COLLATE "C" NOT NULL,
    unit TEXT COLLATE "C",
    event_type TEXT COLLATE "C" NOT NULL,
    content_type TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C",
    ordering_key TEXT COLLATE "C",
    received_at BIGINT NOT NULL,
    due_at BIGINT,
    expires_at BIGINT,
    traceparent TEXT COLLATE "C",
    tracestate TEXT COLLATE "C",
    subject TEXT COLLATE "C",
    config_revision BIGINT NOT NULL,
    fan_out BIGINT NOT NULL,
    -- How many of the deliveries it was fanned out to are removed.
    pruned BIGINT NOT NULL DEFAULT 0,
    erased_at BIGINT,
    body BYTEA NOT NULL,
    UNIQUE (org, id)
);
CREATE INDEX IF NOT EXISTS icp_event_key ON icp_event (org, idempotency_key, id)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS icp_event_subject ON icp_event (org, subject, id) WHERE subject IS NOT NULL;

CREATE TABLE IF NOT EXISTS icp_outbox (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id BYTEA NOT NULL UNIQUE,
    org TEXT COLLATE "C" NOT NULL,
    unit TEXT COLLATE "C",
    event_type TEXT COLLATE "C" NOT NULL,
    content_type TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C",
    ordering_key TEXT COLLATE "C",
    received_at BIGINT NOT NULL,
    due_at BIGINT,
    expires_at BIGINT,
    traceparent TEXT COLLATE "C",
    tracestate TEXT COLLATE "C",
    subject TEXT COLLATE "C",
    config_revision BIGINT NOT NULL,
    fan_out BIGINT NOT NULL,
    body BYTEA NOT NULL
);

CREATE TABLE IF NOT EXISTS icp_idempotency (
    org TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    event BYTEA NOT NULL,
    body_hash BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (org, key)
);

CREATE TABLE IF NOT EXISTS icp_delivery (
    id BYTEA NOT NULL PRIMARY KEY,
    org TEXT COLLATE "C" NOT NULL,
    event BYTEA NOT NULL,
    integration TEXT COLLATE "C" NOT NULL,
    lane BYTEA NOT NULL,
    fifo BIGINT NOT NULL,
    state BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    throttles BIGINT NOT NULL,
    rescues BIGINT NOT NULL,
    owner BYTEA,
    lease_until BIGINT,
    expires_at BIGINT,
    replay_of BYTEA,
    reason_code TEXT COLLATE "C",
    reason_message TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    round BIGINT NOT NULL DEFAULT 0,
    -- Of a dead one: 1 given up, 2 repeated by an automatic round, else 0.
    letter BIGINT NOT NULL DEFAULT 0,
    letter_due BIGINT
);
CREATE INDEX IF NOT EXISTS icp_delivery_ready ON icp_delivery (lane, due_at, id) WHERE state = 0;
CREATE INDEX IF NOT EXISTS icp_delivery_fifo ON icp_delivery (lane, id) WHERE state = 0 AND fifo = 1;
CREATE INDEX IF NOT EXISTS icp_delivery_ordered ON icp_delivery (lane) WHERE fifo = 1;
CREATE INDEX IF NOT EXISTS icp_delivery_leased ON icp_delivery (owner) WHERE state = 1;
CREATE INDEX IF NOT EXISTS icp_delivery_dead ON icp_delivery (org, id) WHERE state = 3;
CREATE INDEX IF NOT EXISTS icp_delivery_letter ON icp_delivery (letter_due) WHERE state = 3 AND letter = 0;
CREATE UNIQUE INDEX IF NOT EXISTS icp_delivery_round ON icp_delivery (replay_of) WHERE round > 0;
CREATE INDEX IF NOT EXISTS icp_delivery_expiry ON icp_delivery (expires_at)
    WHERE state = 0 AND expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS icp_delivery_event ON icp_delivery (event);
CREATE INDEX IF NOT EXISTS icp_delivery_integration ON icp_delivery (org, integration, id);

CREATE TABLE IF NOT EXISTS icp_attempt (
    delivery BYTEA NOT NULL,
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    status BIGINT,
    dns BIGINT,
    connect BIGINT,
    first_byte BIGINT,
    total BIGINT NOT NULL,
    exchange TEXT COLLATE "C",
    message TEXT COLLATE "C",
    transcript TEXT COLLATE "C",
    PRIMARY KEY (delivery, epoch)
);

CREATE TABLE IF NOT EXISTS icp_letter (
    delivery BYTEA NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL
);

CREATE TABLE IF NOT EXISTS icp_letter_note (
    delivery BYTEA NOT NULL,
    at BIGINT NOT NULL,
    author TEXT COLLATE "C" NOT NULL,
    text TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (delivery, at, author, text)
);

-- Leased deliveries of erased events.
CREATE TABLE IF NOT EXISTS icp_erasing (
    delivery BYTEA NOT NULL PRIMARY KEY
);

CREATE TABLE IF NOT EXISTS icp_lane (
    id BYTEA NOT NULL PRIMARY KEY,
    org TEXT COLLATE "C" NOT NULL,
    integration TEXT COLLATE "C" NOT NULL,
    order_key TEXT COLLATE "C",
    fifo BIGINT NOT NULL,
    weight BIGINT NOT NULL,
    pass BIGINT NOT NULL,
    runnable BIGINT NOT NULL,
    next_due BIGINT,
    in_flight BIGINT NOT NULL,
    max_in_flight BIGINT NOT NULL,
    blocked_until BIGINT,
    paused BIGINT NOT NULL,
    allowed BIGINT NOT NULL,
    rules TEXT COLLATE "C",
    health TEXT COLLATE "C",
    pace_minute BIGINT NOT NULL DEFAULT 0,
    pace_ended BIGINT NOT NULL DEFAULT 0,
    pace_before BIGINT NOT NULL DEFAULT 0
);
-- Rules that are the default and health that is good are null. Of what a lane may lease at most,
-- `allowed` is what its health leaves.
-- `paused` adds up why a lane rests: 1 its integration is off, 2 it is paused, 4 its organization is.
-- The same reasons by integration, and by '' for all of an organization, for lanes yet to be made.
CREATE TABLE IF NOT EXISTS icp_rest (
    org TEXT COLLATE "C" NOT NULL,
    integration TEXT COLLATE "C" NOT NULL,
    why BIGINT NOT NULL,
    PRIMARY KEY (org, integration, why)
);
-- Lanes that are full, blocked or paused are not in the claimer's index, so they cost nothing.
CREATE INDEX IF NOT EXISTS icp_lane_eligible ON icp_lane (pass, id)
    WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL AND in_flight < allowed;
CREATE INDEX IF NOT EXISTS icp_lane_pass ON icp_lane (pass)
    WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL;
CREATE INDEX IF NOT EXISTS icp_lane_busy ON icp_lane (org)
    WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL;
CREATE INDEX IF NOT EXISTS icp_lane_due ON icp_lane (next_due) WHERE next_due IS NOT NULL;
CREATE INDEX IF NOT EXISTS icp_lane_blocked ON icp_lane (blocked_until) WHERE blocked_until IS NOT NULL;
CREATE INDEX IF NOT EXISTS icp_lane_ill ON icp_lane (id) WHERE health IS NOT NULL;
CREATE INDEX IF NOT EXISTS icp_lane_org ON icp_lane (org, integration);
CREATE INDEX IF NOT EXISTS icp_lane_list ON icp_lane (org, id);

CREATE TABLE IF NOT EXISTS icp_meter (
    org TEXT COLLATE "C" NOT NULL,
    integration TEXT COLLATE "C" NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (org, integration)
);

-- What else stands in `job` is told by these columns where it is looked for.
CREATE TABLE IF NOT EXISTS icp_replay (
    id BYTEA NOT NULL PRIMARY KEY,
    org TEXT COLLATE "C" NOT NULL,
    state BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    owner BYTEA,
    lease_until BIGINT,
    ended_at BIGINT,
    job TEXT COLLATE "C" NOT NULL
);
CREATE INDEX IF NOT EXISTS icp_replay_open ON icp_replay (next_at, id) WHERE state < 2;
CREATE INDEX IF NOT EXISTS icp_replay_org ON icp_replay (org, id);
CREATE INDEX IF NOT EXISTS icp_replay_ended ON icp_replay (org, ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS icp_replay_delivery (
    job BYTEA NOT NULL,
    delivery BYTEA NOT NULL,
    PRIMARY KEY (job, delivery)
);

CREATE TABLE IF NOT EXISTS icp_session (
    id BYTEA NOT NULL PRIMARY KEY,
    beat BIGINT NOT NULL,
    beaten_at BIGINT NOT NULL
);

-- Its one row is locked by whoever changes what is configured, so that revisions are seen in
-- their order.
CREATE TABLE IF NOT EXISTS icp_head (id BIGINT PRIMARY KEY);
INSERT INTO icp_head (id) VALUES (1) ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS icp_history (
    revision BIGINT PRIMARY KEY,
    org TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C",
    labels TEXT COLLATE "C" NOT NULL,
    spec TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS icp_history_resource ON icp_history (org, kind, id, revision);

CREATE TABLE IF NOT EXISTS icp_resource (
    kind TEXT COLLATE "C" NOT NULL,
    org TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    PRIMARY KEY (kind, org, id)
);

CREATE TABLE IF NOT EXISTS icp_audit (
    revision BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C",
    action TEXT COLLATE "C" NOT NULL,
    org TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    spec_before TEXT COLLATE "C",
    spec_after TEXT COLLATE "C",
    note TEXT COLLATE "C",
    acting_as TEXT COLLATE "C",
    number BIGINT NOT NULL,
    chain TEXT COLLATE "C" NOT NULL
);
CREATE INDEX IF NOT EXISTS icp_audit_org ON icp_audit (org, revision);

CREATE TABLE IF NOT EXISTS icp_audit_head (
    org TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    number BIGINT NOT NULL,
    chain TEXT COLLATE "C" NOT NULL,
    pruned_revision BIGINT NOT NULL,
    pruned_number BIGINT NOT NULL,
    pruned_chain TEXT COLLATE "C" NOT NULL
);
CREATE INDEX IF NOT EXISTS icp_audit_head_revision ON icp_audit_head (revision);

CREATE TABLE IF NOT EXISTS icp_handle (
    handle BYTEA NOT NULL PRIMARY KEY,
    org TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL
);
CREATE INDEX IF NOT EXISTS icp_handle_resource ON icp_handle (org, kind, id);

CREATE TABLE IF NOT EXISTS icp_slot (
    name BYTEA NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL,
    version BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS icp_slot_expiry ON icp_slot (expires_at);

-- Sums of outcomes by integration and hour (grain 0) or day (grain 1): how they ended, and how many
-- attempts took how long, by the buckets of `LATENCY_BOUNDS`.
CREATE TABLE IF NOT EXISTS icp_rollup (
    org TEXT COLLATE "C" NOT NULL,
    grain BIGINT NOT NULL,
    begins BIGINT NOT NULL,
    integration TEXT COLLATE "C" NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    delivered BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    retried BIGINT NOT NULL DEFAULT 0,
    dead BIGINT NOT NULL DEFAULT 0,
    skipped BIGINT NOT NULL DEFAULT 0,
    throttled BIGINT NOT NULL DEFAULT 0,
    t0 BIGINT NOT NULL DEFAULT 0,
    t1 BIGINT NOT NULL DEFAULT 0,
    t2 BIGINT NOT NULL DEFAULT 0,
    t3 BIGINT NOT NULL DEFAULT 0,
    t4 BIGINT NOT NULL DEFAULT 0,
    t5 BIGINT NOT NULL DEFAULT 0,
    t6 BIGINT NOT NULL DEFAULT 0,
    t7 BIGINT NOT NULL DEFAULT 0,
    t8 BIGINT NOT NULL DEFAULT 0,
    t9 BIGINT NOT NULL DEFAULT 0,
    t10 BIGINT NOT NULL DEFAULT 0,
    t11 BIGINT NOT NULL DEFAULT 0,
    t12 BIGINT NOT NULL DEFAULT 0,
    t13 BIGINT NOT NULL DEFAULT 0,
    t14 BIGINT NOT NULL DEFAULT 0,
    t15 BIGINT NOT NULL DEFAULT 0,
    t16 BIGINT NOT NULL DEFAULT 0,
    t17 BIGINT NOT NULL DEFAULT 0,
    t18 BIGINT NOT NULL DEFAULT 0,
    t19 BIGINT NOT NULL DEFAULT 0,
    t20 BIGINT NOT NULL DEFAULT 0,
    t21 BIGINT NOT NULL DEFAULT 0,
    t22 BIGINT NOT NULL DEFAULT 0,
    t23 BIGINT NOT NULL DEFAULT 0,
    t24 BIGINT NOT NULL DEFAULT 0,
    t25 BIGINT NOT NULL DEFAULT 0,
    t26 BIGINT NOT NULL DEFAULT 0,
    t27 BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (org, grain, begins, integration)
);

CREATE TABLE IF NOT EXISTS icp_rollup_failure (
    org TEXT COLLATE "C" NOT NULL,
    grain BIGINT NOT NULL,
    begins BIGINT NOT NULL,
    integration TEXT COLLATE "C" NOT NULL,
    class TEXT COLLATE "C" NOT NULL,
    failures BIGINT NOT NULL,
    PRIMARY KEY (org, grain, begins, integration, class)
);

-- The last batch of sums of each session.
CREATE TABLE IF NOT EXISTS icp_rollup_seen (
    session BYTEA NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    at BIGINT NOT NULL
);

-- Rows that change often leave room for their next versions on the same page, and what is dead is
-- swept early and without pauses that a busy table would outrun.
ALTER TABLE icp_delivery SET (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_limit = 2000);
ALTER TABLE icp_lane SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE icp_session SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 100);
ALTER TABLE icp_meter SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 100);
ALTER TABLE icp_outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
