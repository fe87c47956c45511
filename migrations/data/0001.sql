-- A deployment in the middle of its work, as an engine of schema 1 leaves it.
insert into engine values
    ('00000000-0000-7000-8000-000000000001', '0.1.0', 1, 'engine.example', 4711, '2026-01-01T10:00:00Z', '2026-01-01T10:00:30Z');
insert into deployment (deployment_id, name, workload, state, change, revision, virtual_node, created_at, changed_at) values
    ('00000000-0000-7000-8000-000000000002', 'blue', 'hello', 'active', 2, 1,
     '00000000-0000-7000-8000-000000000003', '2026-01-01T10:00:00Z', '2026-01-01T10:00:01Z');
insert into content values ('sha256:role', '{"role": "greeting"}');
insert into revision values
    ('00000000-0000-7000-8000-000000000002', 1, '{"deployment": "blue"}', '{}', '{"greeting": "sha256:role"}', '{}',
     'root', '2026-01-01T10:00:01Z');
insert into node (node_id, name, provider, deployment_id, state, created_at, changed_at) values
    ('00000000-0000-7000-8000-000000000003', 'blue', 'virtual', '00000000-0000-7000-8000-000000000002', 'virtual',
     '2026-01-01T10:00:00Z', '2026-01-01T10:00:00Z');
insert into node (node_id, name, provider, deployment_id, group_name, position, state, address, port, host_keys, facts,
                  created_at, changed_at) values
    ('00000000-0000-7000-8000-000000000004', 'blue-greeters-1', 'lab', '00000000-0000-7000-8000-000000000002',
     'greeters', 1, 'up', '10.0.0.1', 22, '["ssh-ed25519 AAAA"]', '{"os": "debian-12"}',
     '2026-01-01T10:00:00Z', '2026-01-01T10:00:02Z');
insert into node_index values ('00000000-0000-7000-8000-000000000002', 'greeters', 1);
insert into vertex (vertex_id, deployment_id, role, node_id, state, goal, armed, touched, rebound, applying, started,
                    since, wake, applied, outputs, serving, job_id, attempts, code, changed_at) values
    ('00000000-0000-7000-8000-000000000005', '00000000-0000-7000-8000-000000000002', 'greeting',
     '00000000-0000-7000-8000-000000000004', 'running', 'present', true, false, false, true, true, 1, false, null, '{}',
     false, '00000000-0000-7000-8000-000000000006', 1, null, '2026-01-01T10:00:03Z'),
    ('00000000-0000-7000-8000-000000000007', '00000000-0000-7000-8000-000000000002', 'greeting-ready',
     '00000000-0000-7000-8000-000000000003', 'active', 'present', false, false, false, false, true, null, false,
     'sha256:digest', '{"text": "hello"}', true, null, 1, null, '2026-01-01T10:00:03Z');
insert into tally values ('00000000-0000-7000-8000-000000000002', 'greeting', 1, 0, 0, 0, 0);
insert into value values ('sha256:value', '["10.0.0.1"]');
insert into job (job_id, deployment_id, vertex_id, node_id, action, attempt, engine_id, fence, revision, content, digest,
                 inputs, claimed_at) values
    ('00000000-0000-7000-8000-000000000006', '00000000-0000-7000-8000-000000000002',
     '00000000-0000-7000-8000-000000000005', '00000000-0000-7000-8000-000000000004', 'apply', 1,
     '00000000-0000-7000-8000-000000000001', 1, 1, 'sha256:role', 'sha256:digest', '{"name": "world"}',
     '2026-01-01T10:00:03Z');
insert into job_log values
    ('00000000-0000-7000-8000-000000000006', 1, '2026-01-01T10:00:03Z', 'stdout', 'hello, world');
insert into event (at, kind, deployment_id, node_id, vertex_id, job_id, principal, detail) values
    ('2026-01-01T10:00:01Z', 'committed', '00000000-0000-7000-8000-000000000002', null, null, null, 'root', '{}'),
    ('2026-01-01T10:00:03Z', 'claimed', '00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000004',
     '00000000-0000-7000-8000-000000000005', '00000000-0000-7000-8000-000000000006', 'engine', '{}');
insert into seal values ('0011223344556677', '\x01', '2026-01-01T10:00:00Z');
insert into authority (authority_id, deployment_id, vertex_id, generation, state, change, founded_as, certificate, key, not_after,
                       job_id, made_at) values
    ('00000000-0000-7000-8000-000000000008', '00000000-0000-7000-8000-000000000002',
     '00000000-0000-7000-8000-000000000009', 1, 'active', 1, '{"common_name": "blue"}', 'PEM', '\x01', '2036-01-01T10:00:00Z',
     '00000000-0000-7000-8000-00000000000a', '2026-01-01T10:00:00Z');
insert into authority_request values
    ('00000000-0000-7000-8000-00000000000d', '00000000-0000-7000-8000-000000000002', '{"common_name": "blue"}', 'PEM', '\x01',
     '00000000-0000-7000-8000-00000000000e', '2026-01-01T10:00:00Z');
insert into certificate (serial, authority_id, vertex_id, node, names, usages, body, not_before, not_after, renew_at, job_id,
                         issued_at, part) values
    ('4000', '00000000-0000-7000-8000-000000000008', '00000000-0000-7000-8000-00000000000b', 'blue-greeters-1',
     '["10.0.0.1"]', '["server"]', 'PEM', '2026-01-01T10:00:00Z', '2026-02-01T10:00:00Z', '2026-01-21T10:00:00Z',
     '00000000-0000-7000-8000-00000000000c', '2026-01-01T10:00:01Z', 0);
insert into revocation_list values ('00000000-0000-7000-8000-000000000008', 0, '\x30', 0, '2026-01-03T10:00:00Z');
insert into bundle values
    ('shop', '1.0.0', 'hash', '{"bundle.yaml": "YnVuZGxlOiBzaG9wCnZlcnNpb246IDEuMC4wCg=="}', 'root', '2026-01-01T10:00:00Z');
insert into setting values ('rule', 'big', '{"rule": "big", "when": "cpus >= 8", "set": {"size": "big"}}', 'root', '2026-01-01T10:00:00Z');
insert into hook (hook_id, name, url, kinds, deployments, secret, after, added_by, added_at) values
    ('00000000-0000-7000-8000-0000000000f0', 'audit', 'https://audit.example/in', '{node.*}', '{}', '\x00', 1, 'root', '2026-01-01T10:00:00Z');
insert into look (node_id, deployment_id, every_ms, look_at, silent_since, silent_at, silent_ms, aside_by) values
    ('00000000-0000-7000-8000-000000000004', '00000000-0000-7000-8000-000000000002', 60000, '2026-01-01T10:01:00Z',
     '2026-01-01T10:00:00Z', '2026-01-01T10:00:30Z', 30000, 'the policy of the deployment');
