-- What: the other shape in which the evidence table is found deployed: successes only, upserted by idempotency key, with
--       the logs and ledgers that its confirm function writes besides; and the overlap rule of v12.
-- When: once, in one transaction (psql -1), after schema.sql and instead of migration_up.sql; PostgreSQL 15 to 18.
-- By:   the owner of the tables.

alter table allocations drop constraint if exists allocations_resource_window_excl;
alter table allocations drop constraint if exists allocations_firm_window_excl;
alter table allocations add constraint allocations_no_overlap
  exclude using gist (restaurant_id with =, resource_type with =, resource_id with =, "window" with &&)
  where (not shadow) deferrable;

-- The default is the deployed one, and wrong by the offset of the session's time zone unless that is UTC.
create table booking_confirmation_results (
  booking_id        uuid not null references bookings on delete cascade,
  hold_id           uuid not null unique,
  restaurant_id     uuid not null,
  idempotency_key   text not null,
  table_ids         uuid[] not null,
  assignment_window tstzrange not null,
  created_at        timestamptz not null default timezone('utc', now()),
  actor_id          uuid,
  metadata          jsonb not null default '{}',
  primary key (booking_id, idempotency_key)
);
create index on booking_confirmation_results (created_at desc);
comment on table booking_confirmation_results is
  'One row per booking and idempotency key that was confirmed, overwritten in place; a refusal leaves none.';

-- No foreign keys: the two logs outlive what they tell of.
create table capacity_outbox (
  id              uuid primary key default gen_random_uuid(),
  event_type      text not null,
  created_at      timestamptz not null default now(),
  restaurant_id   uuid,
  booking_id      uuid,
  idempotency_key text,
  payload         jsonb not null,
  status          text not null default 'pending'
);
comment on table capacity_outbox is 'One row per event for other systems; only its status changes.';

create table audit_logs (
  id         bigint generated always as identity primary key,
  action     text not null,
  entity     text not null,
  entity_id  text not null,
  metadata   jsonb not null,
  created_at timestamptz not null default now()
);
comment on table audit_logs is 'One row per act: assigned, unassigned; rows are only appended.';

create table booking_assignment_idempotency (
  booking_id        uuid not null references bookings on delete cascade,
  idempotency_key   text not null,
  table_ids         uuid[] not null,
  assignment_window tstzrange not null,
  created_at        timestamptz not null default timezone('utc', now()),
  primary key (booking_id, idempotency_key)
);
comment on table booking_assignment_idempotency is 'One row per booking and key: what a retry is answered with.';

create table booking_table_assignments (
  id          uuid primary key default gen_random_uuid(),
  booking_id  uuid not null references bookings on delete cascade,
  table_id    uuid not null references table_inventory,
  start_at    timestamptz not null,
  end_at      timestamptz not null,
  assigned_at timestamptz not null default now(),
  unique (booking_id, table_id)
);
comment on table booking_table_assignments is 'One row per table that a booking has now.';

create table observability_events (
  id         uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default now(),
  source     text not null,
  event_type text not null,
  severity   text not null,
  context    jsonb not null default '{}'
);
comment on table observability_events is 'One row per event that the application reports in a transaction of its own.';

do $$
begin
  if not exists (select from pg_roles where rolname = 'service_role') then
    create role service_role;
  end if;
exception
  when duplicate_object or unique_violation then null; -- another session was faster; roles belong to the whole server
end
$$;

create function app_restaurant_id() returns uuid
language plpgsql
stable
as $$
begin
  if nullif(current_setting('app.restaurant_id', true), '') is null then
    raise exception 'app.restaurant_id is not set' using errcode = '42501';
  end if;
  return current_setting('app.restaurant_id')::uuid;
end
$$;
comment on function app_restaurant_id is 'The tenant of this session; raises 42501 when none is set.';

alter table booking_confirmation_results enable row level security;
create policy "Tenant service role" on booking_confirmation_results to service_role
  using (restaurant_id = app_restaurant_id()) with check (restaurant_id = app_restaurant_id());

drop function confirm_hold_assignment_tx(uuid, uuid);
create function confirm_hold_assignment_tx(p_hold_id uuid, p_booking_id uuid, p_idempotency_key text) returns void
language plpgsql
set search_path = public, pg_temp
as $$
declare
  v_hold    table_holds;
  v_tables  uuid[];
  v_payload jsonb;
begin
  select * into v_hold from table_holds where id = p_hold_id for update;
  select array_agg(table_id order by table_id) into v_tables from table_hold_members where hold_id = p_hold_id;

  -- As deployed: the rival is lost, and a unique violation goes by the same name.
  begin
    perform apply_hold_assignment(p_hold_id, p_booking_id);
  exception when exclusion_violation or unique_violation then
    raise exception 'allocations_no_overlap'
      using errcode = 'P0001',
            detail = format('Resource %s overlaps requested window for booking %s', v_tables[1], p_booking_id);
  end;

  delete from booking_table_assignments where booking_id = p_booking_id;
  insert into booking_table_assignments (booking_id, table_id, start_at, end_at)
  select p_booking_id, unnest(v_tables), lower(v_hold."window"), upper(v_hold."window");

  insert into booking_assignment_idempotency (booking_id, idempotency_key, table_ids, assignment_window)
  values (p_booking_id, p_idempotency_key, v_tables, v_hold."window")
  on conflict (booking_id, idempotency_key) do update
    set table_ids = excluded.table_ids, assignment_window = excluded.assignment_window;

  v_payload := jsonb_build_object(
    'bookingId', p_booking_id, 'restaurantId', v_hold.restaurant_id, 'tableIds', v_tables, 'holdId', p_hold_id,
    'startAt', to_char(lower(v_hold."window") at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'endAt', to_char(upper(v_hold."window") at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
  insert into capacity_outbox (event_type, restaurant_id, booking_id, idempotency_key, payload)
  values ('capacity.assignment.sync', v_hold.restaurant_id, p_booking_id, p_idempotency_key, v_payload - 'holdId'),
         ('capacity.hold.confirmed', v_hold.restaurant_id, p_booking_id, p_idempotency_key, v_payload);

  insert into audit_logs (action, entity, entity_id, metadata)
  values ('assigned', 'booking', p_booking_id, jsonb_build_object('tableIds', v_tables));

  insert into booking_confirmation_results as r (booking_id, hold_id, restaurant_id, idempotency_key, table_ids,
                                                 assignment_window)
  values (p_booking_id, p_hold_id, v_hold.restaurant_id, p_idempotency_key, v_tables, v_hold."window")
  on conflict (booking_id, idempotency_key) do update
    set hold_id = excluded.hold_id, restaurant_id = excluded.restaurant_id, table_ids = excluded.table_ids,
        assignment_window = excluded.assignment_window, created_at = excluded.created_at, metadata = excluded.metadata;

  delete from table_holds where id = p_hold_id;
end
$$;
comment on function confirm_hold_assignment_tx is 'Confirms a hold and records the success; a refusal raises and leaves nothing.';

create function unassign_tables(p_booking_id uuid) returns void
language plpgsql
set search_path = public, pg_temp
as $$
begin
  insert into audit_logs (action, entity, entity_id, metadata)
  select 'unassigned', 'booking', p_booking_id, jsonb_build_object('tableIds', array_agg(resource_id))
  from allocations
  where booking_id = p_booking_id and resource_type = 'table';
  delete from allocations where booking_id = p_booking_id;
  delete from booking_table_assignments where booking_id = p_booking_id;
end
$$;
comment on function unassign_tables is 'Frees the tables of a booking and says so in the audit log.';
