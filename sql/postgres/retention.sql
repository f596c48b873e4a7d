-- What: the retention of the evidence: retention_dry_run says what keeping it for so many days frees and loses,
--       retention_apply then deletes the rest in small batches, or moves it to an archive.
-- When: after migration_up.sql and reader.sql, and again after reader.sql (which takes the archive's grant back); at any
--       time, it replaces itself. PostgreSQL 15 to 18; for the audit shape of the evidence.
-- By:   the owner of the tables, who is also the one to call retention_apply. The dry run is for whoever sees every row:
--       the owner and forensics_reader. A role that row-level security filters gets an error, not some tenant's figures.
--
-- How to use it. Capture first: what `forensics capture` has read stays in its store, what it has not is gone for good.
--
--   select * from retention_dry_run(30, p_refusals_days => 90);
--   call retention_apply(30, p_archive => true, p_refusals_days => 90);   -- on its own, in no transaction block
--
-- It may be stopped at any instant and called again; two at once share the work. Each night, with pg_cron:
--
--   select cron.schedule('retention', '17 3 * * *', 'call retention_apply(30, p_refusals_days => 90)');
--
-- The dry run counts as `forensics retention` does, and reads every snapshot for it: ten seconds for 100,000 checks of 5 kB.
-- Deleting gives no space back to the file system: autovacuum frees it for rows to come, so that the table stops growing at
-- about p_days of evidence. Nothing prunes the archive: copy it elsewhere, then drop from it what you have copied.
--
-- Partitioning by day, and when it pays. Measured on PostgreSQL 18, two cores, warm cache, snapshots of 5 kB (1.9 kB stored):
-- retention_apply deletes 66,000 rows a second and writes 2.3 kB of log for each; vacuum then takes 9 s per million. A cold
-- disk or snapshots of 50 kB may make that ten times as much. Below 100,000 checks a day a night's work is then a matter of
-- seconds and partitioning buys nothing; towards a million, where log and vacuum become minutes, or where the space must
-- come back at once, it pays: dropping a partition takes a fraction of a second whatever it holds, and leaves nothing to
-- vacuum. It costs:
--   - a primary key of (id, checked_at): id alone is no longer kept unique, and a look-up by id or booking_id that does not
--     say checked_at asks every partition;
--   - a job that makes tomorrow's partition in time: where it is missing the insert fails, and the confirmation with it. A
--     default partition catches such rows, but is then scanned, under a lock, whenever a partition is added;
--   - an exclusive lock to drop one, for an instant, but behind every reader: `detach partition … concurrently` first, which
--     PostgreSQL refuses while there is a default partition;
--   - one horizon for all: refusals that stay longer need partitions of their own, by confirmed and then by day;
--   - row-level security, grants and indexes to be looked after: a policy of the parent does not hold for who reads a
--     partition by its own name;
--   - a copy of the table, once: a plain one cannot be made a partitioned one in place.
-- retention_apply is not for a partitioned table: it deletes by place, and places repeat between partitions.

create table if not exists booking_confirmation_results_archive (
  like booking_confirmation_results including comments,
  archived_at timestamptz not null default now(),
  primary key (id)
);
comment on table booking_confirmation_results_archive is
  'Checks moved away by retention_apply, each as it was.';

-- As the table that the rows come from.
alter table booking_confirmation_results_archive enable row level security;
drop policy if exists "Tenant service role" on booking_confirmation_results_archive;
create policy "Tenant service role" on booking_confirmation_results_archive to service_role
  using (exists (select from bookings as b
                 where b.id = booking_confirmation_results_archive.booking_id and b.restaurant_id = app_restaurant_id()))
  with check (exists (select from bookings as b
                      where b.id = booking_confirmation_results_archive.booking_id
                      and b.restaurant_id = app_restaurant_id()));
grant select on booking_confirmation_results_archive to forensics_reader;

create or replace function retention_span(p_days int, p_at_least int default 1) returns interval
language plpgsql
immutable
as $$
begin
  if (p_days between p_at_least and 100000) is not true then
    raise exception 'a retention is a whole number of days from % to 100000, not %', p_at_least, coalesce(p_days::text, 'null')
      using errcode = '22023';
  end if;
  -- In hours: a day of an interval has 23 or 25 of them when the session's time zone changes its clocks.
  return make_interval(hours => 24 * p_days);
end
$$;
comment on function retention_span is 'So many times 24 hours; raises 22023 for what is no retention.';

create or replace function retention_window(p_request jsonb) returns tstzrange
language plpgsql
stable
as $$
declare
  v_instant constant text :=
    '(|-?infinity|\d{4,6}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)? ?(Z|[+-]\d\d(:?\d\d(:\d\d)?)?)( BC)?)';
  v_window jsonb := case when p_request ? 'window' then p_request -> 'window' else p_request end;
  v_text   text := v_window #>> '{}';
begin
  -- JavaScript writers leave the bounds in two fields; the window is then half-open.
  if jsonb_typeof(v_window) = 'object' then
    -- Null is no bound; empty text is nothing that could be read.
    select case when count(*) = 1 then min(format(
      '[%s,%s)', regexp_replace(v_window ->> k.lower_key, '^$', 'nothing'),
      regexp_replace(v_window ->> k.upper_key, '^$', 'nothing'))) end
    into v_text
    from (values ('start', 'end'), ('start_at', 'end_at'), ('startAt', 'endAt'), ('window_start', 'window_end'))
      as k (lower_key, upper_key)
    where v_window ?& array[k.lower_key, k.upper_key]
    and not exists (select from jsonb_object_keys(v_window) as o (name) where o.name ~* 'bound|incl|_inc$');
  end if;
  -- A bound without an offset would silently be taken for UTC, and the cast knows words like "tomorrow".
  if v_text = 'empty' or replace(v_text, '"', '') ~ ('^[[(]' || v_instant || ',' || v_instant || '[])]$') then
    return v_text::tstzrange;
  end if;
  return null;
exception
  when data_exception then return null; -- the 30th of February, or an end before the beginning
end
$$;
comment on function retention_window is
  'The window that a snapshot''s request asks for; null where it cannot be read. ISO text or two fields, with offsets.';

create or replace function retention_dry_run(
  p_days int, p_as_of timestamptz default now(), p_refusals_days int default null)
returns table (
  days int, as_of timestamptz, rows_kept bigint, rows_freed bigint, bytes_kept bigint, bytes_freed bigint,
  stored_bytes_freed bigint, hits_lost bigint, hits_forgotten bigint, explanations_lost bigint, refusals_lost bigint,
  purged_before_meal bigint)
language sql
stable
set search_path = public, pg_temp
set row_security = off
as $$
  with policy as materialized (
    select retention_span(p_days) as confirmed_span,
           retention_span(coalesce(p_refusals_days, p_days), p_days) as refused_span
  ),

  evidence as (
    select
      r.id,
      r.booking_id,
      r.checked_at,
      r.confirmed,
      r.checked_at + case when r.confirmed then p.confirmed_span else p.refused_span end as retained_until,
      -- Classes of SQLSTATE in which the server failed, or was stopped, before it came to a verdict: no answer to keep.
      coalesce(left(r.conflict_details ->> 'sqlstate', 2) in ('08', '40', '53', '55', '57', '58', 'XX'), false) as failed,
      r.snapshot_data -> 'request' as request,
      jsonb_typeof(r.snapshot_data -> 'allocations') = 'array' as explained,
      coalesce(octet_length(r.snapshot_data::text), 0) + coalesce(octet_length(r.conflict_details::text), 0) as bytes,
      coalesce(pg_column_size(r.snapshot_data), 0) + coalesce(pg_column_size(r.conflict_details), 0) as stored_bytes
    from booking_confirmation_results as r
    cross join policy as p
  ),

  asked as materialized (
    select
      e.id, e.booking_id, e.checked_at, e.confirmed, e.retained_until, e.failed, e.explained, e.bytes, e.stored_bytes,
      retention_window(e.request) as requested_window,
      -- A text that is not read here, such as another DateStyle's, is a question of its own.
      case
        when e.request ? 'window' then e.request ->> 'window'
        when e.request ?| array['start', 'start_at', 'startAt', 'window_start'] then e.request::text
      end as window_text,
      case when jsonb_typeof(e.request -> 'table_ids') = 'array' then array(
        select t.table_id from jsonb_array_elements_text(e.request -> 'table_ids') as t (table_id)
        order by t.table_id collate "C")
      end as table_ids
    from evidence as e
  ),

  lookups as (
    select
      a.*,
      retained_until < p_as_of as goes,
      -- Null for the first lookup of a key, which nothing could answer.
      max(retained_until) filter (where not failed) over (
        partition by booking_id, table_ids, requested_window, case when requested_window is null then window_text end
        order by checked_at, id
        rows between unbounded preceding and 1 preceding) as answerable_until
    from asked as a
  )

  select
    p_days,
    p_as_of,
    count(*) filter (where not goes),
    count(*) filter (where goes),
    coalesce(sum(bytes) filter (where not goes), 0)::bigint,
    coalesce(sum(bytes) filter (where goes), 0)::bigint,
    coalesce(sum(stored_bytes) filter (where goes), 0)::bigint,
    count(*) filter (where answerable_until < checked_at),
    count(*) filter (where answerable_until is not null and (goes or answerable_until < p_as_of)),
    count(*) filter (where goes and explained),
    count(*) filter (where goes and explained and not confirmed),
    count(*) filter (where isfinite(lower(requested_window)) and lower(requested_window) > retained_until)
  from lookups
$$;
comment on function retention_dry_run is
  'What retention_apply with the same arguments would free and lose, in one row, without changing or locking anything. '
  'bytes: text of snapshots and conflicts; stored_bytes: the same as kept, compressed; hits_lost: lookups whose answer would '
  'have been gone, had this always been the retention; hits_forgotten: those of today that no longer show afterwards; '
  'explanations_lost: rows with a snapshot that can be replayed, refusals_lost: the refused among them; '
  'purged_before_meal: rows gone before the table was wanted.';

-- No "set" clause: PostgreSQL allows no commit in a procedure that has one. Names are qualified instead.
create or replace procedure retention_apply(
  p_days int, p_batch int default 1000, p_as_of timestamptz default now(), p_archive boolean default false,
  p_refusals_days int default null, inout p_rows bigint default 0)
language plpgsql
as $$
declare
  v_confirmed_before constant timestamptz := p_as_of - public.retention_span(p_days);
  v_refused_before   constant timestamptz := p_as_of - public.retention_span(coalesce(p_refusals_days, p_days), p_days);
  v_from             timestamptz := '-infinity';
  v_until            timestamptz;
  v_gone             bigint;
begin
  if (p_batch >= 1) is not true then
    raise exception 'a batch is one row or more, not %', coalesce(p_batch::text, 'null') using errcode = '22023';
  end if;
  if (p_as_of <= now()) is not true then
    raise exception 'a retention is counted back from now or an earlier instant, not %', coalesce(p_as_of::text, 'null')
      using errcode = '22023', hint = 'A later one would delete rows younger than the retention.';
  end if;
  p_rows := 0;

  loop
    -- Each of these ends with its batch. Rows are never waited for; a table that somebody alters is, this long.
    set local lock_timeout = '1s';
    set local row_security = off;

    with batch as materialized (
      select r.ctid as place
      from public.booking_confirmation_results as r
      -- Begins where the batch before ended: not again past all the dead entries of the index, and the refusals that stay.
      where r.checked_at >= v_from
      and r.checked_at < v_confirmed_before
      and (r.confirmed or r.checked_at < v_refused_before)
      order by r.checked_at
      limit p_batch
      for update skip locked
    ),

    -- By place, as the rows are locked and cannot move: a join by id may become a scan of the whole table.
    gone as (
      delete from public.booking_confirmation_results as r
      where r.ctid = any (array(select b.place from batch as b))
      returning r.*
    ),

    -- No list of columns: one that the archive lacks is to be an error, not lost.
    archived as (
      insert into public.booking_confirmation_results_archive select g.*, now() from gone as g where p_archive
    )

    select count(*), max(g.checked_at) into v_gone, v_until from gone as g;

    commit;
    p_rows := p_rows + v_gone;
    raise notice '% rows gone', p_rows;
    exit when v_gone < p_batch;
    v_from := v_until;
  end loop;
end
$$;
comment on procedure retention_apply is
  'Deletes the checks older than p_days times 24 hours before p_as_of, oldest first, p_batch to a transaction; refusals '
  'only past p_refusals_days; to the archive when p_archive. p_rows returns how many.';
revoke execute on procedure retention_apply from public;
