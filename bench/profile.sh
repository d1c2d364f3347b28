# Sourced by scripts/bench.sh with PROFILE=1, on its cluster, after the measurements: where the time goes. For a page
# of 2,500 events the statements inside calsync_apply_delta, by pg_stat_statements; for calsync_busy the call tree, by
# perf, where there is one.

profile_ingest() {
    echo
    echo "Statements inside calsync_apply_delta: ms a page of 2,500 events, rows a page"
    run postgres -c "ALTER ROLE booking SET pg_stat_statements.track = 'all'" -f profile_pages.sql
    local step
    for step in 1 2 3; do
        run postgres -c "SELECT FROM pg_stat_statements_reset()" >/dev/null
        run booking -v step=$step -f profile_ingest.sql
        run postgres -F ' | ' -c "SELECT lpad(round(total_exec_time::numeric / 4, 1)::text, 8), lpad((rows / 4)::text, 6),
                left(regexp_replace(query, '\s+', ' ', 'g'), 100)
            FROM pg_stat_statements WHERE NOT toplevel AND query NOT LIKE '%calsync_apply_delta%'
            ORDER BY total_exec_time DESC LIMIT 5"
    done
    run postgres -c "ALTER ROLE booking RESET pg_stat_statements.track"
}

# What to look for in the call tree of calsync_busy.
TREE='calsync_busy_wrapper|busy_times|availability::find|availability::taken|SPI_execute_plan|GetCachedPlan|standard_planner|standard_ExecutorStart|standard_ExecutorRun|standard_ExecutorEnd|btgettuple|may_see|has_privs_of_role|box_ret_in_fcinfo|set_config_option|range_out|__do_sys_brk|__sys_sendto|do_epoll_wait|exec_bind_message|PostgresMain'

profile_busy() {
    command -v perf >/dev/null || { echo "no perf here: calsync_busy is not profiled"; return 0; }
    local script pid
    for script in busy_3x7 busy_50x30; do
        measure "$script" 8 >/dev/null &
        sleep 2
        pid=$(run postgres -c "SELECT pid FROM pg_stat_activity WHERE usename = 'booking' AND backend_type = 'client backend'")
        perf record -q -e cpu-clock -F 2000 --call-graph dwarf,24000 -p "$pid" -o "$home/perf.data" -- sleep 4 >/dev/null 2>&1 || true
        wait
        echo
        echo "$script: share of the backend's CPU, what it calls included"
        perf report -i "$home/perf.data" --stdio --children --sort symbol -g none 2>/dev/null \
            | grep -E "\b($TREE)\b" | awk '{ share = $1; sub(/ +- +-.*$/, ""); sub(/^ *[0-9.]+% +[0-9.]+% +\[.\] /, ""); if (!seen[$0]++) printf "%8s  %s\n", share, $0 }' | head -n 22
    done
}

profile_ingest
profile_busy
