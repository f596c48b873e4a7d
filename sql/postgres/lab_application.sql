-- What: the statements of the lab's booking application, as functions and procedures of schema lab.
-- When: after lab.sql, in a lab only. PostgreSQL 15 to 18.
-- By:   the owner of the tables. They use lab.now() and take every id from the caller, so that a workload repeats.

create function lab.tables_to_choose(p_restaurant uuid, p_window tstzrange, p_blind boolean)
returns table (table_id uuid, seats int)
language plpgsql
as $$
begin
  return query
  select t.id, t.capacity
  from table_inventory as t
  where t.restaurant_id = p_restaurant
  and t.active
  and (p_blind or t.id <> all (array(
    select a.resource_id from allocations as a
    where a.restaurant_id = p_restaurant and a."window" && p_window and not a.shadow)))
  order by t.capacity, t.table_number;
end
$$;
comment on function lab.tables_to_choose is
  'The tables without a firm allocation in the window, smallest first; all of them when blind.';

-- p_ids: one for each shadow row, that is one for each table and, where there are several, one for the group.
create procedure lab.place(p_booking uuid, p_restaurant uuid, p_party int, p_window tstzrange, p_hold uuid,
                           p_tables uuid[], p_ids uuid[])
language plpgsql
as $$
begin
  insert into bookings (id, restaurant_id, party_size, "window")
  values (p_booking, p_restaurant, p_party, p_window)
  on conflict (id) do update set "window" = excluded."window";

  insert into table_holds (id, booking_id, restaurant_id, "window", policy_version, expires_at)
  select p_hold, p_booking, r.id, p_window, r.policy_version, lab.now() + interval '10 minutes'
  from restaurants as r
  where r.id = p_restaurant;

  insert into table_hold_members (hold_id, table_id) select p_hold, unnest(p_tables);

  insert into allocations (id, booking_id, resource_type, resource_id, shadow, restaurant_id, "window")
  select r.id, p_booking, case when r.resource_id = p_hold then 'merge_group' else 'table' end, r.resource_id, true,
         p_restaurant, p_window
  from unnest(p_ids, p_tables || p_hold) as r (id, resource_id)
  where r.id is not null;
end
$$;
comment on procedure lab.place is
  'Writes a booking, or moves it, with a new hold and the shadow rows that mirror the hold.';

create procedure lab.release(p_booking uuid, p_hold uuid)
language plpgsql
as $$
begin
  update table_holds set status = 'released' where id = p_hold and status = 'live';
  delete from allocations where booking_id = p_booking and shadow;
end
$$;
comment on procedure lab.release is 'Gives a hold back.';

create procedure lab.sweep()
language plpgsql
as $$
begin
  with lapsed as (
    update table_holds set status = 'expired' where status = 'live' and expires_at <= lab.now() returning booking_id
  )
  delete from allocations as a using lapsed where a.booking_id = lapsed.booking_id and a.shadow;
end
$$;
comment on procedure lab.sweep is 'Expires the holds that lapsed.';

create procedure lab.cancel(p_booking uuid)
language plpgsql
as $$
begin
  update bookings set status = 'cancelled' where id = p_booking;
  delete from allocations where booking_id = p_booking;
end
$$;
comment on procedure lab.cancel is 'Cancels a booking and frees its tables.';

create procedure lab.move(p_booking uuid, p_hold uuid, p_by interval)
language plpgsql
as $$
begin
  update bookings set "window" = tstzrange(lower("window") + p_by, upper("window") + p_by)
  where id = p_booking and status = 'confirmed';
  if found then
    update table_holds set "window" = tstzrange(lower("window") + p_by, upper("window") + p_by) where id = p_hold;
    update allocations
    set "window" = tstzrange(lower("window") + p_by, upper("window") + p_by), updated_at = lab.now()
    where booking_id = p_booking;
  end if;
end
$$;
comment on procedure lab.move is
  'Moves a confirmed booking in time; the overlap rule refuses where the other time is taken.';

create procedure lab.close_table(p_id uuid, p_table uuid, p_restaurant uuid, p_window tstzrange)
language sql
as $$
  insert into allocations (id, resource_type, resource_id, restaurant_id, "window", is_maintenance)
  values (p_id, 'table', p_table, p_restaurant, p_window, true);
$$;
comment on procedure lab.close_table is 'Takes a table out of service for a while.';

-- p_ids: two bookings, then two allocations.
create procedure lab.share(p_resource uuid, p_restaurants uuid[], p_windows tstzrange[], p_ids uuid[])
language plpgsql
as $$
begin
  insert into bookings (id, restaurant_id, party_size, "window", status)
  select p_ids[n], p_restaurants[n], 10, p_windows[n], 'confirmed' from generate_series(1, 2) as n;
  insert into allocations (id, booking_id, resource_type, resource_id, restaurant_id, "window")
  select p_ids[n + 2], p_ids[n], 'table', p_resource, p_restaurants[n], p_windows[n] from generate_series(1, 2) as n;
end
$$;
comment on procedure lab.share is
  'Books one resource for two restaurants, which the rule of v12 accepts even where the windows overlap.';
