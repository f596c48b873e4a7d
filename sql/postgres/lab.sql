-- What: the lab's additions to the documented system: a clock that can be set, a ledger of every change to allocations.
-- When: after schema.sql, in a lab only; `call lab.take_clock()` here and after each migration. PostgreSQL 15 to 18.
-- By:   the owner of the tables. Nothing is granted: the reader role cannot look in here.

create schema lab;

create function lab.now() returns timestamptz
language sql
stable
as $$
  select coalesce(
    nullif(current_setting('lab.now', true), '')::timestamptz,
    pg_catalog.now() + coalesce(nullif(current_setting('lab.shift', true), ''), '0')::interval)
$$;
comment on function lab.now is
  'The instant of setting lab.now, else the start of the transaction plus the interval of setting lab.shift.';

create table lab.ledger (
  entry      bigint generated always as identity primary key,
  at         timestamptz not null default lab.now(),
  written_at timestamptz not null default clock_timestamp(),
  xid        xid8 not null default pg_current_xact_id(),
  operation  text not null,
  old        jsonb,
  new        jsonb
);
comment on table lab.ledger is
  'One row per committed change of an allocation, in statement order: the tests'' answer key.';
comment on column lab.ledger.at is 'Virtual start of the transaction.';
comment on column lab.ledger.written_at is 'Real time of the change.';

create function lab.record_change() returns trigger
language plpgsql
security definer
set search_path = lab, pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
as $$
begin
  insert into lab.ledger (operation, old, new)
  values (lower(tg_op), case when tg_op <> 'INSERT' then to_jsonb(old) end,
          case when tg_op <> 'DELETE' then to_jsonb(new) end);
  return null;
end
$$;

create trigger lab_ledger after insert or update or delete on allocations
  for each row execute function lab.record_change();

create procedure lab.take_clock()
language plpgsql
as $$
declare
  v_sql text;
begin
  for v_sql in
    -- With lab before pg_catalog an unqualified now() is lab.now(). Replacing a function resets this: call again then.
    select format('alter function %s set search_path = lab, pg_catalog, public, pg_temp', p.oid::regprocedure)
    from pg_proc as p
    where p.pronamespace = 'public'::regnamespace
    and p.proname in ('confirm_hold_assignment_tx', 'apply_hold_assignment', 'archive_allocations')
    union all
    select format('alter table %s alter column %I set default lab.now()', d.adrelid::regclass, a.attname)
    from pg_attrdef as d
    join pg_attribute as a on a.attrelid = d.adrelid and a.attnum = d.adnum
    join pg_class as c on c.oid = d.adrelid
    where c.relnamespace = 'public'::regnamespace
    and pg_get_expr(d.adbin, d.adrelid) = 'now()'
  loop
    execute v_sql;
  end loop;
end
$$;
comment on procedure lab.take_clock is 'Makes the documented functions and column defaults see lab.now() as now().';

call lab.take_clock();
