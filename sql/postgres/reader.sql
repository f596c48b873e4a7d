-- What: the least-privilege role that the kit captures with: reads its tables past row-level security, writes nothing.
-- When: after migration_up.sql (it grants on the evidence table); again at any time. PostgreSQL 15 to 18.
-- By:   a superuser (before PostgreSQL 16 only one may grant bypassrls). Give the role a password, or another way in.

do $$
begin
  if not exists (select from pg_roles where rolname = 'forensics_reader') then
    create role forensics_reader;
  end if;
exception
  when duplicate_object or unique_violation then null; -- another session was faster; roles belong to the whole server
end
$$;

-- Without bypassrls the evidence would be filtered to one tenant, silently.
alter role forensics_reader login bypassrls;
alter role forensics_reader set default_transaction_read_only = on;

revoke all on all tables in schema public from forensics_reader;
grant usage on schema public to forensics_reader;
grant select on restaurants, table_inventory, allocations, allocations_archive, booking_confirmation_results
  to forensics_reader;

-- Where the evidence table is of the idempotency shape, the logs and ledgers beside it are evidence, too.
do $$
declare
  v_table text;
begin
  if exists (select from pg_attribute
             where attrelid = 'booking_confirmation_results'::regclass and attname = 'idempotency_key') then
    foreach v_table in array array['capacity_outbox', 'audit_logs', 'booking_assignment_idempotency',
                                   'booking_table_assignments', 'table_holds', 'observability_events'] loop
      if to_regclass(v_table) is not null then
        execute format('grant select on %I to forensics_reader', v_table);
      end if;
    end loop;
  end if;
end
$$;
