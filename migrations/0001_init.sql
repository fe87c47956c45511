-- expand: everything that there is
--
-- The engine's only memory. States are text with CHECKs; CHECKs tie columns to states; every conflict that a person
-- can cause has a named constraint.

-- What an engine must know to work with these tables: it was built with at least this migration. Migrations that expand
-- leave it alone, one that contracts raises it.
create table compatibility (
    one   boolean primary key default true constraint compatibility_is_one check (one),
    least bigint not null
);
insert into compatibility (least) values (1);

-- Running engines. One row is the lease of everything its engine holds.
create table engine (
    engine_id   uuid primary key,
    version     text not null,
    -- The newest migration that it was built with.
    knows       bigint not null,
    host        text not null,
    pid         integer not null,
    started_at  timestamptz not null,
    lease_until timestamptz not null,
    -- Where it answers DNS questions, ADDRESS:PORT each.
    dns         text[] not null default '{}'
);

create table deployment (
    deployment_id uuid primary key,
    name          text not null constraint deployment_name_taken unique,
    workload      text not null,
    -- active: converges to its revision; destroying: everything leaves; gone: kept for its history
    state         text not null constraint deployment_state check (state in ('active', 'destroying', 'gone')),
    paused        boolean not null default false,
    -- Number of the newest change; vertices name the oldest one that they have not absorbed.
    change        bigint not null default 0,
    -- The committed revision.
    revision      integer not null,
    virtual_node  uuid not null,
    -- Whose turns were the last to change anything that the row's lock guards: what they saw, they need not load again.
    known_to      uuid,
    expires_at    timestamptz,
    -- It has groups that nodes join by themselves.
    joins         boolean not null default false,
    -- When node roles are checked for drift by itself; the next time, once it is known; and what becomes of drift.
    schedule      text,
    check_at      timestamptz,
    on_drift      text not null default 'report' constraint deployment_on_drift check (on_drift in ('report', 'repair')),
    created_at    timestamptz not null,
    changed_at    timestamptz not null
);

create index deployment_stirred on deployment (deployment_id) where known_to is null and state <> 'gone';
create index deployment_joined on deployment (name) where joins and state = 'active';
create index deployment_destroying on deployment (deployment_id) where state = 'destroying';

-- Roles as they were committed: documents with their files, by hash of everything.
create table content (
    hash text primary key,
    body jsonb not null
);

-- Bundles that were pushed: the catalog of all engines, beside what is compiled into them.
create table bundle (
    name      text primary key,
    version   text not null,
    -- Of all its files.
    hash      text not null,
    -- Path to base64.
    files     jsonb not null,
    pushed_by text not null,
    pushed_at timestamptz not null
);

-- Grows with every change of the bundles: who pushes says which catalog it was checked with, who reads sees whether what it
-- has at hand still holds.
create table catalog (
    one        boolean primary key default true constraint catalog_is_one check (one),
    generation bigint not null
);
insert into catalog (generation) values (1);

-- Profiles, policies and rules: what holds for all deployments, or what they can refer to.
create table setting (
    kind     text not null constraint setting_kind check (kind in ('profile', 'policy', 'rule', 'budget')),
    name     text not null,
    document jsonb not null,
    set_by   text not null,
    set_at   timestamptz not null,
    primary key (kind, name)
);

create table revision (
    deployment_id uuid not null references deployment on delete cascade,
    number        integer not null,
    document      jsonb not null,
    graph         jsonb not null,
    -- deployment role -> content.hash
    contents      jsonb not null,
    plan          jsonb not null,
    committed_by  text not null,
    committed_at  timestamptz not null,
    primary key (deployment_id, number)
);

create table node (
    node_id       uuid primary key,
    name          text not null,
    provider      text not null,
    options       jsonb not null default '{}',
    -- Made for this deployment and destroyed with it.
    owned_by      uuid references deployment,
    -- Bound to this deployment at the moment.
    deployment_id uuid references deployment,
    group_name    text,
    position      integer,
    standing      text not null default 'in' constraint node_standing check (standing in ('in', 'aside', 'lost')),
    -- creating: the provider makes it; joining: first contact; up: answers; unreachable: does not;
    -- failed: could not be made or joined; leaving: agent and machine are taken away; gone
    state         text not null constraint node_state
                  check (state in ('virtual', 'creating', 'joining', 'up', 'unreachable', 'failed', 'leaving', 'gone')),
    code          text,
    reason        text,
    address       text,
    port          integer,
    ssh_user      text,
    host_keys     jsonb not null default '[]',
    machine_id    text,
    incarnation   text,
    facts         jsonb not null default '{}',
    -- Labels that people set, and those that rules set with the rule of each. A fact is stronger than a label of its name, and
    -- what a person set is stronger than what a rule did.
    labels        jsonb not null default '{}',
    ruled         jsonb not null default '{}',
    ruled_by      jsonb not null default '{}',
    -- What is known of it, or a rule, is other than when rules were last gone through.
    to_rule       boolean not null default true,
    -- How often something came up for which it might join a deployment, and how much of that was looked at.
    join_due      bigint not null default 1,
    join_seen     bigint not null default 0,
    -- How often it was redeployed since its deployment was; the fact `generation`.
    generation    integer not null default 0,
    -- To be emptied: made again by its provider, or rid of all that stands on it. Nothing is started on it until then.
    rebuild       boolean not null default false,
    -- The engine that works on its life cycle, and until when nobody else may.
    engine_id     uuid,
    next_try_at   timestamptz,
    tries         integer not null default 0,
    created_at    timestamptz not null,
    changed_at    timestamptz not null,
    constraint node_failed_has_code check (state not in ('failed', 'unreachable') or code is not null)
);
create unique index node_name_taken on node (name) where state not in ('gone', 'virtual');
create unique index node_address_taken on node (address, port) where state not in ('gone', 'virtual');
create index node_of_deployment on node (deployment_id);
create index node_down on node (deployment_id) where state not in ('up', 'virtual', 'gone') or standing <> 'in';
create index node_aside on node (deployment_id) where standing = 'aside';
create index node_to_rule on node (name) where to_rule and state in ('up', 'unreachable');
create index node_ruled on node (name) where ruled <> '{}' and to_rule;
create index node_free on node (name) where deployment_id is null and state not in ('virtual', 'gone');
create index node_lost on node (name) where standing = 'lost';
create index node_held on node (engine_id) where engine_id is not null;
create index node_of_machine on node (machine_id) where state not in ('gone', 'virtual');
-- In the order in which they are worked on: of each deployment the first first, so that none waits for all of another.
create index node_in_work on node (position, name)
    where engine_id is null
          and (state in ('creating', 'joining', 'unreachable', 'leaving') or (rebuild and state = 'up')
               or (deployment_id is not null and group_name is null and state not in ('virtual', 'gone')));
create index node_waiting on node (next_try_at)
    where engine_id is null and (state in ('creating', 'joining', 'unreachable', 'leaving') or rebuild);

-- Nodes that somebody looks at, for a policy of their deployment takes out those that do not answer.
create table look (
    node_id       uuid primary key references node on delete cascade,
    deployment_id uuid not null references deployment on delete cascade,
    every_ms      bigint not null,
    -- Whoever looks puts it off first, so that nobody else does.
    look_at       timestamptz not null,
    -- It does not answer: since the first look in vain, until the last one, and for how long while somebody looked who could
    -- see the others.
    silent_since  timestamptz,
    silent_at     timestamptz,
    silent_ms     bigint not null default 0,
    -- The policy that put it aside: it comes back by itself.
    aside_by      text,
    -- What keeps the policy from taking it out although its time is over.
    held          text,
    constraint look_silent_while check ((silent_since is null) = (silent_at is null)),
    constraint look_counts_while_silent check (silent_since is not null or (silent_ms = 0 and held is null))
);
create index look_due on look (look_at);
create index look_of_deployment on look (deployment_id);

-- Indices of created nodes are never used twice in a deployment.
create table node_index (
    deployment_id uuid not null references deployment on delete cascade,
    group_name    text not null,
    highest       integer not null,
    primary key (deployment_id, group_name)
);

create table vertex (
    vertex_id     uuid primary key,
    deployment_id uuid not null references deployment on delete cascade,
    role          text not null,
    node_id       uuid not null references node,
    state         text not null constraint vertex_state
                  check (state in ('proposed', 'blocked', 'ready', 'running', 'active', 'failed', 'gone')),
    goal          text not null constraint vertex_goal check (goal in ('present', 'absent')),
    armed         boolean not null,
    touched       boolean not null,
    rebound       boolean not null,
    applying      boolean not null,
    started       boolean not null,
    -- A failure that a person accepts until the next change.
    accepted      boolean not null default false,
    since         bigint,
    -- Key of the one thing that holds it: cause and wake-up are one column.
    cause         text,
    wake          boolean not null,
    paused        boolean not null default false,
    applied       text,
    failed        text,
    frozen        text,
    read          jsonb not null default '{}',
    kept          jsonb not null default '{}',
    outputs       jsonb not null default '{}',
    serving       boolean not null default false,
    -- It was there when its node was made anew, and has not succeeded since.
    anew          boolean not null default false,
    job_id        uuid,
    -- Content digest of the last attempt.
    content       text,
    -- Digest of the attempt that a person approved.
    approved      text,
    attempts      integer not null default 0,
    code          text,
    -- How often this attempt failed in a row, and when it is tried again by itself: while failed.
    tries         integer not null default 0,
    retry_at      timestamptz,
    -- When what its last success told is to be made anew.
    renew_at      timestamptz,
    changed_at    timestamptz not null,
    -- What indexes speak of below. They must not speak of columns that change whenever a vertex moves: a row whose
    -- indexed columns stay as they are is updated within its page, and no index is written.
    gone          boolean not null generated always as (state = 'gone') stored,
    ready         boolean not null generated always as (state = 'ready') stored,
    broken        boolean not null generated always as (state = 'failed') stored,
    -- The cause, where those whom it holds are found by it alone. Null where whoever moves what holds it has it at
    -- hand: a parent on its own node.
    sought        text,
    constraint vertex_running_has_job check ((state = 'running') = (job_id is not null)),
    constraint vertex_stale_has_since
        check ((state in ('blocked', 'ready', 'running', 'failed')) = (since is not null)),
    constraint vertex_cause_while_blocked check (cause is null or state = 'blocked'),
    constraint vertex_sought_is_cause check (sought is null or sought = cause),
    constraint vertex_failed_has_code check (state <> 'failed' or code is not null)
)
-- Room in each page for all that a vertex becomes until it is active, also where an old transaction keeps what it was before.
-- Where there are many, samples of most pages every few seconds cost a tenth of everything: half of them have to have changed.
with (fillfactor = 26, autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_scale_factor = 0.2);
-- One that is gone is kept for its history; bound again, the place gets a new vertex.
create unique index vertex_place on vertex (deployment_id, role, node_id) where not gone;
create index vertex_woken on vertex (deployment_id) where wake;
create index vertex_ready on vertex (deployment_id) where ready;
create index vertex_broken on vertex (deployment_id) where broken;
create index vertex_retry on vertex (retry_at) where broken and retry_at is not null;
create index vertex_renew on vertex (renew_at) where renew_at is not null;
create index vertex_sought on vertex (deployment_id, sought) where sought is not null;
-- Those that wait for a budget.
create index vertex_rationed on vertex (deployment_id) where sought like 'b:%' or sought like 'm:%' or sought like 't:%';
-- Those that wait for a budget of all deployments.
create index vertex_shared on vertex (sought) where sought like 'g:%';
create index vertex_anew on vertex (deployment_id) where anew;
create index vertex_of_node on vertex (node_id, deployment_id);

-- Nodes that hold of a budget: they are out of service, or are about to be.
create table token (
    deployment_id uuid not null references deployment on delete cascade,
    budget        text not null,
    node_id       uuid not null references node,
    -- Something of the budget failed there.
    failed        boolean not null,
    -- It joins or leaves.
    member        boolean not null,
    primary key (deployment_id, budget, node_id)
);

-- What counts of the budgets of each deployment, for others that share them; written by its turns.
create table outage (
    deployment_id uuid not null references deployment on delete cascade,
    budget        text not null,
    members       bigint not null default 0,
    unavailable   bigint not null default 0,
    failed        bigint not null default 0,
    -- Something changed from outside of its turns: to be counted again.
    counted       boolean not null default false,
    primary key (deployment_id, budget)
);
create index outage_of_budget on outage (budget);
create index outage_uncounted on outage (deployment_id) where not counted;

-- Counts per deployment role, written once per turn.
create table tally (
    deployment_id uuid not null references deployment on delete cascade,
    role          text not null,
    stale         bigint not null,
    failed        bigint not null,
    leaving       bigint not null,
    active        bigint not null,
    -- Stale on a node that stands aside, or failed and accepted: no reader waits, leavers do.
    unawaited     bigint not null default 0,
    primary key (deployment_id, role)
);

-- Values of gathers, stored once.
create table value (
    digest text primary key,
    body   jsonb not null
);

-- What a deployment reads of others.
create table import (
    deployment_id uuid not null references deployment on delete cascade,
    name          text not null,
    export        text not null,
    exporter      uuid not null references deployment,
    -- The schema that its value has to fit.
    wanted        jsonb not null,
    -- The value that readers here see; null until it is told.
    body          jsonb,
    -- The exporter may have told another value since.
    moved         boolean not null,
    primary key (deployment_id, name, export)
);
create index import_exporter on import (exporter);
create index import_moved on import (deployment_id) where moved;

create table job (
    job_id        uuid primary key,
    -- Of rows that the turn which claims it has at hand, and that nobody deletes: to have each of these three references
    -- checked costs more than the row.
    deployment_id uuid not null,
    vertex_id     uuid not null,
    -- Where it is performed.
    node_id       uuid not null,
    action        text not null constraint job_action check (action in ('apply', 'check', 'remove')),
    attempt       integer not null,
    -- Beside the state of its vertex, which is not moved by what comes of it: checks, and removes that empty a node.
    beside        boolean not null default false,
    engine_id     uuid,
    -- Grows with every claim of this job; an older engine's reports are refused.
    fence         bigint not null,
    revision      integer not null,
    content       text not null,
    digest        text not null,
    -- Frozen inputs; references to gathered values stay references.
    inputs        jsonb not null,
    changed       jsonb not null default '[]',
    cancelled     boolean not null default false,
    -- It waits, and nobody follows it: when it is looked at again; and what it saw last.
    look_at       timestamptz,
    saw           text,
    seen          bigint not null default 0,
    -- Of the agent that it was handed to.
    incarnation   text,
    -- {"step": 1-based, "of": …, "title": …}
    progress      jsonb,
    claimed_at    timestamptz not null,
    finished_at   timestamptz,
    outcome       text constraint job_outcome
                  check (outcome in ('succeeded', 'drifted', 'failed', 'cancelled', 'unknown', 'abandoned')),
    code          text,
    message       text,
    steps         jsonb,
    residue       jsonb,
    millis        bigint,
    constraint job_finished_has_outcome check ((finished_at is null) = (outcome is null)),
    constraint job_put_away_is_nobodys check (look_at is null or engine_id is null),
    constraint job_put_away_is_open check (look_at is null or finished_at is null)
)
with (autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_scale_factor = 0.2, autovacuum_vacuum_insert_scale_factor = 0.5);
create unique index job_one_running_per_vertex on job (vertex_id, beside) where finished_at is null;
create index job_open on job (engine_id) where finished_at is null;
-- It speaks of nothing else: looks for jobs that wait must not go by those that run, or ran while an old transaction stays open.
create index job_put_away on job (look_at) where look_at is not null;
create index job_of_vertex on job (vertex_id, claimed_at);

-- What the last check of a node role found, beside its state.
create table drift (
    vertex_id     uuid primary key references vertex on delete cascade,
    deployment_id uuid not null references deployment on delete cascade,
    -- A check is asked for and has not begun.
    due           boolean not null,
    -- The newest check was asked for because it had drifted and ran since: it repairs nothing.
    again         boolean not null default false,
    -- The newest check.
    job_id        uuid,
    verdict       text constraint drift_verdict check (verdict in ('conform', 'drifted', 'unknown')),
    -- A probe failed: what this attempt made does not do what it is there for.
    failing       integer,
    code          text,
    message       text,
    -- [{"step": …, "what": …, "text": …}]
    diffs         jsonb not null default '[]',
    checked_at    timestamptz
);
create index drift_due on drift (deployment_id) where due;
create index drift_failing on drift (deployment_id) where failing is not null;
create index drift_drifted on drift (deployment_id) where verdict = 'drifted';

-- What was promised to go and is still there, or was never taken away. Kept when the deployment is gone.
create table residue (
    residue_id    bigint generated always as identity primary key,
    deployment_id uuid not null references deployment on delete cascade,
    node          text not null,
    role          text not null,
    -- left: a remove could not take it away; found: it was there when everything had left; skipped: nothing was removed
    kind          text not null constraint residue_kind check (kind in ('left', 'found', 'skipped')),
    -- KIND:NAME each
    things        jsonb not null,
    reason        text not null,
    job_id        uuid,
    found_at      timestamptz not null
);
create index residue_of_deployment on residue (deployment_id, found_at);

create table job_log (
    job_id uuid not null references job on delete cascade,
    seq    bigint not null,
    at     timestamptz not null,
    stream text not null,
    line   text not null,
    primary key (job_id, seq)
);

-- Where events are sent, and how far each is.
create table hook (
    hook_id      uuid primary key,
    name         text not null constraint hook_name_taken unique,
    url          text not null,
    -- Of events, such as node.up or node.*; all if there are none.
    kinds        text[] not null,
    -- Names; all if there are none.
    deployments  text[] not null,
    -- What signs, sealed.
    secret       bytea not null,
    -- Certificates in PEM that are trusted there, in place of those that the machine trusts.
    ca           text,
    -- Number of the last event that it has, or does not want.
    after        bigint not null,
    delivered    bigint not null default 0,
    delivered_at timestamptz,
    -- How often the next one has failed in a row, why, and when it is tried again.
    failed       integer not null default 0,
    code         text,
    message      text,
    next_try_at  timestamptz,
    -- Who delivers, and until when nobody else may.
    engine_id    uuid,
    leased_until timestamptz,
    added_by     text not null,
    added_at     timestamptz not null,
    constraint hook_leased_has_engine check ((engine_id is null) = (leased_until is null)),
    constraint hook_failed_has_code check ((failed = 0) = (code is null))
);

-- Keys that ever sealed anything here, each with a value that only it opens. The keys themselves are not in the database.
create table seal (
    key_id  text primary key,
    canary  bytea not null,
    made_at timestamptz not null
);

-- What the digests of secrets are made with, sealed.
create table digest_key (
    one boolean primary key default true constraint digest_key_is_one check (one),
    key bytea not null
);

-- Secret values, sealed, by the digests that stand for them everywhere else.
create table secret (
    deployment_id uuid not null references deployment on delete cascade,
    digest        text not null,
    value         bytea not null,
    made_at       timestamptz not null,
    primary key (deployment_id, digest)
);
create index secret_digest on secret (digest);

-- Authorities: keys that sign. What stands of them here is of no use without the seal key.
create table authority (
    authority_id  uuid primary key,
    deployment_id uuid not null references deployment on delete cascade,
    vertex_id     uuid not null,
    -- Of the vertex, from 1.
    generation    integer not null,
    -- introduced: trusted, and does not sign yet; active: signs; retiring: trusted, and signs no more; gone: its key is forgotten
    state         text not null
                  constraint authority_state check (state in ('introduced', 'active', 'retiring', 'gone')),
    -- The change by which it came into this state.
    change        bigint not null,
    -- A person wants no other stage for now.
    paused        boolean not null default false,
    -- Since when everybody below has absorbed this stage: checks that began later prove it.
    absorbed_at   timestamptz,
    -- What it was asked to be.
    founded_as    jsonb not null,
    certificate   text not null,
    -- What follows all that it signs, in PEM: itself and those above it, if it did not sign itself.
    above         text not null default '',
    -- PKCS #8, sealed.
    key           bytea,
    not_after     timestamptz not null,
    -- Nobody in its deployment reads its list of everything, so that it is not signed for each revocation. Looked at again
    -- after each commit.
    unread        boolean not null default false,
    -- How many certificates it has signed.
    issued        bigint not null default 0,
    -- Its key is not to be relied upon: what it signed counts as revoked since then, and it goes over to another key that can
    -- not be held up or taken back.
    revoked_at    timestamptz,
    reason        text,
    -- When it was told that it ends soon.
    told_at       timestamptz,
    job_id        uuid not null,
    made_at       timestamptz not null,
    constraint authority_revoked_for_a_reason check ((revoked_at is null) = (reason is null)),
    constraint authority_generation_taken unique (vertex_id, generation),
    constraint authority_has_key_until_gone check ((state = 'gone') = (key is null)),
    constraint authority_paused_while_it_moves check (not paused or state in ('introduced', 'retiring'))
);
create unique index authority_one_signs on authority (vertex_id) where state = 'active';
create index authority_moving on authority (deployment_id) where state in ('introduced', 'retiring');
create index authority_of_deployment on authority (deployment_id);

-- Keys that wait for a certificate that somebody else signs.
create table authority_request (
    -- Of the authority.
    vertex_id     uuid primary key,
    deployment_id uuid not null references deployment on delete cascade,
    -- What it is asked to be.
    founded_as    jsonb not null,
    -- In PEM.
    request       text not null,
    -- PKCS #8, sealed.
    key           bytea not null,
    -- Whose work it was, if the authority signs nothing yet.
    job_id        uuid not null,
    made_at       timestamptz not null
);

-- What authorities signed.
create table certificate (
    -- In hexadecimal digits.
    serial       text primary key,
    authority_id uuid not null references authority on delete cascade,
    -- Both null where somebody asked for it over the API.
    vertex_id    uuid,
    -- A job signs once, however often it is followed from its beginning.
    job_id       uuid constraint certificate_once_per_job unique,
    -- The node, or whoever else it is for.
    node         text not null,
    -- Of the subject, as text: DNS names and addresses.
    names        jsonb not null,
    usages       jsonb not null,
    body         text not null,
    not_before   timestamptz not null,
    not_after    timestamptz not null,
    renew_at     timestamptz not null,
    issued_at    timestamptz not null,
    -- Which list of its authority has it when it is revoked.
    part         integer not null,
    revoked_at   timestamptz,
    reason       text,
    -- When a list of its authority for nodes first had it.
    listed_at    timestamptz,
    -- When it was told that it ends soon, or that another one stands in its place.
    told_at      timestamptz,
    constraint certificate_revoked_for_a_reason check ((revoked_at is null) = (reason is null)),
    constraint certificate_of_a_job_has_a_vertex check ((job_id is null) = (vertex_id is null))
);
create index certificate_of_authority on certificate (authority_id, issued_at);
create index certificate_unlisted on certificate (authority_id) where revoked_at is not null and listed_at is null;
create index certificate_revoked on certificate (authority_id, part, revoked_at) where revoked_at is not null;
create index certificate_of_vertex on certificate (vertex_id, not_after) where vertex_id is not null;
create index certificate_untold on certificate (renew_at) where vertex_id is not null and told_at is null and revoked_at is null;

-- Lists of what was revoked, cut into parts, as they were last signed.
create table revocation_list (
    authority_id uuid not null references authority on delete cascade,
    part         integer not null,
    -- In DER.
    body         bytea not null,
    -- How many revocations of its part it knew, ended ones included.
    known        bigint not null,
    renew_at     timestamptz not null,
    primary key (authority_id, part)
);

-- Names that engines answer for.
create table zone (
    zone_id       uuid primary key,
    deployment_id uuid not null references deployment on delete cascade,
    -- The node role that it is there for.
    vertex_id     uuid not null,
    -- In small letters, without the last dot.
    name          text not null constraint zone_taken unique,
    ttl           integer not null,
    -- Grows with each change of what is in it, under the lock of this row. Its serial.
    generation    bigint not null
);
create index zone_of_deployment on zone (deployment_id);

-- All that a name has of one kind belongs to one node role.
create table record (
    -- Of a zone that whoever writes holds by its row: to have the reference checked costs as much as the record.
    zone_id   uuid not null,
    name      text not null,
    kind      text not null constraint record_kind check (kind in ('A', 'AAAA', 'PTR', 'TXT')),
    -- Addresses, names, or words.
    data      jsonb not null,
    ttl       integer not null,
    vertex_id uuid not null,
    -- The generation of the zone that brought it as it is: servers take in what is newer than what they have.
    since     bigint not null,
    -- Withdrawn. Kept, so that servers learn of it.
    gone      boolean not null default false,
    constraint record_taken primary key (zone_id, name, kind)
);
create index record_since on record (zone_id, since);
create index record_of_vertex on record (vertex_id) where not gone;

-- Who may change a zone over the network.
create table zone_key (
    zone_id   uuid not null references zone on delete cascade,
    -- In small letters, without the last dot.
    name      text not null,
    vertex_id uuid not null,
    -- Stands for the secret.
    digest    text not null,
    -- It may change this name and those below it.
    below     text not null,
    constraint zone_key_taken primary key (zone_id, name)
);
create index zone_key_of_vertex on zone_key (vertex_id);

-- Everything that happened, in the transaction in which it happened.
create table event (
    seq           bigint generated always as identity primary key,
    -- Readers go by (tx, seq), and only as far as all older transactions have ended, so that no event is passed over:
    -- a number is taken before its transaction ends, and transactions do not end in the order of their numbers.
    tx            xid8 not null default pg_current_xact_id(),
    at            timestamptz not null,
    kind          text not null,
    deployment_id uuid,
    node_id       uuid,
    vertex_id     uuid,
    job_id        uuid,
    principal     text not null,
    detail        jsonb not null
)
-- Nothing in it is ever changed: to look after it again for each few thousand new rows costs more than it is worth.
with (autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.5);
create index event_order on event (tx, seq);
create index event_of_deployment on event (deployment_id, tx, seq);
create index event_of_vertex on event (vertex_id, seq);
