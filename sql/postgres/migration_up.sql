-- What: the migration of 2025-11-13 21:21 UTC: the overlap rule per restaurant, and confirm v12 that records outcomes.
-- When: once, in one transaction (psql -1), after schema.sql, and again after a rollback; PostgreSQL 15 to 18.
-- By:   the owner of the tables, who may create roles (service_role, where it is missing).

alter table allocations drop constraint if exists allocations_resource_window_excl;
alter table allocations drop constraint if exists allocations_firm_window_excl;

-- One more equality column makes the rule looser: two restaurants may now hold one resource at the same time. And
-- without the strict rule beside it, a shadow row may overlap a firm one.
alter table allocations add constraint allocations_no_overlap
  exclude using gist (restaurant_id with =, resource_type with =, resource_id with =, "window" with &&)
  where (not shadow) deferrable;

-- booking_id has no foreign key: evidence outlives its booking.
create table if not exists booking_confirmation_results (
  id               bigint generated always as identity primary key,
  booking_id       uuid not null,
  confirmed        boolean not null,
  conflict_details jsonb,
  checked_at       timestamptz not null default now(),
  snapshot_data    jsonb
);
create index if not exists booking_confirmation_results_booking_id_idx on booking_confirmation_results (booking_id);
create index if not exists booking_confirmation_results_checked_at_idx on booking_confirmation_results (checked_at);
comment on table booking_confirmation_results is
  'One row per confirmation attempt that was committed; rows are only appended.';
comment on column booking_confirmation_results.id is 'Order of insertion, with gaps; not the order of commit.';
comment on column booking_confirmation_results.conflict_details is
  'Null when confirmed; {sqlstate, constraint, message, detail, attempted: [{resource_type, resource_id, window}]}.';
comment on column booking_confirmation_results.checked_at is 'Start of the transaction, not its commit.';
comment on column booking_confirmation_results.snapshot_data is
  '{version, rule, request, scope, allocations, capacities}, seen just before the attempt; complete for its scope.';

do $$
begin
  if not exists (select from pg_roles where rolname = 'service_role') then
    create role service_role;
  end if;
exception
  when duplicate_object or unique_violation then null; -- another session was faster; roles belong to the whole server
end
$$;

create or replace function app_restaurant_id() returns uuid
language plpgsql
stable
as $$
begin
  if nullif(current_setting('app.restaurant_id', true), '') is null then
    raise exception 'app.restaurant_id is not set'
      using errcode = '42501', hint = 'Set it to the restaurant on whose behalf you ask.';
  end if;
  return current_setting('app.restaurant_id')::uuid;
end
$$;
comment on function app_restaurant_id is 'The tenant of this session; raises 42501 when none is set.';

alter table booking_confirmation_results enable row level security;
drop policy if exists "Tenant service role" on booking_confirmation_results;
create policy "Tenant service role" on booking_confirmation_results to service_role
  using (exists (select from bookings as b
                 where b.id = booking_confirmation_results.booking_id and b.restaurant_id = app_restaurant_id()))
  with check (exists (select from bookings as b
                      where b.id = booking_confirmation_results.booking_id and b.restaurant_id = app_restaurant_id()));
grant usage on schema public to service_role;
grant select, insert on booking_confirmation_results to service_role;
grant select on bookings to service_role;

-- Time zone and date style are fixed so that ranges and instants in the evidence read the same whoever calls.
create or replace function confirm_hold_assignment_tx(p_hold_id uuid, p_booking_id uuid) returns jsonb
language plpgsql
security definer
set search_path = public, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
as $$
declare
  v_hold       table_holds; -- all null when there is no such hold
  v_zone       text;
  v_midnight   timestamp;
  v_scope      tstzrange;
  v_tables     uuid[];
  v_snapshot   jsonb;
  v_conflict   jsonb;
  v_sqlstate   text;
  v_constraint text;
  v_message    text;
  v_detail     text;
  v_check_id   bigint;
begin
  select * into v_hold from table_holds where id = p_hold_id for update;
  if found then
    select timezone into v_zone from restaurants where id = v_hold.restaurant_id;
    v_midnight := date_trunc('day', lower(v_hold."window") at time zone v_zone);
    v_scope := range_merge(v_hold."window", tstzrange(v_midnight at time zone v_zone,
                                                      (v_midnight + interval '1 day') at time zone v_zone));
  end if;
  select coalesce(array_agg(table_id order by table_id), '{}') into v_tables
  from table_hold_members
  where hold_id = p_hold_id;

  v_snapshot := jsonb_build_object(
    'version', 12,
    'rule', 'allocations_no_overlap',
    'request', jsonb_build_object(
      'hold_id', p_hold_id, 'booking_id', p_booking_id, 'restaurant_id', v_hold.restaurant_id,
      'table_ids', v_tables, 'window', v_hold."window"),
    'scope', case when v_scope is not null then
      jsonb_build_object('restaurant_id', v_hold.restaurant_id, 'window', v_scope) end,
    'allocations', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'id', a.id, 'booking_id', a.booking_id, 'restaurant_id', a.restaurant_id, 'resource_type', a.resource_type,
        'resource_id', a.resource_id, 'window', a."window", 'shadow', a.shadow, 'is_maintenance', a.is_maintenance,
        'created_at', a.created_at, 'updated_at', a.updated_at) order by lower(a."window"), a.id), '[]')
      from allocations as a
      where a.restaurant_id = v_hold.restaurant_id and a."window" && v_scope),
    'capacities', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'table_id', t.id, 'restaurant_id', t.restaurant_id, 'capacity', t.capacity,
        'min_party_size', t.min_party_size, 'max_party_size', t.max_party_size) order by t.table_number, t.id), '[]')
      from table_inventory as t
      where t.restaurant_id = v_hold.restaurant_id and t.active));

  begin
    perform apply_hold_assignment(p_hold_id, p_booking_id);
    -- A caller who deferred the rule would meet the refusal only at commit, where nothing can be recorded any more: ask
    -- now. On success this ends the caller's deferral for the rest of the transaction (defer again if needed; a refusal
    -- gives it back together with the attempt). An overlap that the caller left unresolved is refused here as well,
    -- with its own keys in the detail.
    set constraints allocations_no_overlap immediate;
  exception when others then
    get stacked diagnostics
      v_sqlstate = returned_sqlstate, v_constraint = constraint_name,
      v_message = message_text, v_detail = pg_exception_detail;
    v_conflict := jsonb_build_object(
      'sqlstate', v_sqlstate,
      'constraint', nullif(v_constraint, ''),
      'message', v_message,
      'detail', nullif(v_detail, ''),
      'attempted', (
        select coalesce(jsonb_agg(jsonb_build_object('resource_type', 'table', 'resource_id', u.table_id,
                                                     'window', v_hold."window") order by u.table_id), '[]')
        from unnest(v_tables) as u (table_id)));
  end;

  insert into booking_confirmation_results (booking_id, confirmed, conflict_details, snapshot_data)
  values (p_booking_id, v_conflict is null, v_conflict, v_snapshot)
  returning id into v_check_id;
  return jsonb_build_object('check_id', v_check_id, 'confirmed', v_conflict is null, 'conflict', v_conflict);
end
$$;
comment on function confirm_hold_assignment_tx is
  'v12: confirms a hold and records the outcome with what stood in the way; refusals return, they do not raise.';
revoke execute on function confirm_hold_assignment_tx(uuid, uuid) from public;
grant execute on function confirm_hold_assignment_tx(uuid, uuid) to service_role;
