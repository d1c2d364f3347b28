# From "script tps cpu" lines, several a script: the median, as milliseconds, and its ratios.
{ if (!($1 in count)) order[++scripts] = $1; rates[$1, ++count[$1]] = $2; usages[$1, count[$1]] = $3 }
function middle(values, script,    i, j, n, sorted, swap) {
    n = count[script]
    for (i = 1; i <= n; i++) sorted[i] = values[script, i]
    for (i = 1; i < n; i++) for (j = i + 1; j <= n; j++)
        if (sorted[j] < sorted[i]) { swap = sorted[i]; sorted[i] = sorted[j]; sorted[j] = swap }
    return n % 2 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2
}
function median(script) { return middle(rates, script) }
function usage(script) { return middle(usages, script) }
function spread(script,    i, low, high) {
    low = high = rates[script, 1]
    for (i = 2; i <= count[script]; i++) {
        if (rates[script, i] < low) low = rates[script, i]
        if (rates[script, i] > high) high = rates[script, i]
    }
    return (high - low) / median(script) * 100
}
function ratio(script, base) { return (base in count) ? sprintf("%.2f", median(base) / median(script)) : "-" }
END {
    text["lookup"] = "one row by primary key"
    text["empty_function"] = "calsync_version(): a C function that does nothing"
    text["busy_3x7"] = "calsync_busy, 3 calendars x 7 days"
    text["peer_raw_3x7"] = "peer raw, 3 x 7 days"
    text["peer_merged_3x7"] = "peer merged, 3 x 7 days"
    text["busy_50x30"] = "calsync_busy, 50 calendars x 30 days"
    text["peer_raw_50x30"] = "peer raw, 50 x 30 days"
    text["peer_merged_50x30"] = "peer merged, 50 x 30 days"
    text["busy_500x30"] = "calsync_busy, 500 calendars x 30 days"
    text["peer_merged_500x30"] = "peer merged, 500 x 30 days"
    text["union_50x30"] = "calsync_busy_union, 50 calendars x 30 days"
    text["peer_union_50x30"] = "peer merged into one, 50 x 30 days"
    text["union_500x30"] = "calsync_busy_union, 500 calendars x 30 days"
    text["peer_union_500x30"] = "peer merged into one, 500 x 30 days"
    text["busy_1x14"] = "calsync_busy, 1 calendar x 14 days"
    text["slots_1x14"] = "calsync_slots, 1 x 14 days x 30 min, all"
    text["slots_1x14_first_20"] = "calsync_slots, 1 x 14 days x 30 min, first 20"
    text["group_slots"] = "calsync_group_slots, 2 of 10 and 1 of 3, 14 days"
    text["is_free_10"] = "calsync_is_free, 10 calendars x 30 min"
    text["peer_is_free_10"] = "peer NOT EXISTS, 10 x 30 min"
    text["busy_history_short"] = "calsync_busy, 1 x 7 days of 1,000 events"
    text["busy_history_long"] = "calsync_busy, 1 x 7 days of 200,000 events"
    text["peer_merged_history_short"] = "peer merged, 1 x 7 days of 1,000 events"
    text["peer_merged_history_long"] = "peer merged, 1 x 7 days of 200,000 events"
    against["busy_3x7"] = "peer_merged_3x7"; against["busy_50x30"] = "peer_merged_50x30"
    against["busy_500x30"] = "peer_merged_500x30"; against["union_50x30"] = "peer_union_50x30"
    against["union_500x30"] = "peer_union_500x30"
    against["is_free_10"] = "peer_is_free_10"; against["busy_history_short"] = "peer_merged_history_short"
    against["busy_history_long"] = "peer_merged_history_long"
    printf "%-50s %8s %8s %9s %8s %7s %8s %9s %8s\n", "statement", "ms", "/s", "x lookup", "peer/us", "spread",
        "cpu us", "x lookup", "peer/us"
    for (i = 1; i <= scripts; i++) {
        s = order[i]
        versus = s in against && against[s] in count ? against[s] : ""
        printf "%-50s %8.4f %8.0f %9s %8s %6.0f%% %8.1f %9.2f %8s\n", text[s], 1000 / median(s), median(s),
            ratio(s, "lookup"), versus ? sprintf("%.2f", median(s) / median(versus)) : "", spread(s),
            usage(s), usage(s) / usage("lookup"), versus ? sprintf("%.2f", usage(versus) / usage(s)) : ""
    }
    if ("slots_1x14" in count && "busy_1x14" in count)
        printf "\ncalsync_slots against calsync_busy, the same 14 days: x%s all slots, x%s the first 20\n",
            ratio("slots_1x14", "busy_1x14"), ratio("slots_1x14_first_20", "busy_1x14")
    if ("busy_history_long" in count)
        printf "\n200,000 against 1,000 events, the same week: ours x%s, the peer x%s\n",
            ratio("busy_history_long", "busy_history_short"), ratio("peer_merged_history_long", "peer_merged_history_short")
}
