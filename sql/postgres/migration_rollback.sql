-- What: the documented rollback: one firm-only rule over all restaurants again, and confirm v11; the evidence is kept.
-- When: in one transaction (psql -1), after migration_up.sql; PostgreSQL 15 to 18. It fails with 23P01, and changes
--       nothing, while two restaurants hold one resource at the same time, as the new rule allows: resolve that first.
-- By:   the owner of the tables.

alter table allocations drop constraint allocations_no_overlap;
alter table allocations add constraint allocations_resource_window_excl
  exclude using gist (resource_type with =, resource_id with =, "window" with &&)
  where (not shadow) deferrable initially deferred;

-- Replacing the function also takes back security definer and the settings of v12.
create or replace function confirm_hold_assignment_tx(p_hold_id uuid, p_booking_id uuid) returns jsonb
language plpgsql
set search_path = public, pg_temp
as $$
begin
  perform apply_hold_assignment(p_hold_id, p_booking_id);
  return jsonb_build_object('confirmed', true);
end
$$;
comment on function confirm_hold_assignment_tx is 'v11: confirms a hold; a refusal raises and leaves no trace.';
