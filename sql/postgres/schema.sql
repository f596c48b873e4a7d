-- What: the documented booking system as it stood before the migration of 2025-11-13 21:21 UTC, with both old rules.
-- When: once, in an empty database; PostgreSQL 15 to 18.
-- By:   the owner of the database (btree_gist is a trusted extension: no superuser needed).

create extension if not exists btree_gist;

create table restaurants (
  id             uuid primary key,
  name           text not null,
  timezone       text not null,
  policy_version int  not null default 1
);
comment on table restaurants is 'One row per tenant.';
comment on column restaurants.timezone is 'IANA name; service days are local calendar days.';
comment on column restaurants.policy_version is 'Holds taken under an older version can no longer be confirmed.';

create table table_inventory (
  id             uuid primary key default gen_random_uuid(),
  restaurant_id  uuid not null references restaurants,
  table_number   text not null,
  capacity       int  not null check (capacity > 0),
  min_party_size int  not null,
  max_party_size int  not null,
  section        text,
  active         boolean not null default true,
  unique (restaurant_id, table_number)
);
comment on table table_inventory is 'One row per table; capacity counts seats.';

create table bookings (
  id            uuid primary key default gen_random_uuid(),
  restaurant_id uuid not null references restaurants,
  party_size    int  not null check (party_size > 0),
  "window"      tstzrange not null,
  status        text not null default 'pending' check (status in ('pending', 'confirmed', 'cancelled')),
  created_at    timestamptz not null default now()
);
comment on table bookings is 'One row per request for a meal; deleting one takes its holds and allocations away.';

create table table_holds (
  id             uuid primary key default gen_random_uuid(),
  booking_id     uuid not null references bookings on delete cascade,
  restaurant_id  uuid not null references restaurants,
  "window"       tstzrange not null,
  status         text not null default 'live' check (status in ('live', 'confirmed', 'expired', 'released')),
  policy_version int  not null,
  expires_at     timestamptz not null,
  created_at     timestamptz not null default now()
);
create index on table_holds (booking_id);
create index on table_holds (expires_at) where status = 'live';
comment on table table_holds is
  'One row per temporary claim on tables, valid until expires_at, turned into allocations by confirming it.';

-- Nothing ties a member to the restaurant of its hold: a table of another restaurant is found when confirming (23503).
create table table_hold_members (
  hold_id  uuid not null references table_holds on delete cascade,
  table_id uuid not null references table_inventory,
  primary key (hold_id, table_id)
);
comment on table table_hold_members is 'One row per table that a hold claims.';

create table allocations (
  id             uuid primary key default gen_random_uuid(),
  booking_id     uuid references bookings on delete cascade,
  resource_type  text not null check (resource_type in ('table', 'hold', 'merge_group')),
  resource_id    uuid not null,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now(),
  shadow         boolean not null default false,
  restaurant_id  uuid not null references restaurants,
  "window"       tstzrange not null,
  created_by     uuid,
  is_maintenance boolean not null default false,
  unique (booking_id, resource_type, resource_id),
  constraint allocations_resource_window_excl
    exclude using gist (resource_type with =, resource_id with =, "window" with &&)
    deferrable initially deferred,
  constraint allocations_firm_window_excl
    exclude using gist (resource_type with =, resource_id with =, "window" with &&)
    where (not shadow)
);
-- Serves the snapshot that v12 takes: one restaurant, one day.
create index allocations_restaurant_window_idx on allocations using gist (restaurant_id, "window");
comment on table allocations is 'One row per resource and booking: who holds what, and when.';
comment on column allocations.booking_id is 'Null for maintenance.';
comment on column allocations.resource_id is
  'A table, or the hold that merges several; no foreign key, as one column serves both.';
comment on column allocations.created_at is
  'For a confirmed booking the time of its hold: confirming turns the shadow row firm.';
comment on column allocations.shadow is 'True while the row only mirrors a live hold.';
comment on column allocations."window" is 'Half-open unless it says otherwise.';

create table allocations_archive (
  id             uuid primary key,
  booking_id     uuid,
  resource_type  text not null,
  resource_id    uuid not null,
  created_at     timestamptz not null,
  updated_at     timestamptz not null,
  shadow         boolean not null,
  restaurant_id  uuid not null,
  "window"       tstzrange not null,
  created_by     uuid,
  is_maintenance boolean not null,
  archived_at    timestamptz not null default now()
);
comment on table allocations_archive is
  'Allocations moved away by archive_allocations; no foreign keys, so a row outlives its booking.';

create function archive_allocations(p_cutoff timestamptz) returns bigint
language plpgsql
set search_path = public, pg_temp
as $$
declare
  v_moved bigint;
begin
  -- The upper bound of an unbounded window is null, the comparison then not true: such a row stays for ever.
  with moved as (
    delete from allocations where upper("window") < p_cutoff returning *
  )
  insert into allocations_archive (id, booking_id, resource_type, resource_id, created_at, updated_at, shadow,
                                   restaurant_id, "window", created_by, is_maintenance)
  select id, booking_id, resource_type, resource_id, created_at, updated_at, shadow,
         restaurant_id, "window", created_by, is_maintenance
  from moved;
  get diagnostics v_moved = row_count;
  return v_moved;
end
$$;
comment on function archive_allocations is
  'Moves allocations that ended before the cutoff to the archive and returns how many.';

create function apply_hold_assignment(p_hold_id uuid, p_booking_id uuid) returns void
language plpgsql
set search_path = public, pg_temp
as $$
declare
  v_hold    table_holds;
  v_booking bookings;
  v_policy  int;
  v_foreign uuid;
  v_tables  int;
  v_seats   bigint;
begin
  select * into v_hold from table_holds where id = p_hold_id for update;
  if not found or v_hold.booking_id is distinct from p_booking_id then
    raise exception 'hold not found'
      using errcode = 'P0001', detail = format('There is no hold %s of booking %s.', p_hold_id, p_booking_id);
  end if;

  select * into v_booking from bookings where id = p_booking_id for no key update;
  if v_booking.status = 'cancelled' then
    raise exception 'booking cancelled'
      using errcode = 'P0001', detail = format('Booking %s was cancelled.', p_booking_id);
  end if;

  -- Confirming twice is no error. Nothing is written again: the booking may since have been moved or archived.
  if v_hold.status = 'confirmed' then
    return;
  end if;

  if v_hold.status in ('expired', 'released') or v_hold.expires_at <= now() then
    raise exception 'hold expired'
      using errcode = 'P0001',
            detail = format('Hold %s is %s and was valid until %s.', p_hold_id, v_hold.status, v_hold.expires_at);
  end if;

  select policy_version into v_policy from restaurants where id = v_hold.restaurant_id;
  if v_policy is distinct from v_hold.policy_version then
    raise exception 'policy version changed'
      using errcode = 'P0003',
            detail = format('Hold %s was taken under policy %s, now %s is in force.',
                            p_hold_id, v_hold.policy_version, v_policy);
  end if;

  select count(*), sum(t.capacity), min(t.id::text) filter (where t.restaurant_id <> v_hold.restaurant_id)
  into v_tables, v_seats, v_foreign
  from table_hold_members as m
  join table_inventory as t on t.id = m.table_id
  where m.hold_id = p_hold_id;
  if v_foreign is not null then
    raise exception 'table of another restaurant'
      using errcode = '23503',
            detail = format('Table %s does not belong to restaurant %s.', v_foreign, v_hold.restaurant_id);
  end if;
  if coalesce(v_seats, 0) < v_booking.party_size then
    raise exception 'party does not fit'
      using errcode = '23514',
            detail = format('A party of %s needs more than the %s seats of hold %s.',
                            v_booking.party_size, coalesce(v_seats, 0), p_hold_id);
  end if;

  -- The shadow rows of the hold become firm; ordered, so that the first rival PostgreSQL meets is always the same one.
  insert into allocations as a (booking_id, resource_type, resource_id, shadow, restaurant_id, "window")
  select p_booking_id, r.resource_type, r.resource_id, false, v_hold.restaurant_id, v_hold."window"
  from (
    select 'table' as resource_type, m.table_id as resource_id from table_hold_members as m where m.hold_id = p_hold_id
    union all
    select 'merge_group', p_hold_id where v_tables > 1
  ) as r
  order by r.resource_type desc, r.resource_id
  on conflict (booking_id, resource_type, resource_id) do update
    set shadow = false, restaurant_id = excluded.restaurant_id, "window" = excluded."window", updated_at = now()
    where (a.shadow, a.restaurant_id, a."window") is distinct from (false, excluded.restaurant_id, excluded."window");

  update table_holds set status = 'confirmed' where id = p_hold_id;
  update bookings set status = 'confirmed' where id = p_booking_id and status <> 'confirmed';
end
$$;
comment on function apply_hold_assignment is
  'The inside of every confirmation: turns the tables of a hold into firm allocations, or raises why not.';

create function confirm_hold_assignment_tx(p_hold_id uuid, p_booking_id uuid) returns jsonb
language plpgsql
set search_path = public, pg_temp
as $$
begin
  perform apply_hold_assignment(p_hold_id, p_booking_id);
  return jsonb_build_object('confirmed', true);
end
$$;
comment on function confirm_hold_assignment_tx is 'v11: confirms a hold; a refusal raises and leaves no trace.';
